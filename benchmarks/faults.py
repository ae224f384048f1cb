"""Measure how many state upsets a second the engines inject, beside PyTorch and three fault injectors for it.

    python benchmarks/faults.py --mnist mnist.npz [--faults 1000000] [--out DIR]

The net is the committed ternary 784-256-10 at 20 ticks, the faults are single bits of its state, drawn uniformly over
unit, bit, tick and 1,000 test images. Every engine and every peer gets the same faults, in their order, as many as it
can do in seconds; labels must agree or the benchmark stops. A peer that is absent is named with its install command.
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
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faults_peers as peers
import numpy as np
import results
from healing import Case, load
from mnist import CHECKPOINTS, images
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.sim.faults.engine import Engine, Session
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.certificate import recurrent_weights
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet

TICKS, SAMPLES, SEED, REPEATS = 20, 1000, 0, 3
DENSITIES = (0.1, 0.33)
BAR, AIM, TIMES = 300_000, 1_000_000, 100
GOLDEN = 5_000

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


def measure(path: Path, count: int) -> list[Row]:
    x, _ = images(path)
    net = lowered(None)
    codes = dict(data.encode(net, {"x": x[:SAMPLES]})[0])
    row, want, table = fast("fast, W_rec as committed (450 of 65,536 not zero)", net, codes, count)
    say(row)
    ours, rows = row, [row]
    row_bytes = table.faults.dtype.itemsize + table.upsets.dtype.itemsize + want.dtype.itemsize
    note = f"{row_bytes} bytes, computed from the measured copying bandwidth"
    rows.append(row_of("bound: a fault is read and its result written once", 0, 1.0, 0.0, note))
    rows[-1]["rate"] = bandwidth() / row_bytes
    say(rows[-1])
    for density in DENSITIES:
        dense, _, _ = fast(f"fast, W_rec random ternary, {density:.0%} not zero (does not contract)",
                           lowered(density), codes, count // 20)  # fmt: skip
        say(dense)
        rows.append(dense)
    layered, inputs, _ = load(Case("mnist_layered.npz", ticks=TICKS), path, SAMPLES)
    contracting, _, _ = fast("fast, mnist_layered (45% not zero, contracts)", layered, dict(inputs), count)
    say(contracting)
    rows.append(contracting)
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
    for name, package, run in peers.RUNS:
        if package and not installed(package):
            sys.stdout.write(f"{name:58} skipped: pip install --no-deps {package}=={peers.VERSIONS[package]}\n")
            continue
        labels, seconds, cpu = run(network, given)
        agree(name, want, labels)
        label = f"{name} {installed(package)}".strip() if package else name
        rows.append(row_of(label, len(labels), seconds, cpu))
        say(rows[-1], ours)
    met = [f"{limit:,}/s {'met' if row['rate'] >= limit else 'NOT met'}" for limit in (BAR, AIM)]
    least = min(row["times_wall"] for row in rows if "times_wall" in row)
    sys.stdout.write(
        f"bar {met[0]}; aim {met[1]}; every one at least {TIMES}x: {'met' if least >= TIMES else 'NOT met'}, "
        f"least {least:,.0f}x\n"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz with x_test and y_test, as Keras has it")
    parser.add_argument("--faults", type=int, default=1_000_000)
    results.add_folder(parser)
    options = parser.parse_args()
    rows = measure(options.mnist, options.faults)
    columns = {"what": "", "faults": "", "upsets a second": "measured", "a core second": "measured"}
    columns |= {"ours is times faster": "measured", "note": ""}
    cells = [
        [r["name"], f"{r['count']:,}", f"{r['rate']:,.0f}", f"{r['count'] / r['cpu_s']:,.0f}" if r["cpu_s"] else "-"]
        + [f"{r['times_wall']:,.0f}" if "times_wall" in r else "-", r["note"]]
        for r in rows
    ]
    versions = ", ".join(f"{p} {installed(p)}" for p in peers.VERSIONS if installed(p))
    words = (
        f"`benchmarks/faults.py`: upsets of one bit of a state of the ternary MNIST net, 20 ticks, seed {SEED}; "
        "labels equal "
        f"with every peer ({versions or 'none of the injectors is installed'}). Limits: bar {BAR:,}/s, aim {AIM:,}/s, "
        "every "
        f"peer at least {TIMES} times slower."
    )
    blocks = [results.text(words), results.table(columns, cells)]
    facts = [results.net_facts("mnist_ternary", lowered(None))]
    results.record("faults", "Upsets a second", blocks, data=rows, nets=facts, folder=options.out)


if __name__ == "__main__":
    main()
