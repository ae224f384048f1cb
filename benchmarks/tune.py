"""What fine-tuning for the integers keeps of float nets, on whole test sets.

    python benchmarks/tune.py [--mnist mnist.npz] [--only ternary] [--skip-bounds] [--out DIR]

Digits (1437 training images, each in 10 copies shifted and turned a little as those that the float net was trained on;
360 test images) and, with `--mnist`, MNIST (60,000 and 10,000). The options, `DIGITS` and `MNIST`, were chosen on
training images: those of digits on a fifth of them, five times, that the float net had not seen either. The training is
`eqtune`'s; accuracy of the integers is golden's (simulated), that of the float64 reference measured. The test sets
choose nothing. Two more nets of digits are trained under a proved bound of the contraction, `BOUND`, with a margin
in the loss and without, beside the same training without the bound: what each costs. Ends with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import results

from eqcompile.app.cli.show import table
from eqcompile.quantization.lower import lower
from eqcompile.quantization.qat.stage import tune
from eqcompile.toolchain.certificate.certificate import certify
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import Alternative, Imported, QuantizeOptions, TuneOptions

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ROWS = (("ternary", 8), ("ternary", 4), ("int8", 4))
BAR = 0.3
"""Points of accuracy that the integers may lose against the float net."""
BOUND, MARGIN = 0.7, 2.0
BOUNDED = ("digits_looped.pt", "digits_eqprop.npz")
COPIES = 10
DIGITS: Mapping[str, Any] = {"epochs": 15, "noise": 0.0, "hold_out": 0.0}
MNIST: Mapping[str, Any] = {"epochs": 8, "batch": 256, "ticks": 8, "lr": 3e-3, "noise": 0.0, "distill": 1.0}
COLUMNS = {"net": "", "weights": "", "state bits": "", "float64": "measured", "before": "simulated"}
COLUMNS |= {"after": "simulated", "points": "simulated", "bar": "", "epoch": "", "seconds": "measured"}

COSTS_TEXT = (
    f"What `--max-lipschitz {BOUND} --margin {MARGIN:g}` cost on ternary 64-64-10 nets with 8-bit states, 360 "
    "test images; density is that of the net trained under both:"
)
COSTS = {"net": "", "W_rec not 0": "", "training": "", "L a step": "proved", "accuracy": "simulated"}

Task = tuple[str, Imported, Inputs, Inputs, Mapping[str, Any]]


def digits(file: str = "digits_looped.pt") -> Task:
    sys.path.insert(0, str(EXAMPLES))
    import torch
    from digits import digits as split
    from digits import varied

    train, test = split()
    torch.manual_seed(1)
    x = torch.cat([varied(train.x) for _ in range(COPIES)]).double().numpy()
    return (
        "digits 64-64-10" if file == "digits_looped.pt" else Path(file).stem,
        import_model(EXAMPLES / "checkpoints" / file),
        Inputs({"x": x}, np.tile(train.y.numpy(), COPIES)),
        Inputs({"x": test.x.double().numpy()}, test.y.numpy()),
        DIGITS,
    )


def mnist(path: Path) -> Task:
    with np.load(path, allow_pickle=False) as held:
        parts = [
            Inputs({"x": held[f"x_{name}"].reshape(-1, 784) / 255}, held[f"y_{name}"].astype(np.int64))
            for name in ("train", "test")
        ]
    return "MNIST 784-256-10", import_model(EXAMPLES / "checkpoints" / "mnist_looped.npz"), parts[0], parts[1], MNIST


def measure(task: Task, weights: str, state_bits: int) -> dict[str, Any]:
    name, imported, train, test, options = task
    began = time.perf_counter()
    tuned = tune(
        imported,
        train,
        TuneOptions(quantize=QuantizeOptions(weights=weights, state_bits=state_bits), **options),
        test=test,
        progress=lambda stage, done, total: say(f"\r{name} {weights}, {state_bits} bit: {stage} {done}/{total}  ", ""),
    )
    found = tuned.accuracy["test"]
    points = 100.0 * (found["after"] - found["float"])
    say("")
    return {
        "net": name,
        "weights": weights,
        "state_bits": state_bits,
        "samples": tuned.samples["test"],
        "accuracy": dict(tuned.accuracy),
        "points": points,
        "met": points >= -BAR - 1e-9,
        "epoch": tuned.epoch,
        "options": dict(options),
        "seconds": time.perf_counter() - began,
        "kind": "accuracy of integers simulated (golden), of float64 and seconds measured",
    }


def price(file: str) -> list[dict[str, Any]]:
    """A ternary training under the bound and the margin, and what leaves out one or both: a row each."""
    _, imported, train, test, options = digits(file)
    asked = TuneOptions(
        quantize=QuantizeOptions(weights="ternary"), max_lipschitz=BOUND, margin=MARGIN, skip_cost=False, **options
    )
    name = Path(file).stem
    tuned = tune(
        imported,
        train,
        asked,
        test=test,
        progress=lambda stage, done, total: say(f"\r{name}, L at most {BOUND}: {stage} {done}/{total}  ", ""),
    )
    say("")
    before = lower(imported.net, asked.quantize, calibration=train.arrays).net
    trainings = {"before training": Alternative({"test": tuned.accuracy["test"]["before"]}, certify(before).bound)}
    kept = Alternative({"test": tuned.accuracy["test"]["after"]}, tuned.bound)
    trainings |= {f"L at most {BOUND}, margin {MARGIN:g}": kept, **tuned.others}
    facts = results.net_facts(name, tuned.net)
    return [
        {
            "net": name,
            "training": title,
            "density": facts["density"],
            "L": t.bound if math.isfinite(t.bound) else None,
            "test": t.accuracy.get("test"),
        }
        for title, t in trainings.items()
    ]


def costs(r: Mapping[str, Any]) -> list[str]:
    """A row of `price` as COSTS has it."""
    bound = "none" if r["L"] is None else f"{r['L']:.4f}"
    accuracy = "diverged" if r["test"] is None else f"{r['test']:.4f}"
    return [r["net"], f"{r['density']:.1%}", r["training"], bound, accuracy]


def cells(r: Mapping[str, Any]) -> list[str]:
    """A row as COLUMNS has it."""
    test = r["accuracy"]["test"]
    accuracies = [f"{test[k]:.4f}" for k in ("float", "before", "after")]
    bar = f"loss <= {BAR} points: {'met' if r['met'] else 'MISSED'}"
    return [r["net"], r["weights"], str(r["state_bits"]), *accuracies, f"{r['points']:+.2f}", bar, str(r["epoch"])] + [
        f"{r['seconds']:.0f}"
    ]


def say(line: str, end: str = "\n") -> None:
    sys.stderr.write(line + end)
    sys.stderr.flush()


def record(rows: list[dict[str, Any]], folder: Path) -> None:
    """Record rows of `measure` and of `price`, and those of earlier runs that they do not replace."""
    every = results.joined("tune", rows, ("net", "weights", "state_bits", "training"), folder)
    words = (
        "`benchmarks/tune.py`: accuracy of the integers before and after `eqtune`, on whole test sets; the options "
        "were chosen on training images alone:"
    )
    blocks = [
        results.text(words),
        results.table(COLUMNS, [cells(r) for r in every if "training" not in r]),
        results.text(COSTS_TEXT),
        results.table(COSTS, [costs(r) for r in every if "training" in r]),
    ]
    older = results.older("tune", folder)
    results.record("tune", "Fine-tuning", blocks, data=every, older=older, folder=folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, metavar="MNIST.npz", help="x_train, x_test, y_train, y_test, as Keras's")
    parser.add_argument("--only", metavar="WORD", default="", help="rows whose weights are called so")
    parser.add_argument("--skip-bounds", action="store_true", help="do not train under a bound of the contraction")
    results.add_folder(parser)
    chosen = parser.parse_args()
    tasks = [digits()] if chosen.mnist is None else [digits(), mnist(chosen.mnist)]
    rows = [measure(task, *row) for task in tasks for row in ROWS if chosen.only in row[0]]
    prices = [] if chosen.skip_bounds else [row for file in BOUNDED for row in price(file)]
    sys.stdout.write(table(tuple(COLUMNS), [cells(row) for row in rows]) + "\n")
    sys.stdout.write(table(tuple(COSTS), [costs(row) for row in prices]) + "\n")
    record([*rows, *prices], chosen.out)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
