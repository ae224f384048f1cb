"""How fine each value is: widths of states, and of what flows into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eqcompile.toolchain.options import QuantizeOptions

from ..toolchain.ir import EqNet, ops
from ..toolchain.ir.ops import Op
from .exact import moves

__all__ = ["Precision", "averages", "named_values", "read_by_weights"]

_MAPS = (ops.Linear, ops.Stencil, ops.Conv)
_READ = (*_MAPS, ops.MatMul)
_TABLES = (ops.Activation, ops.Softmax)


@dataclass(frozen=True)
class Precision:
    """Bits of every value. A value of `n` bits within [-1, 1] has `n - 1` fraction bits; a state that is never
    negative has no sign to store, and so one bit of precision more than its width.

    `of`: bits by value; `default`: of those that flow into no state. `guards`: further fraction bits by value, of
    states that average and of what they are set from. `unsigned`: states without a sign, and what they are set from.
    """

    of: Mapping[str, int]
    default: int
    guards: Mapping[str, int] = field(default_factory=dict)
    unsigned: frozenset[str] = frozenset()

    @classmethod
    def choose(cls, net: EqNet, options: QuantizeOptions, unsigned: frozenset[str]) -> Precision:
        """The bits that `options` ask for; `unsigned`: names of states that are proved to stay in [0, 1].

        A value has the bits of the state that it flows into without passing a weight, the most if there are several,
        unless `options.states` names it.
        """
        widths = {s.name: options.states.get(s.name, options.state_bits) + (s.name in unsigned) for s in net.states}
        wanted = {name: bits for name, bits in options.states.items() if name not in widths}
        found: dict[str, int] = {}
        for s in net.states:
            for name in _set_from(s.update, s.init):
                found[name] = max(found.get(name, 0), widths[s.name])
        weighed = _weighed(net)
        for block in (net.readout, net.step, net.drive):
            _backward(block, found, wanted, options.state_bits, weighed)
        guards: dict[str, int] = {}
        for state, group in averages(net).items():
            bits = options.guards.get(state, options.guard_bits)
            for name in group if bits else ():
                guards[name] = max(guards.get(name, 0), bits)
        return cls({**found, **wanted, **widths}, options.state_bits, guards, _without_sign(net, unsigned))

    def __getitem__(self, name: str) -> int:
        return self.of.get(name, self.default)

    @property
    def widest(self) -> int:
        """The most bits of any value."""
        return max([self.default, *self.of.values()])

    def pre(self, name: str) -> int:
        """Fraction bits of the sums that a value is made of."""
        return max(self[name] + 1, self[name] - 1 + self.guards.get(name, 0))


def averages(net: EqNet) -> dict[str, frozenset[str]]:
    """States and carried values whose next value holds a part of their last one, each with the values that share its
    format: itself and what it is set from."""
    makers = {op.out: op for op in net.all_ops()}
    groups: dict[str, frozenset[str]] = {}
    for state in net.states:
        if _holds_part(makers.get(state.update), state.name, makers):
            groups[state.name] = frozenset({state.name, *_set_from(state.update, state.init)})
    for op in net.all_ops():
        if isinstance(op, ops.Repeat) and _holds_part(makers.get(op.result), op.carry, makers):
            groups[op.carry] = frozenset({op.carry, op.result, op.init, op.out})
    return groups


def named_values(net: EqNet) -> tuple[str, ...]:
    """Values besides states whose width may be asked for: what weights and tables read, and what tables give."""
    made = {op.out for op in net.all_ops()}
    names: dict[str, None] = {}
    weighed = _weighed(net)
    for op in net.all_ops():
        if op.out in weighed or isinstance(op, _TABLES):
            names |= dict.fromkeys(name for name in op.reads if name in made)
        if isinstance(op, _TABLES):
            names[op.out] = None
    return tuple(names)


def _weighed(net: EqNet) -> frozenset[str]:
    """Values that operations with weights, or products of values, give; not those that only move entries."""
    return frozenset(op.out for op in net.all_ops() if isinstance(op, _READ) and not moves(net, op))


def read_by_weights(net: EqNet) -> tuple[str, ...]:
    """Values besides states that weights read, and no state is set from them."""
    made = {op.out for op in net.all_ops()} - {n for s in net.states for n in _set_from(s.update, s.init)}
    names = (op.x if isinstance(op, _MAPS) else n for op in net.all_ops() if isinstance(op, _READ) for n in op.reads)
    return tuple(dict.fromkeys(name for name in names if name in made))


def _set_from(*names: str | None) -> tuple[str, ...]:
    return tuple(name for name in names if name is not None)


def _backward(
    block: Iterable[Op], found: dict[str, int], wanted: Mapping[str, int], default: int, weighed: frozenset[str]
) -> None:
    """Hand the bits of each value on to what it is computed from, from the last operation to the first."""
    for op in reversed(tuple(block)):
        bits = wanted.get(op.out, found.get(op.out, default))
        found[op.out] = bits
        if isinstance(op, ops.Repeat):
            bits = wanted.get(op.carry, bits)
            found[op.carry] = found[op.result] = bits
            _backward(op.body, found, wanted, default, weighed)
        if op.out not in weighed:
            for name in op.reads:
                found[name] = max(found.get(name, 0), bits)


def _without_sign(net: EqNet, unsigned: frozenset[str]) -> frozenset[str]:
    """Those states, and the values that no state with a sign is set from as well."""
    signed = {n for s in net.states if s.name not in unsigned for n in _set_from(s.update, s.init)}
    held = {n for s in net.states if s.name in unsigned for n in _set_from(s.update, s.init)}
    return unsigned | frozenset(held - signed)


def _holds_part(op: Op | None, name: str, makers: Mapping[str, Op]) -> bool:
    """Whether an operation adds something to a part of the named value."""
    match op:
        case ops.Damp(old=old):
            return old == name
        case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b):
            return any(part == name or _holds_part(makers.get(part), name, makers) for part in (a, b))
        case ops.Scale(x=x):
            return x == name
        case _:
            return False
