"""The certificate of a net: for each recurrent block, how a step changes the distance of two runs.

A block is a set of states that read one another from step to step. For any two settings u, v of its states, under one
input and with all other states equal, one step F satisfies

    ||F(u) - F(v)|| <= L ||u - v|| + r

in the 2-norm over all units, in real units. In an integer net L is that of the map before its roundings and r what
these can add; in either, r is also what gates on the change of a unit can hold (`gates`). With L < 1 the block
contracts: after t steps two runs, for example one with and one without a transient upset of size d, are at most
`L^t d + r (1 - L^t) / (1 - L)` apart, which tends to the ball `r / (1 - L)` in which rounding may leave the state. All
of it is proved: see `norm`, `tables` and `flow`.

States that only count ticks (`clocks`) make no block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir import IntNet, Net, ops
from ..typed_json import JSON
from .clocks import clocks
from .flow import Flow, Flows
from .norm import NoBoundError, spectral_bound, up
from .norms import MARGIN, NORM_NAMES, Contraction, contractions

__all__ = ["Block", "Certificate", "certify", "recurrent_weights"]

_MAX_STEPS = 100_000


@dataclass(frozen=True)
class Block:
    """One recurrent block. `bound`: L; `slack`: r, in real units; `lsb`: the real size of one code of the finest state
    (0 in a float net); `diameter`: the largest distance of two settings (infinite where the format does not limit it).

    `gates`: selections that a state decides and that may hold it for ever; `bound` and `slack` then hold while they are
    open in both runs.
    `norms`: what is proved in several norms, gates closed or open, the least L first; empty where it was not asked for.
    """

    states: tuple[str, ...]
    units: int
    bound: float
    slack: float
    lsb: float
    diameter: float
    bits: int | None = None
    gates: tuple[str, ...] = ()
    norms: tuple[Contraction, ...] = ()

    @property
    def contracts(self) -> bool:
        """Whether the block is proved to contract before rounding, whatever the input."""
        return self.bound < 1.0 and not self.gates

    @property
    def ball(self) -> float:
        """The distance that two runs may keep for ever, real units; infinite if none is proved."""
        return up(self.slack / math.nextafter(1.0 - self.bound, 0.0)) if self.contracts else math.inf

    @property
    def vacuous(self) -> bool:
        """Whether the ball says nothing: rounding may leave two runs half of all that the states can hold apart."""
        return self.contracts and 2.0 * self.ball >= self.diameter

    @property
    def certified(self) -> bool:
        """Whether two runs are proved to approach each other, up to a ball that is small against the state space."""
        return (self.contracts and not self.vacuous) or any(n.certified for n in self.norms)

    def after(self, steps: int, distance: float) -> float:
        """The largest distance after `steps` steps of runs that were `distance` apart (real units)."""
        for _ in range(steps):
            distance = up(up(self.bound * distance) + self.slack)
        return distance

    def _shrunk(self, distance: float, steps: int) -> float:
        for _ in range(steps):
            distance = up(self.bound * distance)
        return distance

    def steps_to(self, distance: float) -> int | None:
        """Steps after which any two runs are within `distance` of the ball; None if that is not proved."""
        if not self.contracts or distance <= 0.0 or not math.isfinite(self.diameter):
            return None
        left, steps = self.diameter, 0
        while left > distance and steps < _MAX_STEPS:
            left, steps = up(self.bound * left), steps + 1
        return steps if left <= distance else None

    @property
    def verdict(self) -> str:
        """One line for people."""
        bound = f"L = {_rounded_up(self.bound)}"
        winner = next((n for n in self.norms if n.certified), None)
        if winner is not None and (self.gates or self.vacuous or not self.contracts):
            return f"certified: contracts, L = {_rounded_up(winner.bound)} in the {NORM_NAMES[winner.kind]}"
        if self.gates:
            return (
                f"not certified: {', '.join(self.gates)} holds the state while its gate is closed, an upset included; "
                f"{bound} while the gates of both runs are open"
            )
        if self.vacuous:
            return (
                f"not certified: contracts before rounding, {bound}, but rounding may leave two runs "
                f"{self.ball / self.lsb / math.sqrt(self.units):.4g} LSB a unit apart, where "
                f"a unit spans {self.diameter / self.lsb / math.sqrt(self.units):.0f}"
            )
        if self.certified:
            return f"certified: contracts, {bound}"
        if self.bound <= 1.0:
            return f"not certified; non-expansive: {bound}"
        return f"not certified: no contraction is proved, {bound}"

    def to_json(self) -> dict[str, JSON]:
        """JSON values; lengths in codes of the finest state for an integer net, whose bounds have the margin of `norms`
        for a checker that rounds otherwise."""
        stated = replace(self, bound=up(self.bound * MARGIN), slack=up(self.slack * MARGIN)) if self.lsb else self
        return stated._document(self.verdict)

    def _document(self, verdict: str) -> dict[str, JSON]:
        document: dict[str, JSON] = {
            "states": list(self.states),
            "units": self.units,
            "bound": self.bound,
            "certified": self.certified,
            "gates": list(self.gates),
            "verdict": verdict,
            "norms": [n.to_json() for n in self.norms],
        }
        if self.lsb:
            document["rounding_lsb"] = self.slack / self.lsb
            if self.contracts:
                document["ball_lsb"] = self.ball / self.lsb
                document["ball_lsb_per_unit"] = self.ball / self.lsb / math.sqrt(self.units)
                document["steps_to_1_lsb_of_the_ball"] = self.steps_to(self.lsb)
            if self.bits is not None and self.contracts:
                document["upset_lsb"] = self.upset_lsb
                document["upset_adds_lsb"] = self.upset_adds_lsb
        return document

    @property
    def codes_after(self) -> dict[int, int]:
        """By ticks, by how many codes a unit can be off after an upset of all states: the least of all norms."""
        return {t: min(n.codes[t] for n in self.norms) for t in self.norms[0].codes} if self.norms else {}

    @property
    def upset_lsb(self) -> float:
        """By how many codes an upset of the sign bit moves a state."""
        return 2.0 ** ((self.bits or 1) - 1)

    @property
    def upset_adds_lsb(self) -> dict[str, float]:
        """By how many codes it still moves it after a number of steps, at most."""
        return {str(t): self._shrunk(self.upset_lsb, t) for t in (1, 10, 30)}


@dataclass(frozen=True)
class Certificate:
    """Blocks in the order of their first state; `reason` says why there is no certificate, if there is none. `counts`:
    states that only count ticks, and after how many ticks all codes of each have become one."""

    blocks: tuple[Block, ...] = ()
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether every block is proved to contract."""
        return not self.reason and all(b.certified for b in self.blocks)

    @property
    def bound(self) -> float:
        """The largest bound of a block; infinite without a certificate, 0 for a net without recurrence."""
        return math.inf if self.reason else max((b.bound for b in self.blocks), default=0.0)

    def to_json(self) -> dict[str, JSON]:
        """JSON values."""
        return {
            "kind": "proved",
            "how": "upper bounds, from the net itself with directed rounding",
            "certified": self.certified,
            "reason": self.reason,
            "blocks": [b.to_json() for b in self.blocks],
            **({"counts": dict(self.counts)} if self.counts else {}),
        }

    def lines(self) -> list[str]:
        """The certificate for people."""
        if self.reason:
            return [f"no certificate: {self.reason}"]
        if not self.blocks:
            return ["no state reads a state: nothing to certify"]
        return [line for b in self.blocks for line in _lines(b)] + [
            f"{name} only counts ticks, and no state moves it: what is proved here is of runs with the same count, and "
            f"of upsets of other states; after an upset of {name} counts are the same again in at most {ticks} ticks. "
            "Of offsets that the count adds (--dither), that runs meet to the bit by then is not proved"
            for name, ticks in self.counts.items()
        ]


