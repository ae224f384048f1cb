"""The serial engine: one IntNet, event-driven, `lanes` rows a clock.

x ──► events ──► applier ──► accumulators ──► sweeps ──► states ──► y
                    ▲                           │
                    └────── lists of changes ◄──┘
"""

from __future__ import annotations

from amaranth import Module

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON

from ..datapath import ELEMENTWISE
from ..interface import Engine, foreseen_refusals, refusals
from ..memory import FAMILIES, SPRAM_WORDS, Family, spram_blocks
from . import hardening
from .applier import reading_clocks
from .bounds import clock_span
from .core import Core
from .matrix import CODE_BITS, WEIGHTED
from .plan import Plan, PlanError, make_plan, plan_memory, plan_words
from .program import Design, make_program
from .saboteur import words_of
from .sweep import clocks_of

__all__ = ["SerialEngine", "check", "foresee", "least_memory_bits", "memory_bits"]

LANES = 4
SPRAM_BLOCKS = 4


def check(
    net: IntNet,
    *,
    lanes: int = LANES,
    width: int | None = None,
    family: Family = "generic",
    capacity: int | None = None,
    harden: tuple[str, ...] = (),
) -> list[Diagnostic]:
    """What stands against this net on this engine, all that is known; empty if nothing does."""
    width = _width(lanes, width, family)
    diagnostics = [*_option_faults(lanes, width, family), *refusals(net)]
    if diagnostics:
        return diagnostics
    try:
        plan = _plan(net, lanes, width, family, capacity)
    except PlanError as e:
        return [Diagnostic("rtl-serial", e.what, e.where, e.hint)]
    weights = plan.weights
    diagnostics += hardening.check_hardening(harden, plan, family)
    try:
        plan_memory(plan, net)
    except UnsupportedError as e:
        diagnostics += e.diagnostics
    if family == "up5k":
        blocks = spram_blocks(weights.entry_bits, weights.capacity) + spram_blocks(weights.table_bits, weights.depth)
        if blocks > SPRAM_BLOCKS:
            words = f"{weights.capacity} words of {lanes} weights of {weights.code_bits} bits, with their numbers,"
            what = f"{words} and their table need {blocks} blocks of SPRAM, the UP5K has {SPRAM_BLOCKS}"
            diagnostics.append(Diagnostic("rtl-spram", what, net.name, "--lanes changes width and number of the words"))
    return diagnostics


def foresee(needs: Requirements) -> list[Diagnostic]:
    """What is certain of `check` before quantization."""
    return [*foreseen_refusals(needs, (*ELEMENTWISE, *WEIGHTED, ops.Reduce, ops.Reshape), "serial")]


def _width(lanes: int, width: int | None, family: Family) -> int:
    """Two units a clock double the tables, for which the UP5K has little room."""
    if width is not None:
        return width
    return 1 if family == "up5k" else min(2, lanes)


def memory_bits(net: IntNet, lanes: int, family: Family) -> int:
    """Of the weight memory and its table, for a net that `check` has nothing against."""
    w = _plan(net, lanes, _width(lanes, None, family), family, None).weights
    return w.capacity * w.entry_bits + w.depth * w.table_bits


def least_memory_bits(needs: Requirements, lanes: int) -> int:
    """As `memory_bits`, of weights without codes: those of the largest map, for columns of two maps may be alike."""
    reach = max((m.magnitude for m in needs.maps), default=0)
    bits = next((bits for bits in CODE_BITS if reach < 1 << (bits - 1)), CODE_BITS[-1])
    words = max((m.words(lanes) for m in needs.maps), default=0)
    return (1 << (words - 1).bit_length()) * (lanes * bits + 1) if words else 0


def _option_faults(lanes: int, width: int, family: str) -> list[Diagnostic]:
    faults = []
    for name, value in (("lanes", lanes), ("width", width)):
        if value < 1 or value & (value - 1):
            faults.append(Diagnostic(f"rtl-{name}", f"{name} is {value}, must be a power of two", name))
    if width > lanes:
        faults.append(Diagnostic("rtl-serial", f"width is {width}, must not exceed the {lanes} lanes", "width"))
    if family not in FAMILIES:
        faults.append(Diagnostic("rtl-serial", f"family is {family!r}, must be one of {', '.join(FAMILIES)}", "family"))
    return faults


def _plan(net: IntNet, lanes: int, width: int, family: Family, capacity: int | None) -> Plan:
    """SPRAM is there in whole blocks, needed or not."""
    granule = SPRAM_WORDS if family == "up5k" else 1
    return make_plan(net, lanes=lanes, width=width, granule=granule, capacity=capacity)


