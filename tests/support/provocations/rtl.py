"""Architectures of the core, and their options."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
from rtl_engines import cube_net
from strategies import random_net, small_net, with_formats

from eqcompile.rtl.boards.clocks import divisor_of
from eqcompile.rtl.boards.link import Protocol
from eqcompile.rtl.boards.pll import pll_of
from eqcompile.rtl.lattice.engine import LatticeEngine
from eqcompile.rtl.parallel.engine import ParallelEngine
from eqcompile.rtl.processor.description import program_of
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.ir import Input, IntNet, Param, Schedule, State, ops

from .case import Case, Provocations, tiny


def planned(net: IntNet | None = None, **options: Any) -> Any:
    """The target with these options, asked for a net."""
    return RtlTarget.of(**options).require_plan(net or tiny())


def lattice(net: IntNet, **options: Any) -> Any:
    """The same on the lattice architecture."""
    return planned(net, arch="lattice", **options)


def formatted(net: IntNet) -> IntNet:
    """The net with formats for what it computes now."""
    return with_formats(
        replace(net, formats={s.name: net.formats[s.name] for s in net.states if s.name in net.formats})
    )


def two_inputs() -> IntNet:
    """A cube that reads another input."""
    net = cube_net()
    return formatted(replace(net, inputs=(*net.inputs, replace(net.inputs[0], name="z"))))


def stateless() -> IntNet:
    """A cube without cells."""
    net = cube_net()
    readout = (ops.Linear(out="logits", x="d", weight="U"),)
    return formatted(replace(net, states=(), step=(), readout=readout, formats={}))


def two_maps() -> IntNet:
    """A cube with a second stencil in its step."""
    net = cube_net()
    far = ops.Stencil(out="far", x="h", weight="W", index="N")
    step = (net.step[0], far, ops.Add(out="both", a="near", b="far"), replace(net.step[1], x="both"), *net.step[2:])
    return formatted(replace(net, step=step))


def deep_drive() -> IntNet:
    """A cube whose step reads the drive, not its state."""
    net = cube_net()
    return formatted(replace(net, step=(replace(net.step[0], x="d"), *net.step[1:])))


def other_shape() -> IntNet:
    """A cube with a state of another size beside the cells."""
    net = cube_net()
    side = State("g", (2,), "g2", frac=0)
    step = (*net.step, ops.Reshape(out="g2", x="g", shape=(2,)))
    formats = {"h": net.formats["h"], "g": net.formats["h"]}
    return with_formats(replace(net, states=(*net.states, side), step=step, formats=formats))


def multiplied() -> IntNet:
    """A cube whose cells divide."""
    net = cube_net()
    one = Param("one", np.array(1), "test")
    step = (
        *net.step[:2],
        ops.Divide(out="part", a="scaled", b="one", shift=0),
        replace(net.step[2], a="part"),
        *net.step[3:],
    )
    return formatted(replace(net, params=(*net.params, one), step=step))


def token() -> IntNet:
    """A net that reads a token."""
    net = tiny()
    params = (*net.params, Param("E", np.zeros((3, 2), np.int64), "test"))
    drive = (ops.Embedding(out="e", x="t", table="E"),)
    step = (*net.step[:2], ops.Add(out="b", a="a", b="e"), replace(net.step[2], x="b"))
    inputs = (*net.inputs, Input("t", (), "index", rows=3))
    return formatted(replace(net, inputs=inputs, params=params, drive=drive, step=step))


def with_product() -> IntNet:
    """A random net with a product of two values."""
    nets = (random_net(random.Random(seed), spaces=("tokens",), tolerance=0, frames=False) for seed in range(100))
    return next(n for n in nets if any(isinstance(op, ops.MatMul) for op in n.all_ops()))


def other_table() -> IntNet:
    """The tiny net with another activation."""
    net = tiny()
    table = Param("T", np.zeros(16, np.int64), "test")
    return replace(net, params=tuple(table if p.name == "T" else p for p in net.params))


def other_weights(value: Any) -> IntNet:
    """The tiny net with other weights."""
    net = tiny()
    return formatted(
        replace(net, params=tuple(Param("W", np.array(value), "test") if p.name == "W" else p for p in net.params))
    )


def dense(units: int) -> IntNet:
    """A dense net of so many units, each column of its own."""
    weights = np.random.default_rng(0).integers(-99, 100, (units, units))
    return small_net(weights.tolist(), table=list(range(-8, 8)), first=-8, steps=3)


def sparse() -> IntNet:
    """The tiny net with one weight."""
    return other_weights([[1, 0], [0, 0]])


def core_file(case: Case) -> str:
    """The configuration file of a core for the tiny net."""
    core = program_of(tiny(), 4, 1)[1].to_json()
    return str(case.file("core.json", json.dumps({"configuration": core})))


RTL: Provocations = {
    "baud-rate": lambda case: divisor_of(12_000_000, 9_000_000),
    "pll-frequency": lambda case: pll_of("ice40", 12_000_000, 9.0),
    "rtl-board-beat": lambda case: Protocol(
        ParallelEngine(tiny(), trace=False, beat=2).signature, identity=0, steps=3, tolerance=0
    ),
    "rtl-capacity": lambda case: SerialEngine(sparse(), trace=False, lanes=1, capacity=1).load_words(tiny()),
    "rtl-core": lambda case: planned(dense(8), core=core_file(case)),
    "rtl-core-file": lambda case: planned(core=str(case.file("core.json", "{}"))),
    "rtl-frames": lambda case: planned(tiny(frames=True), arch="serial"),
    "rtl-harden": lambda case: planned(device="up5k", harden="parity"),
    "rtl-index": lambda case: planned(token(), arch="serial"),
    "rtl-lattice-io": lambda case: lattice(two_inputs()),
    "rtl-lattice-maps": lambda case: lattice(two_maps()),
    "rtl-lattice-operand": lambda case: lattice(deep_drive()),
    "rtl-lattice-shape": lambda case: lattice(other_shape()),
    "rtl-lattice-states": lambda case: lattice(stateless()),
    "rtl-levels": lambda case: ParallelEngine(tiny(), trace=False, levels=0),
    "rtl-mechanism": lambda case: planned(harden="parity,secded"),
    "rtl-lanes": lambda case: planned(arch="processor", lanes=3),
    "rtl-operation": lambda case: lattice(multiplied()),
    "rtl-option": lambda case: planned(arch="serial", passes=2),
    "rtl-passes": lambda case: lattice(cube_net(), passes=28),
    "rtl-saboteurs": lambda case: planned(device="up5k", saboteurs=True),
    "rtl-schedule": lambda case: planned(replace(tiny(), schedule=Schedule(1 << 16))),
    "rtl-serial": lambda case: planned(with_product(), arch="serial"),
    "rtl-spram": lambda case: planned(dense(400), device="up5k", lanes=1),
    "rtl-units": lambda case: LatticeEngine(cube_net(), trace=False, units=28),
    "rtl-weights": lambda case: SerialEngine(tiny(), trace=False).load_words(other_table()),
}
