"""Triple modular redundancy of registers, inserted into an elaborated design.

next ──► copy 0 ──┐
     ──► copy 1 ──┼──► majority, which the design reads, and the next value starts from
     ──► copy 2 ──┘

Each clock loads the vote into all copies, so an upset copy is right again a clock later, whatever the others do then.
R. E. Lyons, W. Vanderkulk: The use of triple-modular redundancy to improve computer reliability, IBM J. Res. Dev. 6
(1962). A synthesiser would merge copies that hold the same; so each stands in a module of its own that keeps its
hierarchy (`kept_apart`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from amaranth import Fragment, Signal, Value
from amaranth.hdl._ast import (  # what Amaranth's own inserters of resets and enables are made of
    Assign,
    Operator,
    SignalDict,
    Slice,
    Statement,
    Switch,
)
from amaranth.hdl._xfrm import FragmentTransformer

__all__ = ["COPIES", "Triplicated", "kept_apart", "majority"]

COPIES = 3
_NAME = "vote_copy"
_MODULE = re.compile(rf"^(?=module \\?\S*{_NAME}_\d+ )", re.MULTILINE)


def kept_apart(verilog: str) -> str:
    """The Verilog of a design with the attribute that keeps copies from being merged; without copies as it was."""
    return _MODULE.sub("(* keep_hierarchy = 1 *)\n", verilog)


def majority(a: Value, b: Value, c: Value) -> Value:
    """Bit by bit what at least two of three say."""
    return (a & b) | (a & c) | (b & c)


class Triplicated(FragmentTransformer):
    """Triplicates the registers of domain `sync` of which `control` says so, in a component and all that are in it,
    submodules named in `but` left alone.

    Raises NotImplementedError for an assignment to such a register in one with another, or to a part at a position that
    varies; the engine that is hardened makes neither. `told` is called with number, register and copy
    of each that is made, when the design is elaborated.
    """

    def __init__(
        self,
        control: Callable[[Signal], bool],
        *,
        but: Collection[str] = (),
        told: Callable[[int, Signal, Signal], None] = lambda number, register, copy: None,
    ) -> None:
        self.control, self.but, self.told = control, but, told

    def map_subfragments(self, fragment: Fragment, new_fragment: Fragment) -> None:
        for inner, name, at in fragment.subfragments:
            new_fragment.add_subfragment(inner if name in self.but else self(inner), name, src_loc=at)

    def on_fragment(self, fragment: Fragment) -> Fragment:
        new = super().on_fragment(fragment)
        statements = new.statements.get("sync")
        if statements is None:
            return new
        chosen = [s for s in statements._lhs_signals() if self.control(s)]
        if not chosen:
            return new
        nexts = SignalDict((s, Signal(s.shape(), name=f"{s.name}_next")) for s in chosen)
        moved = [kept for s in statements for kept in _taken(s, nexts)]
        del new.statements["sync"]
        left = [kept for s in statements for kept in _left(s, nexts)]
        if left:
            new.add_statements("sync", *left)
        copies = [[_copy(s, number) for s in chosen] for number in range(COPIES)]
        new.add_statements("comb", *(after.eq(s) for s, after in nexts.items()), *moved)
        for number, copy in enumerate(copies):
            for s, held in zip(chosen, copy, strict=True):
                self.told(number, s, held)
            module = Fragment()
            module.add_statements("sync", *(held.eq(nexts[s]) for s, held in zip(chosen, copy, strict=True)))
            new.add_subfragment(module, f"{_NAME}_{number}")
        new.add_statements("comb", *(s.eq(majority(*three)) for s, *three in zip(chosen, *copies, strict=True)))
        return new


def _copy(register: Signal, number: int) -> Signal:
    return Signal(register.shape(), name=f"vote{number}_{register.name.lstrip('$')}", init=register.init)


def _left(statement: Statement, nexts: SignalDict) -> Iterator[Statement]:
    """What is left of a statement when the assignments to chosen registers are taken out."""
    match statement:
        case Assign():
            if not any(s in nexts for s in statement.lhs._lhs_signals()):
                yield statement
        case Switch():
            cases = [(p, [kept for s in body for kept in _left(s, nexts)], at) for p, body, at in statement.cases]
            if any(body for _, body, _ in cases):
                yield Switch(statement.test, cases, src_loc=statement.src_loc)
        case _:
            yield statement


def _taken(statement: Statement, nexts: SignalDict) -> Iterator[Statement]:
    """The assignments to chosen registers, to their next values instead."""
    match statement:
        case Assign():
            if any(s in nexts for s in statement.lhs._lhs_signals()):
                yield Assign(_next(statement.lhs, nexts), statement.rhs)
        case Switch():
            cases = [(p, [kept for s in body for kept in _taken(s, nexts)], at) for p, body, at in statement.cases]
            if any(body for _, body, _ in cases):
                yield Switch(statement.test, cases, src_loc=statement.src_loc)


def _next(left: Value, nexts: SignalDict) -> Value:
    match left:
        case Signal() if left in nexts:
            return nexts[left]
        case Slice():
            return _next(left.value, nexts)[left.start : left.stop]
        case Operator(operator="u" | "s"):
            return _next(left.operands[0], nexts)
    raise NotImplementedError(f"an assignment to {left!r} cannot be triplicated")
