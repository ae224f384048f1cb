"""What a net will ask of hardware once its weights have codes, by lower bounds that cost no search for codes.

A row of weights gets the codes and the scale of least squared error, so that its error is at most that of the scale
`s` at which nothing saturates, `E = sum (w - s round(w / s))^2`. A weight whose code is zero adds `w^2` to the error:
at most `E / t^2` weights above t in magnitude are lost. With calibration data the error is that of the sums, and
nothing is proved: then a hundred times E is allowed for, far above what was measured (decision 0037).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..toolchain.arrays import Array, Reals, row_parts
from ..toolchain.ir import EqNet, Param, ops
from ..toolchain.options import QuantizeOptions
from ..toolchain.passes import Analysis, tap_count
from ..toolchain.requirements import MapNeeds, Requirements
from .exact import Map, moves, on_grid, top_code
from .ground import Ground
from .hoist import hoist
from .identity import without_identities
from .moments import Moments
from .options import kinds_of
from .plan import Use, taken, uses
from .stopping import without_stop
from .weights import quantize_weights

__all__ = ["requirements_of"]

_THRESHOLDS = (1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
"""In steps of a row's scale: above which of them weights are counted is what counts most."""

_CALIBRATED_ERROR = 100.0
"""Times E, that a row may lose to make its sums better on calibration data."""

_FEW = 256
"""Weights below which nothing of their codes is certain where calibration data choose them."""

_ROWS = 16
"""Rows whose codes are made, to see how far they reach and which columns differ."""


@dataclass(frozen=True)
class _Weight:
    """Which entries of a weight keep a code that is not zero, all but `lost` of them; the codes of some rows."""

    kept: NDArray[np.bool_]
    lost: int
    low: int
    high: int
    rows: NDArray[np.int64]
    scales: int
    """One for each row, or one."""
    top: int
    """The largest magnitude of a code."""
    held: NDArray[np.bool_]
    """Which entries are not zero as they are."""


def requirements_of(
    net: EqNet, options: QuantizeOptions, *, calibrated: bool, calibration: Mapping[str, Array] | None = None
) -> Requirements:
    """What the integer net of a verified net needs at least. `calibrated`: whether there are calibration data.

    `calibration`: these data `[samples, *shape]`, float64, as for `lower`, to find how far codes reach: the float model
    runs on them, and a few rows of each weight get their codes. Without them only the sign of codes is certain.

    Raises UsageError for options that name no weight or state of the net, and with faults of the calibration data.
    """
    kinds = kinds_of(net, options)
    ground = None
    if calibration is not None and options.keep_labels is None and options.max_lipschitz is None:
        ground = Ground.of(net, options, calibration=calibration, ranges={})
    net, _ = without_identities(without_stop(net))
    weights: dict[Use, _Weight] = {}
    for op, use in uses(net, per_row=options.per_row):
        if use not in weights:
            weights[use] = _weight(taken(net, op), kinds[use[0]], per_row=use[1], loose=calibrated)
            moments = None if ground is None else ground.moments.get(op.out)
            if moments is not None and use[1]:
                weights[use] = _reaching(weights[use], taken(net, op), kinds[use[0]], moments)
    return Requirements(net, options.tolerance, tuple(_maps(net, weights, per_row=options.per_row)))


def _maps(net: EqNet, weights: dict[Use, _Weight], *, per_row: bool) -> Iterator[MapNeeds]:
    analysis = Analysis.of(net)
    used = dict((op.out, use) for op, use in uses(net, per_row=per_row))
    hoisted = hoist(net)[0]
    vectors = _vectors(hoisted, weights, per_row=per_row)
    groups = _groups(hoisted, vectors)
    for _, op in analysis.live_ops:
        if not isinstance(op, Map):
            continue
        rows, columns = analysis.sizes[op.out], analysis.sizes[op.x]
        weight = weights.get(used[op.out]) if op.out in used else None
        if weight is None:
            # A map that moves entries has a tap in each row that reads any; of a stencil taps may meet.
            taps = tap_count(net, op) if moves(net, op) and not isinstance(op, ops.Stencil) else 0
            yield MapNeeds(op.out, rows, columns, taps, 0, int(taps > 0), most_taps=tap_count(net, op))
            continue
        # Every position of a sequence or an image has each weight, and the lost ones, once more.
        positions = rows // len(weight.kept)
        taps = max(0, _taps(net, op, weight.kept, positions) - positions * weight.lost)
        column_taps, lost = np.zeros(0, np.int64), 0
        if isinstance(op, ops.Linear) and positions == 1 and weight.rows.size:
            _, first = np.unique(weight.rows, axis=1, return_index=True)
            column_taps, lost = np.count_nonzero(weight.kept, axis=0)[first], weight.lost
        of_sums = vectors.get(op.out, 0), groups.get(op.out, op.out)
        most = _taps(net, op, weight.held, positions)
        yield MapNeeds(
            op.out, rows, columns, taps, weight.low, weight.high, column_taps, lost, *of_sums, most, weight.top
        )


