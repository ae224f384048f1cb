"""What post-training quantization keeps of float nets that were not trained for it, on whole test sets.

    python benchmarks/quantize.py [--mnist mnist.npz] [--only NET ...] [--out DIR]

Digits (360 test images, calibrated on 200 training images) and, with `--mnist`, MNIST (10,000 test images, calibrated
on 1,000 training images chosen by seed 0). Labels of the integer net are golden's (simulated), those of the float64
reference are measured; L is the proved bound of the contraction. Nets that do not run keep the rows that they have in
the record. Ends with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results
from mnist import images
from numpy.typing import NDArray

from eqcompile.app.cli.show import table
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.reference import run_reference

EXAMPLES = Path(__file__).parents[1] / "examples"
BATCH = 1000
MNIST_CALIBRATION = 1000
DIGITS = {
    "digits_looped.pt": "digits 64-64-10",
    "digits_eqprop.npz": "digits_eqprop",
    "digits_eqprop_layered.npz": "digits_eqprop_layered",
}
MNIST = {
    "mnist_looped.npz": "MNIST 784-256-10",
    "mnist_eqprop.npz": "mnist_eqprop",
    "mnist_eqprop_layered.npz": "mnist_eqprop_layered",
}
"""Float nets and what they are called here: one that contracts hardly, one that contracts, and one all of whose answer
passes through the recurrence."""
SEED = 0

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Bar:
    """What a row has to reach: a share of equal labels, or a largest loss of accuracy in points."""

    agreement: float | None = None
    loss: float | None = None

    def met(self, agreement: float, loss: float) -> bool:
        reached = self.agreement is None or agreement >= self.agreement
        return reached and (self.loss is None or loss <= self.loss + 1e-9)

    def __str__(self) -> str:
        parts = [f"labels >= {self.agreement:.1%}"] if self.agreement is not None else []
        return ", ".join([*parts, *([f"loss <= {self.loss} points"] if self.loss is not None else [])]) or "none"


ROWS: Sequence[tuple[str, dict[str, Any], Bar]] = (
    ("int8", {"weights": "int8"}, Bar(agreement=0.995)),
    ("int4", {"weights": "int4"}, Bar(agreement=0.98)),
    ("int3", {"weights": "int3"}, Bar()),
    ("ternary", {"weights": "ternary"}, Bar()),
    ("int8, 4-bit states", {"weights": "int8", "state_bits": 4}, Bar(loss=0.3)),
    ("int4, 4-bit states", {"weights": "int4", "state_bits": 4}, Bar()),
    ("ternary, 4-bit states", {"weights": "ternary", "state_bits": 4}, Bar()),
    ("int8, --max-lipschitz 0.95", {"weights": "int8", "max_lipschitz": 0.95}, Bar()),
)
COLUMNS = {"net": "", "weights": "", "labels = float64": "simulated", "accuracy": "simulated", "points": "simulated"}
COLUMNS |= {"L float": "proved", "L integer": "proved", "bar": "", "seconds": "measured"}


@dataclass(frozen=True)
class Task:
    """A net, calibration inputs [samples, n], and a labelled test set."""

    name: str
    net: EqNet
    calibration: Floats
    x: Floats
    y: Labels


def digits(name: str) -> Task:
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as held:
        calibration = held["x"].astype(np.float64)
    with np.load(EXAMPLES / "data" / "digits_test.npz") as held:
        x, y = held["x"].astype(np.float64), held["labels"].astype(np.int64)
    return Task(DIGITS[name], import_model(EXAMPLES / "checkpoints" / name).net, calibration, x, y)


def mnist(name: str, path: Path) -> Task:
    x, y = images(path)
    with np.load(path, allow_pickle=False) as held:
        train = held["x_train"]
    chosen = np.random.default_rng(SEED).choice(len(train), MNIST_CALIBRATION, replace=False)
    net = import_model(EXAMPLES / "checkpoints" / name).net
    return Task(MNIST[name], net, train[chosen].reshape(MNIST_CALIBRATION, -1) / 255, x, y)


def measure(task: Task) -> list[dict[str, Any]]:
    """A row for each of ROWS."""
    told = np.concatenate([run_reference(task.net, {"x": part}).outputs["logits"].argmax(1) for part in parts(task.x)])
    bound, right = certify(task.net).bound, float((told == task.y).mean())
    say(f"{task.name}: float64 accuracy {right:.4f} on {len(task.y)} [measured]")
    rows = []
    for name, options, bar in ROWS:
        start = time.perf_counter()
        lowered = lower(task.net, QuantizeOptions(**options), calibration={"x": task.calibration}).net
        seconds = time.perf_counter() - start
        codes = data.encode(lowered, {"x": task.x})[0]["x"]
        found = np.concatenate([golden.run(lowered, {"x": p}, trace=False).outputs["logits"] for p in parts(codes)])
        labels = golden.labels(found)
        agreement, accuracy = float((labels == told).mean()), float((labels == task.y).mean())
        loss = 100.0 * (right - accuracy)
        row = {
            "net": task.name,
            "weights": name,
            "options": options,
            "samples": len(task.y),
            "labels_equal": int((labels == told).sum()),
            "agreement": agreement,
            "accuracy_float": right,
            "accuracy": accuracy,
            "points": -loss,
            "bound_float": bound,
            "bound_integer": certify(lowered).bound,
            "bar": str(bar),
            "met": bar.met(agreement, loss),
            "quantize_seconds": seconds,
            "kind": "labels and accuracy simulated (golden), seconds measured, bounds proved",
        }
        say(f"  {name}: {row['labels_equal']} of {len(labels)}")
        rows.append(row)
    return rows


def parts(x: NDArray[Any]) -> list[NDArray[Any]]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


def cells(r: dict[str, Any]) -> list[str]:
    """A row as COLUMNS has it."""
    return [
        r["net"],
        r["weights"],
        f"{r['labels_equal']:,}/{r['samples']:,} ({r['agreement']:.2%})",
        f"{r['accuracy']:.4f}",
        f"{r['points']:+.2f}",
        f"{r['bound_float']:.4f}",
        f"{r['bound_integer']:.4f}",
        "-" if r["bar"] == "none" else f"{r['bar']}: {'met' if r['met'] else 'MISSED'}",
        f"{r['quantize_seconds']:.1f}",
    ]


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, metavar="MNIST.npz", help="x_train, x_test, y_test as Keras has them")
    results.add_folder(parser)
    parser.add_argument("--only", action="append", default=[], choices=[*DIGITS, *MNIST], help="this net (repeatable)")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for name in (n for n in (*DIGITS, *MNIST) if n in options.only or not options.only):
        if name in DIGITS:
            rows += measure(digits(name))
        elif options.mnist is not None:
            rows += measure(mnist(name, options.mnist))
    every = results.joined("quantize", rows, ("net", "weights"), options.out)
    shown = [cells(row) for row in every]
    sys.stdout.write(table(tuple(COLUMNS), shown) + "\n")
    words = (
        "`benchmarks/quantize.py`: float `LoopedMLP` nets, quantized without training; labels that agree with float64, "
        "accuracy, points of accuracy lost or won, and the proved bound L of the recurrent block, on whole test sets. "
        "The `eqprop` nets were trained to contract, the others normalised:"
    )
    blocks, note = [results.text(words), results.table(COLUMNS, shown)], results.origins(every)
    results.record("quantize", "Post-training quantization", blocks, data=every, note=note, folder=options.out)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
