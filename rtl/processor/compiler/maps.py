"""Linear maps as events: where an entry of the operand acts, and what is added there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import assert_never

import numpy as np

from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.ir.ops import WeightedOp

from .draft import Codes, Column, Weights
from .views import View, contiguous

__all__ = ["Map", "Part", "map_of"]


@dataclass(frozen=True)
class Part:
    """One list of events. `start`, `step`: entries of the operand, along each axis. `place`, `column`: affine in the
    axes of that part, bases first. `kernel`: a view of the sums that one event reaches."""

    start: tuple[int, ...]
    step: tuple[int, ...]
    counts: tuple[int, ...]
    place: tuple[int, ...]
    column: tuple[int, ...]
    kernel: View
    weights: Weights


@dataclass(frozen=True)
class Map:
    """`words` of sums; the value of the map is `result`, a view of them."""

    words: int
    result: View
    parts: tuple[Part, ...]


def map_of(op: WeightedOp, shape: tuple[int, ...], params: Mapping[str, Codes], lanes: int) -> Map:
    """The map of an operation on an operand of `shape`, in groups of `lanes` sums."""
    weight = params[op.weight]
    match op:
        case ops.Linear():
            return _linear(op.out, weight, shape, lanes)
        case ops.Stencil():
            return _stencil(op.out, weight, params[op.index], shape, lanes)
        case ops.Conv():
            return _conv(op, weight, shape, lanes)
        case _:
            assert_never(op)


def _linear(name: str, weight: Codes, shape: tuple[int, ...], lanes: int) -> Map:
    outputs = len(weight)
    sums = contiguous(name, (*shape[:-1], _whole(outputs, lanes)))
    lead = sums.strides[:-1]
    weights = Weights(name, tuple(_groups(column, lanes) for column in weight.T))
    whole = tuple([0] * len(shape)), tuple([1] * len(shape))
    part = Part(*whole, shape, (0, *lead, 0), (0, *[0] * len(lead), 1), View(name, (), ()), weights)
    return Map(sums.size, View(name, (*shape[:-1], outputs), sums.strides), (part,))


def _whole(outputs: int, lanes: int) -> int:
    """An even number of groups, so that the parity of a group is that of its word."""
    return -(-outputs // (2 * lanes)) * 2 * lanes


def _groups(column: Codes, lanes: int) -> Column:
    """A dense column."""
    padded = np.zeros(_whole(len(column), lanes), np.int64)
    padded[: len(column)] = column
    rows = padded.reshape(-1, lanes)
    return {int(g): tuple(rows[g].tolist()) for g in np.nonzero(rows.any(axis=1))[0]}


def _stencil(name: str, weight: Codes, index: Codes, shape: tuple[int, ...], lanes: int) -> Map:
    sites, taps = np.nonzero((index >= 0) & (weight != 0))
    columns: list[dict[int, list[int]]] = [{} for _ in range(shape[0])]
    for n, k in zip(sites.tolist(), taps.tolist(), strict=True):
        group = columns[int(index[n, k])].setdefault(n // lanes, [0] * lanes)
        group[n % lanes] += int(weight[n, k])
    weights = Weights(name, tuple({g: tuple(codes) for g, codes in sorted(c.items())} for c in columns))
    part = Part((0,), (1,), shape, (0, 0), (0, 1), View(name, (), ()), weights)
    words = _whole(len(weight), lanes)
    return Map(words, contiguous(name, (len(weight),)), (part,))


def _conv(op: ops.Conv, weight: Codes, shape: tuple[int, ...], lanes: int) -> Map:
    """Entry q reaches place p through kernel offset k where `q + padding = p * stride + k`. For each remainder of
    `q + padding` that is a map of stride 1; sums have a margin, so that no event has to know where the border is."""
    outputs, channels, *kernel = weight.shape
    space = shape[1:]
    places = [(n + 2 * op.padding - k) // op.stride + 1 for n, k in zip(space, kernel, strict=True)]
    phases = list(product(range(op.stride), repeat=len(space)))
    first = {r: -((op.padding - r) // -op.stride) for r in range(op.stride)}
    taps = [[max(0, -((r - k) // op.stride)) for r in range(op.stride)] for k in kernel]
    lows = [min(0, *(first[r] - t[r] + 1 for r in range(op.stride))) for t in taps]
    highs = [
        max(p - 1, *((n - 1 + op.padding - r) // op.stride for r in range(op.stride)))
        for p, n in zip(places, space, strict=True)
    ]
    extents = [high - low + 1 for low, high in zip(lows, highs, strict=True)]
    sums = contiguous(op.out, (*extents, _whole(outputs, lanes)))
    steps = sums.strides[:-1]
    parts = []
    for number, phase in enumerate(phases):
        start = [op.stride * first[r] + r - op.padding for r in phase]
        counts = [max(0, -((s - n) // op.stride)) for s, n in zip(start, space, strict=True)]
        mine = [t[r] for t, r in zip(taps, phase, strict=True)]
        if not prod(counts) or not prod(mine):
            continue
        base = sum((first[r] - low) * s for r, low, s in zip(phase, lows, steps, strict=True))
        chosen = weight[(slice(None), slice(None), *(slice(r, None, op.stride) for r in phase))]
        dense = chosen.reshape(outputs, channels, -1).transpose(1, 2, 0).reshape(-1, outputs)
        parts.append(
            Part(
                (0, *start),
                (1, *[op.stride] * len(space)),
                (channels, *counts),
                (base, 0, *steps),
                (0, prod(mine), *[0] * len(space)),
                View(op.out, tuple(mine), tuple(-s for s in steps)),
                Weights(f"{op.out}.{number}", tuple(_groups(column, lanes) for column in dense)),
            )
        )
    offset = sum(-low * s for low, s in zip(lows, steps, strict=True))
    result = View(op.out, (*places, outputs), sums.strides, offset)
    rank = len(space)
    return Map(sums.size, result.transpose((rank, *range(rank))), tuple(parts))
