"""`report.json`, and `report.html` made from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..compile import CompileResult
from ..wording import lines_of, percent, shown, told_once
from . import kit
from .data import document
from .details import facts
from .formats import format_tables
from .headline import headline
from .kit import HTML, JSON, kind, number, picker, remark, render
from .panels import OBSERVATORY, confusion_panel, cube_panels, overall, sample_panels, settling_panel
from .schema import (
    DeviationDocument,
    Number,
    Relaxation,
    ReportDocument,
    ReportedResult,
    SampleRelaxation,
    VerificationDocument,
)

__all__ = ["HTML", "JSON", "check_folder", "render_page", "write"]

_MARKS = 2
"""Keys of details that say where the others come from."""


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
    kinds = "Every number says its kind: measured on this machine, simulated, estimated, or proved."
    intro = Markup('<p class="note"><code>{}</code><br>{}<br>{}</p>').format(" ".join(report["command"]), tools, kinds)
    title, results = "eqcompile report", report["results"]
    drawn: set[str] = set()
    shown_results = [_result(r, drawn, k) for k, r in enumerate(results)]
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
    if v["status"] != "equal":
        return [v["simulator"], v["reason"], "not verified"]
    return [v["simulator"], _bare(v["steps"]), _mismatches(v["mismatches"])]


def _result(r: ReportedResult, drawn: set[str], number_of: int) -> Mapping[str, object]:
    """What the template shows of a result; a net that was `drawn` for another target is not drawn again."""
    assumed = [*r["settings"]["assumed"], *r["quantization"]["assumed"]]
    settings = [[g["name"], shown(g["value"]), g["source"]] for g in r["settings"]["given"]]
    settings += [[a["name"], shown(a["value"]), f"assumed: {a['source']}"] for a in assumed]
    states = r["agreement"]["state_error_lsb"].items()
    equal = [v for v in r["verification"] if v["status"] == "equal"]
    again = r["ir_digest"] in drawn
    drawn.add(r["ir_digest"])
    relaxation = None if again else r["relaxation"]
    return {
        **r,
        "again": again,
        "headline": headline(r),
        "confusion": confusion_panel(r["accuracy"]) if "accuracy" in r else "",
        "panels": [] if again else [settling_panel(r["settling"]), *(overall(relaxation) if relaxation else [])],
        "pickers": [] if relaxation is None else _pickers(relaxation, number_of),
        "errors": [[name, number(r["agreement"]["state_error"][name]), number(lsb)] for name, lsb in states],
        "deviation_rows": [_deviation(d) for d in r["deviations"]],
        "checks": _checks(r["verification"]),
        "counters": told_once({v["simulator"]: v["details"] for v in equal}),
        "lines": lines_of(r["target"]["details"], "summary"),
        "given": settings,
        "formats": list(format_tables(r["quantization"]["choices"]["rows"])),
        "target_facts": facts({**r["target"]["options"], **r["target"]["details"]}),
        "simulator_facts": [(v["simulator"], facts(v["details"])) for v in equal if len(v["details"]) > _MARKS],
    }


def _pickers(relaxation: Relaxation, number_of: int) -> list[Markup]:
    samples = [(_sample_label(s), _sample_body(s)) for s in relaxation["samples"]]
    drawn = [picker(f"samples-{number_of}", "Samples one by one", samples), remark(OBSERVATORY)]
    if "cube" in relaxation:
        cube = relaxation["cube"]
        title = (
            f"State {cube['state']} of sample {cube['sample']} in its lattice, slice by slice (red above 0, blue below)"
            ", and as in the observatory"
        )
        stretched = relaxation["samples"][0].get("slopes")
        whole = len(relaxation["samples"][0]["units"]["codes"][0]) == len(cube["codes"][0])
        drawn.append(picker(f"cube-{number_of}", title, cube_panels(cube, stretched if whole else None)))
    return drawn


def _deviation(d: DeviationDocument) -> list[object]:
    same = Markup('<span class="{}">{}</span>').format(*(("good", "yes") if d["close"] else ("bad", "NO")))
    return [f"{d['output']}, {d['source']}", _bare(d["samples"]), number(d["largest"]), number(d["relative"]), same]


def _sample_label(s: SampleRelaxation) -> str:
    if not s["label"]:
        return str(s["sample"])
    return f"{s['sample']}: {'right' if s['integer_label'] == s['label'] else 'wrong'}"


def _sample_body(s: SampleRelaxation) -> Markup:
    said = (("true label", s["label"]), ("float64 says", s["float_label"]), ("integers say", s["integer_label"]))
    parts = [f"{name} {', '.join(map(str, labels))}" for name, labels in said if labels]
    end = f"settled after {s['steps']} steps" if s["settled"] else f"not settled after {s['steps']} steps"
    line = Markup("<p>{}</p>").format("; ".join([*parts, end]))
    return line + Markup('<div class="panels">{}</div>').format(Markup("").join(sample_panels(s)))


def _checks(verification: Sequence[VerificationDocument]) -> list[list[str]]:
    rows = []
    for v in verification:
        if v["status"] == "equal":
            compared = (v["samples"], v["steps"], v["values"])
            rows.append([v["simulator"], *map(_bare, compared), _mismatches(v["mismatches"]), number(v["seconds"])])
        elif v["status"] == "missing":
            rows.append([v["simulator"], f"not verified: {v['reason']}; {v['install']}", "", "", "", ""])
        else:
            rows.append([v["simulator"], f"skipped: {v['reason']}", "", "", "", ""])
    return rows


def _mismatches(count: Number) -> Markup:
    return Markup('<span class="{}">{}</span>').format("good" if count["value"] == 0 else "bad", _bare(count))


def _bare(n: Number) -> Markup:
    return number(n, unit=False)


def _percent(n: Number) -> Markup:
    return Markup("{}{}").format(percent(n["value"], 1), kind(n["kind"]))
