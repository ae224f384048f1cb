"""What operations of PyTorch (ATen, as `torch.export` gives them) are in the IR. Operands and options have the names of
ATen's own schemas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .forms import Operand, Refused
from .layers import Layers
from .step import Arguments, Form

__all__ = ["ATEN_FORMS"]

_ZERO, _ONE = np.zeros(()), np.ones(())


def _times(f: Layers, x: Operand, factor: float) -> Operand:
    if factor == 1.0:
        return x
    return f.scale(x, factor) if isinstance(x, str) else factor * x


def _add(f: Layers, a: Arguments) -> str:
    x, y = a["self"], _times(f, a["other"], a.number("alpha", 1.0))
    for value, mask in ((x, y), (y, x)):
        if not isinstance(mask, str) and np.isneginf(mask).any():
            rest = np.where(np.isneginf(mask), 0.0, mask)
            return f.leave_out(f.add(value, rest) if rest.any() else value, ~np.isneginf(mask))
    return f.add(x, y)


def _subtract(f: Layers, a: Arguments) -> str:
    return f.subtract(a["self"], _times(f, a["other"], a.number("alpha", 1.0)))


def _reverse(f: Layers, a: Arguments) -> str:
    return f.subtract(a["other"], _times(f, a["self"], a.number("alpha", 1.0)))


def _divide(f: Layers, a: Arguments) -> str:
    if a.word("rounding_mode"):
        raise Refused(f"it rounds ({a.word('rounding_mode')})")
    return f.divide(a["self"], a["other"])


def _power(f: Layers, a: Arguments) -> str:
    return f.power(a["self"], a.number("exponent"))


def _clip(f: Layers, a: Arguments) -> str:
    return f.clip(a["self"], a.get("min"), a.get("max"))


def _addmm(f: Layers, a: Arguments) -> str:
    first, second, bias = a["mat1"], a["mat2"], _times(f, a["self"], a.number("beta", 1.0))
    alpha = a.number("alpha", 1.0)
    if alpha == 1.0 and not isinstance(second, str):
        return f.linear(first, second.T, bias)
    return f.add(_times(f, f.matmul(first, second), alpha), bias)


def _attention(f: Layers, a: Arguments) -> str:
    if a.number("dropout_p", 0.0):
        raise Refused("it drops values: hand the module over in eval mode")
    q, k, mask = a["query"], a["key"], a.get("attn_mask")
    length, width = f.shape(q)[-2], f.shape(k)[-2]
    kept = None
    if a.flag("is_causal"):
        kept = np.tril(np.ones((length, width), bool))
    elif mask is not None:
        if isinstance(mask, str) or not (np.isin(mask, (0.0, 1.0)).all() or np.isin(mask, (0.0, -np.inf)).all()):
            raise Refused("its mask is not a constant of entries that take part and entries that do not")
        kept = mask == (0.0 if np.isneginf(mask).any() or not mask.any() else 1.0)
    scale = a.get("scale")
    return f.attention(q, k, a["value"], kept, None if scale is None else a.number("scale"))


def _conv(f: Layers, a: Arguments) -> str:
    if a.flag("transposed"):
        raise Refused("it is a transposed convolution")
    return f.conv(
        a["input"],
        a["weight"],
        a.get("bias"),
        stride=a.integers("stride"),
        padding=a.integers("padding"),
        dilation=a.integers("dilation"),
        groups=a.integer("groups"),
    )


def _layer_norm(f: Layers, a: Arguments) -> str:
    axes = len(a.integers("normalized_shape"))
    return f.normalize(a["input"], axes, a.get("weight"), a.get("bias"), eps=a.number("eps"))


def _group_norm(f: Layers, a: Arguments) -> str:
    axes, groups = len(f.shape(a["input"])) - 1, a.integer("num_groups")
    return f.normalize(a["input"], axes, a.get("weight"), a.get("bias"), eps=a.number("eps"), groups=groups)


def _batch_norm(f: Layers, a: Arguments) -> str:
    mean, variance = a["running_mean"], a["running_var"]
    return f.batch_norm(a["input"], a.get("weight"), a.get("bias"), mean, variance, a.number("eps"))


def _reduced(kind: str) -> Form:
    def form(f: Layers, a: Arguments) -> str:
        x, keep = a["self"], a.flag("keepdim")
        axes = a.integers("dim", []) or list(range(1, len(f.shape(x))))
        match kind:
            case "sum":
                return f.reduce(x, "sum", axes, keep=keep)
            case "mean":
                return f.reduce(x, "mean", axes, keep=keep)
            case _ if a.integer("item", 0):
                raise Refused("the place of a maximum is read")
            case _:
                return f.reduce(x, "max", axes, keep=keep)

    return form


def _pool(f: Layers, a: Arguments, kind: str) -> str:
    kernel = a.integers("kernel_size")
    axes, padding = len(kernel), a.integers("padding", [0])
    if a.flag("ceil_mode") or set(a.integers("dilation", [1])) != {1}:
        raise Refused("its windows pass the padded space (ceil_mode) or have gaps")
    if kind == "mean" and any(padding) and not a.flag("count_include_pad", True):
        raise Refused("its means leave padding out (count_include_pad=False)")
    if a.integer("item", 0) or a.get("divisor_override") is not None:
        raise Refused("the place of a maximum is read, or a mean has another divisor")
    stride, around = a.integers("stride", kernel) or kernel, padding * axes if len(padding) == 1 else padding
    return f.pool(a["self"], "max" if kind == "max" else "mean", kernel, stride, around)


def _adaptive_pool(f: Layers, a: Arguments) -> str:
    space = f.shape(a["self"])[-2:]
    wanted = a.integers("output_size")
    if any(n % k for n, k in zip(space, wanted, strict=True)):
        raise Refused(f"a space {list(space)} is not tiled by {wanted} windows")
    kernel = [n // k for n, k in zip(space, wanted, strict=True)]
    return f.pool(a["self"], "mean", kernel, kernel, [0] * len(kernel))


def _shaped(f: Layers, a: Arguments) -> str:
    return f.reshape(a["self"], tuple(a.integers("shape_of_value")))


def _expand(f: Layers, a: Arguments) -> str:
    return f.spread(a["self"], tuple(a.integers("shape_of_value")))


def _cut(f: Layers, a: Arguments) -> str:
    axis = a.integer("dim", 0)
    size = f.shape(a["self"])[axis]
    start, end = a.integer("start", 0), a.integer("end", size)
    return f.cut(a["self"], axis, start, min(end, size), a.integer("step", 1))


def _index_select(f: Layers, a: Arguments) -> str:
    return f.pick(a["self"], a.integer("dim"), [int(n) for n in a.constant("index").reshape(-1)])


def _flip(f: Layers, a: Arguments) -> str:
    value = f.value(a["self"])
    for axis in a.integers("dims"):
        value = f.pick(value, axis, range(f.shape(value)[axis] - 1, -1, -1))
    return value


def _instance_norm(f: Layers, a: Arguments) -> str:
    if not a.flag("use_input_stats", True):
        return _batch_norm(f, a)
    shape = f.shape(a["input"])
    return f.normalize(a["input"], len(shape) - 1, a.get("weight"), a.get("bias"), eps=a.number("eps"), groups=shape[1])


def _item(f: Layers, a: Arguments) -> str:
    axis, index = a.integer("dim"), a.integer("index")
    index %= f.shape(a["self"])[axis]
    return f.reshape(f.cut(a["self"], axis, index, index + 1), tuple(a.integers("shape_of_value", [])))


def _split(f: Layers, a: Arguments) -> str:
    axis, x = a.integer("dim", 0), a["self"]
    width, sizes = f.shape(x)[axis], a.integers("split_sizes", [])
    if not sizes:
        size = a.integer("split_size", 1)
        sizes = [min(size, width - start) for start in range(0, width, size)]
    return f.split(x, axis, sizes, a.integer("item"))


def _stack(f: Layers, a: Arguments) -> str:
    shape = a.integers("shape_of_value")
    axis = a.integer("dim", 0) % len(shape)
    parts = [f.reshape(x, (*f.shape(x)[:axis], 1, *f.shape(x)[axis:])) for x in a.all("tensors")]
    return f.join(parts, axis)


def _masked_fill(f: Layers, a: Arguments) -> str:
    mask, value = a["mask"], a.number("value")
    if not isinstance(mask, str) and value == -np.inf:
        return f.leave_out(a["self"], np.broadcast_to(mask == 0, f.shape(a["self"])))
    return f.select(mask, np.asarray(value), a["self"])


def _where(f: Layers, a: Arguments) -> str:
    condition, x, y = a["condition"], a["self"], a["other"]
    for kept, other, wanted in ((x, y, True), (y, x, False)):
        if not isinstance(condition, str) and not isinstance(other, str) and np.isneginf(other).all():
            return f.leave_out(kept, np.broadcast_to((condition != 0) == wanted, f.shape(kept)))
    return f.select(condition, x, y)


def _prelu(f: Layers, a: Arguments) -> str:
    slope, rank = a.constant("weight"), len(f.shape(a["self"]))
    return f.leaky_relu(a["self"], slope.reshape(-1, *(1,) * (rank - 2)) if slope.size > 1 else slope.reshape(()))


def _same(f: Layers, a: Arguments) -> str:
    return f.as_number(a["self"])


def _swap(f: Layers, a: Arguments) -> str:
    return f.swapped(a["self"], a.integer("dim0", 0), a.integer("dim1", 1))


def _lerp(f: Layers, a: Arguments) -> str:
    weight = a["weight"]
    if not isinstance(weight, str) and weight.size == 1:
        return f.damp(a["self"], a["end"], float(weight.reshape(())))
    return f.add(a["self"], f.multiply(weight, f.subtract(a["end"], a["self"])))


ATEN_FORMS: Mapping[str, Form] = {
    "_adaptive_avg_pool2d": _adaptive_pool,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_softmax": lambda f, a: f.softmax(a["self"], a.integer("dim")),
    "_to_copy": _same,
    "_unsafe_view": _shaped,
    "abs": lambda f, a: f.abs(a["self"]),
    "add": _add,
    "addmm": _addmm,
    "alias": _same,
    "amax": _reduced("max"),
    "avg_pool1d": lambda f, a: _pool(f, a, "mean"),
    "avg_pool2d": lambda f, a: _pool(f, a, "mean"),
    "avg_pool3d": lambda f, a: _pool(f, a, "mean"),
    "bmm": lambda f, a: f.matmul(a["self"], a["mat2"]),
    "cat": lambda f, a: f.join(a.all("tensors"), a.integer("dim", 0)),
    "ceil": lambda f, a: f.scale(f.floor(f.scale(a["self"], -1.0)), -1.0),
    "clamp": _clip,
    "clamp_max": _clip,
    "clamp_min": _clip,
    "clone": _same,
    "convolution": _conv,
    "copy": lambda f, a: f.spread(a["src"], tuple(a.integers("shape_of_value"))),
    "detach": _same,
    "div": _divide,
    "exp": lambda f, a: f.activation(a["self"], "exp"),
    "expand": _expand,
    "flip": _flip,
    "floor": lambda f, a: f.floor(a["self"]),
    "ge": lambda f, a: f.opposite(f.greater(a["other"], a["self"])),
    "gelu": lambda f, a: f.gelu(a["self"], a.word("approximate", "none")),
    "group_norm": _group_norm,
    "gt": lambda f, a: f.greater(a["self"], a["other"]),
    "hardtanh": lambda f, a: f.clip(a["self"], np.asarray(a.number("min_val")), np.asarray(a.number("max_val"))),
    "index_select": _index_select,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "le": lambda f, a: f.opposite(f.greater(a["self"], a["other"])),
    "leaky_relu": lambda f, a: f.leaky_relu(a["self"], np.asarray(a.number("negative_slope"))),
    "lerp": _lerp,
    "lift_fresh_copy": _same,
    "linear": lambda f, a: f.linear(a["input"], a["weight"], a.get("bias")),
    "logical_not": lambda f, a: f.opposite(a["self"]),
    "lt": lambda f, a: f.greater(a["other"], a["self"]),
    "masked_fill": _masked_fill,
    "matmul": lambda f, a: f.matmul(a["self"], a["other"]),
    "max": _reduced("max"),
    "max_pool2d_with_indices": lambda f, a: _pool(f, a, "max"),
    "maximum": lambda f, a: f.maximum(a["self"], a["other"]),
    "mean": _reduced("mean"),
    "minimum": lambda f, a: f.minimum(a["self"], a["other"]),
    "mm": lambda f, a: f.matmul(a["self"], a["mat2"]),
    "mul": lambda f, a: f.multiply(a["self"], a["other"]),
    "neg": lambda f, a: f.scale(a["self"], -1.0),
    "permute": lambda f, a: f.transpose(a["self"], a.integers("dims")),
    "pow": _power,
    "prelu": _prelu,
    "relu": lambda f, a: f.activation(a["self"], "relu"),
    "remainder": lambda f, a: f.mod(a["self"], a["other"]),
    "rsub": _reverse,
    "scaled_dot_product_attention": _attention,
    "select": _item,
    "sigmoid": lambda f, a: f.activation(a["self"], "sigmoid"),
    "sign": lambda f, a: f.sign(a["self"]),
    "silu": lambda f, a: f.activation(a["self"], "silu"),
    "slice": _cut,
    "softmax": lambda f, a: f.softmax(a["self"], a.integer("dim")),
    "split": _split,
    "split_with_sizes": _split,
    "squeeze": _shaped,
    "stack": _stack,
    "sub": _subtract,
    "sum": _reduced("sum"),
    "t": _swap,
    "tanh": lambda f, a: f.activation(a["self"], "tanh"),
    "transpose": _swap,
    "unsqueeze": _shaped,
    "view": _shaped,
    "where": _where,
}
"""By the operation's name without `aten.` and without its overload."""
