"""Activation tables, in logic or in block RAM.

A table of an activation is smooth: a block of neighbouring entries is its first entry plus one of a few patterns. So
there are two small tables, of first entry and pattern by block and of the distance by pattern and place, and an adder.

    core ─┬─ block ──► first entry ──────────────┐
          │        └─► pattern ─┐                ├──► sum
          └─ place in block ────┴──► distance ───┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from amaranth import Cat, Const, Module, Mux, Value
from amaranth.lib.memory import Memory
from numpy.typing import NDArray

from eqcompile.rtl.datapath import decode, shape_of
from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.passes import Analysis

from .hardening import Protected
from .wires import Wire

__all__ = ["BlockTables", "CoreTable", "blocks", "in_logic", "latched_lookups", "table_of"]

LUT_INPUTS = 4
Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CoreTable:
    """`entries[i]` is for core `first + i`; cores beyond an end take the entry at that end."""

    first: int
    entries: Array

    @property
    def index(self) -> Format:
        """Format of the cores that have entries of their own; signed, so that it holds 0 and -1 too."""
        return Format.holding(min(self.first, -1), max(self.first + len(self.entries) - 1, 0))

    @property
    def by_pattern(self) -> Array:
        """An entry for each bit pattern of `index`."""
        cores = np.arange(1 << self.index.bits)
        cores = np.where(cores > self.index.hi, cores - len(cores), cores)
        return self.entries[np.clip(cores - self.first, 0, len(self.entries) - 1)]


def table_of(entries: Array, first: int, x: Wire) -> CoreTable:
    """The part of `entries[clamp(code, first, first + len(entries) - 1) - first]` that the codes of `x` can tell apart.

    Bits of `x` that never change are left out, and so are runs of equal entries at the ends.
    """
    last = first + len(entries) - 1
    span = x.core_range()
    cores = np.arange(
        max(span.lo, min(span.hi, ((first - x.offset) >> x.low) - 1)),
        min(span.hi, max(span.lo, ((last - x.offset) >> x.low) + 1)) + 1,
    )
    visible = entries[np.clip((cores << x.low) + x.offset, first, last) - first]
    steps = np.flatnonzero(np.diff(visible))
    start, end = (int(steps[0]), int(steps[-1]) + 1) if len(steps) else (0, 0)
    return CoreTable(int(cores[start]), visible[start : end + 1])


def latched_lookups(net: IntNet, protect: Protected) -> dict[str, set[int]]:
    """Lookups whose entries are the next codes of a state that starts from zeros, and nothing else: for each the
    elements whose register can be that of a block RAM. Protected ones have three registers, a block RAM has one."""
    readers, types = Analysis.of(net).readers, Analysis.of(net).types
    starting = {s.update: s for s in net.states if s.init is None}
    return {
        op.out: {*range(prod(types[op.out].shape))} - {*protect.get(starting[op.out].name, ())}
        for op in net.step
        if isinstance(op, ops.Lookup)
        and readers[op.out] == 1
        and op.out in starting
        and starting[op.out].shape == types[op.out].shape
    }


def lut_bits(address: int, words: int, width: int) -> int:
    """Bits of the LUTs of a table."""
    return max(1 << address, 1 << LUT_INPUTS) * width if words > 1 else 0


def blocks(entries: Array) -> tuple[int, Array, Array, Array]:
    """`entries[i] = first[i >> low] + patterns[pattern[i >> low], i % 2**low]` in the fewest LUT bits.

    Returns low, first, pattern, patterns.
    """
    best, found = 0, None
    for low in range(7):
        size = 1 << low
        if low and size > len(entries):
            break
        rows = np.pad(entries, (0, -len(entries) % size), mode="edge").reshape(-1, size)
        patterns, pattern = np.unique(rows - rows[:, :1], axis=0, return_inverse=True)
        kinds, width = (len(patterns) - 1).bit_length(), Format.holding(int(rows.min()), int(rows.max())).bits
        distance = Format.holding(int(patterns.min()), int(patterns.max())).bits if low else 0
        total = lut_bits((len(rows) - 1).bit_length(), len(rows), width + kinds)
        total += lut_bits(low + kinds, patterns.size, distance) + ((width << LUT_INPUTS) if low else 0)
        if found is None or total < best:
            best, found = total, (low, rows[:, 0], pattern.reshape(-1), patterns)
    if found is None:
        raise AssertionError("no block size was tried")
    return found


def in_logic(m: Module, table: CoreTable, core: Value) -> Value:
    """The entry for `core`, no clock."""
    fmt, entries = table.index, table.by_pattern
    low, first, pattern, patterns = blocks(entries)
    still = np.flatnonzero(~patterns.any(axis=1))
    # Beyond the ends there is no distance to add.
    patterns = patterns if len(still) else np.vstack([patterns, np.zeros_like(patterns[:1])])
    resting = int(still[0]) if len(still) else len(patterns) - 1
    starts = Format.holding(int(first.min()), int(first.max()))
    index = _extended(core, fmt.bits)
    block = index[low:]
    start: Value = decode(_rom(m, first, starts, block), starts)
    outside, edge = _outside(core, fmt), Const(int(entries[fmt.hi]), shape_of(starts))
    bottom = Const(int(entries[1 << (fmt.bits - 1)]), shape_of(starts))
    if outside is not None:
        start = Mux(outside, Mux(_negative(core), bottom, edge), start)
    if low == 0:
        return start
    kinds = Format(max((len(patterns) - 1).bit_length(), 1), False)
    kind: Value = _rom(m, pattern, kinds, block)
    if outside is not None:
        kind = Mux(outside, Const(resting, kinds.bits), kind)
    span = Format.holding(int(patterns.min()), int(patterns.max()))
    distance = _rom(m, patterns.reshape(-1), span, Cat(index[:low], kind[: kinds.bits]))
    return start + decode(distance, span)


class BlockTables:
    """Tables in block RAM, without a clock of their own: the register that takes the entry is the memory's.

    A memory serves any number of readers; synthesis makes a block RAM of it for each two, as it has two ports.
    """

    def __init__(self) -> None:
        self.memories: dict[tuple[int, bytes], Memory] = {}
        self.readers = 0

    def add(self, m: Module, table: CoreTable, x: Wire) -> Value:
        """The entry for the core of `x`. Nothing but a register whose reset is 0 may read it."""
        index = Format.holding(x.core_range().lo, x.core_range().hi)
        cores = np.arange(1 << index.bits)
        cores = np.where(cores > index.hi, cores - len(cores), cores)
        entries = table.entries[np.clip(cores - table.first, 0, len(table.entries) - 1)]
        fmt = Format.holding(int(entries.min()), int(entries.max()))
        words = entries & ((1 << fmt.bits) - 1)
        key = (fmt.bits, words.tobytes())
        if key not in self.memories:
            attrs = {"ram_style": "block"}
            memory = Memory(shape=fmt.bits, depth=len(words), init=words.tolist(), attrs=attrs)
            self.memories[key] = memory
            m.submodules += memory
        port = self.memories[key].read_port(domain="comb")
        m.d.comb += port.addr.eq(x.core())
        self.readers += 1
        return decode(Value.cast(port.data), fmt)


def _outside(core: Value, fmt: Format) -> Value | None:
    """Whether `core` has no entry of its own; None where that cannot be."""
    signed = core.shape().signed
    if len(core) + (not signed) <= fmt.bits:
        return None
    above = core[fmt.bits - 1 :]
    return (above.any() & ~above.all()) if signed else above.any()


def _negative(core: Value) -> Value:
    return core[-1] if core.shape().signed else Const(0, 1)


def _extended(core: Value, bits: int) -> Value:
    """The lowest `bits` bits of `core`, zero-extended."""
    if len(core) >= bits:
        return core[:bits]
    # The codes with entries of their own are codes of the core, so an index is wider by the sign at most.
    assert not core.shape().signed
    return Cat(core, Const(0, bits - len(core)))


def _rom(m: Module, words: Sequence[int] | Array, fmt: Format, address: Value) -> Value:
    """`words[address]` as a pattern of `fmt`, logic whatever its size."""
    mask = (1 << fmt.bits) - 1
    init = [int(w) & mask for w in words]
    m.submodules += (rom := Memory(shape=fmt.bits, depth=len(init), init=init, attrs={"rom_style": "logic"}))
    port = rom.read_port(domain="comb")
    m.d.comb += port.addr.eq(address)
    return Value.cast(port.data)
