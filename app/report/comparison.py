"""The page of a comparison of two builds, drawn from its document alone."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

from ..comparison import BuildComparison, Neighbourhood, plain_name
from ..wording import shown
from .kit import marked, remark, render, section, table, write

__all__ = ["comparison_page", "write_comparison"]

_DIGEST = re.compile("[0-9a-f]{40,}")


def write_comparison(document: BuildComparison, folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`. Raises ArtifactError on a disk that refuses."""
    write(folder, document, comparison_page(document))


def comparison_page(document: BuildComparison) -> str:
    """The page: what differs, runs side by side, what is the same."""
    first, second = _names(*document["builds"])
    net = "The integers are the same to the bit." if document["same_net"] else "The integers are not the same."
    parts = []
    if "run" in document:
        run = document["run"]
        rows = [["mean steps", *(f"{steps:.2f}" for steps in run["settled"])]]
        lines = [f"{run['samples']:,} samples: {run['source']}."]
        if "labels" in run and "labels_equal" in run:
            lines.append(f"{run['labels_equal']:,} of {run['labels']:,} labels are equal.")
        lines.append(f"First code that differs: {run['difference']}." if run["difference"] else "No code differs.")
        body = table(["what", first, second], rows, (0,)) + Markup("").join(remark(line) for line in lines)
        if "neighbourhood" in run:
            body += _neighbourhood(run["neighbourhood"], first, second)
        parts.append(section("On the same samples", run["kind"], body))
    for title, same in (("What differs", False), ("What is the same", True)):
        facts = [
            f for f in document["facts"] if f["same"] is same and any(v not in (None, [], "") for v in f["values"])
        ]
        rows = [[_breakable(plain_name(f["name"])), *map(_cell, f["values"])] for f in facts]
        values = ["value"] if same else [first, second]
        body = table(["what", *values], [row[: 1 + len(values)] for row in rows], range(3))
        parts.append(section(title, "measured", body))
    heading = "Two builds"
    intro = remark("{} and {}. {}".format(*document["builds"], net))
    return render("page.html", title=heading, heading=heading, intro=intro, body=Markup("").join(parts))


def _names(first: str, second: str) -> tuple[str, str]:
    """The last parts of two paths, as many as tell them apart."""
    parts = Path(first).parts, Path(second).parts
    for count in range(1, max(map(len, parts))):
        names = Path(*parts[0][-count:]), Path(*parts[1][-count:])
        if names[0] != names[1]:
            return str(names[0]), str(names[1])
    return first, second


def _neighbourhood(around: Neighbourhood, first: str, second: str) -> Markup:
    """A row for each tick, a column for each unit; where builds differ both codes, that of the first build first."""
    rows: list[list[object]] = []
    for tick, ours, theirs in zip(around["ticks"], *around["codes"], strict=True):
        cells: list[object] = [str(tick)]
        for a, b in zip(ours, theirs, strict=True):
            cells.append(str(a) if a == b else Markup('<span class="bad">{} / {}</span>').format(a, b))
        rows.append(cells)
    head = ["tick", *(f"unit {unit}" for unit in around["units"])]
    title = f"State {around['state']} of sample {around['sample']} around it: {first} / {second}"
    return remark(marked(title, "simulated")) + table(head, rows)


def _breakable(name: str) -> Markup:
    """A name that a narrow screen may break after an underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _cell(value: object) -> str | Markup:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return Markup("<code>{}</code>").format(value)
    return "none" if value is None else shown(value)
