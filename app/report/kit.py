"""The parts of every report: one page, tables, sections with their kind and CSV, numbers, and how files are written.

Text is escaped unless it is `Markup`: a name in an untrusted checkpoint is never more than text.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eqcompile.sim.campaign.statistics import IntervalDocument
from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..files import replacing
from ..wording import percent, shown
from .schema import Number

__all__ = [
    "HTML",
    "JSON",
    "interval",
    "kind",
    "marked",
    "number",
    "picker",
    "raw",
    "remark",
    "render",
    "section",
    "table",
    "write",
]

JSON, HTML = "report.json", "report.html"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("eqcompile.app.report", "."), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    environment.globals |= {"kind": kind, "number": number, "table": table}
    return environment


def _macro(name: str, *arguments: object) -> Markup:
    return Markup(getattr(_environment().get_template("kit.html").module, name)(*arguments))  # noqa: S704 - escaped there


def render(template: str, **values: object) -> str:
    """The page of a template: self-contained, no script, no external resource."""
    return _environment().get_template(template).render(values)


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], text: Sequence[int] = (0,), wide: int | None = None
) -> Markup:
    """A table that scrolls where it is too wide. Columns `text` are set to the left, column `wide` holds long text."""
    return _macro("table", head, rows, text, wide)


def picker(name: str, title: str, entries: Sequence[tuple[str, Markup]]) -> Markup:
    """Labels of which one is chosen, by mouse or arrow keys, and what belongs to it; on paper all of them. `name` is of
    this picker alone."""
    return _macro("picker", name, title, entries)


def kind(name: str) -> Markup:
    """The mark that says how a number came about."""
    return _macro("kind", name)


def section(
    title: str,
    name: str,
    body: str,
    *,
    note: str = "",
    data: tuple[str, Sequence[str], Sequence[Sequence[object]]] | None = None,
) -> Markup:
    """A section of kind `name`; `data`: name, columns and rows of the CSV behind its figure."""
    if data is None:
        return _macro("section", title, name, body, note, "", "")
    file, columns, rows = data
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return _macro("section", title, name, body, note, file, base64.b64encode(text.getvalue().encode()).decode())


def number(n: Number, *, unit: bool = True) -> Markup:
    """A number of a report with its unit and its kind; without `unit` where the head of its column says it."""
    return Markup("{}{}{}").format(shown(n["value"]), f" {n['unit']}" if unit else "", kind(n["kind"]))


def interval(rate: IntervalDocument) -> list[str]:
    """Estimate, low and high end as percentages."""
    return [percent(value, 3) for value in raw(rate)]


def raw(rate: IntervalDocument) -> list[float]:
    """Estimate, low and high end."""
    return [rate["estimate"], rate["low"], rate["high"]]


def remark(text: str) -> Markup:
    """A line below a figure; text is escaped unless it is Markup."""
    return Markup('<p class="note">{}</p>').format(text)


def marked(text: str, name: str) -> Markup:
    """Text with the mark of its kind."""
    return Markup("{}{}").format(text, kind(name))


def write(folder: Path, document: Mapping[str, object], page: str) -> None:
    """Write `report.json` and `report.html`, each whole or not at all. Raises ArtifactError on a disk that refuses."""
    try:
        with replacing(folder / JSON, force=True) as temporary:
            write_json(temporary, document)
        with replacing(folder / HTML, force=True) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        what = f"cannot write: {error.strerror}"
        raise ArtifactError(Diagnostic("output-not-writable", what, str(folder), "choose another folder")) from error
