"""What is proved of upsets of any size, in any number of states, that leave t ticks of a relaxation.

Before those ticks the states may be anything that their formats hold, but for states that only count ticks (`clocks`),
which are taken as not hit. Each tick takes the set of settings that are
still possible to a smaller one, kept as a box of every unit and, for a net of one state beside counts, as a distance to
the fault-free run in the 2-norm; either limits the other:

- a linear map moves by at most `|w_i|` times the box, and by at most `||w_i||` times the distance;
- a table says what its entries between both ends of its index can be, often one code;
- the distance is at most the norm of the box, what the certificate of the block says (`L d + r`), and
  `||diag(a) W|| d + ||rho||`, where `|new_i - new'_i| <= a_i |(W e)_i| + rho_i` for all pre-activations that the box
  allows (`Windows.slope`) and a_i = rho_i = 0 for units whose code cannot change.

The label is safe where no logit can reach that of the fault-free label. All in exact integers or rounded up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import golden
from ..arrays import Codes, Reals
from ..interfaces import Progress
from ..ir import IntNet, ops
from ..passes import Analysis, bias_entries
from .boxes import Ball, Box, Boxes, Scope
from .certificate import certify
from .clocks import clocks
from .gates import hold
from .norm import NoBoundError, spectral_bounds
from .tables import is_saturation

__all__ = ["Recovery", "recovery"]

S = TypeVar("S", bound=np.generic)
_CHUNK = 128
_EXACT = 1 << 52
"""Sums of integers below it are exact in float64."""
_EXACT_ENTRY = 1 << 29
"""Integers below it times a number of 24 bits are exact in float64."""


@dataclass(frozen=True)
class Recovery:
    """What holds after an upset of any states that leaves t ticks, t = 1 to the last axis' length.

    `safe` [samples, ticks]: no upset can change the label. `apart` [samples, ticks], int64: by how many codes a unit
    can still be off. `settled` [samples]: the fault-free run stands still before those ticks.
    """

    safe: NDArray[np.bool_]
    apart: Codes
    settled: NDArray[np.bool_]

    def harmless_from(self) -> Codes:
        """For each sample, how many ticks an upset must leave to be harmless; 0 where that is not proved."""
        return np.where(self.safe.any(axis=1), self.safe.argmax(axis=1) + 1, 0)


def recovery(
    net: IntNet,
    inputs: Mapping[str, Codes],
    *,
    ticks: int,
    output: str | None = None,
    radius: int | None = None,
    progress: Progress | None = None,
) -> Recovery:
    """Propagate every setting of the states through the last `ticks` ticks, for input codes [samples, *shape].

    `output`: the output of classes, needed where the net has several. `radius`: the upset moves no unit by more than
    this many codes (None: by any). Raises NoBoundError where the net reads frames,
    runs no more than `ticks` steps, has no output of classes, or has an operation without boxes.
    """
    classes = [o.value for o in net.outputs if o.kind == "classes" and output in (None, o.name)]
    if net.schedule.frames:
        raise NoBoundError("the net reads frames: an upset is carried from one to the next")
    if len(classes) != 1:
        raise NoBoundError(f"{len(classes)} outputs of classes, needed is one")
    if net.schedule.tolerance:
        raise NoBoundError(f"tolerance {net.schedule.tolerance}: a run may end before what is proved here")
    if not 0 < ticks < net.schedule.steps:
        most = net.schedule.steps - 1
        raise NoBoundError(f"{ticks} ticks after the upset, must be 1 to {most}: the net runs {net.schedule.steps}")
    samples = len(next(iter(inputs.values())))
    bounds = _Net(net, classes[0])
    chunks = [{name: v[at : at + _CHUNK] for name, v in inputs.items()} for at in range(0, samples, _CHUNK)]
    parts: list[Recovery] = []
    # NumPy computes without Python's lock.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for part in pool.map(lambda codes: _part(net, bounds, codes, ticks, radius), chunks):
            parts.append(part)
            if progress is not None:
                progress(sum(len(p.safe) for p in parts), samples)
    finally:
        pool.shutdown(cancel_futures=True)
    return Recovery(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("safe", "apart", "settled")))


def _part(net: IntNet, bounds: _Net, codes: Mapping[str, Codes], ticks: int, radius: int | None) -> Recovery:
    states = golden.run(net, codes).states
    total = net.schedule.steps
    settled = np.ones(len(next(iter(codes.values()))), bool)
    for rows in states.values():
        settled &= (rows[total - ticks - 1 :] == rows[-1]).reshape(ticks + 1, len(settled), -1).all(axis=(0, 2))
    safe, apart = np.zeros((len(settled), ticks), bool), np.zeros((len(settled), ticks), np.int64)
    # Where the fault-free run stands still, what holds t ticks after the upset does not depend on when that was.
    for length in range(1, ticks + 1):
        where = np.flatnonzero(~settled | (length == ticks))
        if not where.size:
            continue
        at_row = [{name: rows[r][where] for name, rows in states.items()} for r in range(total - length - 1, total)]
        run = _Run(bounds, {name: value[where] for name, value in codes.items()}, at_row[0], radius)
        for tick in range(length):
            run.advance(at_row[tick + 1])
            if tick == length - 1:
                safe[where, tick], apart[where, tick] = run.verdict()
            elif length == ticks:
                still = settled[where]
                verdict = run.verdict()
                safe[where[still], tick], apart[where[still], tick] = (v[still] for v in verdict)
    return Recovery(safe, apart, settled)


class _Net:
    """What does not depend on samples."""

    def __init__(self, net: IntNet, logits: str) -> None:
        self.net, self.logits = net, logits
        self.boxes = Boxes(net)
        blocks = certify(net).blocks
        self.counts = frozenset(clocks(net))
        states = [s for s in net.states if s.name not in self.counts]
        self.state = states[0] if len(states) == 1 else None
        single = self.state is not None and len(blocks) == 1 and not blocks[0].gates
        self.block = blocks[0] if single else None
        self.readout = _affine(net, self.boxes, logits, self.state.name) if self.state else None


class _Run:
    """The settings that are still possible in some samples; their fault-free states are `before`."""

    def __init__(
        self, bounds: _Net, codes: Mapping[str, Codes], before: Mapping[str, Codes], radius: int | None
    ) -> None:
        self.bounds, net = bounds, bounds.net
        self.clamped: Scope = {name: Box.point(value.astype(np.int64)) for name, value in codes.items()}
        bounds.boxes.evaluate(net.drive, self.clamped, {})
        self.centre = dict(before)
        self.states: Scope = {}
        for s in net.states:
            full, at = net.formats[s.name], before[s.name]
            far = 0 if s.name in bounds.counts else full.hi - full.lo if radius is None else radius
            self.states[s.name] = Box(np.maximum(at - far, full.lo), np.minimum(at + far, full.hi))
        self.distance = self._norms()

    def _norms(self) -> Reals:
        """2-norm [samples] of the deviations that the boxes of all states allow, in codes."""
        squares = sum((_flat(_deviation(b, self.centre[n])) ** 2).sum(axis=1) for n, b in self.states.items())
        return np.nextafter(np.sqrt(np.asarray(squares, np.float64)), np.inf)

    def _balls(self) -> dict[str, Ball]:
        state = self.bounds.state
        return {} if state is None else {state.name: Ball(self.centre[state.name], self.distance)}

    def advance(self, after: Mapping[str, Codes]) -> None:
        """One tick; `after` is the fault-free run after it."""
        bounds, net = self.bounds, self.bounds.net
        scope = {**self.clamped, **self.states}
        bounds.boxes.evaluate(net.step, scope, self._balls())
        moved = {n: _deviation(b, self.centre[n]) > 0 for n, b in self.states.items()}
        self.centre = dict(after)
        for s in net.states:
            shape = after[s.name].shape
            self.states[s.name] = Box(*(np.broadcast_to(v, shape) for v in scope[s.update].ends()))
        distance = self.distance
        self.distance = self._norms()
        if bounds.state is None or bounds.block is None:
            return
        lsb = 2.0 ** -(bounds.state.frac or 0)
        # Powers of two change real units into codes: exact.
        contracted = _up(_up(bounds.block.bound * distance) + bounds.block.slack / lsb)
        name = bounds.state.name
        local = _local(bounds, scope, self.states[name], self.centre[name], moved[name], distance)
        self.distance = np.minimum(np.minimum(self.distance, contracted), local)
        far = np.floor(self.distance).astype(np.int64).reshape(-1, *(1 for _ in bounds.state.shape))
        box = self.states[name]
        at = self.centre[name]
        self.states[name] = Box(np.maximum(box.lo, at - far), np.minimum(box.hi, at + far))

    def verdict(self) -> tuple[NDArray[np.bool_], Codes]:
        """Whether the label is safe [samples], and by how many codes a unit can be off."""
        bounds = self.bounds
        apart = np.maximum.reduce([_flat(_deviation(b, self.centre[n])).max(axis=1) for n, b in self.states.items()])
        scope = {**self.clamped, **self.states}
        at = {**self.clamped, **{n: Box.point(c) for n, c in self.centre.items()}}
        bounds.boxes.evaluate(bounds.net.readout, scope, self._balls())
        bounds.boxes.evaluate(bounds.net.readout, at, {})
        logits, box = at[bounds.logits].lo, scope[bounds.logits]
        top = golden.labels(logits)[..., None]
        index = np.arange(logits.shape[-1])
        # Ties go to the lowest index.
        needed = (index < top).astype(np.int64)
        lead = np.take_along_axis(box.lo, top, axis=-1) - box.hi
        if bounds.readout is not None:
            lead = np.maximum(lead, self._lead(bounds.readout, at, top[:, 0]))
        kept = (lead >= needed) | (index == top)
        return kept.reshape(len(kept), -1).all(axis=1), apart

    def _lead(self, readout: _Affine, at: Scope, top: Codes) -> Codes:
        """The least by which the fault-free label's logit exceeds each other one, from differences of rows."""
        assert self.bounds.state is not None
        name, matrix = self.bounds.state.name, readout.matrix
        low, high = (_flat(v - self.centre[name]).astype(np.float64) for v in self.states[name].ends())
        rows = matrix[top][:, None, :] - matrix[None]
        by_box = np.einsum("sck,sk->sc", np.maximum(rows, 0.0), low)
        by_box += np.einsum("sck,sk->sc", np.minimum(rows, 0.0), high)
        by_ball = -np.floor(_up(_up(np.sqrt((rows * rows).sum(axis=2))) * self.distance[:, None]))
        # The map before it is rounded, at the fault-free state.
        value = (_flat(self.centre[name]).astype(np.float64) @ matrix.T).astype(np.int64) + readout.bias
        offset = np.zeros_like(value)
        for added in readout.added:
            offset += at[added].lo if added in at else self.bounds.net.param(added)
        lead, moved = (np.take_along_axis(v, top[:, None], axis=1) - v for v in (value, offset))
        # floor(a) - floor(b) >= floor(a - b), whatever is added to both before.
        least: Codes = ((lead + np.maximum(by_box, by_ball).astype(np.int64)) >> readout.shift) + moved
        return least


