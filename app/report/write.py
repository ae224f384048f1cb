"""`report.json`, and `report.html` made from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..compile import CompileResult
from .data import document, told
from .kit import HTML, JSON, kind, number, render, shown, write_report
from .picture import panels

__all__ = ["HTML", "JSON", "check_folder", "render_page", "write"]

_SHOWN_ENTRIES = 4


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
) -> dict[str, Any]:
    """Write both files into `folder` and return the document. Raises ArtifactError as `check_folder`, or on a disk
    that refuses."""
    check_folder(folder, force=force)
    report = document(results, command=command)
    write_report(folder, report, render_page(report))
    return report


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a document: self-contained, no script, no external resource."""
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    kinds = "Every number says its kind: measured on this machine, simulated, or estimated."
    intro = Markup('<p class="note"><code>{}</code><br>{}<br>{}</p>').format(" ".join(report["command"]), tools, kinds)
    title, results = "eqcompile report", report["results"]
    drawn: set[str] = set()
    shown_results = [_result(r, drawn) for r in results]
    overview = _overview(results)
    return render("compile.html", title=title, heading=title, intro=intro, overview=overview, results=shown_results)


def _overview(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Head and rows of the table of all results."""
    head = ["model", "family", "target", "simulator", "steps compared", "mismatches", "labels equal to float"]
    accuracy = any("accuracy" in r for r in results)
    head += ["accuracy float", "accuracy int"] if accuracy else []
    rows = []
    for r in results:
        a = r["agreement"]
        labels = "no labels"
        if "labels_equal" in a:
            labels = Markup("{} of {}").format(_bare(a["labels_equal"]), shown(a["labels"]["value"]))
        for v in r["verification"] or [{"simulator": "none", "status": "off"}]:
            equal = v["status"] == "equal"
            row = [r["model"]["file"], r["model"]["family"], r["target"]["name"], v["simulator"]]
            row += [_bare(v["steps"]), _mismatches(v)] if equal else [v.get("reason", "not verified"), "not verified"]
            row.append(labels)
            if accuracy:
                row += [_percent(r["accuracy"][k]) if "accuracy" in r else "" for k in ("float", "integer")]
            rows.append(row)
    return {"head": head, "rows": rows}


def _result(r: Mapping[str, Any], drawn: set[str]) -> dict[str, Any]:
    """What the template shows of a result; a net that was `drawn` for another target is not drawn again."""
    assumed = [*r["settings"]["assumed"], *r["quantization"]["assumed"]]
    settings = [[g["name"], g["value"], g["source"]] for g in r["settings"]["given"]]
    settings += [[a["name"], a["value"], f"assumed: {a['source']}"] for a in assumed]
    states = r["agreement"]["state_error_lsb"].items()
    choices = r["quantization"]["choices"]["rows"]
    head = list(dict.fromkeys(key for row in choices for key in row))
    again = r["ir_digest"] in drawn
    drawn.add(r["ir_digest"])
    return {
        **r,
        "panels": [] if again else panels(r["relaxation"]),
        "errors": [[name, number(r["agreement"]["state_error"][name]), number(lsb)] for name, lsb in states],
        "checks": _checks(r["verification"]),
        "counters": [f"{v['simulator']}: {line}" for v in r["verification"] for line in told(v.get("details", {}))],
        "given": settings,
        "choices": {"head": head, "rows": [[_cell(row.get(key, "")) for key in head] for row in choices]},
    }


def _checks(verification: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for v in verification:
        if v["status"] == "equal":
            cells = [_bare(v[key]) for key in ("samples", "steps", "values")]
            rows.append([v["simulator"], *cells, _mismatches(v), number(v["seconds"])])
        else:
            rows.append([v["simulator"], f"not verified: {v['reason']}; {v['install']}", "", "", "", ""])
    return rows


def _mismatches(verification: Mapping[str, Any]) -> Markup:
    count = verification["mismatches"]
    return Markup('<span class="{}">{}</span>').format("good" if count["value"] == 0 else "bad", _bare(count))


def _bare(n: Mapping[str, Any]) -> Markup:
    return number(n, unit=False)


def _percent(n: Mapping[str, Any]) -> Markup:
    return Markup("{}{}").format(f"{n['value']:.1%}", kind(n["kind"]))


def _cell(value: Any) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_ENTRIES:
        return f"{len(value)} entries, in {JSON}"
    return shown(value)
