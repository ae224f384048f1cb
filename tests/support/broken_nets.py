"""A broken net for every diagnostic of the verifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from strategies import small_net

from eqcompile.toolchain.ir import (
    Encoding,
    EqNet,
    Format,
    Input,
    IntNet,
    Net,
    Output,
    Param,
    Schedule,
    State,
    Stop,
    ops,
)
from eqcompile.toolchain.ir.ops import Op


def integer() -> IntNet:
    """A valid IntNet to break: `h <- T[clamp(W h + x)]` over two units."""
    return small_net([[1, 0], [-1, 1]], table=list(range(-8, 8)), first=-8, steps=3)


def floating() -> EqNet:
    """A valid EqNet to break: `h <- tanh(W h + x)`."""
    return EqNet(
        name="float",
        family="test",
        inputs=(Input("x", (2,)),),
        params=(Param("W", np.eye(2), "W"),),
        states=(State("h", (2,), "y"),),
        drive=(),
        step=(
            ops.Linear(out="w", x="h", weight="W"),
            ops.Add(out="a", a="w", b="x"),
            ops.Activation(out="y", x="a", kind="tanh"),
        ),
        readout=(),
        outputs=(Output("o", "h", "values"),),
        schedule=Schedule(3),
    )


def also(net: Net, *more: Op, **params: Any) -> Net:
    """The net with operations after its step, and parameters for them."""
    made = tuple(Param(n, np.asarray(v), f"made {n}") for n, v in params.items())
    return replace(net, step=(*net.step, *more), params=(*net.params, *made))


def schedule(net: Net, **fields: Any) -> Net:
    return replace(net, schedule=replace(net.schedule, **fields))


def state(net: Net, **fields: Any) -> Net:
    return replace(net, states=(replace(net.states[0], **fields),))


def given_input(net: Net, **fields: Any) -> Net:
    return replace(net, inputs=(replace(net.inputs[0], **fields),))


def output(net: Net, **fields: Any) -> Net:
    return replace(net, outputs=(replace(net.outputs[0], **fields),))


def formats(net: IntNet, **changed: Format) -> IntNet:
    return replace(net, formats={**net.formats, **changed})


def token(rows: int | None, table: int) -> Net:
    """An IntNet with a token input of `rows` and a table of so many rows."""
    net = also(integer(), ops.Embedding(out="e", x="t", table="E"), E=np.zeros((table, 1), np.int64))
    return replace(net, inputs=(*net.inputs, Input("t", (), "index", rows=rows)))


def nested(count: int = 2, result: str = "k", carried: int = 8) -> Net:
    """An IntNet with a repeat whose carried value has so many bits."""
    body = (ops.Lookup(out="k", x="g", table="T", first=-8),)
    net = also(integer(), ops.Repeat(out="r", init="h", count=count, carry="g", body=body, result=result))
    assert isinstance(net, IntNet)
    return formats(net, g=Format(carried, True), r=Format(carried, True), k=Format(4, True))


I8 = Format(8, True)
X = Encoding(I8, 1.0)
INT, FLOAT = integer(), floating()
NAN = np.array([[np.nan, 1.0], [np.inf, 0.0]])

BROKEN: list[tuple[str, Net, str]] = [
    ("ir-name", replace(INT, outputs=(), inputs=(Input("x-y", (2,), encoding=X),)), "'x-y' is not an identifier"),
    ("ir-name", also(INT, ops.Abs(out="", x="h")), "'' is not an identifier"),
    ("ir-name-twice", also(INT, ops.Abs(out="w", x="h")), "'w' is defined twice"),
    ("ir-name-twice", also(nested(), ops.Abs(out="g", x="h")), "'g' is defined twice"),
    ("ir-name-twice", state(INT, name="x"), "'x' is defined twice"),
    ("ir-undefined", also(INT, ops.Abs(out="b", x="nowhere")), "b reads 'nowhere', not defined before it"),
    ("ir-undefined", replace(INT, step=INT.step[::-1]), "y reads 'a', not defined before it"),
    (
        "ir-undefined",
        also(INT, ops.Rescale(out="b", x="h", multiplier="h", shift=0)),
        "multiplier='h' is not a parameter",
    ),
    ("ir-undefined", also(nested(), ops.Abs(out="b", x="k")), "b reads 'k', not defined before it"),
    ("ir-undefined", also(nested(), ops.Abs(out="b", x="g")), "b reads 'g', not defined before it"),
    ("ir-undefined", nested(result="z"), "r carries 'z'"),
    ("ir-undefined", state(INT, update="nowhere"), "state h latches 'nowhere'"),
    ("ir-undefined", state(INT, init="w"), "state h starts from 'w'"),
    ("ir-undefined", state(INT, init="x"), "state h starts from 'x'"),
    ("ir-undefined", output(INT, value="y"), "output o reads 'y'"),
    ("ir-undefined", replace(INT, drive=(ops.Abs(out="d", x="h"),)), "d reads 'h', not defined before it"),
    ("ir-undefined", replace(INT, readout=(ops.Abs(out="d", x="w"),)), "d reads 'w', not defined before it"),
    ("ir-illegal", also(INT, ops.Scale(out="b", x="h", factor=2.0)), "scale (b) is not legal in an intnet"),
    (
        "ir-illegal",
        also(FLOAT, ops.Abs(out="b", x="h"), ops.DampFixed(out="d", old="h", new="b", multiplier=1, shift=1)),
        "damp_fixed (d) is not legal in an eqnet",
    ),
    ("ir-illegal", also(INT, ops.Reduce(out="b", x="h", kind="mean", axes=(-1,), keep=False)), "a mean is not legal"),
    ("ir-shift", also(INT, ops.DampFixed(out="b", old="h", new="y", multiplier=1, shift=63)), "b shifts by 63"),
    ("ir-shift", also(INT, ops.Divide(out="b", a="h", b="p", shift=-1), p=1), "b shifts by -1, must be in 0..62"),
    ("ir-damp", also(FLOAT, ops.Damp(out="b", old="h", new="y", alpha=0.0)), "alpha 0.0, must be in (0, 1]"),
    ("ir-damp", also(FLOAT, ops.Damp(out="b", old="h", new="y", alpha=1.5)), "alpha 1.5"),
    ("ir-repeat", nested(count=0), "r repeats 0 times, must be at least 1"),
    ("ir-dtype", also(INT, p=1.0), "parameter p is float64, must be int64"),
    ("ir-dtype", also(INT, p=np.int32(1)), "parameter p is int32, must be int64"),
    ("ir-dtype", also(FLOAT, p=1), "parameter p is int64, must be float64"),
    (
        "ir-dtype",
        also(FLOAT, ops.Stencil(out="s", x="h", weight="V", index="K"), V=np.ones((2, 1)), K=np.zeros((2, 1))),
        "parameter K is float64, must be int64",
    ),
    ("ir-not-finite", replace(FLOAT, params=(Param("W", NAN, "file.pt:W"),)), "2 of 4 entries of W"),
    ("ir-steps", schedule(INT, steps=0), "0 steps, must be at least 1"),
    ("ir-frames", schedule(INT, emit="every"), "emit=every needs frames"),
    ("ir-tolerance", schedule(INT, tolerance=-1), "tolerance -1 in an intnet"),
    ("ir-tolerance", schedule(FLOAT, tolerance=1), "tolerance 1 in an eqnet"),
    ("ir-stop", schedule(INT, stop=Stop("h", 0.1, 5, 2.0)), "stop rule on 'h' in an intnet"),
    ("ir-stop", schedule(FLOAT, stop=Stop("g", 0.1, 5, 2.0)), "stop rule on 'g' in an eqnet"),
    ("ir-io", replace(FLOAT, outputs=()), "1 inputs and 0 outputs"),
    ("ir-encoding", given_input(INT, encoding=None), "encoding None"),
    ("ir-encoding", given_input(FLOAT, encoding=X), "input x of an eqnet"),
    ("ir-scale", output(INT, scale=None), "output o of an intnet: scale None"),
    ("ir-scale", output(INT, scale=0.0), "scale 0.0"),
    ("ir-scale", output(INT, scale=float("nan")), "scale nan"),
    ("ir-scale", output(FLOAT, scale=1.0), "output o of an eqnet: scale 1.0"),
    ("ir-scale", given_input(INT, encoding=Encoding(I8, -1.0)), "input x has scale -1.0"),
    ("ir-scale", given_input(INT, encoding=Encoding(I8, float("inf"))), "input x has scale inf"),
    ("ir-index", token(None, 3), "input t has kind index and rows None"),
    ("ir-index", token(0, 3), "rows 0"),
    ("ir-index", given_input(FLOAT, rows=4), "input x has kind number and rows 4"),
    ("ir-index", token(4, 3), "e embeds 4 tokens with a table of 3 rows"),
    ("ir-empty", also(INT, ops.Linear(out="b", x="h", weight="p"), p=np.zeros((0, 2), np.int64)), "b has shape [0]"),
    ("ir-empty", also(INT, p=np.zeros((2, 0), np.int64)), "p has shape [2, 0]"),
    ("ir-shape", state(INT, shape=(3,)), "linear has weight [2, 2] on an input of shape [3]"),
    ("ir-shape", state(FLOAT, update="W"), "state h is [2], its update [2, 2]"),
    ("ir-shape", state(INT, init="p"), "state h is [2], starts as [3]"),
    ("ir-shape", output(FLOAT, value="c"), "output o (values) reads a boolean of shape [2]"),
    ("ir-shape", output(INT, value="s", kind="classes"), "output o (classes) reads a number of shape []"),
    ("ir-range", also(INT, ops.Divide(out="b", a="h", b="x", shift=0)), "divisor x may be -128, must be at least 1"),
    ("ir-range", nested(carried=7), "repeat r: h is in [-128, 127], carried format holds [-64, 63]"),
    ("ir-format", replace(INT, formats={n: f for n, f in INT.formats.items() if n != "w"}), "w has no stated format"),
    ("ir-format", formats(INT, v=I8), "v is not a value"),
    ("ir-format", formats(INT, w=Format(64, True)), "w is 64 bits, must be in 1..63"),
    ("ir-format", formats(INT, h=Format(0, True)), "h is 0 bits, must be in 1..63"),
    ("ir-format", given_input(INT, encoding=Encoding(Format(0, True), 1.0)), "x is 0 bits"),
    ("ir-overflow", formats(INT, w=I8), "w can be [-255, 255], i8 holds [-128, 127]"),
    ("ir-overflow", formats(INT, w=Format(9, False)), "w can be [-255, 255], u9 holds [0, 511]"),
    ("ir-overflow", formats(INT, x=Format(7, True)), "x can be [-128, 127], i7 holds [-64, 63]"),
    ("ir-overflow", formats(INT, h=Format(3, True)), "h from y can be [-8, 7], i3 holds [-4, 3]"),
]


def fix(net: Net) -> Net:
    """Give the cases above what they read besides: a reduced output, a boolean, an initial value."""
    reads = {o.value for o in net.outputs}
    if "s" in reads:
        total = ops.Reduce(out="s", x="h", kind="sum", axes=(-1,), keep=False)
        return replace(net, readout=(total,))
    if "c" in reads:
        return replace(net, readout=(ops.Greater(out="c", a="h", b="x"),))
    if net.states[0].init == "p":
        return also(net, p=np.zeros(3, np.int64))
    return net
