"""What a reader of a compilation wants to know first, drawn from its document alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from eqcompile.toolchain.typed_json import JSON, JsonObject

from ..wording import percent, shown
from .kit import kind, marked
from .schema import ReportedResult

__all__ = ["headline"]


def headline(r: ReportedResult) -> list[list[object]]:
    """Rows of a name and what is known of it: labels, equality, settling, contraction, clocks, energy."""
    return [list(row) for part in (_labels, _equality, _settling, _contraction, _timing, _energy) for row in part(r)]


Row = tuple[str, Markup]


def _judged(text: str, good: bool | None, name: str) -> Markup:
    """Text that is good or bad, with its kind; neither where nobody asked for a limit."""
    if good is None:
        return marked(text, name)
    return Markup('<span class="{}">{}</span>{}').format("good" if good else "bad", text, kind(name))


def _labels(r: ReportedResult) -> Iterator[Row]:
    if "accuracy" in r:
        a = r["accuracy"]
        floats = marked(f"{percent(a['float']['value'], 2)} as floats", a["float"]["kind"])
        integers = marked(f"{percent(a['integer']['value'], 2)} as integers", a["integer"]["kind"])
        yield (
            "right labels",
            Markup("{} {}, of {}: {}").format(floats, integers, shown(a["samples"]["value"]), a["source"]),
        )


def _equality(r: ReportedResult) -> Iterator[Row]:
    equal = [v for v in r["verification"] if v["status"] == "equal"]
    wrong = sum(v["mismatches"]["value"] for v in equal)
    if not equal:
        yield "equal to golden", Markup('<span class="bad">not verified</span>')
        return
    codes = shown(sum(v["values"]["value"] for v in equal))
    text = f"{shown(wrong)} of {codes} codes differ, in {', '.join(v['simulator'] for v in equal)}"
    yield "equal to golden", _judged(text, wrong == 0, "simulated")


def _settling(r: ReportedResult) -> Iterator[Row]:
    lost, count = r["settling"]["not_settled"], r["samples"]["count"]["value"]
    text = f"{shown(lost['value'])} of {shown(count)} samples not settled after {r['model']['steps']} steps"
    yield "settling", _judged(text, None if lost["value"] else True, lost["kind"])


def _contraction(r: ReportedResult) -> Iterator[Row]:
    certificate = r["contraction"]["certificate"]
    blocks = certificate.get("blocks", ())
    if certificate.get("reason"):
        yield "certificate", marked(f"none: {certificate['reason']}", "proved")
    for block in blocks if isinstance(blocks, Sequence) else ():
        if isinstance(block, Mapping):
            states = block["states"]
            names = ", ".join(map(str, states)) if isinstance(states, Sequence) else str(states)
            yield (
                f"certificate of {names}",
                _judged(str(block["verdict"]), True if block["certified"] else None, "proved"),
            )
    samples = r["relaxation"]["samples"] if r["relaxation"] else []
    radii = [s["slopes"]["radius"] for s in samples if "slopes" in s]
    if radii:
        text = f"{statistics.median(radii):.4f} in the median, {max(radii):.4f} at most, of {len(radii)} samples"
        meaning = "below 1, small upsets of states die down where the run ended"
        yield "spectral radius of the step", Markup("{} ({})").format(marked(text, "measured"), meaning)


def _timing(r: ReportedResult) -> Iterator[Row]:
    for row in _objects(r["target"]["details"].get("synthesis")):
        rate, limit, met = row.get("fmax_mhz"), row.get("clock_mhz"), row.get("meets_clock")
        if isinstance(rate, float):
            asked = f", {'meets' if met else 'MISSES'} --clock {shown(limit)} MHz" if limit is not None else ""
            text = f"{rate:.1f} MHz{asked}"
            yield f"clock on {row.get('part')}", _judged(text, met if isinstance(met, bool) else None, "estimated")
        times = row.get("times")
        if isinstance(times, Mapping) and isinstance(times.get("latency_us"), Mapping):
            latency = times["latency_us"]
            text = ", ".join(f"{v:.2f} us {name}" for name, v in latency.items() if isinstance(v, float))  # type: ignore[union-attr]
            yield f"latency on {row.get('part')}", marked(text, "estimated")


def _energy(r: ReportedResult) -> Iterator[Row]:
    """Estimates by chip, wherever the target or a simulator states them."""
    places = [r["target"]["details"], *(v["details"] for v in r["verification"] if v["status"] == "equal")]
    for chip, cost in _costs(places).items():
        if "total_nj" in cost:
            text = f"{shown(cost['total_nj'])} nJ without static power"
            yield (
                f"energy of a sample on {chip}",
                Markup("{}; {}").format(marked(text, "estimated"), cost.get("source", "")),
            )
        elif "none" in cost:
            yield f"energy of a sample on {chip}", Markup("none: {}").format(cost["none"])


def _costs(places: Sequence[JsonObject]) -> dict[str, JsonObject]:
    """The first estimate of each chip."""
    costs: dict[str, JsonObject] = {}
    for place in places:
        estimates = place.get("estimates")
        for chip, cost in estimates.items() if isinstance(estimates, Mapping) else ():
            if isinstance(cost, Mapping):
                costs.setdefault(chip, cost)
    return costs


def _objects(value: JSON) -> list[JsonObject]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [row for row in value if isinstance(row, Mapping)]
    return []
