"""The equations of the float operations, written out entry by entry: what the interpreter is judged by."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eqcompile.toolchain.ir import EqNet, Input, Output, Param, Schedule, ops, verify
from eqcompile.toolchain.ir.ops import Op

Array = Any
Shape = tuple[int, ...]


def one_op(op: Op, shapes: dict[str, Shape], params: dict[str, Array], *, rows: int | None = None) -> EqNet:
    """A net that evaluates one operation on its inputs; a gate is read through a select."""
    readout: tuple[Op, ...] = (op,)
    value = op.out
    if isinstance(op, ops.Greater):
        params = {**params, "yes": np.array(1.0), "no": np.array(0.0)}
        readout, value = (op, ops.Select(out="shown", condition=op.out, a="yes", b="no")), "shown"
    net = EqNet(
        name="one",
        family="",
        inputs=tuple(Input(n, s, "number" if rows is None else "index", rows) for n, s in shapes.items()),
        params=tuple(Param(n, v, "made") for n, v in params.items()),
        states=(),
        drive=(),
        step=(),
        readout=readout,
        outputs=(Output("y", value, "values"),),
        schedule=Schedule(1),
    )
    verify(net)
    return net


def entries(shape: Shape) -> list[Shape]:
    return list(itertools.product(*map(range, shape)))


def naive(op: Op, v: dict[str, Array], shape: Shape) -> Array:
    """The docstring of the operation on one sample, entry by entry; `v` holds operands without the batch axis."""
    y = np.zeros(shape)

    def at(name: str, index: Shape) -> Any:
        """The entry of an operand that broadcasts to `shape`."""
        a = v[name]
        tail = index[len(index) - a.ndim :]
        return a[tuple(i if n > 1 else 0 for i, n in zip(tail, a.shape, strict=True))]

    for i in entries(shape):
        match op:
            case ops.Linear(x=x, weight=w, bias=b):
                y[i] = sum(v[w][i[-1], j] * v[x][(*i[:-1], j)] for j in range(v[w].shape[1]))
                y[i] += 0.0 if b is None else v[b][i[-1]]
            case ops.Stencil(x=x, weight=w, index=k, bias=b):
                taps = zip(v[w][i[0]], v[k][i[0]], strict=True)
                y[i] = sum(wt * v[x][n] for wt, n in taps if n >= 0) + (0.0 if b is None else v[b][i[0]])
            case ops.Conv(x=x, weight=w, bias=b, stride=s, padding=p):
                total = 0.0 if b is None else v[b][i[0]]
                for c, *k in entries(v[w].shape[1:]):
                    at_x = tuple(o * s + d - p for o, d in zip(i[1:], k, strict=True))
                    if all(0 <= a < n for a, n in zip(at_x, v[x].shape[1:], strict=True)):
                        total += v[w][(i[0], c, *k)] * v[x][(c, *at_x)]
                y[i] = total
            case ops.Embedding(x=x, table=t):
                y[i] = v[t][v[x][i[:-1]], i[-1]]
            case ops.MatMul(a=a, b=b):
                y[i] = sum(v[a][(*i[:-1], j)] * v[b][(*i[:-2], j, i[-1])] for j in range(v[a].shape[-1]))
            case ops.Add(a=a, b=b):
                y[i] = at(a, i) + at(b, i)
            case ops.Sub(a=a, b=b):
                y[i] = at(a, i) - at(b, i)
            case ops.Mul(a=a, b=b):
                y[i] = at(a, i) * at(b, i)
            case ops.Abs(x=x):
                y[i] = abs(v[x][i])
            case ops.Greater(a=a, b=b):
                y[i] = 1.0 if at(a, i) > at(b, i) else 0.0
            case ops.Scale(x=x, factor=f):
                y[i] = f * v[x][i]
            case ops.Damp(old=a, new=b, alpha=f):
                y[i] = (1 - f) * at(a, i) + f * at(b, i)
            case ops.Mod(x=x, period=p):
                y[i] = v[x][i] - p * math.floor(v[x][i] / p)
            case ops.Clip(x=x, lo=lo, hi=hi):
                y[i] = lo if v[x][i] < lo else hi if v[x][i] > hi else v[x][i]
            case ops.Activation(x=x, kind=kind):
                y[i] = SCALAR[kind](v[x][i])
            case ops.Reduce():
                y[i] = reduced(op, v[op.x], i)
            case ops.Reshape(x=x):
                y[i] = v[x][tuple(np.unravel_index(np.ravel_multi_index(i, shape), v[x].shape))]
            case ops.Transpose(x=x, axes=axes):
                at_x = [0] * len(axes)
                for mine, its in enumerate(axes):
                    at_x[its] = i[mine]
                y[i] = v[x][tuple(at_x)]
            case ops.Normalize():
                y[i] = normalized(op, v[op.x], i)
            case ops.Softmax(x=x, mask=m):
                row = [(v[x][(*i[:-1], j)], m is None or at(m, (*i[:-1], j)) != 0) for j in range(shape[-1])]
                top = max((r for r, part in row if part), default=0.0)
                total = sum(math.exp(r - top) for r, part in row if part)
                y[i] = math.exp(row[i[-1]][0] - top) / total if row[i[-1]][1] else 0.0
            case _:
                raise TypeError(type(op).__name__)
    return y


SCALAR: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "exp": math.exp,
}


def reduced(op: ops.Reduce, x: Array, i: Shape) -> float:
    axes = {a % x.ndim for a in op.axes}
    index = list(i)
    if not op.keep:
        for a in sorted(axes):
            index.insert(a, 0)
    same = [j for j in entries(x.shape) if all(a in axes or j[a] == index[a] for a in range(x.ndim))]
    values = [x[j] for j in same]
    match op.kind:
        case "sum":
            return float(sum(values))
        case "mean":
            return float(sum(values) / len(values))
        case "max":
            return float(max(values))


def normalized(op: ops.Normalize, x: Array, i: Shape) -> float:
    axes = {a % x.ndim for a in op.axes}
    size = x.shape[0] // op.groups

    def together(j: Shape) -> bool:
        if op.groups > 1:
            return j[0] // size == i[0] // size
        return all(a in axes or j[a] == i[a] for a in range(x.ndim))

    values = [x[j] for j in entries(x.shape) if together(j)]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    if op.eps_on == "variance":
        return float((x[i] - mean) / math.sqrt(variance + op.eps))
    return float((x[i] - mean) / (math.sqrt(variance) + op.eps))
