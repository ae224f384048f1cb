"""Measure how many state upsets a second the engines inject, beside PyTorch and three fault injectors for it.

    python benchmarks/faults.py --mnist mnist.npz [--faults 1000000] [--out DIR]

The nets are committed ones of 256 units at 20 ticks: two that recur densely and contract, one that hardly recurs, and
this one with random weights in the place of its recurrent ones, which do not contract. The faults are single bits of
states, drawn uniformly over unit, bit, tick and 1,000 test images. Every engine and every peer gets the same faults, in
their order, as many as it can do in seconds, and flips that change a label besides, which are not timed; labels must
agree or the benchmark stops. A peer that is absent is named with its install command.
Peers whose requirements conflict with the lock go into an environment of their own, which sees ours:

    python -m venv peers
    echo "import site; site.addsitedir('OURS')" > peers/lib/python3.11/site-packages/ours.pth
    peers/bin/pip install --no-deps seu-injection-framework==1.3.0 pytorchfi==0.6.0 mrfi==2.1.0
    peers/bin/python benchmarks/faults.py --mnist mnist.npz

OURS is our own lib/python3.11/site-packages. A machine with other work shows in the cores that were busy.
Rates of a core second are what such a machine leaves comparable: CPU seconds of all threads.
Every number is measured, but the bound, which is computed from a measured bandwidth.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))  # peers get every core as well

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faults_peers as peers
import numpy as np
import results
from healing import Case, load
from mnist import CHECKPOINTS
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.sim.faults.engine import Engine, Session
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain import golden, registry
from eqcompile.toolchain.certificate import recurrent_weights
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet

TICKS, SAMPLES, SEED, REPEATS = 20, 1000, 0, 3
NETS = ("mnist_layered", "mnist_certified", "mnist_ternary")
"""The last one hardly recurs."""
DENSITIES = (0.1, 0.33)
BAR, AIM = 600_000, 1_500_000
AGAIN, TIMES, DENSE_TIMES = 40, 100, 5
"""How many times as fast as PyTorch in batches, as each injector, and as PyTorch on nets that do not contract."""
GOLDEN, DENSE = 5_000, 200_000
BATCHED = "PyTorch, batches of 1,024 faults"

Row = dict[str, Any]


def lowered(density: float | None) -> IntNet:
    """The committed net at 20 ticks; with a density, its W_rec replaced by random ternary weights."""
    net = import_model(CHECKPOINTS / "mnist_ternary.npz").net
    if density is not None:
        generator = np.random.default_rng(SEED)
        random = generator.choice([-1.0, 0.0, 1.0], (256, 256), p=[density / 2, 1 - density, density / 2])
        params = tuple(replace(p, value=random) if p.name == "W_rec_ternary" else p for p in net.params)
        net = replace(net, params=params)
    options = QuantizeOptions(input_range=(0.0, 1.0))
    made: IntNet = lower(net, options, calibration=None).net
    return replace(made, schedule=replace(made.schedule, steps=TICKS))


def opened(engine: str, net: IntNet, codes: dict[str, NDArray[np.int64]]) -> Session:
    session: Session = registry.find_class("engines", engine, Engine)().open(net, codes, near=1)
    return session


def timed(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall-clock of `repeats` calls."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def bandwidth() -> float:
    """Bytes a second of copying 256 MB, read and written, the best of five."""
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    seconds = min(timed(lambda: np.copyto(target, source), 1) for _ in range(5))
    return 2 * source.nbytes / seconds


def fast(
    name: str, net: IntNet, codes: dict[str, NDArray[np.int64]], count: int
) -> tuple[Row, NDArray[Any], FaultTable]:
    """Injections a second of the fast engine, everything in between table and results included."""
    start = time.perf_counter()
    session = opened("fast", net, codes)
    ready = time.perf_counter() - start
    model = registry.find_class("faults", "seu", FaultModel)(sites="state")
    table = model.draw(net, count, np.random.default_rng(SEED), codes)
    start = time.perf_counter()
    session.run(table.take(slice(0, 1)))
    compiled = time.perf_counter() - start
    rows = session.run(table)
    cpu = time.process_time()
    seconds = timed(lambda: session.run(table))
    cpu = (time.process_time() - cpu) / REPEATS
    moved = rows["rejoin"] != 0
    ticks = np.where(rows["rejoin"] < 0, TICKS - np.minimum(table.faults["tick"], TICKS - 1), rows["rejoin"])
    weights = sum(int(np.count_nonzero(net.param(n))) for n in recurrent_weights(net, [s.name for s in net.states]))
    note = (
        f"{ticks.mean():.2f} ticks a fault with deviating states, {weights} recurrent weights: "
        f"{ticks.mean() * weights * count / cpu:.3g} additions a core second if in each all states deviate; "
        f"opened in {ready:.1f} s, compiled or loaded in {compiled:.1f} s; "
        f"{moved.mean():.1%} of the upsets change a latched code, {(rows['rejoin'] < 0).mean():.1%} to the end"
    )
    return row_of(name, count, seconds, cpu, note), rows, table


def row_of(name: str, count: int, wall: float, cpu: float, note: str = "") -> Row:
    return {"name": name, "count": count, "wall_s": wall, "cpu_s": cpu, "rate": count / wall, "note": note}


def agree(name: str, want: NDArray[Any], labels: NDArray[Any]) -> None:
    """The peers must compute the same thing, or the ratios mean nothing."""
    wrong = np.flatnonzero(want["label"][: len(labels)] != labels)
    if len(wrong):
        sys.exit(
            f"{name}: {len(wrong)} of {len(labels)} labels differ, first of fault {wrong[0]}: the comparison is void"
        )


def say(row: Row, ours: Row | None = None) -> None:
    """A line: rates of wall-clock and of a core, cores busy; how many times as fast `ours` is by either."""
    text = f"{row['name']:58} {row['rate']:12,.0f}/s"
    if row["cpu_s"]:
        core = row["count"] / row["cpu_s"]
        text += f" {core:12,.0f} per core s {row['cpu_s'] / row['wall_s']:5.2f} cores busy"
        text += f" ({row['count']} faults, {row['wall_s']:.3f} s wall, {row['cpu_s']:.3f} s CPU)"
        if ours:
            row["times_wall"] = ours["rate"] / row["rate"]
            row["times_cpu"] = ours["count"] / ours["cpu_s"] / core
            text += f"  fast is {row['times_wall']:,.0f}x, per core second {row['times_cpu']:,.0f}x"
    sys.stdout.write(f"{text}  {row['note']}\n")
    sys.stdout.flush()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def measure(path: Path, count: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows of all nets, and the facts of the nets."""
    rows: list[Row] = []
    facts = []
    for name in NETS:
        net, codes, _ = load(Case(f"{name}.npz", ticks=TICKS), path, SAMPLES)
        rows += of_net(name, net, dict(codes), count)
        facts.append(results.net_facts(name, net))
    for density in DENSITIES:
        net, name = lowered(density), f"random, {density:.0%}"
        rows += of_net(name, net, dict(codes), DENSE, only=BATCHED)
        facts.append(results.net_facts(name, net))
    return rows, facts


