"""The serial engine: one IntNet, event-driven, `lanes` rows a clock.

x ──► events ──► applier ──► accumulators ──► sweeps ──► states ──► y
                    ▲                           │
                    └────── lists of changes ◄──┘
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

from amaranth import ResetInserter
from amaranth.lib import wiring

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import IntNet, infer

from ..interface import EngineSignature, port_of
from ..memory import FAMILIES, Family, spram_blocks
from .applier import SHORTEST
from .core import Core
from .plan import PlanError, make_plan, plan_words
from .program import Program, make_program
from .sweep import clocks_of

__all__ = ["SerialEngine", "check", "describe", "load_words"]

LANES = 8
SPRAM_BLOCKS = 4


def check(net: IntNet, *, lanes: int = LANES, width: int = 1, family: Family = "generic") -> list[Diagnostic]:
    """What stands against this net on this engine, all that is known; empty if nothing does."""
    found = _option_faults(lanes, width, family)
    if found:
        return found
    try:
        plan = make_plan(net, lanes=lanes, width=width)
    except PlanError as e:
        return [Diagnostic("rtl-serial", e.what, e.where, e.hint)]
    if net.schedule.steps >= 1 << 16:
        found.append(Diagnostic("rtl-steps", f"the net makes {net.schedule.steps} ticks, the counter holds 65535"))
    if family == "up5k":
        blocks = spram_blocks(lanes * plan.code_bits, plan.weight_words)
        if blocks > SPRAM_BLOCKS:
            words = f"{plan.weight_words} words of {lanes} weights of {plan.code_bits} bits"
            what = f"{words} need {blocks} blocks of SPRAM, the UP5K has {SPRAM_BLOCKS}"
            found.append(Diagnostic("rtl-spram", what, net.name, "--lanes changes width and number of the words"))
    return found


def _option_faults(lanes: int, width: int, family: str) -> list[Diagnostic]:
    faults = []
    for name, value in (("lanes", lanes), ("width", width)):
        if value < 1 or value & (value - 1):
            faults.append(Diagnostic("rtl-option", f"{name} is {value}, must be a power of two"))
    if width > lanes:
        faults.append(Diagnostic("rtl-option", f"width is {width}, must not exceed the {lanes} lanes"))
    if family not in FAMILIES:
        faults.append(Diagnostic("rtl-option", f"family is {family!r}, must be one of {', '.join(FAMILIES)}"))
    return faults


def load_words(net: IntNet, *, lanes: int = LANES) -> list[int]:
    """The 32-bit words of all weights of a net in the order of `load_address` from 0 (layout in `matrix`)."""
    return plan_words(make_plan(net, lanes=lanes, width=1), net)


def describe(engine: SerialEngine) -> dict[str, Any]:
    """What was built, and the clocks that each phase takes: JSON values.

    A sample without stalls takes one clock for each input code that is 0, `clocks.per_event` of the map for each change
    of a code, and `clocks.sweeps` for each sweep of its block: drive and readout once, step once a tick; within the few
    clocks that pipelines take to drain.
    """
    plan = engine.plan
    return {
        "architecture": "serial",
        "lanes": plan.lanes,
        "width": plan.width,
        "family": engine.family,
        "weight_bits": plan.code_bits,
        "weight_words": plan.weight_words,
        "load_words": plan.weight_words * plan.parts if engine.loadable else 0,
        "accumulators": [{"words": w, "bits": b * plan.lanes} for w, b in plan.banks],
        "clocks": {
            "per_event": {m.out: max(m.words, SHORTEST) for m in plan.maps},
            "sweeps": {s.name: -(-s.units // plan.width) + clocks_of(plan, s)[1] + 3 for s in plan.sweeps},
        },
    }


class SerialEngine(wiring.Component):
    """One net, `lanes` weights a clock and `width` units a clock in a sweep; both powers of two.

    `loadable` adds the load port; weights start as the net's own except in `family="up5k"`, whose SPRAM starts
    undefined and must be loaded (and must not be loaded while `busy`). New weights must keep the net's formats.
    `trace` gives a vector trace. `model` replaces vendor primitives for Amaranth's simulator. Raises UnsupportedError
    with what `check` finds.
    """

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool | Literal["vector"] = False,
        lanes: int = LANES,
        width: int = 1,
        loadable: bool = True,
        family: Family = "generic",
        model: bool = False,
    ) -> None:
        faults = check(net, lanes=lanes, width=width, family=family)
        if family == "up5k" and not loadable:
            faults.append(Diagnostic("rtl-option", "SPRAM holds nothing at power-up and loadable is off", net.name))
        if faults:
            raise UnsupportedError(faults)
        self.net, self.family, self.loadable, self.model, self.traced = net, family, loadable, model, bool(trace)
        self.plan = make_plan(net, lanes=lanes, width=width)
        self.program: Program = make_program(self.plan)
        types = infer(net)
        self.x_port = port_of(net, [(i.name, prod(i.shape)) for i in net.inputs])
        self.y_port = port_of(net, [(o.value, prod(types[o.value].shape)) for o in net.outputs])
        super().__init__(
            EngineSignature(
                self.x_port,
                self.y_port,
                trace="vector" if trace else None,
                states=[(s.name, prod(s.shape), net.formats[s.name]) for s in net.states],
                load_bits=max((self.plan.weight_words * self.plan.parts - 1).bit_length(), 1) if loadable else 0,
            )
        )

    def load_words(self, net: IntNet) -> list[int]:
        """As the module's function, for this engine's lanes and code width."""
        return plan_words(self.plan, net)

    def elaborate(self, platform: object) -> Any:
        return ResetInserter(self.restart)(Core(self).build())
