"""`report.json`, and `report.html` made from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..compile import CompileResult
from ..wording import percent, shown, told
from . import kit
from .data import document
from .kit import HTML, JSON, kind, number, render
from .panels import panels
from .schema import Number, ReportDocument, ReportedResult, VerificationDocument

__all__ = ["HTML", "JSON", "check_folder", "render_page", "write"]

_SHOWN_ENTRIES = 4


class Rows(TypedDict):
    """A table of the page."""

    head: list[str]
    rows: list[list[object]]


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise ArtifactError if a report cannot go to `folder`: it holds one and there is no `force`, or it is a file."""
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(Diagnostic("output-not-a-folder", "the report folder is a file", str(folder)))
    if not force and any((folder / name).exists() for name in (JSON, HTML)):
        raise ArtifactError(Diagnostic("output-exists", "there is a report already", str(folder), "add --force"))


def write(
    results: Sequence[CompileResult],
    folder: Path,
    *,
    command: Sequence[str],
    force: bool = False,
) -> ReportDocument:
    """Write both files into `folder` and return the document. Raises ArtifactError as `check_folder`, or on a disk
    that refuses."""
    check_folder(folder, force=force)
    report = document(results, command=command)
    kit.write(folder, report, render_page(report))
    return report


def render_page(report: ReportDocument) -> str:
    """The page of a document: self-contained, no script, no external resource."""
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    kinds = "Every number says its kind: measured on this machine, simulated, or estimated."
    intro = Markup('<p class="note"><code>{}</code><br>{}<br>{}</p>').format(" ".join(report["command"]), tools, kinds)
    title, results = "eqcompile report", report["results"]
    drawn: set[str] = set()
    shown_results = [_result(r, drawn) for r in results]
    overview = _overview(results)
    return render("compile.html", title=title, heading=title, intro=intro, overview=overview, results=shown_results)


def _overview(results: Sequence[ReportedResult]) -> Rows:
    """Head and rows of the table of all results."""
    head = ["model", "family", "target", "simulator", "steps compared", "mismatches", "labels equal to float"]
    accuracy = any("accuracy" in r for r in results)
    head += ["accuracy float", "accuracy int"] if accuracy else []
    rows: list[list[object]] = []
    for r in results:
        a = r["agreement"]
        labels = "no labels"
        if "labels_equal" in a:
            labels = Markup("{} of {}").format(_bare(a["labels_equal"]), shown(a["labels"]["value"]))
        rates = (r["accuracy"]["float"], r["accuracy"]["integer"]) if "accuracy" in r else ()
        last = [labels, *map(_percent, rates), *([""] * (2 * accuracy - len(rates)))]
        first = [r["model"]["file"], r["model"]["family"], r["target"]["name"]]
        rows += [[*first, *_compared(v), *last] for v in r["verification"]]
        if not r["verification"]:
            rows.append([*first, "none", "not verified", "not verified", *last])
    return {"head": head, "rows": rows}


def _compared(v: VerificationDocument) -> list[object]:
    """Simulator, steps and mismatches."""
    if v["status"] == "missing":
        return [v["simulator"], v["reason"], "not verified"]
    return [v["simulator"], _bare(v["steps"]), _mismatches(v["mismatches"])]


def _result(r: ReportedResult, drawn: set[str]) -> Mapping[str, object]:
    """What the template shows of a result; a net that was `drawn` for another target is not drawn again."""
    assumed = [*r["settings"]["assumed"], *r["quantization"]["assumed"]]
    settings = [[g["name"], g["value"], g["source"]] for g in r["settings"]["given"]]
    settings += [[a["name"], a["value"], f"assumed: {a['source']}"] for a in assumed]
    states = r["agreement"]["state_error_lsb"].items()
    choices = r["quantization"]["choices"]["rows"]
    head = list(dict.fromkeys(key for row in choices for key in row))
    equal = [v for v in r["verification"] if v["status"] == "equal"]
    again = r["ir_digest"] in drawn
    drawn.add(r["ir_digest"])
    return {
        **r,
        "panels": [] if again else panels(r["relaxation"]),
        "errors": [[name, number(r["agreement"]["state_error"][name]), number(lsb)] for name, lsb in states],
        "checks": _checks(r["verification"]),
        "counters": [f"{v['simulator']}: {line}" for v in equal for line in told(v["details"])],
        "given": settings,
        "choices": {"head": head, "rows": [[_cell(row.get(key, "")) for key in head] for row in choices]},
    }


def _checks(verification: Sequence[VerificationDocument]) -> list[list[str]]:
    rows = []
    for v in verification:
        if v["status"] == "equal":
            compared = (v["samples"], v["steps"], v["values"])
            rows.append([v["simulator"], *map(_bare, compared), _mismatches(v["mismatches"]), number(v["seconds"])])
        else:
            rows.append([v["simulator"], f"not verified: {v['reason']}; {v['install']}", "", "", "", ""])
    return rows


def _mismatches(count: Number) -> Markup:
    return Markup('<span class="{}">{}</span>').format("good" if count["value"] == 0 else "bad", _bare(count))


def _bare(n: Number) -> Markup:
    return number(n, unit=False)


def _percent(n: Number) -> Markup:
    return Markup("{}{}").format(percent(n["value"], 1), kind(n["kind"]))


def _cell(value: object) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_ENTRIES:
        return f"{len(value)} entries, in {JSON}"
    return shown(value)
