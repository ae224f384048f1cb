"""The JSON documents of the commands as text for people: the same numbers, each with its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from eqcompile.toolchain.kept_labels import KeptLabels, kept_labels
from eqcompile.toolchain.typed_json import JsonObject

from ..width_words import width_words
from ..wording import labelled, lines_of, percent, shown, told_once

if TYPE_CHECKING:
    from ..documents import Candidates, CertifyDocument, Inspection, RecoveryDocument, RunDocument, VerifyDocument
    from ..report.schema import (
        AccuracyDocument,
        AgreementDocument,
        DeviationDocument,
        Number,
        ResultDocument,
        Setting,
        Settling,
        VerificationDocument,
    )

__all__ = [
    "candidates",
    "certification",
    "compilation",
    "inspection",
    "simulation",
    "table",
    "verification",
    "warnings",
    "widening",
]

_CHOICE_ROWS = 12
_SHARES = 6
_EACH_TICK = 10
"""Rows of ticks without a gap; then every fifth."""
_HEAD = ("what", "name", "source")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two blanks between them."""
    cells = [list(head), *[list(r) for r in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def compilation(d: ResultDocument) -> str:
    """A compilation: see `report.result_document`."""
    m, s, a = d["model"], d["samples"], d["agreement"]
    lines = [
        *warnings(d["warnings"]),
        f"model         {m['file']}: {m['family']} (family from {m['family_from']})",
        f"              {_shapes('input', m['inputs'])}; {_shapes('state', m['states'])}; {m['steps']} steps",
        *_settings(d["settings"]["given"], [*d["settings"]["assumed"], *d["quantization"]["assumed"]]),
        f"integers      {_fields(d['quantization']['options'])}",
        *_indent(_choices([row for row in d["quantization"]["choices"]["rows"] if row["what"] != "labels"])),
        *_labels_kept(d),
        (
            f"accumulators  {', '.join(f'{n} {bits} bits' for n, bits in d['accumulators']['values'].items())}"
            f" [{d['accumulators']['kind']}: {d['accumulators']['how']}]"
        ),
        f"contraction   {d['contraction']['lines'][0]}",
        *_indent(d["contraction"]["lines"][1:]),
        f"samples       {shown(s['count']['value'])}: {s['source']}; {labelled(s['saturated'])} clipped",
        f"agreement     {_labels(a)}, integers against float64",
        *_indent(_accuracy(d["accuracy"]) if "accuracy" in d else []),
        *_indent(deviations(d["deviations"])),
        *_indent(
            f"state {n}: largest error {shown(a['state_error'][n]['value'])} = {labelled(lsb)}"
            for n, lsb in a["state_error_lsb"].items()
        ),
        f"settling      {_settling(d['settling'], s['count'])}",
        f"target        {d['target']['name']}{_brackets(_fields(d['target']['options']))}",
        *_indent(_details(d["target"]["details"])),
        f"verification  {'off (--no-verify)' if not d['verification'] else ''}".rstrip(),
        *_indent(_checks(d["verification"])),
        f"digest        {d['ir_digest']}",
        f"written       {d['output']}",
        *_unverified(d["verification"]),
    ]
    return "\n".join(lines)


def candidates(d: Candidates) -> str:
    """The families that fit a checkpoint."""
    lines = [f"{d['file']}: {d['what']}"]
    lines.append("these families fit its tensors and compute different things; add the one that was trained:")
    lines += [f"  {c['offer']}" for c in d["candidates"]]
    return "\n".join(lines)


def _labels_kept(d: ResultDocument) -> list[str]:
    kept = kept_labels(d["quantization"]["choices"]["rows"])
    if kept is None:
        return []
    first, *more = widening(kept, "the calibration samples")
    return [f"precision     {first}", *_indent(more)]


def widening(kept: KeptLabels, where: str) -> list[str]:
    """What precision was added so that labels counted on `where` stay those of the float net, and why."""
    met = "meets" if kept.met else "MISSES"
    counts = f"{kept.equal_before} of {kept.labels} labels kept on {where} without more precision, {kept.equal} with it"
    words = " ".join(width_words(kept.states, kept.guard_bits, kept.guards))
    shares = ", ".join(f"{name} {percent(part)}" for name, part in list(kept.error_shares.items())[:_SHARES] if part)
    lines = [f"{counts} [{kept.kind}, {kept.settings} settings]: {met} the target {kept.target:g}"]
    lines += [f"chosen: {words}"] if words else []
    return [*lines, f"squared error of the outputs without the added bits, by value: {shares}"] if shares else lines


def inspection(d: Inspection) -> str:
    """What `eqcompile inspect` found."""
    first, *more = lines_of(d["certificate"], "lines")
    lines = [
        *warnings(d["warnings"]),
        f"{d['file']}: {d['what']}",
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
                    percent(w["density"]["value"], 1),
                    "yes" if w["ternary"] else "no",
                    f"{w['norm']['value']:.4f}" if w["norm"] else "too large",
                    w["source"],
                ]
                for w in d["weights"]
            ],
        ),
        "nonzero: measured; spectral norm: measured (SVD of the deployed operator)",
        f"certificate {first}",
        *(f"            {line}" for line in more),
        *_core_memory(d.get("core_memory")),
        "",
        d["text"],
    ]
    return "\n".join(lines)


