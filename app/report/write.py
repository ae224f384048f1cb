"""`report.json`, and `report.html` made from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..compile import CompileResult
from .data import Accuracy, document, told
from .picture import panels

__all__ = ["HTML", "JSON", "check_folder", "render_page", "write"]

JSON, HTML = "report.json", "report.html"
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
    accuracies: Mapping[Path, Accuracy] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write both files into `folder` and return the document. Raises ArtifactError as `check_folder`, or on a disk
    that refuses."""
    check_folder(folder, force=force)
    found = document(results, command=command, accuracies=accuracies)
    page = render_page(found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (JSON, HTML):
            temporary = folder / f".{name}"
            if name == JSON:
                write_json(temporary, found)
            else:
                temporary.write_text(page, encoding="utf-8")
            temporary.replace(folder / name)
    except OSError as error:
        raise ArtifactError(
            Diagnostic("output-not-writable", f"cannot write: {error.strerror}", str(folder), "choose another folder")
        ) from error
    return found


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a document: self-contained, no script, no external resource."""
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    intro = (
        f"<code>{escape(' '.join(report['command']))}</code><br>{escape(tools)}<br>"
        "Every number says its kind: measured on this machine, simulated, or estimated."
    )
    results = report["results"]
    drawn: set[str] = set()
    body = _overview(results) + "".join(_result(r, drawn) for r in results)
    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        intro=intro, body=body
    )


def _overview(results: Sequence[Mapping[str, Any]]) -> str:
    head = ["model", "family", "target", "simulator", "steps compared", "mismatches", "labels equal to float"]
    accuracy = any("accuracy" in r for r in results)
    head += ["accuracy float", "accuracy int"] if accuracy else []
    rows = []
    for r in results:
        for v in r["verification"] or [{"simulator": "none", "status": "off"}]:
            equal = v["status"] == "equal"
            a = r["agreement"]
            row = [
                escape(r["model"]["file"]),
                escape(r["model"]["family"]),
                escape(r["target"]["name"]),
                escape(v["simulator"]),
                _bare(v["steps"]) if equal else escape(v.get("reason", "not verified")),
                _mismatches(v) if equal else "not verified",
                f"{_bare(a['labels_equal'])} of {a['labels']['value']:,}" if "labels_equal" in a else "no labels",
            ]
            if accuracy:
                row += [_percent(r["accuracy"][k]) if "accuracy" in r else "" for k in ("float", "integer")]
            rows.append(row)
    return _table(head, rows)


def _mismatches(verification: Mapping[str, Any]) -> str:
    found = verification["mismatches"]
    mark = "good" if found["value"] == 0 else "bad"
    return f'<span class="{mark}">{_bare(found)}</span>'


def _result(r: Mapping[str, Any], drawn: set[str]) -> str:
    """One result; a net that was `drawn` for another target is not drawn again."""
    m, q, t = r["model"], r["quantization"], r["target"]
    settings = [[escape(g["name"]), escape(str(g["value"])), escape(g["source"])] for g in r["settings"]["given"]]
    settings += [
        [escape(a["name"]), escape(str(a["value"])), f"assumed: {escape(a['source'])}"]
        for a in [*r["settings"]["assumed"], *q["assumed"]]
    ]
    errors = [
        [escape(name), _number(r["agreement"]["state_error"][name]), _number(lsb)]
        for name, lsb in r["agreement"]["state_error_lsb"].items()
    ]
    acc = r["accumulators"]
    parts = [
        f"<h2>{escape(m['file'])} on {escape(t['name'])}</h2>",
        *(f'<p class="bad">{escape(warning)}</p>' for warning in r["warnings"]),
        (
            f"<p>{escape(m['family'])} (family from {escape(m['family_from'])}), {m['steps']} steps; IR digest "
            f"<code>{escape(r['ir_digest'])}</code></p>"
        ),
        _relaxation(r, drawn),
        "<h3>Distance from the float64 reference</h3>",
        _table(["state", "largest error", "in LSB"], errors),
        "<h3>Verification</h3>",
        _table(
            ["simulator", "samples", "steps compared", "codes compared", "mismatches", "time"],
            _checks(r["verification"]),
        ),
        _counters(r["verification"]),
        "".join(f'<p class="note">{escape(line)}</p>' for line in t["details"].get("summary", ())),
        (
            f"<details><summary>Settings, formats, target</summary><h3>Settings</h3>"
            f"{_table(['name', 'value', 'from'], settings)}"
        ),
        f"<h3>Contraction <span class=kind>measured, proved bounds</span></h3>{_paragraphs(r['contraction']['lines'])}",
        f"<h3>Accumulators <span class=kind>{_kind(acc)}, {escape(acc['how'])}</span></h3>",
        _table(["value", "bits"], [[escape(k), str(v)] for k, v in acc["values"].items()]),
        f"<h3>Quantization</h3>{_rows_table(q['choices']['rows'])}",
        f"<h3>Target</h3><pre class=mono>{escape(json.dumps(t, indent=1))}</pre></details>",
    ]
    return "\n".join(parts)


def _relaxation(r: Mapping[str, Any], drawn: set[str]) -> str:
    settling, kind = r["settling"], escape(r["relaxation"]["kind"])
    told = (
        f"Inputs: {escape(r['samples']['source'])}. Settled after {_number(settling['smallest'])} to "
        f"{_number(settling['largest'])}, median {_number(settling['median'])}."
    )
    if r["ir_digest"] in drawn:
        return f'<p class="note">The same integer net as above, so the same relaxation. {told}</p>'
    drawn.add(r["ir_digest"])
    pictures = "".join(panels(r["relaxation"]))
    return f'<div class="panels">{pictures}</div><p class="note">Relaxation of the integer net ({kind}). {told}</p>'


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _counters(verification: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{v['simulator']}: {line}" for v in verification for line in told(v.get("details", {}))]
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _checks(verification: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for v in verification:
        if v["status"] == "equal":
            cells = [_bare(v[k]) for k in ("samples", "steps", "values")]
            rows.append([escape(v["simulator"]), *cells, _mismatches(v), _number(v["seconds"])])
        else:
            reason = f"not verified: {v['reason']}; {v['install']}"
            rows.append([escape(v["simulator"]), escape(reason), "", "", "", ""])
    return rows


def _number(n: Mapping[str, Any]) -> str:
    value = n["value"]
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"{shown} {escape(n['unit'])}{_mark(n)}"


def _mark(n: Mapping[str, Any]) -> str:
    return f'<span class="kind">{escape(n["kind"])}</span>'


def _bare(n: Mapping[str, Any]) -> str:
    """A number whose unit stands in the head of its column."""
    return f"{n['value']:,}{_mark(n)}"


def _percent(n: Mapping[str, Any]) -> str:
    return f"{n['value']:.1%}{_mark(n)}"


def _kind(n: Mapping[str, Any]) -> str:
    return escape(n["kind"])


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of differing keys: one column for each key that occurs."""
    head = list(dict.fromkeys(k for row in rows for k in row))
    return _table(head, [[escape(_cell(row.get(k, ""))) for k in head] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_ENTRIES:
        return f"{len(value)} entries, in {JSON}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="note">none</p>'
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
