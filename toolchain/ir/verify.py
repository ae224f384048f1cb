"""The verifier: what a net must satisfy, with one legality table for both levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np

from ..diagnostics import Diagnostic, VerifyError
from . import ops
from .net import IntNet, Net
from .ops import Op
from .parts import Format, walk
from .ranges import Interval, RangeError, value_ranges
from .types import OpError, ValueType, infer

__all__ = ["LEGAL", "MAX_BITS", "check", "verify"]

Level = Literal["eqnet", "intnet"]

LEGAL: Mapping[type[Op], frozenset[Level]] = {
    **dict.fromkeys(get_args(ops.SharedOp), frozenset[Level](("eqnet", "intnet"))),
    **dict.fromkeys(get_args(ops.FloatOp), frozenset[Level](("eqnet",))),
    **dict.fromkeys(get_args(ops.IntegerOp), frozenset[Level](("intnet",))),
}

MAX_BITS = 63
"""Widest stated format; golden and every target hold a value in 64 signed bits."""


def level_of(net: Net) -> Level:
    return "intnet" if isinstance(net, IntNet) else "eqnet"


def verify(net: Net) -> None:
    """Raise VerifyError with every fault found; return if there is none."""
    faults = check(net)
    if faults:
        raise VerifyError(faults)


def check(net: Net) -> list[Diagnostic]:
    """Every fault of a net: names, legality, params, shapes, schedule and, for an IntNet, proved formats."""
    faults = [*_names(net), *_legality(net), *_params(net), *_schedule(net)]
    if faults:
        return faults
    try:
        types = infer(net)
    except OpError as error:
        return [Diagnostic("ir-shape", str(error), net.name)]
    empty = sorted(name for name, t in types.items() if min(t.shape, default=1) < 1)
    if empty:
        return [Diagnostic("ir-empty", f"{name} has shape {list(types[name].shape)}", name) for name in empty]
    faults += [*_states(net, types), *_outputs(net, types)]
    if isinstance(net, IntNet) and not faults:
        faults += _formats(net, types)
    return faults


def _names(net: Net) -> list[Diagnostic]:
    faults = []
    seen: set[str] = set()
    defined = [i.name for i in net.inputs] + [p.name for p in net.params] + [s.name for s in net.states]
    for op in net.all_ops():
        defined += [op.carry, op.out] if isinstance(op, ops.Repeat) else [op.out]
    for name in defined:
        if name in seen:
            faults.append(Diagnostic("ir-name-twice", f"the name {name!r} is defined twice", net.name))
        if not name.isidentifier():
            faults.append(Diagnostic("ir-name", f"the name {name!r} is not an identifier", net.name))
        seen.add(name)
    scope = {i.name for i in net.inputs} | net.param_names | {s.name for s in net.states}
    for block, block_ops in net.blocks:
        # States have no value yet while the drive runs: their initial values may come from it.
        visible = scope - {s.name for s in net.states} if block == "drive" else scope
        inner = set(visible)
        faults += _scope(block, block_ops, inner, net.param_names)
        # The readout reads the latched states, never a value of a step.
        if block == "drive":
            scope |= {op.out for op in block_ops}
        if block == "step":
            missing = [s for s in net.states if s.update not in inner]
            faults += [Diagnostic("ir-undefined", f"state {s.name} latches {s.update!r}", "step") for s in missing]
        if block == "readout":
            lost = [o for o in net.outputs if o.value not in inner]
            faults += [Diagnostic("ir-undefined", f"output {o.name} reads {o.value!r}", "readout") for o in lost]
    drive = net.param_names | {op.out for op in net.drive}
    faults += [
        Diagnostic("ir-undefined", f"state {s.name} starts from {s.init!r}", "drive")
        for s in net.states
        if s.init is not None and s.init not in drive
    ]
    return faults


def _scope(block: str, block_ops: Iterable[Op], scope: set[str], params: frozenset[str]) -> list[Diagnostic]:
    faults = []
    for op in block_ops:
        for field, kind in op.reference_fields():
            name = getattr(op, field)
            if name is None:
                continue
            if name not in scope:
                faults.append(Diagnostic("ir-undefined", f"{op.out} reads {name!r}, not defined before it", block))
            elif kind == "param" and name not in params:
                faults.append(Diagnostic("ir-undefined", f"{op.out}: {field}={name!r} is not a parameter", block))
        if isinstance(op, ops.Repeat):
            inner = scope | {op.carry}
            faults += _scope(block, op.body, inner, params)
            if op.result not in inner:
                faults.append(Diagnostic("ir-undefined", f"{op.out} carries {op.result!r}", block))
            if op.count < 1:
                faults.append(Diagnostic("ir-repeat", f"{op.out} repeats {op.count} times, must be at least 1", block))
        scope.add(op.out)
    return faults


def _legality(net: Net) -> list[Diagnostic]:
    level = level_of(net)
    faults = []
    for block, block_ops in net.blocks:
        for op in walk(block_ops):
            if level not in LEGAL.get(type(op), frozenset()):
                faults.append(Diagnostic("ir-illegal", f"{op.mnemonic} ({op.out}) is not legal in an {level}", block))
            if level == "intnet" and isinstance(op, ops.Reduce) and op.kind == "mean":
                faults.append(Diagnostic("ir-illegal", f"{op.out}: a mean is not legal in an intnet", block))
            if isinstance(op, (ops.Rescale, ops.Interpolate, ops.DampFixed, ops.Divide)) and not 0 <= op.shift <= 62:
                faults.append(Diagnostic("ir-shift", f"{op.out} shifts by {op.shift}, must be in 0..62", block))
            if isinstance(op, ops.Damp) and not 0.0 < op.alpha <= 1.0:
                faults.append(Diagnostic("ir-damp", f"{op.out} has alpha {op.alpha}, must be in (0, 1]", block))
    return faults


def _params(net: Net) -> list[Diagnostic]:
    level = level_of(net)
    integer = {op.index for op in net.all_ops() if isinstance(op, ops.Stencil)}
    integer |= {op.mask for op in net.all_ops() if isinstance(op, ops.Softmax) and op.mask is not None}
    faults = []
    for p in net.params:
        want = np.dtype(np.int64) if level == "intnet" or p.name in integer else np.dtype(np.float64)
        if p.value.dtype != want:
            faults.append(Diagnostic("ir-dtype", f"parameter {p.name} is {p.value.dtype}, must be {want}", p.source))
        elif not np.isfinite(p.value).all():
            bad = int((~np.isfinite(p.value)).sum())
            faults.append(Diagnostic("ir-not-finite", f"{bad} of {p.value.size} entries of {p.name}", p.source))
    return faults


def _schedule(net: Net) -> list[Diagnostic]:
    faults = []
    level, s = level_of(net), net.schedule
    if s.steps < 1:
        faults.append(Diagnostic("ir-steps", f"the schedule has {s.steps} steps, must be at least 1", net.name))
    if s.emit == "every" and not s.frames:
        faults.append(Diagnostic("ir-frames", "emit=every needs frames", net.name))
    if s.tolerance < 0 or (level == "eqnet" and s.tolerance):
        faults.append(Diagnostic("ir-tolerance", f"tolerance {s.tolerance} in an {level}", net.name))
    if s.stop is not None and (level == "intnet" or s.stop.state not in {st.name for st in net.states}):
        faults.append(Diagnostic("ir-stop", f"stop rule on {s.stop.state!r} in an {level}", net.name))
    if not net.inputs or not net.outputs:
        faults.append(Diagnostic("ir-io", f"{len(net.inputs)} inputs and {len(net.outputs)} outputs", net.name))
    for i in net.inputs:
        if (i.encoding is not None) != (level == "intnet" and i.kind == "number"):
            faults.append(Diagnostic("ir-encoding", f"input {i.name} of an {level}: encoding {i.encoding}", net.name))
        if i.encoding is not None and not _positive(i.encoding.scale):
            faults.append(Diagnostic("ir-scale", f"input {i.name} has scale {i.encoding.scale}", net.name))
        if (i.rows is not None) != (i.kind == "index") or (i.rows is not None and i.rows < 1):
            faults.append(Diagnostic("ir-index", f"input {i.name} has kind {i.kind} and rows {i.rows}", net.name))
    for o in net.outputs:
        if (o.scale is not None) != (level == "intnet") or not (o.scale is None or _positive(o.scale)):
            faults.append(Diagnostic("ir-scale", f"output {o.name} of an {level}: scale {o.scale}", net.name))
    return faults


def _positive(scale: float) -> bool:
    return 0.0 < scale < float("inf")


def _outputs(net: Net, types: Mapping[str, ValueType]) -> list[Diagnostic]:
    faults = []
    rows = {i.name: i.rows for i in net.inputs if i.rows is not None}
    for op in net.all_ops():
        if isinstance(op, ops.Embedding) and rows[op.x] > types[op.table].shape[0]:
            what = f"{op.out} embeds {rows[op.x]} tokens with a table of {types[op.table].shape[0]} rows"
            faults.append(Diagnostic("ir-index", what, op.x))
    for o in net.outputs:
        found = types[o.value]
        if found.kind != "number" or (o.kind == "classes" and not found.shape):
            what = f"output {o.name} ({o.kind}) reads a {found.kind} of shape {list(found.shape)}"
            faults.append(Diagnostic("ir-shape", what, o.value))
    return faults


def _states(net: Net, types: Mapping[str, ValueType]) -> list[Diagnostic]:
    faults = []
    for s in net.states:
        update = types[s.update]
        if update != ValueType(s.shape):
            faults.append(
                Diagnostic("ir-shape", f"state {s.name} is {list(s.shape)}, its update {list(update.shape)}", s.update)
            )
        if s.init is not None:
            init = types[s.init].shape
            try:
                fits = np.broadcast_shapes(init, s.shape) == s.shape
            except ValueError:
                fits = False
            if not fits:
                faults.append(
                    Diagnostic("ir-shape", f"state {s.name} is {list(s.shape)}, starts as {list(init)}", s.init)
                )
    return faults


def _formats(net: IntNet, types: Mapping[str, ValueType]) -> list[Diagnostic]:
    stated = {**net.formats, **{i.name: i.encoding.format for i in net.inputs if i.encoding is not None}}
    faults = [
        Diagnostic("ir-format", f"{name} is {fmt.bits} bits, must be in 1..{MAX_BITS}", name)
        for name, fmt in sorted(stated.items())
        if not 1 <= fmt.bits <= MAX_BITS
    ]
    if faults:
        return faults
    try:
        ranges = value_ranges(net)
    except RangeError as error:
        return [Diagnostic("ir-range", str(error), net.name)]
    held = {s.name: s.update for s in net.states}
    names = {i.name for i in net.inputs if i.kind == "number"} | set(held)
    for op in net.all_ops():
        if types[op.out].kind == "number":
            names.add(op.out)
        if isinstance(op, ops.Repeat):
            names.add(op.carry)
    faults += [Diagnostic("ir-format", f"{n} has no stated format", net.name) for n in sorted(names - set(net.formats))]
    faults += [Diagnostic("ir-format", f"{n} is not a value", net.name) for n in sorted(set(net.formats) - names)]
    for name in sorted(names & set(net.formats)):
        faults += _holds(name, net.formats[name], ranges[name])
    for s in net.states:
        for source in (s.update, s.init):
            if source is not None and s.name in net.formats:
                faults += _holds(s.name, net.formats[s.name], ranges[source], via=source)
    return faults


def _holds(name: str, fmt: Format, found: Interval, *, via: str = "") -> list[Diagnostic]:
    if found.within(Interval(fmt.lo, fmt.hi)):
        return []
    source = f" from {via}" if via else ""
    return [Diagnostic("ir-overflow", f"{name}{source} can be {found}, {fmt} holds [{fmt.lo}, {fmt.hi}]", name)]
