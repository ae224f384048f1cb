"""The page of what runs where, docs/reference/support.md, from what `make families` recorded (`make docs`)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eqcompile.toolchain import registry
from eqcompile.toolchain.importers.detect import all_families

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reference" / "support.md"
CORES = ("rtl serial", "rtl parallel", "rtl lattice", "rtl processor")
COLUMNS = ("numpy", "c", "onnx", "nir", "hls4ml", "loihi", *CORES)
NOT_RUN = "not run"
REASONS = (
    (r"input .* is (an index|a token)", "lacks tokens"),
    (r"(the net|a core|this engine)? ?.*\bframes\b", "lacks frames"),
    (r"matmul .* is not supported: a synapse", "lacks products of two values"),
    (r".*32 bits hold", "sums beyond 32 bits"),
    (r".*(64 bits hold|sums reach)", "sums too wide"),
    (r"(\w+) .*its matrix has", "{} as a matrix is too large"),
    (r"(\w+) .*has no exact form", "lacks {}"),
    (r"(\w+) \(.*\) is not supported", "lacks {}"),
    (r"(\w+) is no operation of", "lacks {}"),
    (r"this engine has no (\w+)", "lacks {}"),
    (r".* of the (?:step|readout|drive) reads .*this engine needs", "weights read a value of the step"),
    (r".* is (?:no state|not the input); cells", "weights read what is no state"),
    (r"the (\w+) has \d+ operations with weights", "several weights in the {}"),
    (r"reduce \w+ is a sum over axes", "lacks sums over some axes"),
    (r"the weights are .* coefficients", "too many weights"),
    (r"needs? (.*) cores", "too few cores"),
    (r".*unroll", "too large to unroll"),
)
"""What refusals of targets say, and the same in a few words."""

HEAD = """# What runs where

Of each class of [families.md](families.md) a net: one that was trained, or one with random weights where there is no
file. It is quantized (8-bit states, int8 or ternary weights), emitted for each target, and run by each of its
simulators on two samples. **Every state of every step is compared with golden.** A cell says how many steps were
compared, over all samples and simulators, and in how many codes they differ: `120/0`. Otherwise it says why there is
nothing to compare:

- `no: ...`: the target refuses the net before it emits anything; what stands here is the first of its reasons.
- `takes it; not simulated: ...`: the target takes the net, and nobody waited for its simulator, which compiles hardware
  for each weight (`hls4ml`, `rtl parallel`): the net has too many weights to try (`benchmarks/families.py
  --most-weights`), or compiling and simulating had not ended after so many seconds (`--limit`), or it was not tried.
- `not run`: nobody has asked the target.

All figures are simulated: c on the host and on an emulated Cortex-M, Loihi by Lava as Loihi 1 and 2, hls4ml by its C
simulation, cores by Verilator. `make families` records them, `make docs` writes this page.
"""
CAPACITIES = """
## What simulators hold

Verification leaves out a simulator that cannot hold an artifact, and says what is needed and what there is. Named with
`--simulator`, it is an error. A slow one waits for the clocks that a fast one counts: it runs fewer samples, or none,
where they would take longer than `--timeout` at its rate, and says so. A core that Verilator does not compile in that
time runs in Icarus alone.

"""
ACCURACY = """
## Accuracy of the integers

Trained classifiers on images that they were not trained with: digits (328 images), or the 64 of other codes' files;
nets of text on 768 tokens, each a label. *Kept* are labels of the float64 net that the integers give as well, at the
widths of the last column: 8-bit states and inputs, with guard bits or wider where 8 bits keep fewer than 99 of 100.
`--states` and `--guard-bits` are what `--keep-labels 99%` chose on calibration data alone; other widths are for all
states and inputs. A chaotic net's own floats give other labels for more than 1 in 100 images when inputs move by 2^-9
(*kept by floats, moved*; tokens cannot be moved). Float figures are measured, those of integers simulated.

