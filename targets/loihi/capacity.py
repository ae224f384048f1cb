"""Bits of stored weights, and bounds of the neurocores that a net takes, before anything is placed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.arrays import Codes
from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.passes import LINEAR, Analysis, Taps, tap_count
from eqcompile.toolchain.requirements import MapNeeds

from .chips import Chip

__all__ = [
    "WORD_BITS",
    "Connectivity",
    "foreseen_cores",
    "index_bits",
    "least_cores",
    "likely_cores",
    "stored_as",
    "weight_bits",
]

Connectivity = Literal["auto", "dense", "sparse"]
WORD_BITS = 32
TABLE_WORDS, REGISTERS = 1 << 12, 8
"""Of a population, where nothing is known of them yet: entries of a table, and words of a unit."""


def weight_bits(matrix: Taps[np.int64]) -> int:
    """Bits of one stored weight: 2 if ternary, else the narrowest signed format."""
    return _code_bits(matrix.weight) if matrix.count else 1


def _code_bits(codes: NDArray[np.int16] | Codes) -> int:
    return max(Format.holding(min(int(codes.min()), -1), int(codes.max())).bits, 2)


def least_cores(net: IntNet, chip: Chip, connectivity: Connectivity) -> tuple[int, int]:
    """A lower bound of the neurocores of a net without `repeat`, and the bits of all its synapses: counted from shapes
    and weights, before anything is placed."""
    analysis, total = Analysis.of(net), 0
    for op in net.all_ops():
        if isinstance(op, LINEAR) and op.out in analysis.live:
            count, embeds = tap_count(net, op), isinstance(op, ops.Embedding)
            codes = analysis.codes[op.table if isinstance(op, ops.Embedding) else op.weight]
            bits = _code_bits(codes) if count else 1
            entries = analysis.sizes[op.out] * analysis.sizes[op.x] * (len(codes) if embeds else 1)
            total += _stored_bits(entries, count, bits, chip, connectivity)
    return -(-total // chip.memory_bits), total


def foreseen_cores(maps: Sequence[MapNeeds], chip: Chip, connectivity: Connectivity) -> tuple[int, int, int]:
    """As `least_cores`, of maps whose weights have no codes yet; and the most bits of vectors that the cores of one
    population have a copy of each, where neurons and synapses share the memory.

    A core holds one population, which is no smaller than a group of maps, and all of its vectors: with `room` bits left
    beside those of a group, its synapses take at least a part `bits / room` of a core.
    """
    total, parts, most = 0, Fraction(0), 0
    copies: dict[str, int] = {}
    for m in maps:
        copies[m.group] = copies.get(m.group, 0) + (m.vectors * WORD_BITS if chip.shared_memory else 0)
    for m in maps:
        bits = max(Format.holding(min(m.low, -1), m.high).bits, 2) if m.taps else 1
        stored = _stored_bits(m.entries, m.taps, bits, chip, connectivity)
        total, most = total + stored, max(most, copies[m.group])
        # Vectors that leave no room are told of by the placement, population by population.
        parts += Fraction(stored, max(chip.memory_bits - copies[m.group], 1))
    return math.ceil(parts), total, most


def likely_cores(maps: Sequence[MapNeeds], chip: Chip, connectivity: Connectivity) -> int:
    """An estimate from above of the neurocores of a net whose weights have no codes yet: every weight that is not zero
    keeps a code, of the most bits, and beside those of a group lie its vectors, a table and registers; a tenth more for
    cores that the next unit does not fit, and a core for what else the net has."""
    parts, rows, copies = Fraction(0), {m.group: 0 for m in maps}, {m.group: 0 for m in maps}
    for m in maps:
        rows[m.group] = max(rows[m.group], m.rows)
        copies[m.group] += m.vectors * WORD_BITS if chip.shared_memory else 0
    room = {}
    for group, bits in copies.items():
        room[group] = max(chip.memory_bits - bits - (TABLE_WORDS * WORD_BITS if chip.shared_memory else 0), 1)
        registers = REGISTERS * WORD_BITS * rows[group] if chip.shared_memory else 0
        parts += max(Fraction(registers, room[group]), Fraction(rows[group], chip.neurons)) + 1
    for m in maps:
        stored = _stored_bits(m.entries, m.most_taps, Format.holding(-m.top, m.top).bits, chip, connectivity)
        parts += Fraction(stored, room[m.group])
    return math.ceil(parts * 11 / 10) + 1


def _stored_bits(entries: int, taps: int, bits: int, chip: Chip, connectivity: Connectivity) -> int:
    dense, sparse = entries * bits, taps * (bits + index_bits(chip))
    return {"dense": dense, "sparse": sparse, "auto": min(dense, sparse)}[connectivity]


def stored_as(matrix: Taps[np.int64], chip: Chip, connectivity: Connectivity) -> Literal["dense", "sparse"]:
    """`auto` takes what needs fewer bits."""
    if connectivity != "auto":
        return connectivity
    bits = weight_bits(matrix)
    return "dense" if prod(matrix.shape) * bits <= matrix.count * (bits + index_bits(chip)) else "sparse"


def index_bits(chip: Chip) -> int:
    """Bits beside a sparse weight: which neuron of the core it belongs to."""
    return (chip.neurons - 1).bit_length()
