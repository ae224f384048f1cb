"""Labels of the integers against those of the floats, and which nets are chaotic.

    python benchmarks/labels.py [--out DIR] [--only NAME]

Every trained checkpoint of tests/data/zoo that classifies digits is quantized with 8-bit states, plainly and with two
guard bits, calibrated on training images, and judged on 328 test images (the two that the checkpoints hold are among
the first 32, which are left out). Where 8 bits keep fewer than 99 of 100 labels, states and inputs are widened until
they do. A net is called chaotic on evidence: the float net, run again on inputs moved by
2^-9 up or down, which is half a step of an 8-bit input, gives other labels for more than 1 in 100 images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import CALIBRATION, TEST, Row
from numpy.typing import NDArray
from zoo_nets import NAMES, zoo_net

from eqcompile.app.cli.show import table
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.reference import run_reference

GUARD_BITS = (0, 2)
WIDER = (10, 12, 14)
SKIPPED = 32
MOVED = 2.0**-9
KEPT = 0.99
COLUMNS = {
    "net": "",
    "accuracy float": "measured",
    "8 bits": "simulated",
    "labels kept at 8 bits": "simulated",
    "with 2 guard bits": "simulated",
    "labels kept with guard bits": "simulated",
    "float labels kept, inputs moved by 2^-9": "measured",
    "states moved by": "measured",
    "99 of 100 labels kept by": "simulated",
}

Numbers = NDArray[np.float64] | NDArray[np.int64]


def images(net: EqNet, digits: NDArray[np.float64]) -> Numbers | None:
    """Digits [samples, 64] as a net takes them: vector, image, rows as frames, or tokens; None for other tasks."""
    (source,) = net.inputs
    square = digits.reshape(-1, 8, 8)
    if source.kind == "index":
        pooled = square.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
        return np.rint(16.0 * pooled).astype(np.int64) if (source.rows, source.shape) == (17, (16,)) else None
    if net.schedule.frames:
        return square if source.shape == (8,) else None
    if source.shape == (64,):
        return digits
    fits = len(source.shape) == 3 and source.shape[1:] == (8, 8)
    return np.repeat(square[:, None], source.shape[0], axis=1) if fits else None


def logits(outputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    (values,) = outputs.values()
    return values


def row(name: str) -> Row | None:
    """The figures of one checkpoint; None if it does not classify digits."""
    net, stored = zoo_net(name)
    with np.load(TEST) as file:
        digits, labels = file["x"].astype(np.float64), file["labels"]
    with np.load(CALIBRATION) as file:
        training = images(net, file["x"].astype(np.float64))
    x = images(net, digits)
    if x is None or training is None:
        return None
    key = net.inputs[0].name
    if not np.allclose(x[:2], stored[key], rtol=0.0, atol=1e-6):
        raise ValueError(f"the digits of {name} are not laid out as its stored inputs are")
    x, labels = x[SKIPPED:], labels[SKIPPED:]
    real = run_reference(net, {key: x})
    told = logits(real.outputs).argmax(-1)
    found: Row = {"net": name, "family": net.family, "samples": len(x), "float correct": int((told == labels).sum())}

    def integers(options: QuantizeOptions) -> NDArray[np.int64]:
        lowered = lower(net, options, calibration={key: training}).net
        return logits(run_golden(lowered, encode(lowered, {key: x})[0]).outputs).argmax(-1)

    for bits in GUARD_BITS:
        mine = integers(QuantizeOptions(state_bits=8, guard_bits=bits))
        found[f"correct, {bits} guard bits"] = int((mine == labels).sum())
        found[f"kept, {bits} guard bits"] = int((mine == told).sum())
    if x.dtype.kind == "f":
        signs = np.random.default_rng(0).choice([-MOVED, MOVED], size=x.shape)
        moved = run_reference(net, {key: x + signs})
        found["kept, inputs moved"] = int((logits(moved.outputs).argmax(-1) == told).sum())
        found["states moved by"] = max(float(np.abs(moved.states[s] - v).max()) for s, v in real.states.items())
    least = KEPT * len(x)
    if found.get("kept, inputs moved", least) < least:
        return found | {"verdict": "chaotic"}
    for bits in GUARD_BITS:
        if found[f"kept, {bits} guard bits"] >= least:
            return found | {"verdict": f"8 bits and {bits} guard bits" if bits else "8 bits"}
    for width in WIDER:
        mine = integers(QuantizeOptions(state_bits=width, input_bits=width, guard_bits=GUARD_BITS[-1]))
        found[f"kept at {width} bits"] = int((mine == told).sum())
        if found[f"kept at {width} bits"] >= least:
            return found | {"verdict": f"{width} bits and {GUARD_BITS[-1]} guard bits"}
    return found | {"verdict": f"more than {WIDER[-1]} bits"}


def shown(found: Row) -> list[str]:
    """The cells of a row, in the order of `COLUMNS`."""
    total = found["samples"]

    def share(name: str) -> str:
        return f"{found[name]}/{total}" if name in found else "-"

    integers = [share(f"{what}, {bits} guard bits") for bits in GUARD_BITS for what in ("correct", "kept")]
    distance = f"{found['states moved by']:.2g}" if "states moved by" in found else "-"
    return [found["net"], share("float correct"), *integers, share("kept, inputs moved"), distance, found["verdict"]]


def _rank(verdict: str) -> tuple[bool, int, int]:
    """From narrow to wide; chaotic last."""
    numbers = [int(word) for word in verdict.split() if word.isdigit()]
    return not numbers, *(*numbers, 0, 0)[:2]  # type: ignore[return-value]


def main() -> int:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    parser.add_argument("--only", metavar="NAME", help="checkpoints whose name holds NAME")
    options = parser.parse_args()
    chosen = [name for name in NAMES if options.only is None or options.only in name]
    rows: list[Row] = []
    for k, name in enumerate(chosen, 1):
        sys.stderr.write(f"\r{k}/{len(chosen)} {name:45}")
        found = row(name)
        rows += [] if found is None else [found]
    sys.stderr.write("\r" + " " * 60 + "\r")
    finish(rows, options.out)
    return 0


def finish(rows: list[Row], folder: Path) -> None:
    """Print and record the table of these rows."""
    cells = [shown(found) for found in rows]
    sys.stdout.write(table(tuple(COLUMNS), cells) + "\n")
    counts = {v: sum(r["verdict"] == v for r in rows) for v in sorted({r["verdict"] for r in rows}, key=_rank)}
    listed = "; ".join(f"{verdict}: {n}" for verdict, n in counts.items())
    words = (
        f"`make families`: {len(rows)} trained classifiers of the research code on 328 test images of digits, the "
        "integers calibrated on 200 training images. Bits of states and inputs at which the integers give the label of "
        f"float64 for 99 of 100 images, and how many nets: {listed}. A chaotic net's own floats give other labels for "
        "more than 1 in 100 images when inputs move by 2^-9 up or down; `states moved by` is how far its last states "
        "are then from where they were. Tokens cannot be moved."
    )
    blocks = [results.text(words), results.table(COLUMNS, cells)]
    results.record("labels", "Labels of every family", blocks, data=rows, folder=folder)


if __name__ == "__main__":
    sys.exit(main())
