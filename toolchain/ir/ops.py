"""Operations of the IR: frozen dataclasses, each with its equation.

One vocabulary serves both levels; `LEGAL` in `verify` says which operation may stand at which level. An operation
reads values by name and defines the value `out`. Shapes are written without the batch axis, which every value has in
front. Elementwise operations broadcast as NumPy does on these shapes. Nothing here is named after a model: a family is
a composition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .operation import Operation, optional_param, param, value

__all__ = [
    "Abs",
    "Activation",
    "ActivationKind",
    "Add",
    "Clip",
    "Conv",
    "Damp",
    "DampFixed",
    "Divide",
    "ElementwiseOp",
    "Embedding",
    "Greater",
    "Interpolate",
    "Isqrt",
    "Linear",
    "Lookup",
    "MatMul",
    "Mod",
    "Mul",
    "Normalize",
    "FloatOp",
    "IntegerOp",
    "Op",
    "Operation",
    "PointwiseOp",
    "Reduce",
    "ReduceKind",
    "Repeat",
    "Rescale",
    "Reshape",
    "Scale",
    "Select",
    "SharedOp",
    "Softmax",
    "Stencil",
    "Sub",
    "Transpose",
    "WeightedOp",
]

ActivationKind = Literal["tanh", "sigmoid", "relu", "gelu", "silu", "exp"]
ReduceKind = Literal["sum", "mean", "max"]


# Linear maps: the operations that hold weights


@dataclass(frozen=True, kw_only=True)
class Linear(Operation):
    """`y[..., o] = sum_i weight[o, i] * x[..., i] + bias[o]`; weight `[out, in]`, bias `[out]`."""

    x: str = value()
    weight: str = param()
    bias: str | None = optional_param()
    mnemonic: ClassVar[str] = "linear"


@dataclass(frozen=True, kw_only=True)
class Stencil(Operation):
    """`y[n] = sum_k weight[n, k] * x[index[n, k]] + bias[n]`; an index of -1 is outside and contributes 0.

    x `[M]`, weight and index `[N, K]`. A lattice with weights of its own at each site.
    """

    x: str = value()
    weight: str = param()
    index: str = param()
    bias: str | None = optional_param()
    mnemonic: ClassVar[str] = "stencil"


@dataclass(frozen=True, kw_only=True)
class Conv(Operation):
    """Cross-correlation with zero padding in 1 to 3 dimensions.

    x `[C_in, *space]`, weight `[C_out, C_in, *kernel]`, bias `[C_out]`; one `stride` and one `padding` for all axes.
    """

    x: str = value()
    weight: str = param()
    bias: str | None = optional_param()
    stride: int
    padding: int
    mnemonic: ClassVar[str] = "conv"


@dataclass(frozen=True, kw_only=True)
class Embedding(Operation):
    """`y[..., :] = table[x[...], :]`; x holds indices, table `[rows, width]`."""

    x: str = value()
    table: str = param()
    mnemonic: ClassVar[str] = "embedding"


@dataclass(frozen=True, kw_only=True)
class MatMul(Operation):
    """`y = a @ b` over the last two axes, leading axes equal: the product of two values, as in attention."""

    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "matmul"


# Elementwise, at both levels


@dataclass(frozen=True, kw_only=True)
class Add(Operation):
    """`y = a + b`."""

    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "add"


@dataclass(frozen=True, kw_only=True)
class Sub(Operation):
    """`y = a - b`."""

    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "sub"


@dataclass(frozen=True, kw_only=True)
class Mul(Operation):
    """`y = a * b`."""

    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "mul"


@dataclass(frozen=True, kw_only=True)
class Abs(Operation):
    """`y = |x|`."""

    x: str = value()
    mnemonic: ClassVar[str] = "abs"


@dataclass(frozen=True, kw_only=True)
class Greater(Operation):
    """`y = a > b`, a boolean; with `select` it is a gate."""

    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "greater"


@dataclass(frozen=True, kw_only=True)
class Select(Operation):
    """`y = a where condition, else b`."""

    condition: str = value()
    a: str = value()
    b: str = value()
    mnemonic: ClassVar[str] = "select"


# Shape, reduction and nesting, at both levels


@dataclass(frozen=True, kw_only=True)
class Reduce(Operation):
    """Sum, mean or maximum over `axes` (negative, counted from the last); the axes stay with size 1 if `keep`.

    `mean` is legal at the float level only.
    """

    x: str = value()
    kind: ReduceKind
    axes: tuple[int, ...]
    keep: bool
    mnemonic: ClassVar[str] = "reduce"


@dataclass(frozen=True, kw_only=True)
class Reshape(Operation):
    """`y` holds the elements of `x` in C order under `shape` (without the batch axis)."""

    x: str = value()
    shape: tuple[int, ...]
    mnemonic: ClassVar[str] = "reshape"


@dataclass(frozen=True, kw_only=True)
class Transpose(Operation):
    """Axis i of `y` is axis `axes[i]` of `x` (batch axis not counted)."""

    x: str = value()
    axes: tuple[int, ...]
    mnemonic: ClassVar[str] = "transpose"


@dataclass(frozen=True, kw_only=True)
class Repeat(Operation):
    """A nested relaxation: `carry = init`, then `count` times evaluate `body` and set `carry = result`; `out = carry`.

    The body reads the enclosing scope and `carry`; its values are invisible outside.
    """

    init: str = value()
    count: int
    carry: str
    body: tuple[Op, ...]
    result: str
    mnemonic: ClassVar[str] = "repeat"


# Float level only


@dataclass(frozen=True, kw_only=True)
class Scale(Operation):
    """`y = factor * x`."""

    x: str = value()
    factor: float
    mnemonic: ClassVar[str] = "scale"


@dataclass(frozen=True, kw_only=True)
class Activation(Operation):
    """`y = phi(x)`; gelu is the exact one, `x/2 (1 + erf(x/sqrt 2))`; silu is `x sigmoid(x)`."""

    x: str = value()
    kind: ActivationKind
    mnemonic: ClassVar[str] = "activation"


@dataclass(frozen=True, kw_only=True)
class Clip(Operation):
    """`y = min(max(x, lo), hi)`, both ends finite: a saturation. Of `x` alone it is a hard tanh, of a line in x a hard
    sigmoid."""

    x: str = value()
    lo: float
    hi: float
    mnemonic: ClassVar[str] = "clip"


@dataclass(frozen=True, kw_only=True)
class Damp(Operation):
    """`y = (1 - alpha) * old + alpha * new`: a damped (leaky) update."""

    old: str = value()
    new: str = value()
    alpha: float
    mnemonic: ClassVar[str] = "damp"


@dataclass(frozen=True, kw_only=True)
class Mod(Operation):
    """`y = x - period * floor(x / period)`: a coordinate on a circle."""

    x: str = value()
    period: float
    mnemonic: ClassVar[str] = "mod"


@dataclass(frozen=True, kw_only=True)
class Normalize(Operation):
    """`y = (x - mean) / d` over `axes`; the variance is the biased one.

    `d = sqrt(variance + eps)` for `eps_on="variance"` (LayerNorm, GroupNorm), `d = sqrt(variance) + eps` for
    `"deviation"`. With `groups > 1` the first axis is split into groups and each group is normalised together with all
    other axes (GroupNorm, Wu and He 2018; `axes` then names all axes). An affine part is a `mul` and an `add`.
    """

    x: str = value()
    axes: tuple[int, ...]
    groups: int
    eps: float
    eps_on: Literal["variance", "deviation"]
    mnemonic: ClassVar[str] = "normalize"


@dataclass(frozen=True, kw_only=True)
class Softmax(Operation):
    """`y_i = exp(x_i) / sum_j exp(x_j)` over the last axis. With `mask` (same shape as x, broadcast), entries where
    the mask is 0 take no part and come out 0."""

    x: str = value()
    mask: str | None = optional_param()
    mnemonic: ClassVar[str] = "softmax"


# Integer level only


@dataclass(frozen=True, kw_only=True)
class Rescale(Operation):
    """`y = (x * multiplier + (1 << (shift - 1))) >> shift`, arithmetic shift: rounds half up.

    With `shift = 0` it is `x * multiplier`. `multiplier` is a parameter of shape `[]` or broadcastable to x.
    """

    x: str = value()
    multiplier: str = param()
    shift: int
    mnemonic: ClassVar[str] = "rescale"


@dataclass(frozen=True, kw_only=True)
class Lookup(Operation):
    """`y = table[clamp(x, first, first + len(table) - 1) - first]`: an activation table whose domain saturates."""

    x: str = value()
    table: str = param()
    first: int
    mnemonic: ClassVar[str] = "lookup"


@dataclass(frozen=True, kw_only=True)
class Interpolate(Operation):
    """Piecewise-linear table for wide formats; the domain saturates.

    `u = clamp(x, first, first + (len(base) << shift) - 1) - first; i = u >> shift; f = u & ((1 << shift) - 1)`;
    `y = base[i] + ((slope[i] * f + (1 << (shift - 1))) >> shift)`. `base` and `slope` have one entry a segment.
    """

    x: str = value()
    base: str = param()
    slope: str = param()
    first: int
    shift: int
    mnemonic: ClassVar[str] = "interpolate"


@dataclass(frozen=True, kw_only=True)
class DampFixed(Operation):
    """`y = old + (((new - old) * multiplier + (1 << (shift - 1))) >> shift)`, `0 < multiplier <= 1 << shift`.

    Rounds half up; the result lies between `old` and `new`.
    """

    old: str = value()
    new: str = value()
    multiplier: int
    shift: int
    mnemonic: ClassVar[str] = "damp_fixed"


@dataclass(frozen=True, kw_only=True)
class Divide(Operation):
    """`y = floor(((a << shift) + b // 2) / b)`, b proved positive: the quotient in `shift` fraction bits."""

    a: str = value()
    b: str = value()
    shift: int
    mnemonic: ClassVar[str] = "divide"


@dataclass(frozen=True, kw_only=True)
class Isqrt(Operation):
    """`y` with `y * y <= x < (y + 1) * (y + 1)`, the integer square root; 0 where x is negative."""

    x: str = value()
    mnemonic: ClassVar[str] = "isqrt"


# Closed sets. A `match` over one ends in `assert_never`: type checking names each place that misses a new operation.

WeightedOp = Linear | Stencil | Conv
PointwiseOp = Add | Sub | Mul | Abs | Greater | Select
SharedOp = WeightedOp | PointwiseOp | Embedding | MatMul | Reduce | Reshape | Transpose | Repeat  # legal at both levels
FloatOp = Scale | Activation | Clip | Damp | Mod | Normalize | Softmax  # legal in an EqNet alone
IntegerOp = Rescale | Lookup | Interpolate | DampFixed | Divide | Isqrt  # legal in an IntNet alone, all elementwise
ElementwiseOp = PointwiseOp | IntegerOp
Op = SharedOp | FloatOp | IntegerOp
