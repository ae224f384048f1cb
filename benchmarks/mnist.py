"""Measure ternary MNIST networks on the whole test set, as the integers that hardware computes.

    python benchmarks/mnist.py --data mnist.npz [--net mnist_layered ...]

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

CHECKPOINTS = Path(__file__).parents[1] / "examples" / "checkpoints"
NETS = ("mnist_layered", "mnist_certified", "mnist_ternary")
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
    return np.concatenate(
        [reference.run_reference(net, {"x": part}).outputs["logits"].argmax(axis=1) for part in batches(x)]
    )


def without_recurrence(net: EqNet) -> EqNet:
    """What the relaxation is worth: the same network whose units do not hear each other."""
    params = tuple(replace(p, value=np.zeros_like(p.value)) if p.name.startswith("W_rec") else p for p in net.params)
    return replace(net, params=params)


def batches(x: NDArray[Any]) -> list[NDArray[Any]]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


def of_integers(
    net: EqNet, x: Floats, y: NDArray[np.int64], reference_labels: NDArray[np.int64], bits: int
) -> dict[str, str]:
    """What the integer network does with states of `bits` bits. It needs no calibration data but the range of the
    inputs: a tanh state lies in -1..1."""
    options = QuantizeOptions(state_bits=bits, input_range=(0.0, 1.0))
    lowered = lower(net, options, calibration=None).net
    limit = lowered.schedule.steps
    labels, steps, last, changed, dense, event = [], [], [], [], 0, 0
    for part in batches(data.encode(lowered, {"x": x})[0]["x"]):
        run = golden.run(lowered, {"x": part}, evaluation="event")
        labels.append(golden.labels(run.outputs["logits"]))
        steps.append(run.steps)
        h = run.states["h"]
        last.append((h[-1] != h[-2]).any(axis=1))
        changed.append((np.diff(h, axis=0, prepend=0) != 0).sum(axis=(0, 2)))
        dense += run.details["additions_dense"]
        event += run.details["additions_event"]
    label, step, count = np.concatenate(labels), np.concatenate(steps), np.concatenate(changed)
    return {
        f"{bits}-bit states: accuracy": share(label == y),
        f"{bits}-bit states: labels as the float network's": share(label == reference_labels),
        f"{bits}-bit states: settled within {limit} steps": f"{len(y) - int(np.concatenate(last).sum())} of {len(y)}",
        f"{bits}-bit states: steps until settled (last one without change)": spread(step),
        f"{bits}-bit states: state changes an image": spread(count),
        f"{bits}-bit states: recurrent additions skipped by events": (
            f"{1 - event / dense:.1%} of {dense / len(y):.0f} an image"
        ),
    }


def share(right: NDArray[np.bool_]) -> str:
    return f"{right.mean():.4f} ({int(right.sum())} of {len(right)})"


def spread(values: NDArray[np.int64]) -> str:
    points = zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    return f"mean {values.mean():.2f}, " + ", ".join(f"p{p} {v:.0f}" for p, v in points)


def of_net(net: EqNet, x: Floats, y: NDArray[np.int64]) -> dict[str, str]:
    """The column of a net."""
    column = {}
    for param in (p for p in net.params if p.value.ndim == 2):
        name = param.name.removesuffix("_ternary").removesuffix("_weight")
        column[f"{name}: not zero"] = f"{(param.value != 0).mean():.1%} of {param.value.size}"
        column[f"{name}: empty columns"] = str(int((param.value == 0).all(axis=0).sum()))
    labels = float_labels(net, x)
    column["float: accuracy"] = share(labels == y)
    column["float, W_rec zero: accuracy"] = share(float_labels(without_recurrence(net), x) == y)
    for bits in STATE_BITS:
        column |= of_integers(net, x, y, labels, bits)
    return column


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz with x_test and y_test")
    parser.add_argument("--net", action="append", choices=NETS, help="only this net (may be repeated)")
    results.add_folder(parser)
    options = parser.parse_args()
    x, y = images(options.data)
    names = tuple(options.net or NETS)
    columns = {}
    for name in names:
        columns[name] = of_net(import_model(CHECKPOINTS / f"{name}.npz").net, x, y)
        for key, value in columns[name].items():
            sys.stdout.write(f"{name:16} {key:60} {value}\n")
            sys.stdout.flush()
    pixels = (x > 0).sum(axis=1)
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = [[key, *(columns[name].get(key, "") for name in names)] for key in keys]
    blocks = [
        results.text(f"An image has {pixels.mean():.1f} of {PIXELS} pixels that are not zero, {pixels.max()} at most."),
        results.table({"whole test set": ""} | dict.fromkeys(names, "simulated"), rows),
    ]
    results.record("mnist", "Ternary MNIST nets as integers", blocks, data=columns, folder=options.out)


if __name__ == "__main__":
    main()
