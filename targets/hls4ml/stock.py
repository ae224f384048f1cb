"""A net as layers that hls4ml has itself, one set of them a tick: the baseline of the layer of our own.

A linear map is a Dense (a stencil is one whose matrix has zeros), a rescale a BatchNormalization whose result rounds
ties up, an addition a Merge or a bias, a table a UnaryLUT behind a result that saturates. All of it is exact. What
follows from the initial state alone is computed here, so the first tick has fewer layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...toolchain.arrays import Codes, Reals
from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import Format, IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import Analysis, bias_entries, linear_taps
from .maps import format_of
from .scope import Port
from .values import Names

__all__ = ["Unrolled", "refusals"]

Value = Codes | str
"""Codes that are known now, or the name of a layer."""

STOCK = (ops.Linear, ops.Stencil, ops.Rescale, ops.Add, ops.Lookup)


def refusals(net: IntNet, steps: int) -> Iterator[Diagnostic]:
    """Why `net` cannot be unrolled into `steps` ticks of stock layers."""
    if steps != net.schedule.steps:
        what = f"the net makes {net.schedule.steps} ticks, unrolled {steps} times it would compute another function"
        yield Diagnostic("hls-unroll", what, net.name, f"--unroll {net.schedule.steps}, or --set steps={steps}")
    if net.schedule.tolerance:
        what = f"the net settles at a tolerance of {net.schedule.tolerance}; stock layers make every tick"
        yield Diagnostic("hls-unroll", what, net.name, "leave out --unroll")
    if not net.states:
        yield Diagnostic("hls-unroll", "the net has no state to unroll", net.name, "leave out --unroll")
    for s in net.states:
        if s.init is not None and s.init not in net.param_names:
            what = f"state {s.name} starts from {s.init}, which depends on the input"
            yield Diagnostic("hls-unroll", what, s.name, "leave out --unroll")
    shapes = Analysis.of(net).shapes
    readers = Analysis.of(net).readers
    defined = {op.out for op in net.all_ops()}
    for i in net.inputs:
        if i.encoding is None or len(i.shape) != 1:
            yield Diagnostic("hls-unroll", f"input {i.name} is no vector of numbers", i.name, "leave out --unroll")
    for op in net.all_ops():
        if not isinstance(op, STOCK) or len(shapes[op.out]) != 1:
            what = f"{op.mnemonic} {op.out} of shape {list(shapes[op.out])} is no stock layer of hls4ml"
            yield Diagnostic("hls-unroll", what, op.out, "leave out --unroll")
        elif isinstance(op, ops.Lookup) and (op.x not in defined or readers[op.x] > 1):
            what = f"lookup {op.out}: {op.x} is read by others too, so its layer cannot saturate"
            yield Diagnostic("hls-unroll", what, op.out, "leave out --unroll")


@dataclass
class Unrolled:
    """Layers of a net that `refusals` passed. `initial`, `states`: each state before the first
    tick, and after each."""

    net: IntNet
    layers: list[dict[str, object]] = field(default_factory=list)
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, list[Value]] = field(default_factory=dict)
    initial: dict[str, Codes] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    def __post_init__(self) -> None:
        net, self._names = self.net, Names()
        self._shapes = Analysis.of(net).shapes
        self._saturated = {op.x: op for op in net.all_ops() if isinstance(op, ops.Lookup)}
        values: dict[str, Value] = dict(Analysis.of(net).codes)
        for i in net.inputs:
            port = Port(i.name, self._names.free("in", i.name), i.shape, net.formats[i.name])
            self.inputs.append(port)
            self.layers.append({"name": port.name, "class_name": "InputLayer", "input_shape": [port.size]})
            values[i.name] = port.name
        self._block(net.drive, values, "")
        for s in net.states:
            start = np.broadcast_to(0 if s.init is None else net.param(s.init), s.shape).astype(np.int64)
            self.states[s.name], self.initial[s.name], values[s.name] = [], start, start
        for tick in range(1, net.schedule.steps + 1):
            self._block(net.step, values, f"_{tick}")
            latched = {s.name: values[s.update] for s in net.states}
            values |= latched
            for name, value in latched.items():
                self.states[name].append(value)
        self._block(net.readout, values, "")
        for o in net.outputs:
            value, of = values[o.value], net.formats[o.value]
            name = value if isinstance(value, str) else ""
            self.outputs.append(Port(o.name, name, self._shapes[o.value], of))

    def faults(self) -> Iterator[Diagnostic]:
        """Outputs that no layer makes."""
        for port in self.outputs:
            if not port.name or port.name in {i.name for i in self.inputs}:
                what = f"output {port.net_name} is made by no layer"
                yield Diagnostic("hls-unroll", what, port.net_name, "leave out --unroll")

    def traced(self) -> set[str]:
        """Layers that hold a state after a tick."""
        return {v for values in self.states.values() for v in values if isinstance(v, str)}

    def _block(self, block: tuple[Op, ...], values: dict[str, Value], suffix: str) -> None:
        for op in block:
            operands = {name: values[name] for name in op.reads}
            values[op.out] = self._op(op, operands, suffix)

    def _op(self, op: Op, x: Mapping[str, Value], suffix: str) -> Value:
        params = {name: v for name, v in x.items() if not isinstance(v, str)}
        match op:
            case ops.Linear(x=a) | ops.Stencil(x=a):
                return self._dense(op, x[a], suffix)
            case ops.Rescale(x=a, multiplier=multiplier, shift=shift):
                return self._scaled(op, x[a], params[multiplier], shift, suffix)
            case ops.Add(a=a, b=b):
                return self._added(op, x[a], x[b], suffix)
            case ops.Lookup(x=a, table=table, first=first):
                return self._table(op, x[a], params[table], first, suffix)
            case _:
                raise TypeError(f"{op.mnemonic} is no stock layer")

    def _layer(self, op: Op, suffix: str, types: Mapping[str, str], /, **attributes: object) -> str:
        name = self._names.free("n", f"{op.out}{suffix}")
        result = {"result": self._result(op)} if "result" not in types else {}
        self.layers.append({"name": name, **attributes})
        self.types[name] = {**result, **types}
        return name

    def _result(self, op: Op) -> str:
        """The type of a layer's result; it rounds ties up, and saturates to the domain of a table that reads it."""
        of = self.net.formats[op.out]
        if op.out not in self._saturated:
            return f"ap_{'' if of.signed else 'u'}fixed<{of.bits},{of.bits},AP_RND,AP_WRAP>"
        bits = _domain(self._saturated[op.out], self.net).bits
        return f"ap_fixed<{bits},{bits},AP_RND,AP_SAT>"

    def _dense(self, op: Op, x: Value, suffix: str) -> Value:
        weight, whole = linear_taps(self.net, op).dense(), bias_entries(self.net, op)
        if not isinstance(x, str):
            constant: Codes = weight @ x + whole
            return constant
        narrow = format_of(weight)
        if narrow == Format(2, True) and int(weight.min()) == -2:
            # hls4ml takes two-bit weights for signs.
            narrow = Format(3, True)
        of = self.net.formats[op.out]
        total = f"ap_{'' if of.signed else 'u'}int<{of.bits}>"
        types = {"weight": _integer(narrow), "bias": _integer(format_of(whole)), "accum": total}
        return self._layer(
            op,
            suffix,
            types,
            class_name="Dense",
            inputs=[x],
            n_in=weight.shape[1],
            n_out=len(weight),
            weight_data=np.ascontiguousarray(weight.T),
            bias_data=whole,
        )

    def _scaled(self, op: Op, x: Value, multiplier: Codes, shift: int, suffix: str) -> Value:
        if not isinstance(x, str):
            return (x * multiplier + ((1 << shift) >> 1)) >> shift
        if shift == 0 and np.all(multiplier == 1):
            return self._cast(op, x, suffix)
        n = self._shapes[op.out][0]
        scale = np.broadcast_to(multiplier, (n,)).astype(np.float64) / float(1 << shift)
        of = format_of(multiplier)
        kind = f"ap_{'' if of.signed else 'u'}fixed<{of.bits},{of.bits - shift}>"
        return self._normalized(op, x, scale, np.zeros(n, np.int64), {"scale": kind, "bias": "ap_int<2>"}, suffix)

    def _cast(self, op: Op, x: str, suffix: str) -> Value:
        """`x` as it is, or saturated: hls4ml drops a BatchNormalization that does nothing, with its type."""
        if op.out not in self._saturated:
            return x
        n = self._shapes[op.out][0]
        return self._layer(op, suffix, {}, class_name="Activation", activation="linear", inputs=[x], n_in=n)

    def _normalized(self, op: Op, x: str, scale: Reals, bias: Codes, types: Mapping[str, str], suffix: str) -> Value:
        return self._layer(
            op,
            suffix,
            types,
            class_name="BatchNormalization",
            inputs=[x],
            n_in=len(scale),
            n_filt=-1,
            scale_data=scale,
            bias_data=bias,
        )

    def _added(self, op: Op, a: Value, b: Value, suffix: str) -> Value:
        if isinstance(a, str) and isinstance(b, str):
            return self._layer(op, suffix, {}, class_name="Merge", op="add", inputs=[a, b])
        if not isinstance(a, str) and not isinstance(b, str):
            return a + b
        wire, codes = (a, b) if isinstance(a, str) else (b, a)
        assert isinstance(wire, str)
        assert not isinstance(codes, str)
        n = self._shapes[op.out][0]
        bias = np.broadcast_to(codes, (n,)).astype(np.int64)
        if not bias.any():
            return self._cast(op, wire, suffix)
        types = {"scale": "ap_int<2>", "bias": _integer(format_of(bias))}
        return self._normalized(op, wire, np.ones(n), bias, types, suffix)

    def _table(self, op: ops.Lookup, x: Value, table: Codes, first: int, suffix: str) -> Value:
        if not isinstance(x, str):
            return _looked_up(x, table, first)
        domain = _domain(op, self.net)
        whole = _looked_up(np.arange(domain.lo, domain.hi + 1), table, first)
        # The layer takes the bits of its operand for an index: the negative codes come last.
        return self._layer(
            op,
            suffix,
            {"table": _integer(format_of(table))},
            class_name="UnaryLUT",
            activation="unary_lut",
            inputs=[x],
            n_in=self._shapes[op.out][0],
            table_data=np.concatenate([whole[domain.hi + 1 :], whole[: domain.hi + 1]]),
        )


def _integer(of: Format) -> str:
    return f"ap_{'' if of.signed else 'u'}int<{of.bits}>"


def _looked_up(x: Codes, table: Codes, first: int) -> Codes:
    entries: Codes = table[np.clip(x, first, first + len(table) - 1) - first]
    return entries


def _domain(op: ops.Lookup, net: IntNet) -> Format:
    """The two's-complement format that holds the domain of a table."""
    return Format.holding(min(op.first, -1), op.first + len(net.param(op.table)) - 1)
