"""`eqfault rate`: upset rates of an orbit by kind of memory cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import option

from ..options import COUNT, POSITIVE
from .console import Parser, Reply
from .options import add_field_options, build

if TYPE_CHECKING:
    from eqcompile.sim.campaign.environment.summary import RateDocument

__all__ = ["command"]

_EXAMPLES = """\
  eqfault rate examples/orbit_kinds.toml
  eqfault rate examples/orbit_kinds.toml --mission 5y --devices 2"""
_SHOWN = 12
_WIDEST = 24


@dataclass(frozen=True, kw_only=True)
class _MissionOptions:
    mission_s: float | None = option(
        None, flag="--mission", metavar="TIME", unit="s", bounds=POSITIVE, help="length of a mission"
    )
    devices: int = option(1, bounds=COUNT, help="devices in the mission")


def command(argv: Sequence[str]) -> Reply:
    """Fold the spectra of an orbit with the cross-sections of a part.

    Raises UsageError for a mission of a design whose bits the file does not state.
    """
    text = "Upset rates of an orbit for flip-flops, block RAM, LUT RAM and configuration memory, and how each constant"
    parser = Parser(
        prog="eqfault rate", description=f"{text} moves them (docs/how-to/rate-from-an-orbit.md).", examples=_EXAMPLES
    )
    parser.add_argument("file", type=Path, metavar="FILE.toml", help="spectra of the orbit and cross-sections")
    add_field_options(parser, _MissionOptions, "mission")
    namespace = parser.parse_all(argv)
    options = build(_MissionOptions, namespace)
    from eqcompile.sim.campaign.environment.summary import load_orbit, summary

    document = summary(load_orbit(namespace.file), mission_s=options.mission_s, devices=options.devices)
    if options.mission_s is not None and document["mission"] is None:
        what = "no kind has bits, of which a mission would have upsets"
        raise UsageError(Diagnostic("usage", what, str(namespace.file), "state bits under [kinds.KIND]"))
    return Reply(document, "\n".join(_lines(document)))


def _lines(document: RateDocument) -> Iterator[str]:
    yield f"{document['title']} (estimated; {document['source']})"
    yield f"  {'kind':<14} {'upsets/bit/day':>15} {'ions':>10} {'protons':>10} {'bits':>11} {'upsets/day':>11}"
    for name, row in document["kinds"].items():
        rate = row["rate"]
        parts = (rate[key] if key in rate else None for key in ("ion_per_bit_day", "proton_per_bit_day"))
        shown = " ".join(f"{'-':>10}" if part is None else f"{part:10.4g}" for part in parts)
        bits = f"{rate['bits']:11,} {row['upsets_per_day']:11.4g}" if "bits" in rate else f"{'-':>11} {'-':>11}"
        yield f"  {name:<14} {rate['upsets_per_bit_day']:15.4g} {shown} {bits}"
        several = {size: events for size, events in row.get("events_per_day", {}).items() if size != "1" and events}
        if several:
            clusters = ", ".join(f"{events:.4g} of {size} bits" for size, events in several.items())
            yield f"  {'':<14} events a day that flip several bits: {clusters}"
    if document["total_per_day"] is not None:
        yield f"  {'all':<14} {'':>15} {'':>10} {'':>10} {'':>11} {document['total_per_day']:11.4g}"
        if document["uncounted"]:
            yield f"  without bits, not in the sum: {', '.join(document['uncounted'])}"
    mission = document["mission"]
    if mission is not None:
        yield (
            f"mission of {mission['seconds'] / 86_400:.5g} days, {mission['devices']} device(s): "
            f"{mission['upsets']:.4g} upsets expected, none with probability {mission['without_upset']:.3g}"
        )
    yield "rate of a kind when one constant is 10 % lower or higher, relative to it:"
    for s in document["sensitivity"][:_SHOWN]:
        bar = "#" * min(_WIDEST, round(abs(s["higher"] - s["lower"]) * 40))
        yield f"  {s['kind']:<14} {s['constant']:<20} {s['lower']:7.3f} {s['higher']:7.3f}  {bar}"
