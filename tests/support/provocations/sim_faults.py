"""Fault models, faults, and the engines that inject them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from strategies import small_net

from eqcompile.sim.campaign.chunks import usable_engine
from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu.columns import columns_of
from eqcompile.sim.faults.loihi_engine import LoihiSession
from eqcompile.sim.faults.models.combined import CombinedModel
from eqcompile.sim.faults.models.core import CoreModel
from eqcompile.sim.faults.models.dead import DeadModel
from eqcompile.sim.faults.models.events import EventsModel
from eqcompile.sim.faults.models.mbu import MbuModel
from eqcompile.sim.faults.models.noise import NoiseModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.models.stuck import StuckModel
from eqcompile.sim.faults.rtl.engine import RtlEngine
from eqcompile.sim.faults.rtl.rows import Translator
from eqcompile.sim.faults.table import FaultTable, Place, Upset, parse_fault
from eqcompile.toolchain.ir import Format, IntNet, Param, ops

from .case import Case, Provocations, tiny

SAMPLES = {"x": np.array([[1, 2], [3, 4]])}


def injected(upset: str) -> Any:
    """One fault in the golden engine."""
    fault = parse_fault(f"0/state:h.0.0/{upset}")
    return GoldenEngine().open(tiny(), SAMPLES, near=1).run(FaultTable.of([fault]))


def drawn(model: Any, net: IntNet | None = None) -> Any:
    """Three faults of a model."""
    return model.draw(net or tiny(), 3, np.random.default_rng(0), SAMPLES)


def checked(engine: str, net: IntNet, case: Case) -> Any:
    """An engine asked for a net on a machine that has all it needs."""
    for module, name in (("gpu.engine", "GpuEngine"), ("loihi_engine", "LoihiEngine")):
        case.patch.setattr(f"eqcompile.sim.faults.{module}.{name}.missing", lambda self: ())
    return usable_engine(engine, net, None)


def too_many_taps(case: Case) -> Any:
    case.patch.setattr("eqcompile.sim.faults.fast.engine.TAPS", 3)
    return checked("fast", tiny(), case)


def without_weights() -> IntNet:
    """A net whose state reads the input alone."""
    net = tiny()
    return replace(net, step=(ops.Lookup(out="y", x="x", table="T", first=-8),), params=net.params[1:])


def matrix_of_classes() -> IntNet:
    """A net whose output of classes has two axes."""
    net = tiny()
    readout = (ops.Reshape(out="r", x="h", shape=(1, 2)),)
    output = replace(net.outputs[0], value="r", kind="classes")
    return replace(net, readout=readout, outputs=(output,), formats={**net.formats, "r": net.formats["h"]})


def scaling() -> IntNet:
    """A net that multiplies a value whose format is far wider than its codes."""
    net = tiny()
    readout = (ops.Rescale(out="q", x="w", multiplier="three", shift=2),)
    params = (*net.params, Param("three", np.array(3), "test"))
    formats = {**net.formats, "w": Format(63, True), "q": Format(40, True)}
    return replace(net, step=(*net.step, *readout), params=params, formats=formats)


def dividing() -> IntNet:
    """A net with a division in its readout."""
    net = tiny()
    readout = (ops.Divide(out="q", a="h", b="two", shift=2),)
    params = (*net.params, Param("two", np.array(2), "test"))
    return replace(net, readout=readout, params=params, formats={**net.formats, "q": Format(20, True)})


def on_core(case: Case) -> Any:
    """A fault of a word that has no saboteur."""
    net = tiny()
    translator = Translator(net, Circuit.of(net), 3, {"state:g": 0}, {}, None, lambda *_: 0)
    return translator.rows([parse_fault("0/state:h.0.0/state:h[0]^1@0")])


def on_gpu(case: Case) -> Any:
    return columns_of(FaultTable.of([parse_fault("0/value:w.0.0/value:w[0]^1@0")]), tiny(), 2, 3)


def to_processes(case: Case) -> Any:
    case.patch.setattr(LoihiSession, "_ran", lambda *_: None)
    session = LoihiSession(tiny(), SAMPLES, 1, case.folder)
    return session.inject(FaultTable.of([parse_fault("0/value:w.0.0/value:w[0]^1@0")]))


FAULTS: Provocations = {
    "fault-bit": lambda case: injected("state:h[0]^100@0"),
    "fault-clocks": lambda case: CoreModel(clocks=0),
    "fault-cluster": lambda case: MbuModel(cluster="0:1").shares(),
    "fault-core": lambda case: CoreModel().population(tiny(), SAMPLES),
    "fault-delay": lambda case: EventsModel(delay=0),
    "fault-divide": lambda case: checked("loihi", dividing(), case),
    "fault-duration": lambda case: StuckModel(duration=-1),
    "fault-events": lambda case: drawn(EventsModel(), without_weights()),
    "fault-exhaustive": lambda case: NoiseModel(sigma=1.0).exhaustive(tiny(), SAMPLES),
    "fault-held": lambda case: injected("state:h[0]^1@0!"),
    "fault-id": lambda case: parse_fault("0/state:h.0.0/h[0]^1@0"),
    "fault-loihi": to_processes,
    "fault-nothing": lambda case: Upset(Place.STATE, "h", 0, 0, 0),
    "fault-packing": lambda case: drawn(
        SeuModel(sites="weight", packing="2bit"), small_net([[5]], table=[0], first=0, steps=1)
    ),
    "fault-parts": lambda case: CombinedModel(parts="seu,events").models(),
    "fault-range": lambda case: injected("state:h[2]^1@0"),
    "fault-reach": lambda case: checked("golden", scaling(), case),
    "fault-rtl": on_core,
    "fault-share": lambda case: DeadModel(share="0,0.5").shares,
    "fault-sigma": lambda case: NoiseModel(sigma=0.0),
    "fault-sites": lambda case: drawn(SeuModel(sites="stat")),
    "fault-size": too_many_taps,
    "fault-window": lambda case: Upset(Place.STATE, "h", 0, 2, 1, flip=1),
    "fault-word": lambda case: injected("state:g[0]^1@0"),
    "gpu-fault": on_gpu,
    "gpu-frames": lambda case: checked("gpu", tiny(frames=True), case),
    "gpu-op": lambda case: checked("gpu", dividing(), case),
    "gpu-output": lambda case: checked("gpu", matrix_of_classes(), case),
    "no-instrument": lambda case: RtlEngine().opened_artifact(),
}
