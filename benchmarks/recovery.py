"""What is proved of labels after upsets of any states, beside what attacks reach, on nets that recur and contract.

    python benchmarks/recovery.py [--data mnist.npz] [--limit 1000] [--attacks 20]

Without `--data` (x_train, x_test, y_test as Keras distributes them) the digits nets alone. For each net, on the first
images of its test set: accuracy of the integers with and without the recurrence, when runs settle, for which share of
the images no upset that leaves t ticks can change the label, and by how many codes a unit can still be off. Attacks
start golden runs from states drawn anywhere and from the ends of their formats; one that breaks a bound is a defect,
and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
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
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet, Param

EXAMPLES = Path(__file__).parents[1] / "examples"
NETS = ("digits_layered", "digits_certified", "mnist_layered", "mnist_certified")
TICKS = (1, 2, 3, 5, 7, 10, 15, 20)
CALIBRATION = 500

Codes = Mapping[str, NDArray[np.int64]]


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


def accuracy(net: IntNet, codes: Codes, labels: NDArray[np.int64]) -> float:
    return float((golden.labels(golden.run(net, codes, trace=False).outputs["logits"]) == labels).mean())


def alone(net: IntNet) -> IntNet:
    """The same net whose units do not hear each other."""
    params = tuple(replace(p, value=np.zeros_like(p.value)) if p.name.startswith("W_rec") else p for p in net.params)
    return replace(net, params=params)


def attack(net: IntNet, codes: Codes, proved: Recovery, ticks: int, start: NDArray[np.int64]) -> tuple[int, int]:
    """Broken bounds, and images whose label is another one, `ticks` ticks after their states are set to `start`."""
    whole = golden.run(net, codes)
    labels = golden.labels(whole.outputs["logits"])
    started = replace(
        net,
        params=(*net.params, Param("start", start, "attack")),
        states=tuple(replace(s, init="start") for s in net.states),
        schedule=replace(net.schedule, steps=ticks),
    )
    run = golden.run(started, codes)
    other = golden.labels(run.outputs["logits"]) != labels
    far = np.abs(run.states["h"][-1] - whole.states["h"][-1]).max(axis=1)
    broken = (other & proved.safe[:, ticks - 1]) | (far > proved.apart[:, ticks - 1])
    return int(broken.sum()), int(other.sum())


def attacks(net: IntNet, codes: Codes, proved: Recovery, count: int) -> tuple[int, int, dict[int, int]]:
    """Runs, broken bounds, and by ticks left the runs that ended with another label."""
    rng = np.random.default_rng(0)
    ends, shape = net.formats["h"], net.states[0].shape
    runs, broken, harmed = 0, 0, {}
    for ticks in TICKS:
        harmed[ticks] = 0
        for number in range(count):
            pool = [ends.lo, ends.hi] if number % 2 else np.arange(ends.lo, ends.hi + 1)
            faults, changed = attack(net, codes, proved, ticks, rng.choice(pool, shape).astype(np.int64))
            broken, harmed[ticks] = broken + faults, harmed[ticks] + changed
            runs += len(next(iter(codes.values())))
    return runs, broken, harmed


def measure(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts of the net, and its row."""
    net, codes, labels = load(name, options.data, options.limit)
    run = golden.run(net, codes)
    moved = run.states["h"] != np.concatenate([np.zeros_like(run.states["h"][:1]), run.states["h"][:-1]])
    start = time.perf_counter()
    proved = recovery(net, codes, ticks=max(TICKS))
    seconds = time.perf_counter() - start
    runs, broken, harmed = attacks(net, codes, proved, options.attacks)
    row = {
        "net": name,
        "images": len(labels),
        "accuracy": accuracy(net, codes, labels),
        "accuracy_without_recurrence": accuracy(alone(net), codes, labels),
        "ticks_until_settled": float(moved.any(axis=2).sum(axis=0).mean()),
        "changes": float(moved.sum(axis=(0, 2)).mean()),
        "safe": {t: float(proved.safe[:, t - 1].mean()) for t in TICKS},
        "apart": {t: int(proved.apart[:, t - 1].max()) for t in TICKS},
        "seconds": seconds,
        "attacks": runs,
        "broken": broken,
        "harmed": {t: harmed[t] / (len(labels) * options.attacks) for t in TICKS},
    }
    return results.net_facts(name, net, run), row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="mnist.npz")
    parser.add_argument("--limit", type=int, default=1000, help="images of each net (default: %(default)s)")
    parser.add_argument("--attacks", type=int, default=20, help="starts for each number of ticks (default %(default)s)")
    results.add_folder(parser)
    options = parser.parse_args()
    names = [n for n in NETS if options.data or not n.startswith("mnist")]
    measured = [measure(name, options) for name in tqdm(names, unit="net")]
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
            {"net": "", "what": ""} | {f"{t} ticks": "" for t in TICKS},
            [
                line
                for _, r in measured
                for line in (
                    (r["net"], "label cannot change (proved)", *(f"{v:.2%}" for v in r["safe"].values())),
                    (r["net"], "codes off, at most (proved)", *r["apart"].values()),
                    (r["net"], "attacks that change it (simulated)", *(f"{v:.3%}" for v in r["harmed"].values())),
                )
            ],
        ),
        results.table(
            {"net": "", "attacks": "", "bounds broken": "simulated", "seconds of proof": "measured"},
            [(r["net"], r["attacks"], r["broken"], f"{r['seconds']:.0f}") for _, r in measured],
        ),
    ]
    title = "What is proved of labels after upsets of any states"
    nets, rows = zip(*measured, strict=True)
    results.record("recovery", title, blocks, data=list(rows), nets=list(nets), folder=options.out)
    return int(any(r["broken"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
