"""Nets for the placement on neurocores."""

from typing import Any

import numpy as np
from strategies import with_formats

from eqcompile.targets.loihi.chips import CHIPS
from eqcompile.targets.loihi.mapping import Placement, place
from eqcompile.targets.loihi.partition import partition
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops

__all__ = ["image", "normalised", "placed"]


def placed(net: IntNet, chip: Any = "loihi1", **options: Any) -> Placement:
    return place(partition(net), CHIPS[chip], **options)


def image(channels: int, side: int) -> IntNet:
    """A 3 x 3 convolution of `channels` states on `side` x `side` sites, weights of 1."""
    i8, shape = Format(8, True), (channels, side, side)
    return with_formats(
        IntNet(
            name="image",
            family="test",
            inputs=(Input("x", shape, encoding=Encoding(i8, 1.0)),),
            params=(
                Param("w", np.ones((channels, channels, 3, 3), np.int64), "test"),
                Param("table", np.arange(-128, 128), "test"),
            ),
            states=(State("h", shape, update="new", frac=0),),
            drive=(),
            step=(
                ops.Conv(out="near", x="h", weight="w", stride=1, padding=1),
                ops.Add(out="sum", a="near", b="x"),
                ops.Lookup(out="new", x="sum", table="table", first=-128),
            ),
            readout=(),
            outputs=(Output("y", "h", "values", 1.0),),
            schedule=Schedule(5),
            formats={"h": i8},
        )
    )


def normalised() -> IntNet:
    """A state over its length, as a normalisation has it: squares, a parameter and a sum of more than 32 bits."""
    i8 = Format(8, True)
    return with_formats(
        IntNet(
            name="normalised",
            family="test",
            inputs=(Input("x", (3,), encoding=Encoding(i8, 1.0)),),
            params=(
                Param("W", np.array([[3, -2, 1], [1, 1, -1], [0, 2, 1]]), "test"),
                Param("whole", np.array(1 << 24), "test"),
                Param("eps", np.array([1 << 33]), "test"),
                Param("one", np.array(1), "test"),
                Param("table", np.arange(-128, 128), "test"),
            ),
            states=(State("h", (3,), update="new", frac=0),),
            drive=(ops.Linear(out="d", x="x", weight="W"),),
            step=(
                ops.Mul(out="square", a="h", b="h"),
                ops.Rescale(out="fine", x="square", multiplier="whole", shift=0),
                ops.Reduce(out="power", x="fine", kind="sum", axes=(-1,), keep=True),
                ops.Add(out="padded", a="power", b="eps"),
                ops.Isqrt(out="root", x="padded"),
                ops.Divide(out="over", a="one", b="root", shift=22),
                ops.Mul(out="unit", a="h", b="over"),
                ops.Linear(out="r", x="h", weight="W"),
                ops.Add(out="p", a="d", b="r"),
                ops.Add(out="q", a="p", b="unit"),
                ops.Lookup(out="new", x="q", table="table", first=-128),
            ),
            readout=(),
            outputs=(Output("y", "h", "values", 1.0),),
            schedule=Schedule(6),
            formats={"h": i8},
        )
    )
