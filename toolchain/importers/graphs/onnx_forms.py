"""What operations of ONNX are in the IR. Operands and options have the names of ONNX's own schemas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .forms import Operand, Refused
from .layers import Layers
from .step import Arguments, Form

__all__ = ["ONNX_FORMS"]


def _gemm(f: Layers, a: Arguments) -> str:
    x, weight, bias = a["A"], a["B"], a.get("C")
    if a.flag("transA"):
        raise Refused("its first operand is transposed")
    alpha, beta = a.number("alpha"), a.number("beta")
    if isinstance(weight, str):
        raise Refused("read is a value times a constant matrix")
    matrix = (
        alpha * (weight if a.flag("transB") else weight.T) if alpha != 1.0 else weight if a.flag("transB") else weight.T
    )
    if bias is not None and beta != 1.0:
        bias = f.scale(bias, beta) if isinstance(bias, str) else beta * bias
    return f.linear(x, matrix, _row(bias, len(matrix)))


def _row(bias: Operand | None, width: int) -> Operand | None:
    """A bias of one entry as one for each output."""
    if bias is None or isinstance(bias, str) or bias.size != 1:
        return bias
    return np.broadcast_to(bias.reshape(-1), (width,))


def _axes(f: Layers, a: Arguments, operand: str) -> list[int]:
    """The axes of a reduction or of a squeeze: an attribute, an operand, or all but that of the samples."""
    rank = len(f.shape(a[operand]))
    return a.integers("axes", [] if a.flag("noop_with_empty_axes") else range(1, rank))


def _reduced(kind: str) -> Form:
    def form(f: Layers, a: Arguments) -> str:
        x, axes, keep = a["data"], _axes(f, a, "data"), a.flag("keepdims", True)
        match kind:
            case "sum":
                return f.reduce(x, "sum", axes, keep=keep)
            case "mean":
                return f.reduce(x, "mean", axes, keep=keep)
            case _:
                return f.reduce(x, "max", axes, keep=keep)

    return form


def _layer_norm(f: Layers, a: Arguments) -> str:
    rank = len(f.shape(a["X"]))
    return f.normalize(a["X"], -(a.integer("axis") % rank - rank), a["Scale"], a.get("B"), eps=a.number("epsilon"))


def _group_norm(f: Layers, a: Arguments) -> str:
    shape = f.shape(a["X"])
    groups = a.integer("num_groups", shape[1])
    return f.normalize(a["X"], len(shape) - 1, a["scale"], a["bias"], eps=a.number("epsilon"), groups=groups)


def _batch_norm(f: Layers, a: Arguments) -> str:
    if a.flag("training_mode"):
        raise Refused("its statistics are those of the batch: export in eval mode")
    mean, variance = (
        a["mean" if a.get("mean") is not None else "input_mean"],
        a["var" if a.get("var") is not None else "input_var"],
    )
    return f.batch_norm(a["X"], a["scale"], a["B"], mean, variance, a.number("epsilon"))


def _padding(a: Arguments, axes: int) -> list[int]:
    """One number of padding for each axis of the space; ONNX has two."""
    if a.word("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refused(f"its padding is {a.word('auto_pad')}: export it in numbers")
    pads = a.integers("pads", [0] * 2 * axes)
    if pads[:axes] != pads[axes:]:
        raise Refused(f"its padding {pads} differs between the sides")
    return pads[:axes]


def _conv(f: Layers, a: Arguments) -> str:
    axes = len(f.shape(a["X"])) - 2
    ones = [1] * axes
    return f.conv(
        a["X"],
        a["W"],
        a.get("B"),
        stride=a.integers("strides", ones),
        padding=_padding(a, axes),
        dilation=a.integers("dilations", ones),
        groups=a.integer("group"),
    )


def _pool(f: Layers, a: Arguments, kind: str) -> str:
    kernel = a.integers("kernel_shape")
    padding = _padding(a, len(kernel))
    if a.flag("ceil_mode") or set(a.integers("dilations", [1])) != {1}:
        raise Refused("its windows pass the padded space (ceil_mode) or have gaps")
    if kind == "mean" and any(padding) and not a.flag("count_include_pad"):
        raise Refused("its means leave padding out (count_include_pad=0)")
    stride = a.integers("strides", [1] * len(kernel))
    return f.pool(a["X"], "max" if kind == "max" else "mean", kernel, stride, padding)


def _global_pool(f: Layers, a: Arguments) -> str:
    return f.reduce(a["X"], "mean", range(2, len(f.shape(a["X"]))), keep=True)


def _reshape(f: Layers, a: Arguments) -> str:
    before, wanted = f.shape(a["data"]), [int(n) for n in a.constant("shape").reshape(-1)]
    if a.flag("allowzero") and 0 in wanted:
        raise Refused("its shape has an axis of size 0")
    return f.reshape(a["data"], tuple(before[i] if n == 0 else n for i, n in enumerate(wanted)))


def _flatten(f: Layers, a: Arguments) -> str:
    shape, axis = f.shape(a["input"]), a.integer("axis")
    axis = axis % len(shape) if axis < 0 else axis
    return f.reshape(a["input"], (int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))))


def _unsqueeze(f: Layers, a: Arguments) -> str:
    shape, axes = list(f.shape(a["data"])), a.integers("axes")
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return f.reshape(a["data"], tuple(shape))


def _squeeze(f: Layers, a: Arguments) -> str:
    shape = f.shape(a["data"])
    axes = [axis % len(shape) for axis in _axes(f, a, "data") if shape[axis] == 1]
    return f.reshape(a["data"], tuple(n for i, n in enumerate(shape) if i not in axes))


def _transpose(f: Layers, a: Arguments) -> str:
    rank = len(f.shape(a["data"]))
    return f.transpose(a["data"], a.integers("perm", range(rank - 1, -1, -1)))


def _slice(f: Layers, a: Arguments) -> str:
    starts, ends = a.integers("starts"), a.integers("ends")
    axes, steps = a.integers("axes", range(len(starts))), a.integers("steps", [1] * len(starts))
    value = f.value(a["data"])
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        value = f.cut(value, axis, start, end, step)
    return value


def _split(f: Layers, a: Arguments) -> str:
    width, parts = f.shape(a["input"])[a.integer("axis")], a.integer("parts")
    size = -(-width // parts)
    sizes = a.integers("split", [min(size, width - size * i) for i in range(parts)])
    return f.split(a["input"], a.integer("axis"), sizes, a.integer("item"))


def _gather(f: Layers, a: Arguments) -> str:
    index = a.constant("indices")
    if index.ndim:
        raise Refused("it takes several entries; read is one")
    shape, axis = f.shape(a["data"]), a.integer("axis")
    at = int(index) % shape[axis]
    one = f.cut(a["data"], axis, at, at + 1)
    return f.reshape(one, tuple(n for i, n in enumerate(shape) if i != axis % len(shape)))


def _softmax(f: Layers, a: Arguments) -> str:
    rank, axis = len(f.shape(a["input"])), a.integer("axis")
    if a.integer("opset", 13) < 13 and axis % rank != rank - 1:
        raise Refused("before opset 13 it runs over several axes: export it again")
    return f.softmax(a["input"], axis)


def _add(f: Layers, a: Arguments) -> str:
    for x, mask in ((a["A"], a["B"]), (a["B"], a["A"])):
        if not isinstance(mask, str) and np.isneginf(mask).any():
            rest = np.where(np.isneginf(mask), 0.0, mask)
            return f.leave_out(f.add(x, rest) if rest.any() else x, ~np.isneginf(mask))
    return f.add(a["A"], a["B"])


def _where(f: Layers, a: Arguments) -> str:
    condition, x, y = a["condition"], a["X"], a["Y"]
    for kept, other, flip in ((x, y, False), (y, x, True)):
        if not isinstance(condition, str) and not isinstance(other, str) and np.isneginf(other).all():
            return f.leave_out(kept, (condition == 0) if flip else (condition != 0))
    return f.select(condition, x, y)


def _power(f: Layers, a: Arguments) -> str:
    return f.power(a["X"], a.number("Y"))


def _mod(f: Layers, a: Arguments) -> str:
    if a.flag("fmod"):
        raise Refused("it keeps the sign of the dividend (fmod)")
    return f.mod(a["A"], a["B"])


def _threshold(f: Layers, a: Arguments) -> str:
    scale = a.constant("scale")
    return f.select(f.opposite(f.greater(np.zeros(()), a["x"])), scale, -scale)


def _expand(f: Layers, a: Arguments) -> str:
    shape = tuple(int(n) for n in a.constant("shape").reshape(-1))
    return f.spread(a["input"], np.broadcast_shapes(f.shape(a["input"]), shape))


def _sum(f: Layers, a: Arguments) -> str:
    first, *others = a.all("data_0")
    total = f.value(first)
    for other in others:
        total = f.add(total, other)
    return total


ONNX_FORMS: Mapping[str, Form] = {
    "Abs": lambda f, a: f.abs(a["X"]),
    "Add": _add,
    "AveragePool": lambda f, a: _pool(f, a, "mean"),
    "BatchNormalization": _batch_norm,
    "BipolarQuant": _threshold,
    "Cast": lambda f, a: f.as_number(a["input"]),
    "Ceil": lambda f, a: f.scale(f.floor(f.scale(a["X"], -1.0)), -1.0),
    "Clip": lambda f, a: f.clip(a["input"], a.get("min"), a.get("max")),
    "Concat": lambda f, a: f.join(a.all("inputs"), a.integer("axis")),
    "Conv": _conv,
    "Div": lambda f, a: f.divide(a["A"], a["B"]),
    "Dropout": lambda f, a: f.value(a["data"]),
    "Erf": lambda f, a: f.erf(a["input"]),
    "Exp": lambda f, a: f.activation(a["input"], "exp"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": lambda f, a: f.floor(a["X"]),
    "Gather": _gather,
    "Gelu": lambda f, a: f.gelu(a["X"], a.word("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "Greater": lambda f, a: f.greater(a["A"], a["B"]),
    "GreaterOrEqual": lambda f, a: f.opposite(f.greater(a["B"], a["A"])),
    "GroupNormalization": _group_norm,
    "HardSigmoid": lambda f, a: f.hard_sigmoid(a["X"], a.number("alpha"), a.number("beta")),
    "HardSwish": lambda f, a: f.multiply(a["X"], f.hard_sigmoid(a["X"], 1.0 / 6.0, 0.5)),
    "Identity": lambda f, a: f.value(a["input"]),
    "InstanceNormalization": lambda f, a: f.normalize(
        a["input"],
        len(f.shape(a["input"])) - 1,
        a["scale"],
        a["B"],
        eps=a.number("epsilon"),
        groups=f.shape(a["input"])[1],
    ),
    "IntQuant": lambda f, a: f.value(a["x"]),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda f, a: f.leaky_relu(a["X"], np.asarray(a.number("alpha"))),
    "Less": lambda f, a: f.greater(a["B"], a["A"]),
    "LessOrEqual": lambda f, a: f.opposite(f.greater(a["A"], a["B"])),
    "MatMul": lambda f, a: f.matmul(a["A"], a["B"]),
    "Max": lambda f, a: f.maximum(*a.all("data_0")),
    "MaxPool": lambda f, a: _pool(f, a, "max"),
    "Min": lambda f, a: f.minimum(*a.all("data_0")),
    "Mod": _mod,
    "Mul": lambda f, a: f.multiply(a["A"], a["B"]),
    "Neg": lambda f, a: f.scale(a["X"], -1.0),
    "Not": lambda f, a: f.opposite(a["X"]),
    "PRelu": lambda f, a: f.leaky_relu(a["X"], a.constant("slope")),
    "Pow": _power,
    "Quant": lambda f, a: f.value(a["x"]),
    "ReduceMax": _reduced("max"),
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "Relu": lambda f, a: f.activation(a["X"], "relu"),
    "Reshape": _reshape,
    "Sigmoid": lambda f, a: f.activation(a["X"], "sigmoid"),
    "Sign": lambda f, a: f.sign(a["input"]),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": lambda f, a: f.subtract(a["A"], a["B"]),
    "Sum": _sum,
    "Swish": lambda f, a: f.multiply(a["X"], f.activation(f.scale(a["X"], a.number("alpha", 1.0)), "sigmoid")),
    "Tanh": lambda f, a: f.activation(a["input"], "tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""By the operation's name in the default domain, and those of QONNX."""
