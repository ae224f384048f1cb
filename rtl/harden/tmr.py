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

from amaranth import DomainRenamer, Elaboratable, Fragment, Signal, Value
from amaranth.hdl._xfrm import FragmentTransformer  # what Amaranth's own inserters of resets and enables are made of

from ..control import CONTROL, detached

__all__ = ["COPIES", "Triplicated", "kept_apart", "majority", "merge_control"]

COPIES = 3
_NAME = "vote_copy"
_MODULE = re.compile(rf"^(?=module \\?\S*{_NAME}(_\d+)? )", re.MULTILINE)


def kept_apart(verilog: str) -> str:
    """The Verilog of a design with the attribute that keeps copies from being merged; without copies as it was."""
    return _MODULE.sub("(* keep_hierarchy = 1 *)\n", verilog)


def majority(a: Value, b: Value, c: Value) -> Value:
    """Bit by bit what at least two of three say."""
    return (a & b) | (a & c) | (b & c)


def merge_control(core: Elaboratable, *, voted: bool) -> Elaboratable:
    """The core with its control registers in the domain `sync`, as they are or `voted`."""
    merged: Elaboratable = Triplicated()(core) if voted else DomainRenamer({CONTROL: "sync"})(core)
    return merged


class Triplicated(FragmentTransformer):
    """Moves the registers of the control domain, of a component and all that are in it, to the domain `sync`, three
    copies of each; the component reads the majority."""

    def on_fragment(self, fragment: Fragment) -> Fragment:
        new = super().on_fragment(fragment)
        pairs = detached(new, CONTROL)
        if not pairs:
            return new
        copies = [[_copy(register, number) for register, _ in pairs] for number in range(COPIES)]
        for number, copy in enumerate(copies):
            module = Fragment()
            module.add_statements("sync", *(held.eq(coming) for held, (_, coming) in zip(copy, pairs, strict=True)))
            new.add_subfragment(module, f"{_NAME}_{number}")
        for (register, _), *three in zip(pairs, *copies, strict=True):
            new.add_statements("comb", register.eq(majority(*three)))
        return new


def _copy(register: Signal, number: int) -> Signal:
    return Signal(register.shape(), name=f"vote{number}_{register.name}", init=register.init)
