"""The JSON documents of the commands as text for people: the same numbers, each with its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["compilation", "inspection", "simulation", "table", "verification", "warnings"]

_CHOICE_ROWS = 12
_LEVELS = (("float", "as floats"), ("integer", "as integers"))
_HEAD = ("what", "name", "source")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two blanks between them."""
    cells = [list(head), *[list(r) for r in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def compilation(d: Mapping[str, Any]) -> str:
    """A compilation: see `report.result_document`."""
    m, s, a = d["model"], d["samples"], d["agreement"]
    lines = [
        *warnings(d),
        f"model         {m['file']}: {m['family']} (family from {m['family_from']})",
        f"              {_shapes('input', m['inputs'])}; {_shapes('state', m['states'])}; {m['steps']} steps",
        *_settings(d["settings"]["given"], [*d["settings"]["assumed"], *d["quantization"]["assumed"]]),
        f"integers      {_fields(d['quantization']['options'])}",
        *_indent(_choices(d["quantization"]["choices"]["rows"])),
        (
            f"accumulators  {', '.join(f'{n} {bits} bits' for n, bits in d['accumulators']['values'].items())}"
            f" [{d['accumulators']['kind']}: {d['accumulators']['how']}]"
        ),
        f"contraction   {d['contraction']['lines'][0]}",
        *_indent(d["contraction"]["lines"][1:]),
        f"samples       {s['count']['value']}: {s['source']}; {_number(s['saturated'])} clipped",
        f"agreement     {_labels(a)}, integers against float64",
        *_indent(_accuracy(d)),
        *_indent(
            f"state {n}: largest error {a['state_error'][n]['value']:.3g} = {_number(lsb)}"
            for n, lsb in a["state_error_lsb"].items()
        ),
        f"settling      {_settling(d['settling'], s['count']['value'])}",
        f"target        {d['target']['name']}{_brackets(_fields(d['target']['options']))}",
        *_indent(_details(d["target"]["details"])),
        f"verification  {'off (--no-verify)' if not d['verification'] else ''}".rstrip(),
        *_indent(_checks(d["verification"])),
        f"digest        {d['ir_digest']}",
        f"written       {d['output']}",
        *_unverified(d["verification"]),
    ]
    return "\n".join(lines)


def inspection(d: Mapping[str, Any]) -> str:
    """What `eqcompile inspect` found."""
    lines = [*warnings(d), f"{d['file']}: {d['what']}"]
    if "candidates" in d:
        lines.append("these families fit its tensors and compute different things; add the one that was trained:")
        lines += [f"  --family {c['family']}  ({c['summary']})" for c in d["candidates"]]
        return "\n".join(lines)
    lines += [
        f"family    {d['family']}",
        f"digest    {d['digest']}",
        (
            f"io        {_shapes('input', d['inputs'])}; {_shapes('state', d['states'])}; "
            f"{_shapes('output', d['outputs'])}; {d['steps']} steps"
        ),
        *_settings(d["settings"]["given"], d["settings"]["assumed"]),
        table(
            ["weight", "shape", "nonzero", "ternary", "spectral norm", "from"],
            [
                [
                    w["name"],
                    str(w["shape"]),
                    f"{w['density']['value']:.1%}",
                    "yes" if w["ternary"] else "no",
                    f"{w['norm']['value']:.4f}" if w["norm"] else "too large",
                    w["source"],
                ]
                for w in d["weights"]
            ],
        ),
        "nonzero: measured; spectral norm: measured (SVD of the deployed operator)",
        f"certificate {d['certificate']['lines'][0]}",
        *(f"            {line}" for line in d["certificate"]["lines"][1:]),
        "",
        d["text"],
    ]
    return "\n".join(lines)


def simulation(d: Mapping[str, Any]) -> str:
    """What `eqsim` ran."""
    steps = d["steps"]
    return "\n".join(
        [
            *warnings(d),
            f"{d['source']}: {_number(d['samples'])} through {d['simulator']} in {_number(d['seconds'])}",
            f"steps: {steps['smallest']['value']} to {_number(steps['largest'])}",
            f"written: {d['output']} ({', '.join(d['keys'])})",
        ]
    )


def _number(n: Mapping[str, Any]) -> str:
    value = n["value"]
    return f"{value if isinstance(value, int) else format(value, '.4g')} {n['unit']} [{n['kind']}]"


def _labels(agreement: Mapping[str, Any]) -> str:
    if "labels_equal" not in agreement:
        return "no labels in this net"
    equal, of = agreement["labels_equal"], agreement["labels"]["value"]
    return f"{equal['value']} of {of} labels equal [{equal['kind']}]"


def _accuracy(d: Mapping[str, Any]) -> list[str]:
    if "accuracy" not in d:
        return []
    a = d["accuracy"]
    rates = " and ".join(f"{a[k]['value']:.4f} {name} [{a[k]['kind']}]" for k, name in _LEVELS)
    return [f"accuracy on {a['source']}: {rates}"]


def _settling(settling: Mapping[str, Any], samples: int) -> str:
    lost = settling["not_settled"]["value"]
    if lost == samples:
        return f"no sample settled in {_number(settling['largest'])}"
    steps = f"{settling['smallest']['value']} to {settling['largest']['value']} steps"
    return f"{steps}, median {_number(settling['median'])}; {lost} of {samples} samples not settled"


def _shapes(kind: str, shapes: Mapping[str, Sequence[int]]) -> str:
    return f"{kind} " + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def warnings(d: Mapping[str, Any]) -> list[str]:
    """What a reader must know first, a line each."""
    return [f"WARNING: {line}" for line in d.get("warnings", ())]


def _settings(given: Sequence[Mapping[str, Any]], assumed: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{g['name']} = {g['value']} (from {g['source']})" for g in given]
    lines += [f"{a['name']} = {a['value']} (ASSUMED: {a['source']})" for a in assumed]
    return [f"{'settings' if k == 0 else '':<14}{line}" for k, line in enumerate(lines)]


def _fields(values: Mapping[str, Any]) -> str:
    """Names as words with their values; what is None or empty says nothing and is left out."""
    return ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in values.items() if v not in (None, {}, [], ""))


def _brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _choices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"{row['what']} {row['name']}: " + _fields({k: v for k, v in row.items() if k not in _HEAD})
        for row in rows[:_CHOICE_ROWS]
    ]
    more = len(rows) - _CHOICE_ROWS
    return [*lines, f"and {more} more (--json shows all)"] if more > 0 else lines


def _details(details: Mapping[str, Any]) -> list[str]:
    if "summary" in details:
        return [str(line) for line in details["summary"]]
    shown = {k: v for k, v in details.items() if k not in ("kind", "how")}
    if not shown:
        return []
    counts = any(isinstance(v, (int, float)) for v in shown.values())
    kind = f" [{details['kind']}: {details['how']}]" if counts else ""
    return [f"{_fields(shown)}{kind}"]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)) and len(str(value)) > 60:
        return f"({len(value)} entries)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and any(isinstance(v, str) for v in value):
        return " ".join(_short(v) for v in value)
    if isinstance(value, dict):
        return " ".join(f"{k}={_short(v)}" for k, v in value.items())
    return str(value)


