"""The control domain: the registers of a core that decide what happens next.

    m.d.control += phase.eq(phase + 1)       control: hardening votes over three copies of it (`harden.tmr`)
    m.d.sync += total.eq(total + product)    datapath: codes, sums and products, which no vote protects

Both are one clock. Until `harden.tmr.merge_control` makes one domain of them, the domain in which a register is
assigned says whether it is control; nothing else does. Words of memories are protected by the memory that holds them
(`harden.memory.CheckedRam`, `harden.residue.ResidueRam`), whose registers at the ports are control. Every control
register has an explicit name, `Signal(name=...)`, so that lists of them do not depend on how a line is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from amaranth import Elaboratable, ResetInserter, Signal, Value
from amaranth.hdl import Fragment

# Amaranth rewrites statements with these itself; there is no public way, and its version is pinned.
from amaranth.hdl._ast import Assign, Part, Statement, SwitchValue
from amaranth.hdl._xfrm import LHSMaskCollector, StatementTransformer, ValueTransformer

__all__ = ["CONTROL", "detached", "fragments", "registers", "restarted"]

CONTROL: Final = "control"
"""Name of the domain."""


def restarted(core: Elaboratable, restart: Value) -> Elaboratable:
    """The core, all registers of which take their initial values in a clock with `restart`."""
    return ResetInserter({"sync": restart, CONTROL: restart})(core)


def fragments(top: Fragment, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Fragment]]:
    """A fragment and all that are in it, with the path of each; memories and instances are none."""
    yield path, top
    for number, (inner, name, _) in enumerate(top.subfragments):
        if type(inner) is Fragment:
            yield from fragments(inner, (*path, name or f"part{number}"))


def registers(fragment: Fragment, domain: str) -> list[Signal]:
    """Registers that the fragment itself assigns in a domain, in the order of their first assignments."""
    return _assigned(fragment.statements.get(domain, ()))


def detached(fragment: Fragment, domain: str) -> list[tuple[Signal, Signal]]:
    """Take the registers of a domain out of the fragment: each of them, and a signal with the value that it would load
    next, which logic of the fragment computes. Whoever takes them out assigns them."""
    statements = fragment.statements.pop(domain, ())
    registers_of = [
        (register, Signal.like(register, name=f"{register.name}_next")) for register in _assigned(statements)
    ]
    if registers_of:
        fragment.add_statements("comb", *(coming.eq(register) for register, coming in registers_of))
        fragment.add_statements("comb", _Ahead(registers_of)(statements))
    return registers_of


def _assigned(statements: object) -> list[Signal]:
    collector = LHSMaskCollector()
    collector.visit_stmt(statements)
    return [register for register, _ in collector.masks()]


class _Target(ValueTransformer):
    """The left side of an assignment, with what follows a register in the register's place."""

    def __init__(self, pairs: Iterable[tuple[Signal, Signal]]) -> None:
        self.following = {id(register): coming for register, coming in pairs}

    def on_Signal(self, value: Signal) -> Value:
        return self.following.get(id(value), value)

    def on_Part(self, value: Part) -> Value:
        return Part(self.on_value(value.value), value.offset, value.width, value.stride)

    def on_SwitchValue(self, value: SwitchValue) -> Value:
        return SwitchValue(value.test, [(patterns, self.on_value(inner)) for patterns, inner in value.cases])


class _Ahead(StatementTransformer):
    """Statements that assign what follows registers instead of the registers."""

    def __init__(self, pairs: Iterable[tuple[Signal, Signal]]) -> None:
        self.target = _Target(pairs)

    def on_Assign(self, stmt: Assign) -> Statement:
        return Assign(self.target.on_value(stmt.lhs), stmt.rhs)
