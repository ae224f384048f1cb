"""The stages that read tables of activation functions."""

from __future__ import annotations

from amaranth import Mux, Signal, Value

from ..isa import TableKind
from .tokens import Stages, Token, choose, rounded, without

__all__ = ["look_up"]


def look_up(p: Stages, t: Token) -> Token:
    """The entries of the tables, or what lies between two of them, instead of the values of all lanes."""
    m, field = p.m, p.field
    shifts, interpolates = p.features.table_shifts, p.features.slopes
    between = field("table") == TableKind.INTERPOLATE
    entries = field("table_entries")
    if interpolates:
        entries = Mux(between, choose(field("table_shift"), {s: entries << s for s in shifts}), entries)
    top = Signal(entries.shape(), name="table_top")
    m.d.sync += top.eq(entries - 1)
    for k in p.lanes:
        distance = t[f"value.{k}"] - field("table_first")
        index = Signal(entries.shape(), name=f"index_{k}")
        m.d.comb += index.eq(Mux(distance < 0, 0, Mux(distance > top, top, distance)))
        t[f"index.{k}"] = index
    t = p.later(t)
    for k in p.lanes:
        t |= _segment(p, t, k, between)
    t = p.later(without(t, "index"))
    for ram in (*p.memories.tables, *p.memories.slopes):
        p.memories.used(ram, t["valid"] & p.go & (p.field("table") != TableKind.NONE))
    for k in p.lanes:
        t[f"entry.{k}"] = p.memories.tables[k].read_data.as_signed()
        if interpolates:
            t[f"slope.{k}"] = p.memories.slopes[k].read_data.as_signed()
    t = p.later(t)
    if interpolates:
        t |= {f"step.{k}": t[f"slope.{k}"] * t[f"fraction.{k}"] for k in p.lanes}
        t = p.later(without(t, "slope", "fraction"))
        for k in p.lanes:
            rise = rounded(t[f"step.{k}"], field("table_shift"), shifts)
            t[f"entry.{k}"] = Mux(between, t[f"entry.{k}"] + rise, t[f"entry.{k}"])
    for k in p.lanes:
        t[f"value.{k}"] = Mux(field("table") == TableKind.NONE, t[f"value.{k}"], t[f"entry.{k}"])
    return p.later(without(t, "entry", "step"))


def _segment(p: Stages, t: Token, lane: int, between: Value) -> Token:
    """Read the tables of a lane; what is left of the index."""
    m, field, index, shifts = p.m, p.field, t[f"index.{lane}"], p.features.table_shifts
    segment, rest, ports = index, {}, [(p.memories.tables[lane], field("table_base"))]
    if p.features.slopes:
        rest[f"fraction.{lane}"] = choose(field("table_shift"), {s: index & (1 << s) - 1 for s in shifts})
        segment = Mux(between, choose(field("table_shift"), {s: index >> s for s in shifts}), segment)
        ports.append((p.memories.slopes[lane], field("table_slope")))
    for ram, base in ports:
        m.d.comb += [ram.read_address.eq(base + segment), ram.read_enable.eq(p.go)]
    return rest