def _vectors(net: EqNet, weights: dict[Use, _Weight], *, per_row: bool) -> dict[str, int]:
    """By map of a net whose constants are where the integers have them: entries of the multiplier and the bias of its
    sums, each constant counted with the first map that has it."""
    seen: set[str | Use] = set()
    entries: dict[str, int] = {}
    for op, use in uses(net, per_row=per_row):
        scales = weights[use].scales
        if scales > 1 and use not in seen:
            entries[op.out] = scales
        if op.bias is not None and op.bias not in seen:
            entries[op.out] = entries.get(op.out, 0) + net.param(op.bias).size
        seen |= {use, op.bias or ""}
    return entries


def _groups(net: EqNet, maps: Collection[str]) -> dict[str, str]:
    """What additions of the net join, by a name of each group: some of these maps, and sums.

    Other elementwise operations may vanish when they are lowered, and so may what a map without a vector needs.
    """
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while joined.setdefault(name, name) != name:
            name = joined[name]
        return name

    sums = [op for block in (net.drive, net.step, net.readout) for op in block if isinstance(op, (ops.Add, ops.Sub))]
    inside = {*maps, *(op.out for op in sums)}
    for op in sums:
        for name in op.reads:
            if name in inside:
                joined[root(name)] = root(op.out)
    return {name: root(name) for name in maps}


def _taps(net: EqNet, op: Map, kept: NDArray[np.bool_], positions: int) -> int:
    """Coefficients of a map whose weights are the kept ones."""
    if isinstance(op, ops.Linear):
        return positions * int(np.count_nonzero(kept))
    if isinstance(op, ops.Stencil):
        index = np.asarray(net.param(op.index), np.int64)
        inner = np.sort(np.where(index >= 0, index, -1 - np.arange(index.shape[1])), axis=1)
        # Taps that meet one entry are added up, and their codes can cancel.
        return int(np.count_nonzero(kept[(np.diff(inner, axis=1) != 0).all(axis=1)]))
    others = (p for p in net.params if p.name != op.weight)
    return tap_count(replace(net, params=(*others, Param(op.weight, kept.astype(np.int64), ""))), op)


def _weight(weight: Reals, kind: str, *, per_row: bool, loose: bool) -> _Weight:
    top = top_code(kind)
    whole = on_grid(weight.reshape(-1), top)
    sampled = _sampled(len(weight))
    flat = weight.reshape(len(weight), -1)
    if whole is not None:
        codes = whole[0].astype(np.int64)
        chosen = codes.reshape(flat.shape)[sampled]
        low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
        return _Weight(weight != 0.0, 0, low, high, chosen, 1, max(-low, high), weight != 0.0)
    kept, lost = _kept(flat, top, per_row=per_row, loose=loose)
    if not per_row:
        none = np.zeros((0, flat.shape[1]), np.int64)
        return _Weight(kept.reshape(weight.shape), lost, 0, 0, none, 1, top, weight != 0.0)
    rows = np.concatenate([quantize_weights(flat[r : r + 1], kind, per_row=True).codes for r in sampled])
    low, high = int(rows.min(initial=0)), int(rows.max(initial=0))
    if loose:
        # A scale that is better for the sums can be of any size: of the codes only the sign is left.
        # Of a few weights not even that: all codes of one sign may move to 0.
        low, high = (max(low, -1), min(high, 1)) if flat.size >= _FEW else (0, 0)
    return _Weight(kept.reshape(weight.shape), lost, low, high, rows, len(weight), top, weight != 0.0)


def _sampled(rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, _ROWS).astype(np.int64))


def _reaching(weight: _Weight, value: Reals, kind: str, moments: Moments) -> _Weight:
    """With how far the codes of some rows reach when they are fitted to the moments, less one: in another company of
    rows a code may round otherwise."""
    rows = _sampled(len(value))
    codes = quantize_weights(value[rows], kind, per_row=True, moments=moments.rows(rows), centred=moments.centred).codes
    low, high = int(codes.min(initial=0)) + 1, int(codes.max(initial=0)) - 1
    return replace(weight, low=min(weight.low, low), high=max(weight.high, high))


def _kept(flat: Reals, top: int, *, per_row: bool, loose: bool) -> tuple[NDArray[np.bool_], int]:
    """Entries above a threshold, and how many of them may get the code 0; the threshold that leaves the most."""
    largest = np.maximum(flat.max(axis=1), -flat.min(axis=1)) if per_row else np.full(len(flat), np.abs(flat).max())
    # A row of zeros has no scale and nothing to lose.
    scale = np.where(largest > 0.0, largest / top, 1.0)
    above, error = np.zeros(len(_THRESHOLDS)), 0.0
    for part in row_parts(flat):
        steps = np.abs(flat[part]) / scale[part, None]
        error += float(((steps - np.rint(steps)) ** 2).sum())
        above += [np.count_nonzero(steps > threshold) for threshold in _THRESHOLDS]
    error *= _CALIBRATED_ERROR if loose else 1.0
    lost = np.floor(error / np.square(_THRESHOLDS))
    best = int(np.argmax(above - lost))
    kept = np.concatenate([np.abs(flat[p]) > _THRESHOLDS[best] * scale[p, None] for p in row_parts(flat)])
    return kept, int(lost[best])