@dataclass(frozen=True)
class _Affine:
    """Logits `(matrix @ h + bias + half) >> shift` plus the values `added`; matrix [classes, units] of integers."""

    matrix: Reals
    bias: Codes
    shift: int
    added: tuple[str, ...]


def _affine(net: IntNet, boxes: Boxes, logits: str, state: str) -> _Affine | None:
    """The readout in that form, where it has it."""
    makers = {op.out: op for op in net.readout}
    added: list[str] = []
    multiplier, shift, at = np.ones(1), 0, logits
    shapes, moving = Analysis.of(net).shapes, Analysis.of(net).moving
    while len(shapes[logits]) == 1 and at in makers:
        match makers[at]:
            case ops.Add(a=a, b=b) if shift == 0 and (a in moving) != (b in moving):
                at = a if a in moving else b
                added.append(b if a in moving else a)
            case ops.Rescale(x=x, multiplier=m, shift=k) if shift == 0 and multiplier.size == 1:
                at, multiplier, shift = x, net.param(m).astype(np.float64).reshape(-1), k
            case ops.Linear(x=x) as op if x == state:
                matrix = boxes.matrix(op) * multiplier[:, None]
                bias = bias_entries(net, op) * multiplier.astype(np.int64)
                ends = net.formats[state]
                # Rows are subtracted, and states are apart by all that their format holds.
                reach = 2.0 * float(np.abs(matrix).sum(axis=1).max(initial=0.0)) * (ends.hi - ends.lo)
                return _Affine(matrix, bias, shift, tuple(added)) if reach < _EXACT else None
            case _:
                return None
    return None


