"""Small nets of the float level that together use every operation there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import EqNet, Input, Output, Param, Schedule, State, Stop, ops
from eqcompile.toolchain.ir.ops import Op


def float_net(
    step: tuple[Op, ...],
    params: Mapping[str, NDArray[Any]],
    *,
    shape: tuple[int, ...],
    init: str | None = None,
    schedule: Schedule | None = None,
    inputs: tuple[Input, ...] = (),
    drive: tuple[Op, ...] = (),
) -> EqNet:
    return EqNet(
        name="float",
        family="test",
        inputs=inputs or (Input("x", shape),),
        params=tuple(Param(n, v, f"test:{n}") for n, v in params.items()),
        states=(State("h", shape, "y", init=init),),
        drive=drive,
        step=step,
        readout=(ops.Scale(out="o", x="h", factor=0.1),),
        outputs=(Output("o", "o", "values"),),
        schedule=schedule or Schedule(3),
    )


def arrays(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    generator = np.random.default_rng(7)
    return [generator.normal(0.0, 0.7, shape) for shape in shapes]


def float_nets() -> dict[str, EqNet]:
    """Every operation of the float level, with the shapes and attributes that change its function."""
    w, square, b, bias = arrays((4, 4), (3, 3), (4,), (2,))
    kernel, volume, table, gain = arrays((2, 2, 3, 2), (1, 1, 2, 2, 2), (5, 4), (1,))
    index = np.array([[0, 1, -1], [2, -1, 3], [3, 3, 0], [-1, -1, -1]], np.int64)
    mask = np.tril(np.ones((3, 3), np.int64))
    mask[1] = 0
    x = ops.Add(out="a", a="h", b="x")
    inner = (ops.Add(out="f", a="e", b="a"),)
    image = (2, 4, 3)
    tokens = (3, 4)

    def activated(kind: Any) -> EqNet:
        return float_net((x, ops.Activation(out="y", x="a", kind=kind)), {}, shape=(4,))

    def normalized(axes: tuple[int, ...], groups: int, eps_on: Any) -> EqNet:
        operation = ops.Normalize(out="y", x="a", axes=axes, groups=groups, eps=1e-3, eps_on=eps_on)
        return float_net((x, operation), {}, shape=image)

    def reduced(kind: Any, axes: tuple[int, ...], keep: bool) -> EqNet:
        total = ops.Reduce(out="r", x="a", kind=kind, axes=axes, keep=keep)
        return float_net((x, total, ops.Sub(out="y", a="a", b="r")), {}, shape=tokens)

    nets = {
        "linear": float_net(
            (ops.Linear(out="l", x="h", weight="w", bias="b"), ops.Linear(out="m", x="x", weight="w"))
            + (ops.Add(out="s", a="l", b="m"), ops.Damp(out="y", old="h", new="s", alpha=1 / 3)),
            {"w": w, "b": b},
            shape=(4,),
        ),
        "scaled product": float_net(
            (ops.Linear(out="l", x="x", weight="w"), ops.Scale(out="s", x="l", factor=1 / 3))
            + (ops.Mul(out="g", a="gain", b="s"), ops.Mul(out="y", a="g", b="gain")),
            {"w": w, "gain": gain},
            shape=(4,),
        ),
        "stencil": float_net(
            (ops.Stencil(out="s", x="h", weight="w", index="i", bias="b"), ops.Add(out="y", a="s", b="x")),
            {"w": arrays((4, 3))[0], "i": index, "b": b},
            shape=(4,),
        ),
        "conv": float_net(
            (x, ops.Conv(out="c", x="a", weight="k", bias="b", stride=1, padding=1))
            + (ops.Reshape(out="f", x="c", shape=(32,)), ops.Reduce(out="r", x="f", kind="mean", axes=(-1,), keep=True))
            + (ops.Sub(out="y", a="a", b="r"),),
            {"k": kernel, "b": bias},
            shape=image,
        ),
        "conv 3d": float_net(
            (x, ops.Conv(out="c", x="a", weight="k", stride=2, padding=1))
            + (ops.Reduce(out="r", x="c", kind="max", axes=(-1, -2, -3), keep=True), ops.Mul(out="y", a="a", b="r")),
            {"k": volume},
            shape=(1, 3, 3, 3),
        ),
        "attention": float_net(
            (x, ops.Transpose(out="t", x="a", axes=(1, 0)), ops.MatMul(out="q", a="a", b="t"))
            + (ops.Scale(out="s", x="q", factor=1 / np.sqrt(3.0)), ops.Softmax(out="p", x="s", mask="mask"))
            + (ops.Softmax(out="p2", x="s"), ops.Add(out="pp", a="p", b="p2"), ops.MatMul(out="y", a="pp", b="a")),
            {"mask": mask},
            shape=tokens,
        ),
        "embedding": float_net(
            (ops.Add(out="y", a="e", b="h"),),
            {"table": table},
            shape=(3, 4),
            inputs=(Input("x", (3,), "index", rows=5),),
            drive=(ops.Embedding(out="e", x="x", table="table"),),
            init="e",
        ),
        "gate": float_net(
            (x, ops.Abs(out="d", x="a"), ops.Reduce(out="m", x="d", kind="mean", axes=(-1,), keep=True))
            + (ops.Greater(out="g", a="m", b="b"), ops.Select(out="y", condition="g", a="x", b="h")),
            {"b": b},
            shape=(4,),
        ),
        "broadcast": float_net(
            # A vector and a matrix, both with a batch; parameters alone; a scalar state's value.
            (ops.Reduce(out="r", x="x", kind="sum", axes=(-2,), keep=False), ops.Mul(out="m", a="r", b="x"))
            + (ops.Add(out="pq", a="v", b="c"), ops.Sub(out="y", a="m", b="pq")),
            {"v": arrays((4,))[0], "c": arrays((3, 1))[0]},
            shape=tokens,
            init="v",
        ),
        "clip": float_net((x, ops.Clip(out="y", x="a", lo=-0.25, hi=1 / 3)), {}, shape=(4,)),
        "mod": float_net((x, ops.Mod(out="y", x="a", period=0.7)), {}, shape=(4,)),
        "nested": float_net(
            (
                x,
                ops.Repeat(
                    out="y",
                    init="w",
                    count=2,
                    carry="c",
                    result="d",
                    body=(
                        ops.MatMul(out="m", a="c", b="c"),
                        ops.Repeat(out="n", init="m", count=3, carry="e", result="f", body=inner),
                        ops.Activation(out="d", x="n", kind="tanh"),
                    ),
                ),
            ),
            {"w": square},
            shape=(3, 3),
        ),
        "stop": float_net(
            (ops.Linear(out="l", x="h", weight="w"), ops.Add(out="s", a="l", b="x"))
            + (ops.Activation(out="n", x="s", kind="tanh"), ops.Damp(out="y", old="h", new="n", alpha=0.5)),
            {"w": 0.3 * w},
            shape=(4,),
            schedule=Schedule(60, stop=Stop("h", 1e-4, 5, 2.0)),
        ),
    }
    for kind in ("tanh", "sigmoid", "relu", "gelu", "silu"):
        nets[kind] = activated(kind)
    falling = (ops.Scale(out="n", x="a", factor=-0.5), ops.Activation(out="y", x="n", kind="exp"))
    nets["exp"] = float_net((x, *falling), {}, shape=(4,))
    for axes, groups, eps_on in (((-1,), 1, "variance"), ((-1, -2, -3), 2, "variance"), ((-2, -1), 1, "deviation")):
        nets[f"normalize {axes} {groups} {eps_on}"] = normalized(axes, groups, eps_on)
    for kind, axes, keep in (("sum", (-1,), True), ("mean", (-2,), False), ("max", (-1, -2), True), ("sum", (), True)):
        nets[f"reduce {kind} {axes}"] = reduced(kind, axes, keep)
    for emit in ("last", "every"):
        nets[f"frames {emit}"] = float_net(
            (ops.Damp(out="y", old="h", new="d", alpha=0.25),),
            {},
            shape=(4,),
            drive=(ops.Activation(out="d", x="x", kind="tanh"),),
            init="d",
            schedule=Schedule(2, frames=True, emit=emit),
        )
    return nets
