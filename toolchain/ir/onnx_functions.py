"""Each IR operation as an ONNX function: its fields as inputs and attributes, its equation as a body of standard ops.

A function's inputs bear the names of the fields that hold references, its attributes those of the others; the output
is `out`. Values carry a batch axis in front, parameters none. A body fits the ranks of one call; calls with equal
bodies share a function. Integer bodies are exact in int64, float bodies compute in float64.

Some kernels of ONNX Runtime (CPU, 1.31) are not what they seem, and bodies avoid them: Max, Min, Clip and ReduceMax of
int64 compare wrongly beyond 32 bits (an SSE2 path of Eigen), ReduceSum of int64 adds in float64, and a constant scalar
factor beside a matrix product is fused into it in single precision. Greater, Where, MatMul and TopK are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from ..arrays import Array
from . import ops
from .ops import ActivationKind, Op
from .types import ValueType

if TYPE_CHECKING:
    from onnx import FunctionProto, NodeProto

__all__ = ["DOMAIN", "OPSET", "attributes_of", "function_of"]

DOMAIN = "eqcompile"
OPSET = 20

Scope = Mapping[str, ValueType]
Params = Mapping[str, Array]

ERF_NODES = 40
ERF_LIMIT = 6.5
"""erf(x) = 2x/sqrt(pi) * integral of exp(-(xu)^2) over u in [0, 1], by Gauss-Legendre quadrature: 40 nodes are exact to
rounding for |x| <= 6.5, where erf is 1 to double precision. ONNX Runtime has no Erf in double."""


def attributes_of(op: Op) -> dict[str, object]:
    """Fields of an operation that are neither references nor `out`."""
    references = {name for name, _ in op.reference_fields()}
    return {f.name: getattr(op, f.name) for f in fields(op) if f.name not in references and f.name != "out"}


def function_of(op: Op, scope: Scope, params: Params, *, integer: bool) -> FunctionProto:
    """The function for one call of `op` (not a repeat) in an IntNet (`integer`) or EqNet, named after its mnemonic.

    Raises UnsupportedError for an operation without a body here.
    """
    from onnx import helper

    body = _Body(op, scope, params, integer)
    body.build()
    inputs = [name for name, _ in op.reference_fields() if getattr(op, name) is not None]
    function = helper.make_function(
        DOMAIN,
        op.mnemonic,
        inputs,
        ["out"],
        body.nodes,
        [helper.make_opsetid("", OPSET)],
        list(attributes_of(op)),
    )
    function.doc_string = (type(op).__doc__ or "").strip().split("\n\n")[0]
    return function


class _Body:
    """Nodes of one function; a field name is the name of the operand that it holds."""

    def __init__(self, op: Op, scope: Scope, params: Params, integer: bool) -> None:
        self.op = op
        self.integer = integer
        self.nodes: list[NodeProto] = []
        self._scope = scope
        self._params = params
        self._count = 0

    def rank(self, field: str) -> int:
        return len(self._scope[getattr(self.op, field)].shape)

    def param(self, field: str) -> Array:
        return self._params[getattr(self.op, field)]

    def given(self, field: str) -> bool:
        return getattr(self.op, field) is not None

    def is_param(self, field: str) -> bool:
        return getattr(self.op, field) in self._params

    def node(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        self._count += 1
        name = out or f"t{self._count}"
        outputs = [name, f"{name}_at"] if kind == "TopK" else [name]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return name

    def constant(self, value: Array | Sequence[int] | int | float) -> str:
        from onnx import numpy_helper

        return self.node("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def attribute(self, field: str) -> str:
        """The attribute `field` of the call as a scalar."""
        from onnx import AttributeProto

        name = self.node("Constant")
        is_float = isinstance(getattr(self.op, field), float)
        reference = self.nodes[-1].attribute.add()
        reference.name = "value" if is_float else "value_int"
        reference.ref_attr_name = field
        reference.type = AttributeProto.TENSOR if is_float else AttributeProto.INT
        return name

    def batched(self, field: str) -> str:
        """The operand with a batch axis (of size 1 for a parameter)."""
        return self.node("Unsqueeze", field, self.constant([0])) if self.is_param(field) else field

    def aligned(self, *operands: str) -> list[str]:
        """Operands of an elementwise operation, so that standard broadcasting does what the IR says."""
        rank = max(self.rank(f) for f in operands)
        names = []
        for f in operands:
            missing = rank - self.rank(f)
            if missing and not self.is_param(f):
                f = self.node("Unsqueeze", f, self.constant(list(range(1, 1 + missing))))
            names.append(f)
        if all(self.is_param(f) for f in operands):
            names[0] = self.node("Unsqueeze", names[0], self.constant(list(range(1 + rank - self.rank(operands[0])))))
        return names

    def scaled(self, x: str, factor: str) -> str:
        """`x * factor`, a scalar in float64, as a product of two arrays of equal shape, which nothing fuses."""
        return self.node("Mul", x, self.node("Expand", factor, self.node("Shape", x)))

    def shift_right(self, x: str, shift: int) -> str:
        """`x >> shift`, arithmetic: the low bits are taken off, so that the truncating division is exact."""
        if shift == 0:
            return x
        low = self.node("BitwiseAnd", x, self.constant((1 << shift) - 1))
        return self.node("Div", self.node("Sub", x, low), self.constant(1 << shift))

    def shift_half_up(self, x: str, shift: int) -> str:
        return self.shift_right(self.node("Add", x, self.constant((1 << shift) >> 1)), shift)

    def clamped_offset(self, x: str, size: int) -> str:
        """`clamp(x, first, first + size - 1) - first`."""
        first = self.attribute("first")
        last = self.node("Add", first, self.constant(size - 1))
        risen = self.node("Where", self.node("Greater", first, x), first, x)
        return self.node("Sub", self.node("Where", self.node("Greater", risen, last), last, risen), first)

    def sum(self, x: str, axes: Sequence[int], *, keep: bool) -> str:
        """Exact for integers: words of 31 bits are summed apart, so that up to 2^21 of them stay within 53 bits."""
        along = self.constant(list(axes))
        if not self.integer:
            return self.node("ReduceSum", x, along, keepdims=int(keep))
        high = self.node("ReduceSum", self.shift_right(x, 31), along, keepdims=int(keep))
        low = self.node(
            "ReduceSum", self.node("BitwiseAnd", x, self.constant((1 << 31) - 1)), along, keepdims=int(keep)
        )
        return self.node("Add", self.node("Mul", high, self.constant(1 << 31)), low)

    def largest(self, x: str, axes: Sequence[int], *, keep: bool) -> str:
        if not self.integer:
            return self.node("ReduceMax", x, self.constant(list(axes)), keepdims=int(keep))
        for axis in axes:
            x = self.node("TopK", x, self.constant([1]), axis=axis)
        return x if keep else self.node("Squeeze", x, self.constant(list(axes)))

    def biased(self, y: str, bias_rank: int = 1) -> str:
        if not self.given("bias"):
            return y
        spread = [-1, *[1] * (bias_rank - 1)]
        bias = "bias" if bias_rank == 1 else self.node("Reshape", "bias", self.constant(spread))
        return self.node("Add", y, bias)

    def build(self) -> None:
        op = self.op
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv() | ops.Embedding() | ops.MatMul():
                result = _linear(self, op)
            case _ if isinstance(op, ops.FloatOp):
                result = _float(self, op)
            case _ if isinstance(op, ops.IntegerOp):
                result = _integer(self, op)
            case ops.Repeat():
                raise AssertionError("a repeat is a Loop of the graph, no function")
            case _:
                result = _common(self, op)
        self.node("Identity", result, out="out")


def _linear(body: _Body, op: ops.WeightedOp | ops.Embedding | ops.MatMul) -> str:
    match op:
        case ops.Linear():
            return body.biased(body.node("MatMul", body.batched("x"), body.node("Transpose", "weight", perm=[1, 0])))
        case ops.Stencil():
            # An index of -1 reads the zero that is put behind the last element.
            zero = body.node("Pad", body.batched("x"), body.constant([0, 0, 0, 1]))
            taps = body.node("Gather", zero, "index", axis=1)
            return body.biased(body.sum(body.node("Mul", taps, "weight"), [-1], keep=False))
        case ops.Conv():
            return _conv(body, op)
        case ops.Embedding():
            return body.node("Gather", "table", body.batched("x"), axis=0)
        case ops.MatMul():
            return body.node("MatMul", body.batched("a"), body.batched("b"))
        case _:
            assert_never(op)


def _conv(body: _Body, op: ops.Conv) -> str:
    """One strided slice for each tap of the kernel, then one matrix product (Conv has neither double nor int64)."""
    weight = body.param("weight")
    channels, kernel = weight.shape[0], weight.shape[2:]
    shape = body._scope[op.x].shape
    space = [(n + 2 * op.padding - k) // op.stride + 1 for n, k in zip(shape[1:], kernel, strict=True)]
    pads = [0, 0, *[op.padding] * len(kernel)]
    padded = body.node("Pad", body.batched("x"), body.constant([*pads, *pads]))
    axes, steps = body.constant([2 + a for a in range(len(kernel))]), body.constant([op.stride] * len(kernel))
    taps = []
    for tap in np.ndindex(*kernel):
        ends = [t + (n - 1) * op.stride + 1 for t, n in zip(tap, space, strict=True)]
        taps.append(body.node("Slice", padded, body.constant(list(tap)), body.constant(ends), axes, steps))
    stacked = body.node("Reshape", body.node("Concat", *taps, axis=1), body.constant([0, -1, math.prod(space)]))
    # Columns of the matrix in the order of the slices: tap first, channel second.
    order = [0, *range(2, 2 + len(kernel)), 1]
    matrix = body.node("Reshape", body.node("Transpose", "weight", perm=order), body.constant([channels, -1]))
    y = body.node("Reshape", body.node("MatMul", matrix, stacked), body.constant([0, channels, *space]))
    return body.biased(y, 1 + len(kernel))


def _common(body: _Body, op: ops.PointwiseOp | ops.Reduce | ops.Reshape | ops.Transpose) -> str:
    match op:
        case ops.Add():
            return body.node("Add", *body.aligned("a", "b"))
        case ops.Sub():
            return body.node("Sub", *body.aligned("a", "b"))
        case ops.Mul():
            a, b = body.aligned("a", "b")
            for x, field, factor in ((a, "b", b), (b, "a", a)):
                if body.is_param(field) and body.param(field).size == 1 and body.param(field).dtype.kind == "f":
                    return body.scaled(x, factor)
            return body.node("Mul", a, b)
        case ops.Greater():
            return body.node("Greater", *body.aligned("a", "b"))
        case ops.Select():
            return body.node("Where", *body.aligned("condition", "a", "b"))
        case ops.Abs():
            return body.node("Abs", body.batched("x"))
        case ops.Reduce(kind=kind, axes=axes, keep=keep):
            if not axes:
                return body.batched("x")
            match kind:
                case "sum":
                    return body.sum(body.batched("x"), axes, keep=keep)
                case "max":
                    return body.largest(body.batched("x"), axes, keep=keep)
                case "mean":
                    return body.node("ReduceMean", body.batched("x"), body.constant(list(axes)), keepdims=int(keep))
        case ops.Reshape(shape=shape):
            return body.node("Reshape", body.batched("x"), body.constant(np.array([0, *shape], np.int64)))
        case ops.Transpose(axes=axes):
            return body.node("Transpose", body.batched("x"), perm=[0, *(1 + a for a in axes)])
        case _:
            assert_never(op)


def _float(body: _Body, op: ops.FloatOp) -> str:
    match op:
        case ops.Scale():
            return body.scaled(body.batched("x"), body.attribute("factor"))
        case ops.Damp():
            old, new = body.aligned("old", "new")
            alpha = body.attribute("alpha")
            kept = body.scaled(old, body.node("Sub", body.constant(1.0), alpha))
            return body.node("Add", kept, body.scaled(new, alpha))
        case ops.Mod():
            x, period = body.batched("x"), body.attribute("period")
            turns = body.node("Floor", body.node("Div", x, period))
            return body.node("Sub", x, body.node("Mul", period, turns))
        case ops.Clip():
            risen = body.node("Max", body.batched("x"), body.attribute("lo"))
            return body.node("Min", risen, body.attribute("hi"))
        case ops.Activation(kind=kind):
            return _activation(body, body.batched("x"), kind)
        case ops.Normalize():
            return _normalize(body, op)
        case ops.Softmax():
            x = body.batched("x")
            return _masked_softmax(body, x) if body.given("mask") else body.node("Softmax", x, axis=-1)
        case _:
            assert_never(op)


def _activation(body: _Body, x: str, kind: ActivationKind) -> str:
    match kind:
        case "tanh":
            return body.node("Tanh", x)
        case "sigmoid":
            return body.node("Sigmoid", x)
        case "relu":
            return body.node("Relu", x)
        case "silu":
            return body.node("Mul", x, body.node("Sigmoid", x))
        case "exp":
            return body.node("Exp", x)
        case "gelu":
            one = body.node("Add", _erf(body, body.node("Div", x, body.constant(math.sqrt(2.0)))), body.constant(1.0))
            return body.node("Mul", body.node("Mul", x, body.constant(0.5)), one)


def _erf(body: _Body, x: str) -> str:
    points, weights = np.polynomial.legendre.leggauss(ERF_NODES)  # type: ignore[no-untyped-call]
    inside = body.node("Min", body.node("Max", x, body.constant(-ERF_LIMIT)), body.constant(ERF_LIMIT))
    last = body.constant([-1])
    scaled = body.node("Mul", body.node("Unsqueeze", inside, last), body.constant(0.5 * (points + 1.0)))
    bell = body.node("Exp", body.node("Neg", body.node("Mul", scaled, scaled)))
    weighted = body.node("Mul", bell, body.constant(weights / math.sqrt(math.pi)))
    return body.node("Mul", inside, body.node("ReduceSum", weighted, last, keepdims=0))


def _normalize(body: _Body, op: ops.Normalize) -> str:
    x, shape = body.batched("x"), body._scope[op.x].shape
    axes = body.constant([-1] if op.groups > 1 else list(op.axes))
    grouped = body.node("Reshape", x, body.constant([0, op.groups, -1])) if op.groups > 1 else x
    centred = body.node("Sub", grouped, body.node("ReduceMean", grouped, axes, keepdims=1))
    variance = body.node("ReduceMean", body.node("Mul", centred, centred), axes, keepdims=1)
    eps = body.attribute("eps")
    if op.eps_on == "variance":
        deviation = body.node("Sqrt", body.node("Add", variance, eps))
    else:
        deviation = body.node("Add", body.node("Sqrt", variance), eps)
    y = body.node("Div", centred, deviation)
    return body.node("Reshape", y, body.constant([0, *shape])) if op.groups > 1 else y


def _masked_softmax(body: _Body, x: str) -> str:
    """A row whose entries are all masked comes out 0."""
    from onnx import TensorProto

    part, last, zero = body.node("Cast", "mask", to=TensorProto.BOOL), body.constant([-1]), body.constant(0.0)
    top = body.node("ReduceMax", body.node("Where", part, x, body.constant(-math.inf)), last, keepdims=1)
    inside = body.node("Where", part, body.node("Sub", x, top), zero)
    e = body.node("Where", part, body.node("Exp", inside), zero)
    total = body.node("ReduceSum", e, last, keepdims=1)
    positive = body.node("Where", body.node("Greater", total, zero), total, body.constant(1.0))
    return body.node("Div", e, positive)


def _isqrt(body: _Body, x: str) -> str:
    """The root of the double, which is within one of the integer root, moved to it; of what is positive in x."""
    from onnx import TensorProto

    one, zero = body.constant(1), body.constant(0)
    # Not Max: ONNX Runtime takes the maximum of two int64 wrongly from 2^31 on.
    x = body.node("Where", body.node("Greater", x, zero), x, zero)
    root = body.node("Cast", body.node("Sqrt", body.node("Cast", x, to=TensorProto.DOUBLE)), to=TensorProto.INT64)
    high = body.node("Greater", body.node("Mul", root, root), x)
    root = body.node("Sub", root, body.node("Cast", high, to=TensorProto.INT64))
    above = body.node("Add", root, one)
    low = body.node("Greater", body.node("Mul", above, above), x)
    return body.node("Where", low, root, above)


def _integer(body: _Body, op: ops.IntegerOp) -> str:
    match op:
        case ops.Rescale(shift=shift):
            return body.shift_half_up(body.node("Mul", body.batched("x"), "multiplier"), shift)
        case ops.Lookup():
            index = body.clamped_offset(body.batched("x"), len(body.param("table")))
            return body.node("Gather", "table", index, axis=0)
        case ops.Interpolate(shift=shift):
            offset = body.clamped_offset(body.batched("x"), len(body.param("base")) << shift)
            segment = body.shift_right(offset, shift)
            fraction = body.node("BitwiseAnd", offset, body.constant((1 << shift) - 1))
            rise = body.node("Mul", body.node("Gather", "slope", segment, axis=0), fraction)
            base = body.node("Gather", "base", segment, axis=0)
            return body.node("Add", base, body.shift_half_up(rise, shift))
        case ops.DampFixed(shift=shift):
            old, new = body.aligned("old", "new")
            change = body.node("Mul", body.node("Sub", new, old), body.attribute("multiplier"))
            return body.node("Add", old, body.shift_half_up(change, shift))
        case ops.Divide(shift=shift):
            a, b = body.aligned("a", "b")
            half = body.node("Div", b, body.constant(2))
            numerator = body.node("Add", body.node("Mul", a, body.constant(1 << shift)), half)
            rest = body.node("Mod", numerator, b)
            return body.node("Div", body.node("Sub", numerator, rest), b)
        case ops.Isqrt():
            return _isqrt(body, body.batched("x"))
        case _:
            assert_never(op)