def _local(bounds: _Net, scope: Scope, new: Box, centre: Codes, moved: NDArray[np.bool_], distance: Reals) -> Reals:
    """`||diag(a) W|| d + ||rho||` of the module's text, [samples]; infinite where the step has another form."""
    state = bounds.state
    assert state is not None
    slopes = _slopes(bounds, scope)
    if slopes is None or float(np.abs(bounds.boxes.matrix(slopes[0])).max(initial=0.0)) >= _EXACT_ENTRY:
        return np.full(len(distance), math.inf)
    linear, gain, jump = slopes
    alive = _flat(_deviation(new, centre)) > 0
    gain, jump = np.where(alive, gain, 0.0), np.where(alive, jump, 0.0)
    rounding = _up(np.sqrt(_up((jump * jump).sum(axis=1) * (1.0 + 2.0**-40))))
    norms = _scaled_norms(bounds.boxes.matrix(linear), gain, _flat(moved))
    return _up(_up(norms * distance) + rounding)


def _scaled_norms(matrix: Reals, gain: Reals, moved: NDArray[np.bool_]) -> Reals:
    """Upper bounds [samples] of `||diag(gain) W||` over the operand entries that moved."""
    # 24 bits, rounded up: products with codes are exact.
    single = gain.astype(np.float32)
    exact = np.where(single < gain, np.nextafter(single, np.float32(np.inf)), single).astype(np.float64)
    rows, columns = exact > 0, moved
    size = np.maximum(rows.sum(axis=1), columns.sum(axis=1))
    result = np.where(size > 0, math.inf, 0.0)
    padded = np.pad(matrix, ((0, 1), (0, 1)))
    for limit in [1 << k for k in range(3, max(matrix.shape[0], matrix.shape[1], 8).bit_length() + 1)]:
        chosen = np.flatnonzero((size <= limit) & (size > (limit >> 1 if limit > 8 else 0)))
        if not chosen.size:
            continue
        row, column = (_indices(m[chosen], limit) for m in (rows, columns))
        scale = np.take_along_axis(np.pad(exact[chosen], ((0, 0), (0, 1))), row, axis=1)
        stack = padded[row[:, :, None], column[:, None, :]] * scale[:, :, None]
        result[chosen] = spectral_bounds(stack)
    return result


