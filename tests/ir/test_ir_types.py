"""Shapes and kinds: what every operation demands of its operands, and what it makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import small_net

from eqcompile.toolchain.ir import Input, Param, ValueType, check, infer, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.types import infer_op

INT = small_net([[1, 0], [-1, 1]], table=list(range(-8, 8)), first=-8, steps=3)

SHAPES: list[tuple[Op, str]] = [
    (ops.Linear(out="z", x="h", weight="p3"), "linear has weight [3] on an input of shape [2]"),
    (ops.Linear(out="z", x="h", weight="W", bias="p3"), "linear has bias [3] for 2 outputs"),
    (ops.Stencil(out="z", x="h", weight="W", index="p3"), "stencil has weight [2, 2], index [3] on shape [2]"),
    (ops.Stencil(out="z", x="h", weight="W", index="far"), "stencil has indices 0 to 2, its operand has 0 to 1"),
    (ops.Stencil(out="z", x="h", weight="W", index="W", bias="p3"), "stencil has bias [3] for 2 sites"),
    (ops.Conv(out="z", x="h", weight="W", stride=1, padding=0), "conv has weight [2, 2] on an input of shape [2]"),
    (ops.Conv(out="z", x="i", weight="k", stride=0, padding=0), "conv has stride 0 and padding 0"),
    (ops.Conv(out="z", x="i", weight="k", stride=1, padding=0, bias="p3"), "conv has bias [3] for 1 channels"),
    (ops.Conv(out="z", x="i", weight="k3", stride=1, padding=0), "conv has kernel [3] on a space of [2]"),
    (ops.Embedding(out="z", x="h", table="W"), "embedding has table [2, 2] and a number operand"),
    (ops.MatMul(out="z", a="i", b="i"), "matmul cannot multiply [1, 2] and [1, 2]"),
    (ops.Add(out="z", a="h", b="p3"), "add cannot broadcast shapes (2,) and (3,)"),
    (ops.Add(out="z", a="h", b="c"), "add reads a boolean; only select does"),
    (ops.Add(out="z", a="h", b="t"), "add reads an index; only embedding does"),
    (ops.Select(out="z", condition="h", a="h", b="h"), "select needs a boolean condition and two numbers"),
    (ops.Rescale(out="z", x="h", multiplier="W", shift=0), "rescale has multiplier [2, 2] on [2]"),
    (ops.Lookup(out="z", x="h", table="W", first=0), "lookup has a table of shape [2, 2], must be [entries]"),
    (ops.Interpolate(out="z", x="h", base="T", slope="p3", first=0, shift=0), "interpolate has base [16], slope [3]"),
    (ops.Reduce(out="z", x="h", kind="sum", axes=(-2,), keep=False), "reduce has axis -2, its operand has axes -1 to"),
    (ops.Reduce(out="z", x="h", kind="sum", axes=(0,), keep=False), "reduce has axis 0"),
    (ops.Reduce(out="z", x="h", kind="sum", axes=(-1, -1), keep=False), "reduce has axes [-1, -1], one of them twice"),
    (ops.Reshape(out="z", x="h", shape=(3,)), "reshape of [2] (2) to [3] (3)"),
    (ops.Reshape(out="z", x="h", shape=(-1, -2)), "reshape of [2] (2) to [-1, -2]"),
    (ops.Transpose(out="z", x="h", axes=(1,)), "transpose has axes [1] on shape [2]"),
    (ops.Repeat(out="z", init="h", count=1, carry="g", body=(), result="p3"), "repeat carries ValueType(shape=(2,)"),
]


@pytest.mark.parametrize(("op", "what"), SHAPES, ids=[f"{i}-{op.mnemonic}" for i, (op, _) in enumerate(SHAPES)])
def test_operands_that_do_not_fit_are_named(op: Op, what: str) -> None:
    """An operation whose operands NumPy would broadcast or refuse in words of its own."""
    arrays = {
        "p3": [0, 0, 0],
        "far": [[0, 1], [2, 0]],
        "k": [[[1]]],
        "k3": [[[1, 1, 1]]],
    }
    net = replace(
        INT,
        inputs=(*INT.inputs, Input("t", (), "index", rows=2)),
        params=(*INT.params, *(Param(n, np.array(v), "test") for n, v in arrays.items())),
        step=(*INT.step, ops.Greater(out="c", a="h", b="x"), ops.Reshape(out="i", x="h", shape=(1, 2)), op),
    )
    faults = check(net)
    assert [d.code for d in faults] == ["ir-shape"]
    assert what in faults[0].what


MADE: list[tuple[Op, tuple[int, ...]]] = [
    (ops.Linear(out="z", x="m", weight="W"), (5, 3, 7)),
    (ops.Conv(out="z", x="m", weight="C", stride=2, padding=1), (4, 2)),
    (ops.Stencil(out="z", x="v", weight="S", index="S"), (3,)),
    (ops.MatMul(out="z", a="q", b="W"), (7, 7)),
    (ops.Add(out="z", a="m", b="v"), (5, 3, 2)),
    (ops.Greater(out="z", a="v", b="m"), (5, 3, 2)),
    (ops.Reduce(out="z", x="m", kind="sum", axes=(-1, -3), keep=False), (3,)),
    (ops.Reduce(out="z", x="m", kind="max", axes=(-1, -3), keep=True), (1, 3, 1)),
    (ops.Reshape(out="z", x="m", shape=(6, 5)), (6, 5)),
    (ops.Transpose(out="z", x="m", axes=(2, 0, 1)), (2, 5, 3)),
    (ops.Rescale(out="z", x="m", multiplier="v", shift=1), (5, 3, 2)),
]


@pytest.mark.parametrize(("op", "shape"), MADE, ids=[f"{i}-{op.mnemonic}" for i, (op, _) in enumerate(MADE)])
def test_shape_of_a_result(op: Op, shape: tuple[int, ...]) -> None:
    """A wrong inferred shape sizes a wire wrongly in every target."""
    scope = {
        "m": (5, 3, 2),
        "v": (2,),
        "q": (7, 7),
        "W": (7, 2),
        "C": (4, 5, 3),
        "S": (3, 1),
    }
    if isinstance(op, ops.Conv):
        scope["m"] = (5, 3)
    if isinstance(op, ops.MatMul):
        scope["W"] = (7, 7)
    types = {name: ValueType(s) for name, s in scope.items()}
    found = infer_op(op, types, {"S": np.zeros((3, 1), np.int64)})
    assert found == ValueType(shape, "boolean" if isinstance(op, ops.Greater) else "number")


def test_a_repeat_has_the_type_of_what_it_carries() -> None:
    """A nested relaxation whose carried value is not known inside the body."""
    body = (ops.Lookup(out="k", x="g", table="T", first=-8),)
    nested = ops.Repeat(out="r", init="h", count=2, carry="g", body=body, result="k")
    types = infer(replace(INT, step=(*INT.step, nested)))
    assert types["r"] == types["g"] == types["k"] == ValueType((2,))