def _roomy(net: IntNet, lanes: int, width: int, family: Family) -> int:
    plan = _plan(net, lanes, width, family, None)
    _, entries = plan_memory(plan, net)
    needed = len(entries) + 2 * max(m.words for m in plan.maps)
    return 1 << (needed - 1).bit_length()


class SerialEngine(Engine):
    """One net, `lanes` weights a clock and `width` units a clock in a sweep; powers of two.

    `loadable` adds the load port; weights start as the net's own except in `family="up5k"`, whose SPRAM starts
    undefined and must be loaded (and must not be loaded while `busy`). `capacity`: words that the weight memory holds;
    without it as many as the net needs, rounded up to a power of two. `dense` makes every code an event, changed or
    not: the same numbers by the dense schedule, to compare with. `inject` adds saboteurs of the words in `inject_words`
    and their port, and room in the weight memory for a disturbed copy of any two columns; `harden` mechanisms of
    `harden.mechanisms`, with or without it. Raises UnsupportedError with what `check` finds.
    """

    architecture = "serial"

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool = False,
        lanes: int = LANES,
        width: int | None = None,
        loadable: bool = True,
        family: Family = "generic",
        capacity: int | None = None,
        dense: bool = False,
        inject: bool = False,
        harden: tuple[str, ...] = (),
    ) -> None:
        width = _width(lanes, width, family)
        faults = check(net, lanes=lanes, width=width, family=family, capacity=capacity, harden=harden)
        if family == "up5k" and not loadable:
            faults.append(Diagnostic("rtl-serial", "SPRAM holds nothing at power-up and loadable is off", net.name))
        self.refuse(faults)
        self.plan = plan = _plan(net, lanes, width, family, _roomy(net, lanes, width, family) if inject else capacity)
        load_bits = (plan.weights.load_words - 1).bit_length() if loadable else 0
        super().__init__(net, trace=trace, inject=inject, load_bits=load_bits, harden=bool(harden))
        self.design = Design(plan, make_program(plan), family, harden, loadable=loadable, dense=dense)
        self.harden, self.voted = harden, "tmr" in harden
        self.watched_span = clock_span(plan, self.design.program, harden) if "watchdog" in harden else None
        self.inject_words = words_of(plan, checked="residue" in harden) if inject else {}
        self.accumulators = tuple(m.out for m in plan.maps)

    def describe(self) -> dict[str, JSON]:
        """What was built, and the clocks that each phase takes: JSON values.

        A sample without stalls takes one clock for each input code that is 0, for each change of a code a clock for
        each word of its column that is not zero (2 at least, 3 with a code on the weight memory; `clocks.per_event` is
        the mean over the columns of the map, and the most), and `clocks.sweeps` for each sweep of its block: drive and
        readout once, step once a tick; within the few clocks that pipelines take to drain.
        """
        plan, weights = self.plan, self.plan.weights
        table, entries = plan_memory(plan, self.net)
        shortest = 1 + reading_clocks(self.design.harden)
        costs = {}
        for number, m in enumerate(plan.maps):
            rows = table[weights.rows[number] :][: m.matrix.shape[1]]
            clocks = [max((row >> weights.address_bits) + 1, shortest) for row in rows]
            costs[m.out] = {"mean": sum(clocks) / len(clocks), "most": max(clocks)}
        return {
            "arch": self.architecture,
            "lanes": plan.lanes,
            "width": plan.width,
            "family": self.design.family,
            "weight_bits": weights.code_bits,
            "multipliers": plan.lanes if weights.code_bits > 2 else 0,
            "weight_words": len(entries),
            "capacity": weights.capacity,
            "load_words": weights.load_words if self.design.loadable else 0,
            **({"harden": list(self.design.harden)} if self.design.harden else {}),
            **({"clock_span": self.watched_span} if self.watched_span is not None else {}),
            "accumulators": [{"words": w, "bits": b * plan.lanes} for w, b in plan.banks],
            "clocks": {
                "per_event": costs,
                "sweeps": {s.name: -(-s.units // plan.width) + clocks_of(plan, s)[1] + 3 for s in plan.sweeps},
            },
        }

    def load_words(self, net: IntNet) -> list[int]:
        """The 32-bit words of all weights in the order of `load_address` from 0 (layout in `columns`).

        Raises UnsupportedError if `net` differs from the engine's in more than its weights, or needs more room.
        """
        return plan_words(self.plan, net)

    def build(self) -> Module:
        core = Core(self, self.design)
        if self.design.harden:
            hardening.attach(core)
        return core.m
