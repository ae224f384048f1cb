"""The nets and engines on which mutants are judged: small, and together they use all that an engine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from emitting import write_core
from strategies import with_formats

from eqcompile.rtl.architecture import Architecture
from eqcompile.targets.rtl.engines import architecture
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops

__all__ = ["Subject", "subjects"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A net on an engine."""

    net: IntNet
    arch: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> Architecture:
        return architecture(self.arch, **self.options)

    def write(self, folder: Path) -> Path:
        """The emitted folder, which is made; its core has the trace port, so that what the bench runs is it."""
        folder.mkdir()
        write_core(self.net, self.architecture, folder, trace=True)
        return folder


@cache
def subjects(arch: str) -> tuple[Subject, ...]:
    """What the mutants of an engine are judged on, in that order."""
    match arch:
        case "serial":
            # So few lanes that a column has several words.
            return tuple(Subject(_net(ternary=t), "serial", {"lanes": 2}) for t in (True, False))
        case "parallel":
            return (
                Subject(_fused(), "parallel", {"levels": 2, "beat": 3, "result_beat": 2}),
                Subject(_net(ternary=True), "parallel", {"levels": 3}),
                Subject(_net(ternary=False), "parallel", {"levels": 1, "beat": 2}),
                Subject(_fused(), "parallel", {"levels": 0, "beat": 2}),
                # A step of several clocks, which does not run ahead.
                Subject(_net(ternary=True), "parallel", {"levels": 2, "step_levels": 2}),
                Subject(_multiples(), "parallel", {"levels": 3}),
            )
        case "lattice":
            return (
                # Uneven: a block has three cells, the second one two sites; a unit serves two cells, the second one.
                Subject(_sites(ternary=False), "lattice", {"passes": 2, "units": 2}),
                Subject(_sites(ternary=True), "lattice"),
                # Three blocks of nine cells, the last one of them none; all wait for the one unit.
                Subject(_planes(), "lattice", {"passes": 3, "units": 1}),
            )
    raise AssertionError(arch)


def _net(*, ternary: bool) -> IntNet:
    """Two states, ternary weights or wide ones, everything elementwise."""
    source = np.random.default_rng(7 if ternary else 8)

    def weights(*shape: int) -> np.ndarray:
        return source.integers(-1, 2, shape) if ternary else source.integers(-31, 32, shape)

    shift = 1 if ternary else 5
    params = {
        "U": weights(6, 5),
        "u": source.integers(-20, 21, 6),
        "W": weights(6, 6),
        "V": weights(6, 3),
        "w": source.integers(-9, 10, 6),
        "K": weights(3, 6),
        "R": weights(3, 6),
        "scale": source.integers(1, 4, 6),
        "one": np.array(2),
        "table": np.sort(source.integers(-128, 128, 50)),
        "base": np.sort(source.integers(-120, 100, 7)),
        "slope": source.integers(-20, 20, 7),
        "small": np.array(3),
    }
    if ternary:
        # Words 0 and 1, then 1 and 2: in that order the sum of word 1 would be read before it is written.
        params["U"][:, :2] = np.array([[1, 0, -1, 0, 0, 0], [0, 0, 1, 0, 1, 0]]).T
    else:
        # Only the last unit of the last sweep moves in the tick after `h` has settled.
        params["K"][:2] = 0
    step = (
        ops.Linear(out="wh", x="h", weight="W", bias="w"),
        ops.Linear(out="vg", x="g", weight="V"),
        ops.Sub(out="mixed", a="wh", b="vg"),
        ops.Add(out="driven", a="mixed", b="ux"),
        ops.Rescale(out="scaled", x="driven", multiplier="scale", shift=shift + 2),
        ops.Lookup(out="phi", x="scaled", table="table", first=-23),
        ops.DampFixed(out="new", old="h", new="phi", multiplier=3, shift=2),
        ops.Sub(out="difference", a="new", b="h"),
        ops.Abs(out="distance", x="difference"),
        ops.Greater(out="far", a="distance", b="small"),
        ops.Select(out="next", condition="far", a="new", b="h"),
        ops.Linear(out="kh", x="h", weight="K"),
        ops.Rescale(out="halved", x="kh", multiplier="one", shift=shift + 2),
        ops.Interpolate(out="psi", x="halved", base="base", slope="slope", first=-13, shift=2),
    )
    net = IntNet(
        name="mutants",
        family="test",
        inputs=(Input("x", (5,), encoding=Encoding(Format(5, True), 1.0)),),
        params=tuple(Param(name, value, "test") for name, value in params.items()),
        states=(State("h", (6,), "next", frac=7), State("g", (3,), "psi", frac=7)),
        drive=(ops.Linear(out="ux", x="x", weight="U", bias="u"),),
        step=step,
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        schedule=Schedule(9),
        formats={"h": Format(8, True), "g": Format(8, True)},
    )
    return with_formats(net)