def of_net(name: str, net: IntNet, codes: dict[str, NDArray[np.int64]], count: int, *, only: str = "") -> list[Row]:
    """The fast engine, the limit, golden and the peers on a net; of the peers `only` one if it is named."""
    sys.stdout.write(f"{name}\n")
    ours, want, table = fast("fast", net, codes, count)
    say(ours)
    rows = [ours]
    row_bytes = table.faults.dtype.itemsize + table.upsets.dtype.itemsize + want.dtype.itemsize
    note = f"{row_bytes} bytes, computed from the measured copying bandwidth"
    rows.append(row_of("bound: a fault is read and its result written once", 0, 1.0, 0.0, note))
    rows[-1]["rate"] = bandwidth() / row_bytes
    say(rows[-1])
    few = table.take(slice(0, GOLDEN))
    session = opened("golden", net, codes)
    cpu, start = time.process_time(), time.perf_counter()
    got = session.run(few)
    rows.append(row_of("golden", GOLDEN, time.perf_counter() - start, time.process_time() - cpu))
    say(rows[-1], ours)
    if (got != want[:GOLDEN]).any():
        sys.exit("golden and fast differ: the comparison is void")
    network = peers.Network(net)
    given = peers.Faults.of(table, codes["x"])
    # Few flips change a label: a peer that injects nothing would pass for one that agrees.
    usual = golden.labels(golden.run(net, codes).outputs[net.outputs[0].name])
    telling = np.flatnonzero(want["label"] != usual[table.faults["sample"]])
    if not len(telling):
        sys.exit(f"{name}: none of {count} flips changes a label: no peer could be told from one that injects nothing")
    telling = np.resize(telling, peers.MOST)
    changing = peers.Faults.of(table.take(telling), codes["x"])
    for title, package, run in peers.RUNS:
        if only and title != only:
            continue
        if package and not installed(package):
            sys.stdout.write(f"{title:58} skipped: pip install --no-deps {package}=={peers.VERSIONS[package]}\n")
            continue
        agree(f"{title}, flips that change a label", want[telling], run(network, changing)[0])
        labels, seconds, cpu = run(network, given)
        agree(title, want, labels)
        label = f"{title} {installed(package)}".strip() if package else title
        rows.append(row_of(label, len(labels), seconds, cpu) | {"injector": bool(package)})
        say(rows[-1], ours)
    return [{"net": name, **row} for row in rows]