def _checks(verification: Sequence[Mapping[str, Any]]) -> list[str]:
    # Listing targets needs `table` alone and must not wait for the pipeline.
    from ..report.data import told

    rows = [
        [
            v["simulator"],
            *(str(v[k]["value"]) for k in ("samples", "steps", "values", "mismatches")),
            f"{v['labels_equal']['value']} equal" if "labels_equal" in v else "",
            f"{v['seconds']['value']:.2f} s [{v['seconds']['kind']}]",
            f"equal to golden [{v['mismatches']['kind']}]",
        ]
        for v in verification
        if v["status"] == "equal"
    ]
    head = ["simulator", "samples", "steps", "codes", "mismatches", "labels", "time", "result"]
    lines = table(head, rows).splitlines() if rows else []
    details: dict[tuple[str, ...], list[str]] = {}
    for v in verification:
        details.setdefault(tuple(told(v.get("details", {}))), []).append(v["simulator"])
    lines += [f"{', '.join(names)}: {line}" for detail, names in details.items() for line in detail]
    for v in verification:
        if v["status"] == "missing":
            lines.append(f"{v['simulator']}: NOT VERIFIED: {v['reason']}; install with: {v['install']}")
    return lines


def verification(d: Mapping[str, Any]) -> str:
    """What `eqcompile verify` found out."""
    return "\n".join(
        [
            f"{d['artifact']}: artifact for {d['target']}, {d['files']} files as they were written",
            f"samples       {d['samples']}",
            *_checks(d["verification"]),
            f"digest        {d['ir_digest']}",
            *_unverified(d["verification"]),
        ]
    )


def _unverified(verification: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last lines, where nothing ran the artifact for want of a tool."""
    if not verification or any(v["status"] != "missing" for v in verification):
        return []
    installs = "; ".join(dict.fromkeys(v["install"] for v in verification))
    return [f"NOT VERIFIED: no simulator of the target is installed; install one with: {installs}"]


def _indent(lines: Any) -> list[str]:
    return [f"              {line}" for line in lines]