def _indices(mask: NDArray[np.bool_], count: int) -> Codes:
    """The places of the true entries of each row, `count` of them, filled up with the row's length."""
    width = mask.shape[1]
    order = np.argsort(~mask, axis=1, kind="stable")
    places = np.where(np.take_along_axis(mask, order, axis=1), order, width)
    missing = max(0, count - width)
    return np.pad(places, ((0, 0), (0, missing)), constant_values=width)[:, :count].astype(np.int64)


def _slopes(bounds: _Net, scope: Scope) -> tuple[ops.Op, Reals, Reals] | None:
    """The linear map of the state, and a and rho [samples, units] of its update; None for a step of another form."""
    net = bounds.net
    assert bounds.state is not None
    moving, linear = {bounds.state.name}, None
    known: dict[str, tuple[Reals, Reals]] = {}
    for op in net.step:
        operands = [name for name in op.reads if name in moving]
        if not operands:
            continue
        moving.add(op.out)
        match op:
            case ops.Linear(x=x) | ops.Conv(x=x) | ops.Stencil(x=x) if x == bounds.state.name and linear is None:
                linear = op
                size = Analysis.of(net).sizes[op.out]
                known[op.out] = np.ones((1, size)), np.zeros((1, size))
            case ops.Add() | ops.Sub() if len(operands) == 1 and _same(net, op.out, operands[0]):
                known |= {op.out: known[operands[0]]} if operands[0] in known else {}
            case ops.Reshape(x=x) if x in known:
                known[op.out] = known[x]
            case ops.Rescale(x=x, multiplier=m, shift=shift) if x in known and _same(net, op.out, x):
                factor = np.broadcast_to(np.abs(net.param(m)), Analysis.of(net).shapes[x]).reshape(1, -1)
                scale = np.ldexp(factor.astype(np.float64), -shift)
                gain, jump = known[x]
                known[op.out] = _up(gain * scale), _up(_up(jump * scale) + (1.0 if shift else 0.0))
            case ops.Lookup(x=x) | ops.Interpolate(x=x) if x in known:
                known[op.out] = _through(bounds, op, scope[x], *known[x])
            case ops.Select(a=a) if a in known:
                threshold = hold(net, op)
                if threshold is not None:
                    gain, jump = known[a]
                    known[op.out] = gain, _up(jump + 2.0 * threshold)
            case _:
                pass
    update = bounds.state.update
    return None if linear is None or update not in known else (linear, *known[update])


def _through(bounds: _Net, op: ops.Lookup | ops.Interpolate, x: Box, gain: Reals, jump: Reals) -> tuple[Reals, Reals]:
    if is_saturation(op, bounds.net):
        return gain, jump
    table = bounds.boxes.windows(op)
    lo, hi = (_flat(np.clip(v, op.first, op.first + table.size - 1) - op.first) for v in x.ends())
    slope = table.slope(lo, hi)
    return _up(gain * slope), _up(_up(jump * slope) + table.jump)


def _same(net: IntNet, a: str, b: str) -> bool:
    sizes = Analysis.of(net).sizes
    return sizes[a] == sizes[b]


def _deviation(box: Box, centre: Codes) -> Codes:
    return np.maximum(box.hi - centre, centre - box.lo)


def _flat(values: NDArray[S]) -> NDArray[S]:
    return values.reshape(len(values), -1)


def _up(values: Reals) -> Reals:
    return np.nextafter(values, np.inf)