def _fused() -> IntNet:
    """A map, its multiplication and the drive as one adder graph; a readout with operations behind it."""
    source = np.random.default_rng(2)
    params = {
        "U": source.integers(-7, 8, (7, 4)),
        "W": source.integers(-12, 13, (7, 7)),
        "w": source.integers(-40, 41, 7),
        "four": np.array(4),
        "m": source.integers(1, 6, 7),
        "table": np.clip(np.round(np.linspace(-100, 101, 150)), -90, 90).astype(np.int64),
        "start": np.arange(-64, 64) // 2,
        "R": source.integers(-5, 6, (3, 7)),
        "r": source.integers(-30, 31, 3),
        "three": np.array(3),
    }
    net = IntNet(
        name="fused",
        family="test",
        inputs=(Input("x", (4,), encoding=Encoding(Format(5, False), 1.0)),),
        params=tuple(Param(name, value, "test") for name, value in params.items()),
        states=(State("h", (7,), "next", "initial", frac=7),),
        drive=(
            ops.Linear(out="ux", x="x", weight="U"),
            ops.Lookup(out="initial", x="ux", table="start", first=-64),
        ),
        step=(
            ops.Linear(out="wh", x="h", weight="W", bias="w"),
            ops.Rescale(out="times", x="wh", multiplier="four", shift=0),
            ops.Add(out="driven", a="times", b="ux"),
            ops.Rescale(out="scaled", x="driven", multiplier="m", shift=10),
            ops.Lookup(out="next", x="scaled", table="table", first=-75),
        ),
        readout=(
            ops.Linear(out="rh", x="h", weight="R", bias="r"),
            ops.Rescale(out="logits", x="rh", multiplier="three", shift=3),
        ),
        outputs=(Output("o", "logits", "classes", 1.0),),
        schedule=Schedule(8),
        formats={"h": Format(8, True)},
    )
    return with_formats(net)