def verdicts(rows: Sequence[Row]) -> str:
    """Which limits are met, net by net."""
    lines = []
    for name in dict.fromkeys(row["net"] for row in rows):
        of = [row for row in rows if row["net"] == name]
        batched = next(row["times_wall"] for row in of if row["name"] == BATCHED)
        injectors = [row["times_wall"] for row in of if row.get("injector")]
        contracts = name in NETS
        checks = [(f"{batched:,.0f} times PyTorch in batches", batched >= (AGAIN if contracts else DENSE_TIMES))]
        if contracts:
            rate = of[0]["rate"]
            checks += [(f"{rate:,.0f}/s of {BAR:,}", rate >= BAR), (f"aim {AIM:,}", rate >= AIM)]
        if injectors:
            checks.append((f"{min(injectors):,.0f} times the best injector", min(injectors) >= TIMES))
        lines.append(f"{name}: " + ", ".join(f"{words} ({'met' if met else 'not met'})" for words, met in checks))
    return "; ".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz with x_test and y_test, as Keras has it")
    parser.add_argument("--faults", type=int, default=1_000_000)
    results.add_folder(parser)
    options = parser.parse_args()
    rows, facts = measure(options.mnist, options.faults)
    columns = {"net": "", "what": "", "faults": "", "upsets a second": "measured", "a core second": "measured"}
    columns |= {"ours is times faster": "measured", "note": ""}
    cells = [
        [r["net"], r["name"], f"{r['count']:,}", f"{r['rate']:,.0f}"]
        + [f"{r['count'] / r['cpu_s']:,.0f}" if r["cpu_s"] else "-"]
        + [f"{r['times_wall']:,.0f}" if "times_wall" in r else "-", r["note"]]
        for r in rows
    ]
    versions = ", ".join(f"{p} {installed(p)}" for p in peers.VERSIONS if installed(p))
    words = (
        f"`benchmarks/faults.py`: upsets of one bit of a state, {TICKS} ticks, seed {SEED}; labels equal with every "
        f"peer ({versions or 'none of the injectors is installed'}). Limits: {BAR:,} a second on nets that recur "
        f"and contract, aim {AIM:,}; on these {AGAIN} times as fast as PyTorch in batches and {TIMES} times as each "
        f"injector; on those that do not contract {DENSE_TIMES} times as fast as PyTorch. {verdicts(rows)}."
    )
    sys.stdout.write(f"{verdicts(rows)}\n")
    blocks = [results.text(words), results.table(columns, cells)]
    results.record("faults", "Upsets a second", blocks, data=rows, nets=facts, folder=options.out)


if __name__ == "__main__":
    main()
