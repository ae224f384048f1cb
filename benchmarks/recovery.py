"""What is proved of labels after upsets of any states, beside what attacks reach, on nets that recur and contract.

    python benchmarks/recovery.py [--data mnist.npz] [--limit 1000] [--pairs 400000] [--jobs 2] [--only mnist_layered]

Without `--data` (x_train, x_test, y_test as Keras distributes them) the digits nets alone. For each net, on the first
images of its test set: accuracy of the integers with and without the recurrence, when runs settle, for which share of
the images no upset that leaves t ticks can change the label, and by how many codes a unit can still be off. Attacks
start golden runs from states drawn anywhere, from ends of their formats, and from the ends that push hardest towards
another class. Every state of every tick of them, `--pairs` for each net or a few more, is compared with the bounds; one
that breaks a bound is a defect, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mnist
import numpy as np
import results
from numpy.typing import NDArray
from tqdm import tqdm

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import Recovery, recovery
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import IntNet, ops

EXAMPLES = Path(__file__).parents[1] / "examples"
NETS = (
    *("digits_layered", "digits_certified", "digits_holding", "digits_eqprop_layered"),
    *("mnist_layered", "mnist_certified"),
)
TICKS = (1, 2, 3, 5, 7, 10, 15, 20)
CALIBRATION = 500
BATCH = 250
SHARPEST = 6
"""Attacks by the gradient look 1 to this many ticks ahead."""

Codes = Mapping[str, NDArray[np.int64]]
Row = dict[str, Any]


def load(name: str, data: Path | None, limit: int) -> tuple[IntNet, Codes, NDArray[np.int64]]:
    """Net, codes and labels of the first test images."""
    if name.startswith("mnist"):
        assert data is not None
        x, labels = mnist.images(data)
        with np.load(data, allow_pickle=False) as file:
            calibration = file["x_train"][:CALIBRATION].reshape(-1, mnist.PIXELS) / 255
    else:
        with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
            x, labels = file["x"].astype(np.float64), file["labels"]
        with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
            calibration = file["x"].astype(np.float64)
    source = import_model(EXAMPLES / "checkpoints" / f"{name}.npz").net
    net = lower(source, QuantizeOptions(), calibration={"x": calibration}).net
    return net, encode(net, {"x": x[:limit]})[0], labels[:limit]


def alone(net: IntNet) -> IntNet:
    """The same net whose units do not hear each other."""
    params = tuple(replace(p, value=np.zeros_like(p.value)) if p.name.startswith("W_rec") else p for p in net.params)
    return replace(net, params=params)


def sharpest(net: IntNet, whole: Run, ticks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Starts [images, units] at ends of the format: the signs of the gradient of another class' lead `ticks` ticks
    later, with the slopes of a tanh at the fault-free state. An attack, no bound: it may be as crude as it is."""
    (recurrent,), (readout,) = (
        [op.weight for op in block if isinstance(op, ops.Linear)] for block in (net.step, net.readout)
    )
    ends, state = net.formats["h"], whole.states["h"][-1]
    slope = 1.0 - (state / ends.lo) ** 2
    labels = golden.labels(whole.outputs["logits"])
    other = (labels + rng.integers(1, whole.outputs["logits"].shape[1], len(labels))) % whole.outputs["logits"].shape[1]
    out, weight = net.param(readout).astype(np.float64), net.param(recurrent).astype(np.float64)
    lead = out[other] - out[labels]
    for _ in range(ticks):
        lead = (lead * slope) @ weight
        lead /= np.abs(lead).max(axis=1, keepdims=True) + 1e-300
    return np.where(lead > 0, ends.hi, ends.lo).astype(np.int64)