def _multiples() -> IntNet:
    """Sums whose lowest bits never change and are not zero: added to each other, multiplied, looked up.

    One table is long enough for block RAM; the operand of another has no sign, and an entry for each of its codes.
    """
    source = np.random.default_rng(4)

    def odd(size: int) -> np.ndarray:
        return source.choice([-5, -3, -1, 1, 3, 5], size)

    params = {
        "U": source.integers(-7, 8, (4, 3)),
        "W": 4 * source.integers(-3, 4, (4, 4)),
        "w": odd(4),
        "V": 4 * source.integers(-3, 4, (4, 4)),
        "v": odd(4),
        "K": 4 * source.integers(-1, 2, (4, 4)),
        "k": odd(4),
        "two": np.array(2),
        "one": np.array(1),
        "table": np.round(np.linspace(-32, 31, 90)).astype(np.int64),
        "rising": np.round(np.linspace(-31, 31, 33)).astype(np.int64),
        "long": np.round(np.linspace(-32, 31, 1200)).astype(np.int64),
        "R": source.integers(-5, 6, (3, 4)),
    }
    net = IntNet(
        name="multiples",
        family="test",
        inputs=(Input("x", (3,), encoding=Encoding(Format(4, True), 1.0)),),
        params=tuple(Param(name, value, "test") for name, value in params.items()),
        states=(State("h", (4,), "next", frac=5), State("g", (4,), "after", frac=5)),
        drive=(ops.Linear(out="ux", x="x", weight="U"),),
        step=(
            ops.Linear(out="wh", x="h", weight="W", bias="w"),
            ops.Linear(out="vg", x="g", weight="V", bias="v"),
            ops.Add(out="both", a="wh", b="vg"),
            ops.Rescale(out="scaled", x="both", multiplier="one", shift=3),
            ops.Add(out="driven", a="scaled", b="ux"),
            ops.Lookup(out="phi", x="driven", table="table", first=-45),
            ops.Abs(out="size", x="g"),
            ops.Lookup(out="psi", x="size", table="rising", first=0),
            ops.DampFixed(out="after", old="phi", new="psi", multiplier=1, shift=1),
            ops.Linear(out="kh", x="h", weight="K", bias="k"),
            ops.Rescale(out="times", x="kh", multiplier="two", shift=0),
            ops.Lookup(out="next", x="times", table="long", first=-600),
        ),
        readout=(ops.Linear(out="r", x="g", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        schedule=Schedule(8),
        formats={"h": Format(6, True), "g": Format(6, True)},
    )
    return with_formats(net)


def _planes() -> IntNet:
    """A lattice in three blocks: of its own block a site weighs itself alone, of the others neighbours.

    The sites come to rest early. What a cell without a site computes would go on: its table entry is far from zero, and
    its gate lets every change through.
    """
    source, count, cells = np.random.default_rng(5), 26, 9
    weights = np.zeros((27, 27), np.int64)
    for site in range(27):
        for block, moves in ((0, (0,)), (1, (0, 1)), (2, (-1,))):
            for move in moves:
                near = (site // cells + block) % 3 * cells + (site + move) % cells
                weights[site, near] = source.integers(1, 16) * source.choice([-1, 1])
    params = {
        "V": source.integers(-7, 8, (count, 3)),
        "W": weights[:count, :count],
        "w": source.integers(-99, 100, count),
        "m": source.integers(1, 5, count),
        "table": np.clip(np.arange(-130, 230), -100, 100),
        "small": source.integers(20, 45, count),
        "R": source.integers(-7, 8, (3, count)),
    }
    net = IntNet(
        name="planes",
        family="test",
        inputs=(Input("x", (3,), encoding=Encoding(Format(4, True), 1.0)),),
        params=tuple(Param(name, value, "test") for name, value in params.items()),
        states=(State("h", (count,), "next", frac=7),),
        drive=(ops.Linear(out="vx", x="x", weight="V"),),
        step=(
            ops.Linear(out="wh", x="h", weight="W", bias="w"),
            ops.Rescale(out="scaled", x="wh", multiplier="m", shift=5),
            ops.Add(out="driven", a="scaled", b="vx"),
            ops.Lookup(out="phi", x="driven", table="table", first=-180),
            ops.DampFixed(out="new", old="h", new="phi", multiplier=1, shift=1),
            ops.Sub(out="difference", a="new", b="h"),
            ops.Abs(out="distance", x="difference"),
            ops.Greater(out="far", a="distance", b="small"),
            ops.Select(out="next", condition="far", a="new", b="h"),
        ),
        readout=(ops.Linear(out="rh", x="h", weight="R"),),
        outputs=(Output("o", "rh", "classes", 1.0),),
        schedule=Schedule(8),
        formats={"h": Format(8, True)},
    )
    return with_formats(net)


def _sites(*, ternary: bool) -> IntNet:
    """A lattice: one map of one state; a second state that follows, an initial code, parameters that differ by site.

    With wide weights the sums exceed the operand of a multiplier block.
    """
    source, count = np.random.default_rng(12), 4 if ternary else 5
    largest = 1 if ternary else 127
    params = {
        "V": source.integers(-min(largest, 9), min(largest, 9) + 1, (count, 3)),
        "W": source.integers(-largest, largest + 1, (count, count)),
        "w": source.integers(-99, 100, count) * (1 if ternary else 1500),
        "m": source.integers(1, 9, count),
        "table": np.sort(source.integers(-128, 128, 120)),
        "start": np.arange(-60, 60),
        "small": source.integers(5, 40, count),
        "R": source.integers(-largest, largest + 1, (3, count)),
        "r": source.integers(-30, 31, 3),
        "three": np.array(3),
    }
    net = IntNet(
        name="sites",
        family="test",
        inputs=(Input("x", (3,), encoding=Encoding(Format(9, False) if ternary else Format(5, True), 1.0)),),
        params=tuple(Param(name, value, "test") for name, value in params.items()),
        states=(State("h", (count,), "next", frac=7), State("g", (count,), "after", "initial", frac=7)),
        drive=(
            ops.Linear(out="vx", x="x", weight="V"),
            ops.Lookup(out="initial", x="vx", table="start", first=-60),
        ),
        step=(
            ops.Linear(out="wh", x="h", weight="W", bias="w"),
            ops.Rescale(out="scaled", x="wh", multiplier="m", shift=4 if ternary else 13),
            ops.Add(out="driven", a="scaled", b="vx"),
            ops.Lookup(out="phi", x="driven", table="table", first=-55),
            ops.DampFixed(out="new", old="h", new="phi", multiplier=3, shift=2),
            ops.Sub(out="difference", a="new", b="h"),
            ops.Abs(out="distance", x="difference"),
            ops.Greater(out="far", a="distance", b="small"),
            ops.Select(out="next", condition="far", a="new", b="h"),
            ops.DampFixed(out="after", old="g", new="next", multiplier=7, shift=3),
        ),
        readout=(
            ops.Linear(out="rh", x="h", weight="R", bias="r"),
            ops.Rescale(out="logits", x="rh", multiplier="three", shift=3),
        ),
        outputs=(Output("o", "logits", "classes", 1.0),),
        schedule=Schedule(7),
        formats={"h": Format(8, True), "g": Format(8, True)},
    )
    return with_formats(net)