def _core_memory(memory: JsonObject | None) -> list[str]:
    """What a core takes of a part's block RAM."""
    if memory is None:
        return []
    usage, memories = memory["usage"], memory["memories"]
    assert isinstance(usage, Mapping)
    assert isinstance(memories, Sequence)
    names = {"bram": "block RAMs", "spram": "single-port RAMs"}
    parts = [f"{u['needed']} of {u['available']} {names[key]}" for key, u in usage.items() if isinstance(u, Mapping)]
    which = f"architecture {memory['architecture']}, {len(memories)} memories"
    least = (
        f"at least {', '.join(parts)} of {memory['part']} [estimated]" if parts else "nobody counts those of the part"
    )
    return [f"memory      {least}: {memory['basis']} ({which})"]


def simulation(d: RunDocument) -> str:
    """What `eqsim` ran."""
    steps = d["steps"]
    spent = f"{shown(steps['at_budget']['value'])} of {shown(d['samples']['value'])} samples spent the whole budget"
    return "\n".join(
        [
            *warnings(d.get("warnings", ())),
            f"{d['source']}: {labelled(d['samples'])} through {d['simulator']} in {labelled(d['seconds'])}",
            f"steps: {shown(steps['smallest']['value'])} to {labelled(steps['largest'])}; {spent}",
            *([_right(d["right"])] if "right" in d else []),
            *deviations(d.get("deviations", ())),
            f"written: {d['output']} ({', '.join(d['keys'])})",
        ]
    )


def _right(right: Number) -> str:
    """How many labels are right, of how many."""
    return f"labels: {shown(right['value'])} {right['how']} right [{right['kind']}]"


def _labels(agreement: AgreementDocument) -> str:
    if "labels_equal" not in agreement:
        return "no labels in this net"
    equal, of = agreement["labels_equal"], agreement["labels"]
    return f"{shown(equal['value'])} of {shown(of['value'])} labels equal [{equal['kind']}]"


def _accuracy(a: AccuracyDocument) -> list[str]:
    levels = ((a["float"], "as floats"), (a["integer"], "as integers"))
    rates = " and ".join(f"{rate['value']:.4f} {name} [{rate['kind']}]" for rate, name in levels)
    return [f"accuracy on {a['source']}: {rates}"]


def deviations(rows: Iterable[DeviationDocument]) -> list[str]:
    """The float net against outputs that the user states."""
    return [
        f"output {d['output']} of float64 differs from the one in {d['source']} by at most {labelled(d['largest'])}, "
        f"{d['relative']['value']:.1e} of the largest: {'the same net' if d['close'] else 'ANOTHER NET'}"
        for d in rows
    ]


def _settling(settling: Settling, samples: Number) -> str:
    lost = settling["not_settled"]["value"]
    if lost == samples["value"]:
        return f"no sample settled in {labelled(settling['largest'])}"
    steps = f"{shown(settling['smallest']['value'])} to {shown(settling['largest']['value'])} steps"
    unsettled = f"{shown(lost)} of {shown(samples['value'])} samples not settled"
    return f"{steps}, median {labelled(settling['median'])}; {unsettled}"


def _shapes(kind: str, shapes: Mapping[str, Sequence[int]]) -> str:
    return f"{kind} " + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def warnings(lines: Iterable[str]) -> list[str]:
    """What a reader must know first, a line each."""
    return [f"WARNING: {line}" for line in lines]


def _settings(given: Sequence[Setting], assumed: Sequence[Setting]) -> list[str]:
    lines = [f"{g['name']} = {g['value']} (from {g['source']})" for g in given]
    lines += [f"{a['name']} = {a['value']} (ASSUMED: {a['source']})" for a in assumed]
    return [f"{'settings' if k == 0 else '':<14}{line}" for k, line in enumerate(lines)]


def _fields(values: JsonObject) -> str:
    """Names as words with their values; what is None or empty says nothing and is left out."""
    return ", ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in values.items() if v not in (None, {}, [], ""))


def _brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _choices(rows: Sequence[JsonObject]) -> list[str]:
    lines = [
        f"{row['what']} {row['name']}: " + _fields({k: v for k, v in row.items() if k not in _HEAD})
        for row in rows[:_CHOICE_ROWS]
    ]
    more = len(rows) - _CHOICE_ROWS
    return [*lines, f"and {more} more (--json shows all)"] if more > 0 else lines