@np.errstate(under="ignore")  # rounding up from zero underflows; some libraries make NumPy raise
def certify(net: Net, *, norms: bool = False) -> Certificate:
    """The certificate of a verified net, of either level. `norms`: of an integer net, in other norms too, which costs
    seconds at a thousand units."""
    try:
        stated = tuple(_in_norms(net, b) if norms and isinstance(net, IntNet) else b for b in _blocks(net))
        return Certificate(stated, counts=clocks(net))
    except NoBoundError as error:
        return Certificate(reason=str(error))


def _blocks(net: Net) -> list[Block]:
    """Without norms; the matrices that the bounds come from are dropped."""
    flows = Flows(net)
    gains = {s.name: flows.of(s.update) for s in net.states}
    counted = clocks(net)
    totals = {name: flow.total() for name, flow in gains.items() if name not in counted}
    return [_block(net, group, gains, totals, flows) for group in _groups(totals)]


def _in_norms(net: IntNet, block: Block) -> Block:
    try:
        chained = (block.bound, up(block.slack / block.lsb)) if len(block.states) == 1 and not block.gates else None
        return replace(block, norms=contractions(net, block.states, chained))
    except NoBoundError:
        return block


def _groups(totals: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Sets of states each of which reaches all others of its set, and itself, through nonzero gains."""
    reach = {name: {s for s, gain in row.items() if gain > 0.0} for name, row in totals.items()}
    for middle in reach:
        for name in reach:
            if middle in reach[name]:
                reach[name] = reach[name] | reach[middle]
    groups: dict[tuple[str, ...], None] = {}
    for name in reach:
        if name in reach[name]:
            groups[tuple(s for s in reach if s in reach[name] and name in reach[s])] = None
    return list(groups)


def _block(
    net: Net,
    names: Sequence[str],
    gains: Mapping[str, Flow],
    totals: Mapping[str, Mapping[str, float]],
    flows: Flows,
) -> Block:
    states = {s.name: s for s in net.states}
    integer = isinstance(net, IntNet)
    size = {n: 2.0 ** -(states[n].frac or 0) if integer else 1.0 for n in names}
    units = {n: math.prod(states[n].shape) for n in names}
    # Powers of two change codes of one state into real units and back: exact.
    matrix = np.array([[totals[n].get(m, 0.0) * size[n] / size[m] for m in names] for n in names])
    squares = 0.0
    diameter = 0.0
    for n in names:
        slack = gains[n].slack * size[n]
        squares = up(squares + up(slack * slack)) if slack else squares
        if integer:
            fmt = net.formats[n]  # type: ignore[attr-defined]
            span = (fmt.hi - fmt.lo) * size[n]
            diameter = up(diameter + up(up(span * span) * units[n]))
    single = len(names) == 1
    return Block(
        states=tuple(names),
        units=sum(units.values()),
        bound=float(matrix[0, 0]) if single else spectral_bound(matrix),
        slack=(gains[names[0]].slack * size[names[0]]) if single else (up(math.sqrt(squares)) if squares else 0.0),
        lsb=min(size.values()) if integer else 0.0,
        diameter=up(math.sqrt(diameter)) if integer else math.inf,
        bits=max(net.formats[n].bits for n in names) if isinstance(net, IntNet) else None,
        gates=tuple(g for g in flows.gates if g in _behind(net, [states[n].update for n in names])),
    )


def recurrent_weights(net: Net, states: Sequence[str]) -> tuple[str, ...]:
    """Weights of the step through which these states act on their own updates."""
    behind = _behind(net, [s.update for s in net.states if s.name in states])
    moved = set(states)
    found: dict[str, None] = {}
    for op in net.step:
        if not moved & set(op.reads):
            continue
        moved.add(op.out)
        if op.out in behind and isinstance(op, (ops.Linear, ops.Stencil, ops.Conv)):
            found[op.weight] = None
    return tuple(found)


def _behind(net: Net, names: Sequence[str]) -> set[str]:
    """`names` and all values of the step that they are computed from."""
    makers = {op.out: op for op in net.step}
    pending, seen = list(names), set(names)
    while pending:
        made = makers.get(pending.pop())
        fresh = set() if made is None else set(made.reads) - seen
        seen |= fresh
        pending += fresh
    return seen


def _lines(block: Block) -> list[str]:
    lines = [f"{', '.join(block.states)}: {block.verdict}"]
    if block.lsb and block.certified:
        ball = block.ball / block.lsb
        lines.append(
            f"rounding leaves two runs at most {ball:.4g} LSB apart (2-norm over {block.units} units, "
            f"{ball / math.sqrt(block.units):.3g} a unit in the mean); within 1 LSB of that after "
            f"{block.steps_to(block.lsb)} steps, from any two states"
        )
        left = ", ".join(f"{v:.4g} after {t} step{'s' * (t != '1')}" for t, v in block.upset_adds_lsb.items())
        lines.append(f"an upset of {block.upset_lsb:.0f} LSB (a sign bit) adds to that at most, in LSB: {left}")
    if block.norms:
        first, *others = (f"L = {_rounded_up(n.bound)} in the {NORM_NAMES[n.kind]}" for n in block.norms)
        lines.append(f"best norm: {first}" + (f"; {', '.join(others)}" if others else ""))
        lines.append(_theorem(block))
    return lines


def _theorem(block: Block) -> str:
    """What the norms say of an upset of any size, for people; where it is vacuous, that."""
    span = (1 << (block.bits or 1)) - 1
    says = {t: n for t, n in block.codes_after.items() if n < span}
    if not says:
        return f"vacuous for a single unit: after an upset of all states it may still be off by all its {span} codes"
    within = ", ".join(f"{n} codes after {t} ticks" for t, n in says.items())
    return f"an upset of any size in any number of its states leaves each unit within {within} (a unit spans {span})"


def _rounded_up(value: float) -> str:
    """Six digits, never below the value: what is printed is a bound too."""
    scale = 10.0 ** (5 - math.floor(math.log10(value))) if value > 0.0 else 1.0
    return f"{math.ceil(value * scale) / scale:.6g}"
