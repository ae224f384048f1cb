"""Labels of the integers against those of the floats, and which nets are chaotic.

    python benchmarks/labels.py [--out DIR] [--only NAME] [--keep]

Every trained checkpoint of tests/data/zoo that classifies digits is quantized with 8-bit states, plainly and with two
guard bits, calibrated on training images, and judged on 328 test images (the two that the checkpoints hold are among
the first 32, which are left out); those that continue a text on 48 sequences of it, 768 tokens, calibrated on 16
others; every net of tests/data/published is judged on its 64 test inputs. Where 8 bits
keep fewer than 99 of 100 labels, the search of `--keep-labels` chooses widths, on the training images alone; where
its choice does not keep them on the test images, all states and inputs are widened until they do. A net is called
chaotic on evidence: the float net, run again on inputs moved by 2^-9 up or down, which is half a step of an 8-bit
input, gives other labels for more than 1 in 100 images. What is measured is recorded after each net; `--keep`
measures what is not recorded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import CALIBRATION, TEST, Row
from numpy.typing import NDArray
from published_nets import NETS, published_net
from zoo_nets import NAMES, ZOO, zoo_net

from eqcompile.app.cli.show import table
from eqcompile.app.progress import stage_progress
from eqcompile.app.width_words import width_words
from eqcompile.quantization.lower import lower
from eqcompile.quantization.widen import keep_labels
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.options import MOST_BITS
from eqcompile.toolchain.reference import run_reference

PLAIN = {0: "8 bits", 2: "8 bits and 2 guard bits"}
"""What is tried first: guard bits, and what the table calls it."""
CHAOTIC, SEARCH = "chaotic", "search"
WIDER = (10, 12, 14)
SKIPPED = 32
VOCABULARY = 27
TEXT = ZOO.with_name("zoo_text.npz")
CALIBRATING = 16
"""Sequences of the text from which ranges and widths are taken; labels are counted on the others."""
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
    "kept by the search": "simulated",
    "its choice": "",
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


@dataclass(frozen=True)
class Data:
    """A classifier with its test inputs, their labels (one for each token of a sequence), and training inputs."""

    net: EqNet
    x: Numbers
    labels: NDArray[np.int64]
    training: Numbers


def classifier(name: str) -> Data | None:
    """The net of that name with its data; None if it classifies nothing."""
    if name in NETS:
        net, _, calibration = published_net(name)
        stored = NETS[name].data()
        return Data(net, stored["x"].astype(np.float64), stored["labels"], calibration["x"].astype(np.float64))
    net, samples = zoo_net(name)
    (source,) = net.inputs
    if any(o.kind != "classes" for o in net.outputs):
        return None
    if source.rows == VOCABULARY:
        with np.load(TEXT) as file:
            text, following = file["x"].astype(np.int64), file["labels"].astype(np.int64)
        return Data(net, text[CALIBRATING:], following[CALIBRATING:], text[:CALIBRATING])
    with np.load(TEST) as file:
        digits, labels = file["x"].astype(np.float64), file["labels"]
    with np.load(CALIBRATION) as file:
        training = images(net, file["x"].astype(np.float64))
    x = images(net, digits)
    if x is None or training is None:
        return None
    if not np.allclose(x[:2], samples[net.inputs[0].name], rtol=0.0, atol=1e-6):
        raise ValueError(f"the digits of {name} are not laid out as its stored inputs are")
    return Data(net, x[SKIPPED:], labels[SKIPPED:], training)


def row(name: str) -> Row | None:
    """The figures of one checkpoint; None if it classifies nothing."""
    data = classifier(name)
    if data is None:
        return None
    net, x, labels, key = data.net, data.x, data.labels, data.net.inputs[0].name
    calibration = {key: data.training}
    real = run_reference(net, {key: x})
    told = logits(real.outputs).argmax(-1)
    figures: Row = {
        "net": name,
        "family": net.family,
        "samples": labels.size,
        "float correct": int((told == labels).sum()),
    }
    least = KEPT * labels.size

    def judge(options: QuantizeOptions, what: str) -> bool:
        """Whether the integers of these options keep enough labels; the row says how many, and how many are right."""
        mine = integers(options)
        figures[f"correct, {what}"] = int((mine == labels).sum())
        figures[f"kept, {what}"] = int((mine == told).sum())
        enough = figures[f"kept, {what}"] >= least
        if enough and "verdict" not in figures:
            figures.update(verdict=what)
        return enough

    def integers(options: QuantizeOptions) -> NDArray[np.int64]:
        lowered = lower(net, options, calibration=calibration).net
        return logits(run_golden(lowered, encode(lowered, {key: x})[0]).outputs).argmax(-1)

    if x.dtype.kind == "f":
        signs = np.random.default_rng(0).choice([-MOVED, MOVED], size=x.shape)
        moved = run_reference(net, {key: x + signs})
        figures["kept, inputs moved"] = int((logits(moved.outputs).argmax(-1) == told).sum())
        figures["states moved by"] = max(float(np.abs(moved.states[s] - v).max()) for s, v in real.states.items())
    for bits, what in PLAIN.items():
        judge(QuantizeOptions(state_bits=8, guard_bits=bits), what)
    if figures.get("kept, inputs moved", least) < least:
        figures["verdict"] = CHAOTIC
    if "verdict" in figures:
        return figures
    with stage_progress("setting") as progress:
        asked = QuantizeOptions(keep_labels=KEPT)
        kept = keep_labels(net, asked, calibration, lambda done, most: progress("choose widths", done, most))
    chosen = kept.widening.options
    figures["search"] = " ".join(width_words(chosen.states, chosen.guard_bits, chosen.guards))
    figures["search trials"] = len(kept.widening.trials)
    figures["search met"] = kept.widening.met
    calibration = kept.calibration
    if judge(chosen, SEARCH):
        return figures
    calibration = {key: data.training}
    for width in WIDER:
        options = QuantizeOptions(state_bits=width, input_bits=width, guard_bits=2)
        if judge(options, f"{width} bits and 2 guard bits"):
            return figures
    return figures | {"verdict": f"more than {WIDER[-1]} bits"}


def shown(figures: Row) -> list[str]:
    """The cells of a row, in the order of `COLUMNS`."""
    total = figures["samples"]

    def share(name: str) -> str:
        return f"{figures[name]}/{total}" if name in figures else "-"

    integers = [share(f"{what}, {widths}") for widths in PLAIN.values() for what in ("correct", "kept")]
    distance = f"{figures['states moved by']:.2g}" if "states moved by" in figures else "-"
    chosen = [share(f"kept, {SEARCH}"), figures["search"] or "8 bits"] if "search" in figures else ["-", "-"]
    first = [figures["net"], share("float correct"), *integers, share("kept, inputs moved"), distance]
    return [*first, *chosen, figures["verdict"]]


def _rank(verdict: str) -> tuple[bool, int, int]:
    """From narrow to wide; chaotic last."""
    numbers = [int(word) for word in verdict.split() if word.isdigit()]
    return not numbers, *(*numbers, 0, 0)[:2]  # type: ignore[return-value]


def main() -> int:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    parser.add_argument("--only", metavar="NAME", help="checkpoints whose name holds NAME")
    parser.add_argument("--keep", action="store_true", help="keep what is recorded, measure the rest")
    options = parser.parse_args()
    path = options.out / "labels.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() else []
    rows = {figures["net"]: figures for figures in recorded}
    everything = (*NAMES, *NETS)
    measured: list[str] = []
    for k, name in enumerate(everything, 1):
        if (options.only is not None and options.only not in name) or (options.keep and name in rows):
            continue
        sys.stderr.write(f"{k}/{len(everything)} {name}\n")
        figures = row(name)
        if figures is not None:
            rows[name] = figures
            measured.append(name)
            finish([rows[n] for n in everything if n in rows], options.out, measured)
    sys.stdout.write(table(tuple(COLUMNS), [shown(rows[n]) for n in everything if n in rows]) + "\n")
    return 0


def unmet(rows: list[Row]) -> str:
    """Of which nets the search found no widths, and why it stopped; empty if there are none."""
    listed = ", ".join(f"{r['net']} ({r['search trials']})" for r in rows if not r.get("search met", True))
    if not listed:
        return ""
    return (
        f" The search stopped below 99 of 100 of the calibration labels of {listed} (settings tried): no width of all "
        f"states up to {MOST_BITS} bits kept them, and the most that were kept were sought instead."
    )


def finish(rows: list[Row], folder: Path, measured: list[str]) -> None:
    """Record the table of these rows, of which those called `measured` are of now."""
    cells = [shown(figures) for figures in rows]
    counts = {v: sum(r["verdict"] == v for r in rows) for v in sorted({r["verdict"] for r in rows}, key=_rank)}
    listed = "; ".join(f"{verdict}: {n}" for verdict, n in counts.items())
    words = (
        f"`make families`: {len(rows)} trained classifiers, those of the research code on 328 test images of digits "
        "and calibrated on 200 training images, or on 768 tokens of a text and calibrated on 256; those of other codes "
        "on 64 of their test inputs. Bits of states and inputs at which the integers give the label of "
        f"float64 for 99 of 100, and how many nets: {listed}. A chaotic net's own floats give other labels for "
        "more than 1 in 100 images when inputs move by 2^-9 up or down; `states moved by` is how far its last states "
        f"are then from where they were. Tokens cannot be moved.{unmet(rows)}"
    )
    blocks = [results.text(words), results.table(COLUMNS, cells)]
    note = "" if len(measured) == len(rows) else f"Only {', '.join(measured)} at this commit, the others before."
    results.record("labels", "Labels of every family", blocks, data=rows, note=note, folder=folder)


if __name__ == "__main__":
    sys.exit(main())