"""
SUMMARY = "**{kept} of {all} nets keep at least 99 of 100 labels.** {rest}\n"

Row = dict[str, Any]


def page() -> str:
    """The page in Markdown: a row for each net on each target, then one for each classifier."""
    runs, labels = _recorded("families"), _recorded("labels")
    families = {r["net"]: r["family"] for r in runs}
    own, shown = set(families.values()), set[str]()
    rows = []
    for net, key in families.items():
        # A class without a net of its own stands with the first net of those that compute the same.
        names = [key, *(k for k in _same(key) if k not in own | shown)]
        shown |= {*names}
        rows.append([", ".join(f"`{n}`" for n in names), net, *_cells([r for r in runs if r["net"] == net])])
    rows += [[f"`{key}`", "none", *[NOT_RUN] * len(COLUMNS)] for key in all_families() if key not in own | shown]
    commits = ", ".join(sorted({r["at"] for r in runs}))
    table = _table(["class", "net", *COLUMNS], sorted(rows))
    images = [
        "labels",
        "float correct",
        "integers correct",
        "kept",
        "kept by floats, moved",
        "widths of states and inputs",
    ]
    accuracy = _table(["net", "class", *images], [_accuracy(row) for row in labels])
    return f"{HEAD}\nMeasured at commits {commits}.\n\n{table}{_capacities()}{ACCURACY}{_summary(labels)}\n{accuracy}"


def _recorded(name: str) -> list[Row]:
    return list(json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))["data"])


def _same(key: str) -> list[str]:
    """Classes that compute the same under other names."""
    origin = all_families()[key].same_as or key
    return [k for k, family in all_families().items() if k != key and origin in (k, family.same_as)]


def _cells(rows: Sequence[Row]) -> list[str]:
    return [_cell([r for r in rows if r["column"] == column]) for column in COLUMNS]


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return NOT_RUN
    first = rows[0]
    if "refused" in first:
        return f"no: {in_few_words(first['refused'][0])}"
    reasons = [r["not simulated"] for r in rows if "not simulated" in r]
    if reasons:
        return f"takes it; not simulated: {reasons[0]}"
    return f"{sum(r['steps'] for r in rows):,}/{sum(r['mismatches'] for r in rows)}"


def in_few_words(refusal: str) -> str:
    """The reason of a refusal. Raises ValueError for one that `REASONS` does not know."""
    for pattern, words in REASONS:
        match = re.match(pattern, refusal)
        if match is not None:
            return words.format(*match.groups())
    raise ValueError(f"REASONS of benchmarks/support.py has no words for the refusal {refusal!r}")


def _accuracy(row: Row) -> list[str]:
    total = row["samples"]
    verdict, widths = row["verdict"], _widths(row)
    kept, correct = row[f"kept, {widths}"], row[f"correct, {widths}"]
    chosen = {"chaotic": f"chaotic, at {widths}", "search": row.get("search", "")}.get(verdict, widths)
    moved = f"{row['kept, inputs moved']}/{total}" if "kept, inputs moved" in row else "not moved"
    shares = [f"{100 * n / total:.1f} %" for n in (row["float correct"], correct)]
    return [row["net"], f"`{row['family']}`", str(total), *shares, f"{kept}/{total}", moved, chosen]


def _capacities() -> str:
    """What each simulator says that it holds."""
    kinds = [registry.simulators_of(name) for name in registry.names("targets")]
    rows = [[name, kind.target, kind.capacity] for group in kinds for name, kind in group.items()]
    return CAPACITIES + _table(["simulator", "target", "holds"], rows)


def _widths(row: Row) -> str:
    """The widths whose labels are told of a net."""
    verdict = str(row["verdict"])
    return "8 bits and 2 guard bits" if verdict == "chaotic" else verdict


def _summary(rows: Sequence[Row]) -> str:
    """How many nets keep their labels, and what is measured of each that does not."""
    missed = [r for r in rows if r[f"kept, {_widths(r)}"] < 0.99 * r["samples"]]
    lines = [
        f"{r['net']}: {r[f'kept, {_widths(r)}']} of {r['samples']}; its own floats, moved by 2^-9, keep "
        f"{r['kept, inputs moved']}"
        for r in missed
    ]
    rest = f"The others: {'; '.join(lines)}." if lines else ""
    return SUMMARY.format(kept=len(rows) - len(missed), all=len(rows), rest=rest)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