def _details(details: JsonObject) -> list[str]:
    if "summary" in details:
        return lines_of(details, "summary")
    stated = {k: v for k, v in details.items() if k not in ("kind", "how")}
    if not stated:
        return []
    counts = any(isinstance(v, (int, float)) for v in stated.values())
    kind = f" [{details['kind']}: {details['how']}]" if counts else ""
    return [f"{_fields(stated)}{kind}"]


def _checks(verification: Sequence[VerificationDocument]) -> list[str]:
    equal = [v for v in verification if v["status"] == "equal"]
    rows = [
        [
            v["simulator"],
            *(shown(n["value"]) for n in (v["samples"], v["steps"], v["values"], v["mismatches"])),
            f"{shown(v['labels_equal']['value'])} equal" if "labels_equal" in v else "",
            f"{v['seconds']['value']:.2f} s [{v['seconds']['kind']}]",
            f"equal to golden [{v['mismatches']['kind']}]",
        ]
        for v in equal
    ]
    head = ["simulator", "samples", "steps", "codes", "mismatches", "labels", "time", "result"]
    lines = table(head, rows).splitlines() if rows else []
    lines += told_once({v["simulator"]: v["details"] for v in equal})
    missing = [v for v in verification if v["status"] == "missing"]
    lines += [f"{v['simulator']}: NOT VERIFIED: {v['reason']}; install with: {v['install']}" for v in missing]
    lines += [f"{v['simulator']}: skipped: {v['reason']}" for v in verification if v["status"] == "skipped"]
    return lines


def verification(d: VerifyDocument) -> str:
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


def certification(d: CertifyDocument) -> str:
    """What `eqcompile certify` proved."""
    lines = [f"{d['source']}: {d['ir_digest']}", f"every input   {d['lines'][0]} [proved]", *_indent(d["lines"][1:])]
    if (samples := d.get("recovery")) is None:
        return "\n".join(lines)
    lines.append(f"samples       {samples['samples']}")
    if "reason" in samples:
        return "\n".join([*lines, f"              nothing is proved of them: {samples['reason']}"])
    last = len(samples["rows"])
    rows = [
        [
            str(row["ticks"]),
            percent(row["safe"]["value"], 2),
            f"{row['apart_median']['value']:.0f}",
            f"{row['apart_most']['value']:.0f}",
        ]
        for row in samples["rows"]
        if row["ticks"] <= _EACH_TICK or row["ticks"] % 5 == 0 or row["ticks"] == last
    ]
    head = ("ticks left", "label cannot change", "LSB off: median", "most")
    return "\n".join(
        [
            *lines,
            f"              {percent(samples['settled']['value'], 2)} stand still in the last {last} ticks [simulated]",
            "after an upset of any size in any number of states [proved]",
            *_indent(table(head, rows).splitlines()),
            f"              {percent(samples['never']['value'], 2)} of the samples: not proved within {last} ticks",
            f"theorem       {samples['theorem']} [proved]",
            *_indent(_without_proof(samples)),
        ]
    )


def _without_proof(samples: RecoveryDocument) -> list[str]:
    """Of samples without a proof for upsets of any size: how large one may be, and what runs show."""
    if (local := samples.get("local")) is None:
        return []
    count, radii = len(local["samples"]), [r for r in local["radius"] if r]
    lines = [f"of {count} samples without a proof for any size:"]
    if radii:
        lines.append(
            f"{percent(local['share']['value'], 2)} stay if no unit moves by more than {min(radii)} to {max(radii)} "
            f"codes; the bound shrinks to {local['rate']['value']:.3g} of itself a tick, in the median [proved]"
        )
    else:
        lines.append("no upset of a code in each unit is proved harmless for any of them")
    if examples := samples.get("counterexamples"):
        worst = max(examples, key=lambda e: (e["labels"][0] != e["labels"][1], e["codes"]))
        what = worst["what"] if worst["period"] == 1 else f"a cycle of {worst['period']} ticks"
        first, other = worst["labels"]
        lines.append(
            f"{len(examples)} have a run that ends elsewhere or moves for ever; sample {worst['sample']}: {what}, "
            f"up to {worst['codes']} codes from the run of the net, label {other} for {first} [simulated]"
        )
    return lines


def _unverified(verification: Sequence[VerificationDocument]) -> list[str]:
    """The last lines, where nothing ran the artifact for want of a tool or of room."""
    if not verification or any(v["status"] == "equal" for v in verification):
        return []
    missing = [v for v in verification if v["status"] == "missing"]
    if not missing:
        return ["NOT VERIFIED: no simulator of the target can hold the net"]
    installs = "; ".join(dict.fromkeys(v["install"] for v in missing))
    kind = "simulator of the target" if len(missing) == len(verification) else "simulator that can hold the net"
    return [f"NOT VERIFIED: no {kind} is installed; install one with: {installs}"]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"              {line}" for line in lines]