def starts(net: IntNet, whole: Run, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """States [images, units] of one attack: anywhere in the format, at its ends, or as `sharpest`, in turn."""
    ends, shape = net.formats["h"], whole.states["h"].shape[1:]
    if number % 3 == 2:
        return sharpest(net, whole, 1 + number // 3 % SHARPEST, rng)
    return rng.choice([ends.lo, ends.hi], shape) if number % 3 else rng.integers(ends.lo, ends.hi + 1, shape)


@dataclass
class Attacks:
    """Runs of `max(TICKS)` ticks from other states. `pairs`: (state, step) pairs that were compared with the bounds;
    `harmed` [ticks]: runs whose label is another one; `last` [images]: the most ticks left with another label."""

    runs: int
    pairs: int
    broken: int
    harmed: NDArray[np.int64]
    last: NDArray[np.int64]


def attack(net: IntNet, codes: Codes, whole: Run, proved: Recovery, count: int, seed: int) -> Attacks:
    """Attack each image `count` times. The state k ticks after an attack is that of an upset that leaves k ticks."""
    rng = np.random.default_rng(seed)
    clamped, batch, _ = golden.clamped_codes(net, codes)
    first = {name: value[:, 0] for name, value in clamped.items()}
    machine, every, ticks = golden.Machine(net, batch, "dense"), np.arange(batch), max(TICKS)
    machine.evaluate(net.drive, first, every)
    labels, settled = golden.labels(whole.outputs["logits"]), whole.states["h"][-1]
    total = Attacks(0, 0, 0, np.zeros(ticks, np.int64), np.zeros(batch, np.int64))
    for number in range(count):
        states = {"h": starts(net, whole, number, rng).astype(np.int64)}
        for tick in range(ticks):
            states, _ = machine.tick(first, states, every)
            other = golden.labels(machine.read(first, states)["logits"]) != labels
            far = np.abs(states["h"] - settled).max(axis=1)
            total.broken += int(((other & proved.safe[:, tick]) | (far > proved.apart[:, tick])).sum())
            total.harmed[tick] += int(other.sum())
            total.last = np.maximum(total.last, np.where(other, tick + 1, 0))
        total.runs, total.pairs = total.runs + batch, total.pairs + batch * ticks
    return total


@dataclass
class Part:
    """What a batch of images gave."""

    right: int
    alone: int
    ticks: int
    changes: int
    seconds: float
    proved: Recovery
    attacks: Attacks


def part(net: IntNet, codes: Codes, labels: NDArray[np.int64], count: int, seed: int) -> Part:
    run = golden.run(net, codes)
    moved = run.states["h"] != np.concatenate([np.zeros_like(run.states["h"][:1]), run.states["h"][:-1]])
    start = time.process_time()
    proved = recovery(net, codes, ticks=max(TICKS))
    seconds = time.process_time() - start
    return Part(
        right=int((golden.labels(run.outputs["logits"]) == labels).sum()),
        alone=int((golden.labels(golden.run(alone(net), codes, trace=False).outputs["logits"]) == labels).sum()),
        ticks=int(moved.any(axis=2).sum()),
        changes=int(moved.sum()),
        seconds=seconds,
        proved=proved,
        attacks=attack(net, codes, run, proved, count, seed),
    )


def measure(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts of the net, and its row."""
    net, codes, labels = load(name, options.data, options.limit)
    images = len(labels)
    attacks = -(-options.pairs // (images * max(TICKS)))
    begin, parts = time.perf_counter(), []
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool, tqdm(total=images, unit="image") as progress:
        pending = [
            pool.submit(
                *(part, net, {n: v[at : at + BATCH] for n, v in codes.items()}, labels[at : at + BATCH]),
                *(attacks, at),
            )
            for at in range(0, images, BATCH)
        ]
        for future in pending:
            parts.append(future.result())
            progress.update(len(parts[-1].proved.safe))
    wall = time.perf_counter() - begin
    safe, apart = (np.concatenate([getattr(p.proved, n) for p in parts]) for n in ("safe", "apart"))
    harmless = np.concatenate([p.proved.harmless_from() for p in parts])
    last = np.concatenate([p.attacks.last for p in parts])
    harmed = sum(p.attacks.harmed for p in parts)
    row = {
        "net": name,
        "images": images,
        "accuracy": sum(p.right for p in parts) / images,
        "accuracy_without_recurrence": sum(p.alone for p in parts) / images,
        "ticks_until_settled": sum(p.ticks for p in parts) / images,
        "changes": sum(p.changes for p in parts) / images,
        "safe": {t: float(safe[:, t - 1].mean()) for t in TICKS},
        "apart": {t: int(apart[:, t - 1].max()) for t in TICKS},
        "harmless_from": {
            "median": float(np.median(harmless[harmless > 0])) if harmless.any() else None,
            "most": int(harmless.max()) if harmless.all() else None,
            "unproved": int((harmless == 0).sum()),
        },
        "harm_seen": {"median": float(np.median(last)), "most": int(last.max())},
        "cpu_seconds": sum(p.seconds for p in parts),
        "wall_seconds": wall,
        "attacks": sum(p.attacks.runs for p in parts),
        "pairs": sum(p.attacks.pairs for p in parts),
        "broken": sum(p.attacks.broken for p in parts),
        "harmed": {t: float(harmed[t - 1] / max(1, sum(p.attacks.runs for p in parts))) for t in TICKS},
    }
    first = golden.run(net, {n: v[:BATCH] for n, v in codes.items()})
    return results.net_facts(name, net, first), row


def _ticks(row: Mapping[str, Any], which: str) -> str:
    most = row["harmless_from"][which]
    return f"over {max(TICKS)}" if most is None else f"{most:g}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="mnist.npz")
    parser.add_argument("--limit", type=int, default=1000, help="images of each net (default: %(default)s)")
    parser.add_argument(
        "--pairs", type=int, default=400_000, help="(state, step) pairs of attacks on each net (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", choices=NETS, help="only this net (may be repeated)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s, all cores)")
    results.add_folder(parser)
    options = parser.parse_args()
    names = [n for n in options.only or NETS if options.data or not n.startswith("mnist")]
    fresh = [measure(name, options) for name in names]
    rows = ordered(results.joined("recovery", [row for _, row in fresh], ("net",), options.out))
    nets = ordered(results.joined_nets("recovery", [fact for fact, _ in fresh], options.out))
    measured = list(zip(nets, rows, strict=True))
    blocks = [
        results.table(
            {
                "net": "",
                "units": "",
                "W_rec not 0": "computed",
                "L": "proved",
                "images": "",
                "accuracy": "simulated",
                "without W_rec": "simulated",
                "ticks until settled": "simulated",
                "state changes": "simulated",
            },
            [
                (
                    *(
                        r["net"],
                        f["units"],
                        f"{f['density']:.1%}",
                        f"{f['L']:.4f}",
                        r["images"],
                        f"{r['accuracy']:.4f}",
                    ),
                    *(
                        f"{r['accuracy_without_recurrence']:.4f}",
                        f"{r['ticks_until_settled']:.2f}",
                        f"{r['changes']:.0f}",
                    ),
                )
                for f, r in measured
            ],
        ),
        results.text(
            "Share of the images whose label no upset of any size in any number of states can change, by the ticks that"
            " it leaves; the most codes that a unit can then be off; and the share of attacks that did change a label."
        ),
        results.table(
            {"net": "", "what": ""} | {f"{t} ticks": "proved" for t in TICKS},
            [
                line
                for _, r in measured
                for line in (
                    (r["net"], "label cannot change", *(f"{v:.2%}" for v in r["safe"].values())),
                    (r["net"], "codes off, at most", *r["apart"].values()),
                )
            ],
        ),
        results.table(
            {"net": "", "what": ""} | {f"{t} ticks": "simulated" for t in TICKS},
            [
                (r["net"], "attacks that change the label", *(f"{v:.3%}" for v in r["harmed"].values()))
                for _, r in measured
            ],
        ),
        results.text(
            "Ticks that an upset must leave to be harmless, proved for each image, beside the most ticks left after"
            " which an attack was seen to have changed its label: median and most over the images."
        ),
        results.table(
            {
                "net": "",
                "harmless from, median": "proved",
                "harmless from, most": "proved",
                "images without proof": "proved",
                "harm seen up to, median": "simulated",
                "harm seen up to, most": "simulated",
            },
            [
                (
                    *(r["net"], _ticks(r, "median"), _ticks(r, "most"), r["harmless_from"]["unproved"]),
                    *(f"{r['harm_seen']['median']:g}", r["harm_seen"]["most"]),
                )
                for _, r in measured
            ],
        ),
        results.table(
            {
                "net": "",
                "attacks": "",
                "(state, step) pairs": "",
                "bounds broken": "simulated",
                "CPU seconds of proof": "measured",
                "seconds of proof and attacks": "measured",
            },
            [
                (
                    *(r["net"], r["attacks"], r["pairs"], r["broken"]),
                    *(f"{r['cpu_seconds']:.0f}", f"{r['wall_seconds']:.0f}"),
                )
                for _, r in measured
            ],
        ),
    ]
    title, note = "What is proved of labels after upsets of any states", results.origins(rows)
    results.record("recovery", title, blocks, data=rows, nets=nets, note=note, folder=options.out)
    return int(any(row["broken"] for _, row in fresh))


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows of nets in the order of NETS."""
    return sorted(rows, key=lambda row: NETS.index(row["net"]))


if __name__ == "__main__":
    sys.exit(main())
