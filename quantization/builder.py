"""Grows an IntNet operation by operation, with the exact interval and the real scale of every value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..toolchain.arrays import Codes, Numbers, Reals, largest
from ..toolchain.ir import EqNet, Format, Input, Interval, IntNet, Output, Param, State, ValueType, ops, walk
from ..toolchain.ir.ops import Op
from ..toolchain.ir.ranges import RangeError, op_range
from ..toolchain.ir.types import infer_op
from .operands import Value

__all__ = ["Builder", "multiplier_for"]

_MAX_CODE_BITS = 62


class Builder:
    """Blocks, parameters and intervals of the net in the making.

    `block` is the open list; operations on a value of the drive that only change its grid go to the drive, wherever
    they are asked for, so that they run once an input.
    """

    def __init__(self, reserved: Iterable[str], multiplier_bits: int) -> None:
        self.multiplier_bits = multiplier_bits
        self.drive: list[Op] = []
        self.step: list[Op] = []
        self.readout: list[Op] = []
        self.block = self.drive
        self.params: dict[str, Param] = {}
        self.formats: dict[str, Format] = {}
        self.intervals: dict[str, Interval] = {}
        self.types: dict[str, ValueType] = {}
        self._reserved = set(reserved)
        self._in_drive: set[str] = set()
        self._aligned: dict[tuple[Value, Fraction, int], Value] = {}
        self._titles: dict[str, str] = {}

    # Names and constants

    def fresh(self, base: str) -> str:
        """A name that neither the float net nor this one has."""
        name, n = base, 2
        while name in self._reserved:
            name, n = f"{base}_{n}", n + 1
        self._reserved.add(name)
        return name

    def title(self, value: Value, name: str) -> None:
        """Let an operation's value be called `name`, its name in the float net."""
        self._titles.setdefault(value.name, name)

    def param(self, base: str, value: Numbers, source: str, *, shared: bool = False) -> str:
        """An integer constant; with `shared`, one of equal content is used again."""
        if largest(value) > 2.0**_MAX_CODE_BITS:
            raise RangeError(f"constant {base} ({source}) has codes up to 2^{np.log2(largest(value)):.0f}")
        array = np.asarray(value, np.int64)
        if shared:
            for p in self.params.values():
                if p.source == source and np.array_equal(p.value, array):
                    return p.name
        name = self.fresh(base)
        self.params[name] = Param(name, array, source)
        self.types[name] = ValueType(array.shape)
        self.intervals[name] = Interval(int(array.min()), int(array.max())) if array.size else Interval(0, 0)
        return name

    def whole(self, number: int) -> str:
        """A whole number that is not negative, as a constant."""
        return self.param(f"whole_{number}", np.array(number), f"the whole number {number}", shared=True)

    # Values

    def clamped(self, i: Input) -> None:
        """An input of the net."""
        self.types[i.name] = ValueType(i.shape, i.kind)
        self._in_drive.add(i.name)
        if i.encoding is not None:
            self._hold(i.name, i.encoding.format)

    def register(self, name: str, shape: tuple[int, ...], fmt: Format) -> None:
        """A state, or the value that a repeat carries."""
        self.types[name] = ValueType(shape)
        self._hold(name, fmt)

    def _hold(self, name: str, fmt: Format) -> None:
        self.formats[name] = fmt
        self.intervals[name] = Interval(fmt.lo, fmt.hi)

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.types[value.name].shape

    def interval(self, value: Value) -> Interval:
        return self.intervals[value.name]

    def emit(self, op: Op) -> str:
        """Append to the open block."""
        arrays = {n: cast("Codes", p.value) for n, p in self.params.items()}
        self.types[op.out] = infer_op(op, self.types, arrays)
        if isinstance(op, ops.Repeat):
            self.intervals[op.out] = self.intervals[op.carry]
        elif not isinstance(op, ops.Greater):
            sizes = {n: t.shape for n, t in self.types.items()}
            self.intervals[op.out] = op_range(op, self.intervals, sizes, lambda name: arrays[name])
        self.block.append(op)
        if self.block is self.drive:
            self._in_drive.add(op.out)
        return op.out

    def put(self, op: Op, scale: Fraction) -> Value:
        """`emit`, with the scale of the new value."""
        return Value(self.emit(op), scale)

    # Grids

    def rescaled(self, value: Value, scale: Fraction) -> Value:
        """The value on the grid of `scale`: exact where the ratio is a whole number, else rounded half up."""
        if value.scale == scale:
            return value
        return self._once(value, scale, 0, lambda: self.rescale(value, np.asarray(float(value.scale / scale)), scale))

    def rescale(self, value: Value, ratio: Reals, scale: Fraction, *, shape: tuple[int, ...] = ()) -> Value:
        """`value * ratio` on the grid of `scale`; `ratio`, in output steps per input step, is reshaped to `shape`."""
        codes, shift = multiplier_for(ratio, self.multiplier_bits)
        what = "multiplier" if shift else "left shift"
        source = f"{what} of {value.name}, 2^-{shift} each" if shift else f"{what} of {value.name}"
        m = self.param(f"{value.name}_multiplier", codes.reshape(shape), source)
        out = self.fresh(f"{value.name}_rescaled")
        return self.put(ops.Rescale(out=out, x=value.name, multiplier=m, shift=shift), scale)

    def fitted(self, value: Value, scale: Fraction, fmt: Format) -> Value:
        """The value on the grid of `scale`, saturated to `fmt` unless it is proved to fit."""
        on_grid = self.rescaled(value, scale)
        if self.interval(on_grid).within(Interval(fmt.lo, fmt.hi)):
            return on_grid
        return self._once(value, scale, fmt.bits, lambda: self.saturated(on_grid, fmt))

    def saturated(self, value: Value, fmt: Format) -> Value:
        """The value limited to what `fmt` holds."""
        return self._limited(value, "saturated", f"saturate_{fmt}", f"saturation to {fmt}", fmt.lo, fmt.bits)

    def at_least(self, value: Value, lowest: int) -> Value:
        """The value where it is at least `lowest`, else that: for a bound that holds but that no interval shows."""
        interval = self.interval(value)
        if interval.lo >= lowest:
            return value
        bits = max(interval.hi - lowest, 0).bit_length()
        name = f"from_{lowest}" if lowest >= 0 else "lower_limit"
        return self._limited(value, "limited", name, f"at least {lowest}", lowest, bits)

    def between(self, value: Value, lowest: int, highest: int) -> Value:
        """The value limited to `lowest` and `highest`: by one operation if only one of them can matter, or if there is
        a power of two of codes between them."""
        interval, codes = self.interval(value), highest - lowest + 1
        if interval.lo >= lowest and interval.hi <= highest:
            return value
        if codes & (codes - 1) == 0:
            bits = codes.bit_length() - 1
            return self._limited(value, "limited", "limits", f"from {lowest} to {highest}", lowest, bits)
        value = self.at_least(value, lowest)
        if self.interval(value).hi <= highest:
            return value
        bits = (highest - min(self.interval(value).lo, highest)).bit_length()
        first = highest - (1 << bits) + 1
        return self._limited(value, "limited", "upper_limit", f"at most {highest}", first, bits)

    def _limited(self, value: Value, what: str, name: str, source: str, lowest: int, bits: int) -> Value:
        """The value limited to `2**bits` codes from `lowest`: a one-segment piecewise-linear table of slope 1."""
        base = self.param(f"{name}_base", np.array([lowest]), source, shared=True)
        slope = self.param(f"{name}_slope", np.array([1 << bits]), f"{source}: slope", shared=True)
        out = self.fresh(f"{value.name}_{what}")
        op = ops.Interpolate(out=out, x=value.name, base=base, slope=slope, first=lowest, shift=bits)
        return self.put(op, value.scale)

    def _once(self, value: Value, scale: Fraction, bits: int, make: Callable[[], Value]) -> Value:
        """What `make` emits, in the drive for a value of the drive, and only once in each open block."""
        outer = self.block
        if value.name in self._in_drive:
            self.block = self.drive
        # One name may stand for several values: a scaling by a constant changes the scale alone.
        key = (value, scale, bits)
        known = self._aligned.get(key)
        if known is None or not (known.name in self._in_drive or any(op.out == known.name for op in self.block)):
            self._aligned[key] = known = make()
        self.block = outer
        return known

    # The end

    def finish(
        self,
        net: EqNet,
        inputs: tuple[Input, ...],
        states: tuple[State, ...],
        outputs: tuple[Output, ...],
        *,
        tolerance: int,
    ) -> IntNet:
        """The net that lowers `net`: every value in the narrowest format that holds its interval, unused parameters
        left out."""
        titles = self._titles
        formats = dict(self.formats)
        for op in (*walk(self.drive), *walk(self.step), *walk(self.readout)):
            if op.out in self.intervals:
                formats[op.out] = Format.holding(self.intervals[op.out].lo, self.intervals[op.out].hi)
        drive, step, readout = (tuple(_renamed(op, titles) for op in b) for b in (self.drive, self.step, self.readout))
        states = tuple(
            replace(
                s,
                update=titles.get(s.update, s.update),
                init=None if s.init is None else titles.get(s.init, s.init),
            )
            for s in states
        )
        outputs = tuple(replace(o, value=titles.get(o.value, o.value)) for o in outputs)
        used = {n for b in (drive, step, readout) for op in walk(b) for n in op.reads}
        used |= {n for s in states for n in (s.update, s.init) if n is not None} | {o.value for o in outputs}
        return IntNet(
            name=net.name,
            family=net.family,
            inputs=inputs,
            params=tuple(p for p in self.params.values() if p.name in used),
            states=states,
            drive=drive,
            step=step,
            readout=readout,
            outputs=outputs,
            schedule=replace(net.schedule, tolerance=tolerance),
            formats={titles.get(n, n): f for n, f in formats.items()},
        )


