"""Measure the ternary MNIST network on the whole test set, as the integers that hardware computes.

    python benchmarks/mnist.py --data mnist.npz [--checkpoint examples/checkpoints/mnist_ternary.npz]

`mnist.npz` holds x_test and y_test (uint8 images 28x28 and labels), as Keras distributes it. Prints the accuracy of the
float network and of the integer network with 8-bit and 4-bit states (inputs 8 bit), how many labels agree, how many
images settle and when, and what event-driven evaluation skips. Every number is measured.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data, golden, reference
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet

CHECKPOINT = Path(__file__).parents[1] / "examples" / "checkpoints" / "mnist_ternary.npz"
PIXELS = 28 * 28
BATCH = 1000
STATE_BITS = (8, 4)
PERCENTILES = (50, 95, 99, 100)

Floats = NDArray[np.float64]


def images(path: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Test images `[samples, 784]` in 0..1 and their labels; SystemExit with the reason if the file has none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            x, y = file["x_test"], file["y_test"]
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {path}: cannot read x_test, y_test: {error}")
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or not len(x) or y.shape != x.shape[:1]:
        sys.exit(f"error: {path}: x_test is {x.dtype}{list(x.shape)}, y_test {list(y.shape)}; not MNIST")
    return x.reshape(len(x), PIXELS) / 255, y.astype(np.int64)


def float_labels(net: EqNet, x: Floats) -> NDArray[np.int64]:
    found = [reference.run_reference(net, {"x": part}).outputs["logits"].argmax(axis=1) for part in batches(x)]
    return np.concatenate(found)


def without_recurrence(net: EqNet) -> EqNet:
    """What the relaxation is worth: the same network whose units do not hear each other."""
    params = tuple(replace(p, value=np.zeros_like(p.value)) if p.name == "W_rec_ternary" else p for p in net.params)
    return replace(net, params=params)


def batches(x: NDArray[Any]) -> list[NDArray[Any]]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


LINES: list[list[str]] = []


def line(name: str, value: str) -> None:
    LINES.append([name, value])
    sys.stdout.write(f"{name:52} {value}\n")
    sys.stdout.flush()


def integer(net: EqNet, x: Floats, y: NDArray[np.int64], told: NDArray[np.int64], bits: int) -> None:
    """Print what the integer network does with states of `bits` bits. It needs no calibration data but the range of the
    inputs: a tanh state lies in -1..1."""
    options = QuantizeOptions(state_bits=bits, input_range=(0.0, 1.0))
    lowered = lower(net, options, calibration=None).net
    limit = lowered.schedule.steps
    labels, steps, last, changed, events, dense, event = [], [], [], [], 0, 0, 0
    for part in batches(data.encode(lowered, {"x": x})[0]["x"]):
        run = golden.run(lowered, {"x": part}, evaluation="event")
        labels.append(golden.labels(run.outputs["logits"]))
        steps.append(run.steps)
        h = run.states["h"]
        last.append((h[-1] != h[-2]).any(axis=1))
        moved = np.diff(h, axis=0, prepend=0) != 0
        events += int(moved.sum())
        changed.append(moved.sum(axis=(0, 2)))
        dense += run.details["additions_dense"]
        event += run.details["additions_event"]
    label, step, count = np.concatenate(labels), np.concatenate(steps), np.concatenate(changed)
    unsettled = int(np.concatenate(last).sum())
    name = f"{bits}-bit states"
    line(f"{name}: accuracy", f"{(label == y).mean():.4f}  ({int((label == y).sum())} of {len(y)})")
    line(f"{name}: labels as the float network's", f"{int((label == told).sum())} of {len(y)}")
    line(f"{name}: settled within {limit} steps", f"{len(y) - unsettled} of {len(y)}")
    shown = ", ".join(f"p{p} {v:.0f}" for p, v in zip(PERCENTILES, np.percentile(step, PERCENTILES), strict=True))
    line(f"{name}: steps until settled (last one without change)", f"mean {step.mean():.2f}, {shown}")
    shown = ", ".join(f"p{p} {v:.0f}" for p, v in zip(PERCENTILES, np.percentile(count, PERCENTILES), strict=True))
    line(f"{name}: state changes an image", f"mean {count.mean():.1f}, {shown}")
    line(f"{name}: recurrent additions skipped by events", f"{1 - event / dense:.1%} of {dense / len(y):.0f} an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz with x_test and y_test")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="default: the committed one")
    results.add_folder(parser)
    options = parser.parse_args()
    x, y = images(options.data)
    net = import_model(options.checkpoint).net
    line(
        "non-zero inputs an image",
        f"mean {(x > 0).sum(axis=1).mean():.1f} of {PIXELS}, worst {(x > 0).sum(axis=1).max()}",
    )
    for param in net.params:
        if param.value.ndim == 2:
            zero = int((param.value == 0).all(axis=0).sum())
            line(
                f"{param.name} {list(param.value.shape)}: non-zero",
                f"{(param.value != 0).mean():.1%}, empty columns {zero}",
            )
    told = float_labels(net, x)
    line("float: accuracy", f"{(told == y).mean():.4f}  ({int((told == y).sum())} of {len(y)})")
    cut = float_labels(without_recurrence(net), x)
    line("float, W_rec set to zero: accuracy", f"{(cut == y).mean():.4f}  ({int((cut == y).sum())} of {len(y)})")
    for bits in STATE_BITS:
        integer(net, x, y, told, bits)
    columns, title = {"ternary net, whole test set": "", "value": "simulated"}, "The ternary MNIST net as integers"
    results.record("mnist", title, [results.table(columns, LINES)], data=LINES, folder=options.out)


if __name__ == "__main__":
    main()
