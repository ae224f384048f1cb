"""Each float operation as integer ones.

Every value is an integer code with an exact real scale. Linear maps are exact sums of codes; a sum is brought to the
pre-activation grid (one fraction bit more than the bits of what it flows into) by one rounded rescale, and a signal to
its own grid. Scaling and means only change the scale, at no cost. In the readout a linear map has one scale, and its
sum stays exact on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import assert_never

import numpy as np

from eqcompile.toolchain.interfaces import QuantizeOptions

from ..toolchain.ir import Encoding, EqNet, Format, IntNet, Output, State, ops
from ..toolchain.ir.ops import Op
from ..toolchain.typed_json import JsonObject
from .bounds import Bounds, widest
from .builder import Builder
from .dither import Dither
from .exact import Map, moves
from .grids import Grids
from .nonlinear import activation, limited, softmax
from .normalization import normalize
from .operands import Constant, Operand, Value, common_scale, is_power_of_two
from .plan import Use
from .weights import Codes

__all__ = ["Emitter"]

_READOUT_EXTRA_BITS = 8


class Emitter:
    """One lowering: `net()` emits everything and returns the IntNet; `choices` then tells what was chosen."""

    def __init__(
        self,
        net: EqNet,
        options: QuantizeOptions,
        bounds: Bounds,
        grids: Grids,
        encodings: Mapping[str, Encoding],
        codes: Mapping[Use, Codes],
    ) -> None:
        self.source = net
        self.options = options
        self.bounds = bounds
        self.grids = grids
        names = {i.name for i in net.inputs} | {s.name for s in net.states} | {op.out for op in net.all_ops()}
        names |= {op.carry for op in net.all_ops() if isinstance(op, ops.Repeat)}
        # A multiplier rounded to this many bits moves the largest pre-activation by less than a step.
        self.build = Builder(names, multiplier_bits=max(15, grids.precision.widest + 7))
        self.choices: list[JsonObject] = []
        self._masks: dict[str, str] = {}
        self.env: dict[str, Operand] = {
            p.name: Constant(p.name, np.asarray(p.value, np.float64), p.source) for p in net.params
        }
        self.inputs = tuple(replace(i, encoding=encodings.get(i.name)) for i in net.inputs)
        self._codes = codes
        self._weights: dict[Use, str] = {}
        self.dither = Dither(self.build, options.dither) if options.dither else None

    def net(self) -> IntNet:
        """The finished net, not yet verified."""
        build, source = self.build, self.source
        for i in self.inputs:
            build.clamped(i)
            self.env[i.name] = Value(i.name, Fraction(1 if i.encoding is None else i.encoding.scale))
        self._block(source.drive)
        inits = {s.name: self._initial(s) for s in source.states}
        for s in source.states:
            grid = self.grids.of[s.name]
            build.register(s.name, s.shape, grid.format)
            self.env[s.name] = Value(s.name, grid.scale)
        build.block = build.step
        self._block(source.step)
        updates = {s.name: self._to_signal(s.update, s.name).name for s in source.states}
        counters = () if self.dither is None else self.dither.states()
        build.block = build.readout
        self._block(source.readout)
        outputs = tuple(self._output(o) for o in source.outputs)
        states = tuple(
            replace(s, update=updates[s.name], init=inits[s.name], frac=self.grids.of[s.name].frac)
            for s in source.states
        )
        return build.finish(source, self.inputs, (*states, *counters), outputs, tolerance=self.options.tolerance)

    def _initial(self, s: State) -> str | None:
        return None if s.init is None else self._to_signal(s.init, s.name).name

    def _output(self, o: Output) -> Output:
        value = self._valued(self.env[o.value], self._pre(o.value))
        return replace(o, value=value.name, scale=float(value.scale))

    def _block(self, block: Iterable[Op]) -> None:
        for op in block:
            value = self._lower(op)
            if op.out in self.grids.of:
                grid = self.grids.of[op.out]
                value = self.build.fitted(value, grid.scale, grid.format)
            if any(made.out == value.name for made in self.build.block):
                self.build.title(value, op.out)
            self.env[op.out] = value

    # Grids of operands

    @property
    def _exact(self) -> bool:
        """Whether sums stay on the scale of their products: in the readout, where nothing is fed back."""
        return self.build.block is self.build.readout

    def _pre(self, name: str) -> Fraction:
        """The grid of the sums and pre-activations that a value is made of."""
        return Fraction(2) ** -self.grids.pre(name)

    def _finest(self, name: str) -> Fraction:
        """The grid on which unlike scales meet: of pre-activations, in the readout finer so that ties stay rare."""
        return self._pre(name) / (1 << _READOUT_EXTRA_BITS) if self._exact else self._pre(name)

    def _valued(self, operand: Operand, scale: Fraction) -> Value:
        """A value as it is; a constant on the grid of `scale`, rounded half up."""
        if isinstance(operand, Value):
            return operand
        codes = np.floor(operand.value / float(scale) + 0.5)
        source = f"{operand.source}; in steps of {float(scale):.9g}"
        name = self.build.param(operand.name, codes, source, shared=True)
        return Value(name, scale)

    def _on(self, operand: Operand, scale: Fraction) -> Value:
        return self.build.rescaled(self._valued(operand, scale), scale)

    def _to_signal(self, name: str, signal: str) -> Value:
        """The value `name` in the grid and format of `signal`."""
        grid = self.grids.of[signal]
        operand = self.env[name]
        if isinstance(operand, Constant):
            limit = (grid.format.lo / 2.0**grid.frac, grid.format.hi / 2.0**grid.frac)
            operand = replace(operand, value=np.clip(operand.value, *limit))
        return self.build.fitted(self._valued(operand, grid.scale), grid.scale, grid.format)

    def _meet(self, out: str, *names: str) -> tuple[Fraction, list[Value]]:
        """The grid of the signal `out`, or else the operands' common one, and the operands on it."""
        operands = [self.env[n] for n in names]
        scale = self.grids.of[out].scale if out in self.grids.of else common_scale(operands, self._finest(out))
        return scale, [self._on(o, scale) for o in operands]

    # Operations

    def _lower(self, op: Op) -> Value:
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv():
                return self._map(op)
            case ops.Embedding(x=x, table=t):
                table = self.env[t]
                scale = self.grids.of[op.out].scale if op.out in self.grids.of else self._pre(op.out)
                codes = self._valued(table, scale).name
                return self.build.put(ops.Embedding(out=self._name(op), x=self._value(x).name, table=codes), scale)
            case ops.MatMul(a=a, b=b):
                va, vb = self._read(a), self._read(b)
                product = self.build.put(ops.MatMul(out=self._name(op), a=va.name, b=vb.name), va.scale * vb.scale)
                return self._no_finer(product, op.out)
            case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b):
                return self._sum(op, self.env[a], self.env[b])
            case ops.Mul(a=a, b=b):
                return self._multiply(op, self.env[a], self.env[b])
            case ops.Scale(x=x, factor=factor):
                v = self._value(x)
                if factor > 0.0:
                    return Value(v.name, v.scale * Fraction(factor))
                grid = self._pre(op.out)
                return self.build.rescale(v, np.asarray(float(v.scale * Fraction(factor) / grid)), grid)
            case ops.Abs(x=x):
                v = self._value(x)
                return self.build.put(ops.Abs(out=self._name(op), x=v.name), v.scale)
            case ops.Greater(a=a, b=b):
                return self._greater(op, self.env[a], self.env[b])
            case ops.Select(condition=c, a=a, b=b):
                scale, (va, vb) = self._meet(op.out, a, b)
                condition = self._value(c).name
                return self.build.put(ops.Select(out=self._name(op), condition=condition, a=va.name, b=vb.name), scale)
            case ops.Damp():
                return self._damp(op)
            case ops.Reduce(x=x, kind=kind, axes=axes):
                v = self._value(x)
                count = math.prod(self.build.shape(v)[a] for a in axes) if kind == "mean" else 1
                made = replace(op, out=self._name(op), x=v.name, kind="sum" if kind == "mean" else kind)
                return self.build.put(made, v.scale / count)
            case ops.Reshape(x=x) | ops.Transpose(x=x):
                v = self._value(x)
                return self.build.put(replace(op, out=self._name(op), x=v.name), v.scale)
            case ops.Clip(x=x, lo=lo, hi=hi):
                return self._limited(op, self._value(x), lo, hi)
            case ops.Activation(x=x, kind="relu"):
                return self._limited(op, self._value(x), 0.0, math.inf)
            case ops.Activation(x=x):
                return self._activation(op, self._value(x))
            case ops.Softmax(x=x, mask=mask):
                part = None if mask is None else self._nonzero(mask)
                bits = self.grids.precision[op.out]
                value, row = softmax(self.build, op, self._on(self.env[x], self._pre(op.out)), bits=bits, part=part)
                self.choices.append(row)
                return value
            case ops.Normalize(x=x):
                frac = self.grids.of[op.out].frac if op.out in self.grids.of else self.grids.pre(op.out)
                value, row = normalize(self.build, op, self._bounded(x), frac=frac)
                self.choices.append(row)
                return value
            case ops.Repeat():
                return self._repeat(op)
            case ops.Mod(x=x, period=period):
                return self._wrapped(op, self._value(x), Fraction(period))
            case _ if isinstance(op, ops.IntegerOp):
                raise AssertionError(f"{type(op).__name__} passed the check of supported operations")
            case _:
                assert_never(op)

    def _wrapped(self, op: ops.Mod, x: Value, period: Fraction) -> Value:
        """`x - period * floor(x / period)` exactly, on a grid that divides the period into a power of two of steps."""
        build, bits = self.build, math.ceil(math.log2(period / self._pre(op.out)))
        fine = build.rescaled(x, period / (1 << bits))
        # Half a turn less, so that rescaling to the nearest turn is the floor.
        half = build.whole(1 << bits >> 1)
        below = build.put(ops.Sub(out=build.fresh(f"{op.out}_below"), a=fine.name, b=half), fine.scale)
        turns = ops.Rescale(out=build.fresh(f"{op.out}_turns"), x=below.name, multiplier=build.whole(1), shift=bits)
        whole = build.rescaled(build.put(turns, period), fine.scale)
        rest = build.put(ops.Sub(out=self._name(op), a=fine.name, b=whole.name), fine.scale)
        return build.saturated(rest, Format(bits, False))

    def _bounded(self, name: str) -> Value:
        """A value on a grid no finer than that of pre-activations, limited to twice its range in the float net where
        its interval is wider still: the interval of a sum whose rows have scales of their own is far from its range."""
        x = self._no_finer(self._value(name), name)
        top = 2.0 * widest(self.bounds.signal(name)) / float(x.scale)
        fmt = Format.holding(-math.ceil(top) - 1, math.ceil(top))
        return self.build.saturated(x, fmt) if self.build.interval(x).magnitude > fmt.hi + 1 else x

    def _nonzero(self, name: str) -> str:
        """A boolean value, true where the mask is not 0; of a constant it is made once, in the drive."""
        operand = self.env[name]
        if not isinstance(operand, Constant):
            return self._marked(name, self._valued(operand, Fraction(1)))
        if name not in self._masks:
            outer, self.build.block = self.build.block, self.build.drive
            flags = replace(operand, value=(operand.value != 0.0).astype(np.float64))
            self._masks[name] = self._marked(name, self._valued(flags, Fraction(1)))
            self.build.block = outer
        return self._masks[name]

    def _marked(self, name: str, mask: Value) -> str:
        size = self.build.put(ops.Abs(out=self.build.fresh(f"{name}_size"), x=mask.name), mask.scale)
        return self.build.emit(ops.Greater(out=self.build.fresh(f"{name}_part"), a=size.name, b=self.build.whole(0)))

    def _value(self, name: str) -> Value:
        """An operand on its own grid; a constant becomes codes on the pre-activation grid."""
        return self._valued(self.env[name], self._pre(name))

    def _read(self, name: str) -> Value:
        """What a weight reads of a value: where it has guard bits, the value rounded to its grid without them."""
        grid = self.grids.read.get(name)
        value = self._value(name)
        return value if grid is None else self.build.fitted(value, grid.scale, grid.format)

    def _name(self, op: Op) -> str:
        return self.build.fresh(f"{op.out}_{op.mnemonic}")

    def _no_finer(self, value: Value, name: str) -> Value:
        """Brings the value `name` back to its pre-activation grid, so that widths do not grow from product to
        product."""
        return self.build.rescaled(value, self._pre(name)) if value.scale < self._pre(name) else value

    def _map(self, op: Map) -> Value:
        moving = moves(self.source, op)
        if isinstance(op, ops.Stencil):
            index = self._constant(op.index)
            op = replace(op, index=self.build.param(op.index, index.value, index.source, shared=True))
        if moving:
            x = self._value(op.x)
            weight = self._valued(self.env[op.weight], Fraction(1)).name
            return self.build.put(replace(op, out=self._name(op), x=x.name, weight=weight), x.scale)
        x = self._read(op.x)
        weight, made = self._weight(op, per_row=self.options.per_row and not self._exact)
        total = self.build.put(replace(op, out=self._name(op), x=x.name, weight=weight, bias=None), x.scale)
        rank = len(self.build.shape(total))
        shape = (-1, *(1,) * (rank - 1)) if isinstance(op, ops.Conv) else (-1,)
        grid = self._pre(op.out) if op.bias is not None or op.out not in self.grids.of else self.grids.of[op.out].scale
        if made.scale.ndim:
            if self.dither is not None and self.build.block is self.build.step:
                self.dither.refused.append(self._constant(op.weight).source)
            total = self.build.rescale(total, made.scale * float(x.scale / grid), grid, shape=shape)
        else:
            total = Value(total.name, x.scale * Fraction(float(made.scale)))
            if self.dither is not None and self.build.block is self.build.step:
                total = self.dither.add(total, self._pre(op.out) * 4, op.out)
            total = total if self._exact else self.build.rescaled(total, grid)
        if op.bias is None:
            return total
        bias = self._constant(op.bias)
        biased = ops.Add(out=op.out, a=op.out, b=op.bias)
        return self._sum(biased, total, replace(bias, value=bias.value.reshape(shape)))

    def _constant(self, name: str) -> Constant:
        found = self.env[name]
        assert isinstance(found, Constant)
        return found

    def _sum(self, op: ops.Add | ops.Sub, a: Operand, b: Operand) -> Value:
        scale = common_scale((a, b), self._finest(op.out))
        va, vb = self._on(a, scale), self._on(b, scale)
        return self.build.put(replace(op, out=self._name(op), a=va.name, b=vb.name), scale)

    def _weight(self, op: Map, *, per_row: bool) -> tuple[str, Codes]:
        use = (op.weight, per_row)
        codes = self._codes[use]
        if use not in self._weights:
            source = self._constant(op.weight).source
            self._weights[use] = self.build.param(op.weight, codes.codes, f"{source}; {codes.label}")
            self.choices.append(codes.row(op.weight, source))
        return self._weights[use], codes

    def _multiply(self, op: ops.Mul, a: Operand, b: Operand) -> Value:
        if isinstance(a, Constant) and isinstance(b, Value):
            a, b = b, a
        grid = self._pre(op.out)
        if isinstance(a, Value) and isinstance(b, Constant):
            ratio = b.value * float(a.scale / grid)
            return self.build.rescale(a, ratio, grid, shape=ratio.shape)
        va, vb = self._valued(a, grid), self._valued(b, grid)
        product = self.build.put(ops.Mul(out=self._name(op), a=va.name, b=vb.name), va.scale * vb.scale)
        return self._no_finer(product, op.out)

    def _greater(self, op: ops.Greater, a: Operand, b: Operand) -> Value:
        """Against a constant, the exact integer threshold: `code * s > c` is `code > floor(c / s)`, and `c > code * s`
        is `ceil(c / s) > code`."""
        if isinstance(a, Value) and isinstance(b, Constant):
            va, vb = a, self._threshold(b, a.scale, math.floor)
        elif isinstance(a, Constant) and isinstance(b, Value):
            va, vb = self._threshold(a, b.scale, math.ceil), b
        else:
            scale = common_scale((a, b), self._finest(op.out))
            va, vb = self._on(a, scale), self._on(b, scale)
        return self.build.put(ops.Greater(out=self._name(op), a=va.name, b=vb.name), Fraction(1))

    def _threshold(self, constant: Constant, scale: Fraction, whole: Callable[[Fraction], int]) -> Value:
        # No interval reaches 2**62: a threshold beyond it is as good as this one.
        top = 1 << 62
        entries = [min(max(whole(Fraction(float(v)) / scale), -top), top) for v in constant.value.reshape(-1)]
        codes = np.array(entries, np.int64).reshape(constant.value.shape)
        rounding = "floor" if whole is math.floor else "ceil"
        source = f"{constant.source}; {rounding} in steps of {float(scale):.9g}"
        return Value(self.build.param(f"{constant.name}_threshold", codes, source, shared=True), scale)

    def _damp(self, op: ops.Damp) -> Value:
        scale, (before, after) = self._meet(op.out, op.old, op.new)
        finest = max(8, self.grids.precision[op.out])
        candidates = [(max(round(op.alpha * (1 << k)), 1), k) for k in range(finest + 1)]
        m, k = min(candidates, key=lambda c: abs(c[0] / (1 << c[1]) - op.alpha))
        error = m / (1 << k) - op.alpha
        row: JsonObject = {"what": "damping", "name": op.out, "alpha": op.alpha, "multiplier": m, "shift": k}
        self.choices.append({**row, "error": error})
        made = ops.DampFixed(out=self._name(op), old=before.name, new=after.name, multiplier=m, shift=k)
        return self.build.put(made, scale)

    def _limited(self, op: ops.Clip | ops.Activation, x: Value, lo: float, hi: float) -> Value:
        """A saturation, on the grid of the signal that it gives if it gives one."""
        grid = self.grids.of.get(op.out)
        x = self._even(x, op.out) if grid is None else self.build.rescaled(x, grid.scale)
        value, row = limited(self.build, op.out, x, lo, hi, None if grid is None else grid.format)
        self.choices.append({**row, "range_from": "calibrated" if self.bounds.calibrated(op.out) else "proved"})
        return value

    def _even(self, x: Value, out: str) -> Value:
        """The value on a grid of a power of two, no finer than that of the pre-activations of `out`."""
        grid = self._pre(out)
        return x if is_power_of_two(x.scale) and x.scale >= grid else self.build.rescaled(x, grid)

    def _activation(self, op: ops.Activation, x: Value) -> Value:
        x = self._even(x, op.out)
        reach = self.bounds.reach(op)
        value, row = activation(self.build, op, x, bits=self.grids.precision[op.out], reach=reach)
        self.choices.append(row)
        return value

    def _repeat(self, op: ops.Repeat) -> Value:
        grid = self.grids.of[op.carry]
        init = self._to_signal(op.init, op.carry)
        self.build.register(op.carry, self.build.shape(init), grid.format)
        self.env[op.carry] = Value(op.carry, grid.scale)
        outer, self.build.block = self.build.block, []
        self._block(op.body)
        result = self._to_signal(op.result, op.carry)
        body, self.build.block = tuple(self.build.block), outer
        made = replace(op, out=self._name(op), init=init.name, body=body, result=result.name)
        return self.build.put(made, grid.scale)