def multiplier_for(ratio: Reals, bits: int) -> tuple[NDArray[np.int64], int]:
    """`(m, k)` with `m / 2**k ~ ratio`: the largest m has `bits` significant bits, common powers of two are cancelled.

    Every ratio within a relative `2**-bits` of the largest; a whole power of two comes out exact, as m = 1 or k = 0.

    `ratio` and `m` have the same shape, any; m is int64. Raises RangeError if a ratio leaves no room for its operand.
    """
    values = np.asarray(ratio, np.float64)
    top = float(np.abs(values).max()) if values.size else 0.0
    if top > 2.0**_MAX_CODE_BITS:
        raise RangeError(f"a rescale by {top:.3g} leaves no room for its operand")
    if top == 0.0:
        return np.zeros(values.shape, np.int64), 0
    shift = min(max(bits - int(np.frexp(top)[1]), 0), 62)
    codes = np.rint(np.ldexp(values, shift)).astype(np.int64)
    while shift > 0 and not (codes & 1).any():
        codes, shift = codes >> 1, shift - 1
    return codes, shift


def _renamed(op: Op, titles: Mapping[str, str]) -> Op:
    names = {field: getattr(op, field) for field, _ in op.reference_fields()}
    changes = {field: titles.get(n, n) for field, n in names.items() if n is not None}
    if isinstance(op, ops.Repeat):
        body = tuple(_renamed(inner, titles) for inner in op.body)
        op = replace(op, result=titles.get(op.result, op.result), body=body)
    return replace(op, out=titles.get(op.out, op.out), **changes)
