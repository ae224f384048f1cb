"""Choices of a process as Verilog says them: `if` chains, `?` in one line, a reset that comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .rtlil import Assign, Chunk, Process, Spec, Statement, Switch, part_of

__all__ = ["assignments", "bit_at", "branches_of", "is_chain", "is_choice", "reset_first"]


def bit_at(spec: Spec, index: int) -> Chunk:
    """The bit `index` of a signal, counted from its lowest."""
    (chunk,) = part_of(spec, index, 1)
    return chunk


def assignments(statements: Iterable[Statement]) -> Iterator[Assign]:
    """Every assignment of the statements, those of all cases included."""
    for statement in statements:
        if isinstance(statement, Switch):
            for _, body in statement.cases:
                yield from assignments(body)
        else:
            yield statement


def single(pattern: str) -> bool:
    """Whether a pattern of a case asks for one bit and leaves the others open."""
    return pattern.count("-") == len(pattern) - 1


def is_chain(switch: Switch) -> bool:
    """Whether each case asks for one bit: `if`, `else if`, `else`."""
    return all(len(p) == 0 or (len(p) == 1 and single(p[0])) for p, _ in switch.cases)


def branches_of(switch: Switch) -> Iterator[tuple[tuple[Chunk, str] | None, tuple[Statement, ...]]]:
    """The branches of a chain: the bit that is asked for with its value, None for what remains."""
    asked: set[tuple[Chunk, str]] = set()
    for patterns, body in switch.cases:
        if not patterns:
            yield None, body
            return
        (pattern,) = patterns
        at = next(i for i, c in enumerate(pattern) if c != "-")
        bit = bit_at(switch.test, len(pattern) - 1 - at)
        if (bit, "10"[pattern[at] == "1"]) in asked:
            yield None, body
            return
        asked.add((bit, pattern[at]))
        yield (bit, pattern[at]), body


def is_choice(process: Process) -> bool:
    """Whether a process is `?` in one line: whole values, at most three conditions."""
    first, *rest = process
    whole = isinstance(first, Assign) and len(rest) <= 1
    if not whole or not rest:
        return whole
    (switch,) = rest
    assert isinstance(first, Assign)
    if not isinstance(switch, Switch) or not is_chain(switch) or len(switch.cases) > 3:
        return False
    bodies = [body for _, body in switch.cases]
    return all(len(b) == 1 and isinstance(b[0], Assign) and b[0].left == first.left for b in bodies)


def reset_first(process: Process) -> Process:
    """A condition that comes last and overrides everything, written as one that comes first, with an `else`."""
    if len(process) < 2 or not isinstance(last := process[-1], Switch) or len(last.cases) != 1:
        return process
    ((patterns, body),) = last.cases
    wires = {c.wire for a in assignments(process) for c in a.left}
    whole = len(body) == 1 and isinstance(body[0], Assign) and len(wires) == 1 and patterns == ("1",)
    widest = max(c.low + c.width for a in assignments(process) for c in a.left)
    if not whole or not isinstance(body[0], Assign) or body[0].left[0].width < widest:
        return process
    return (Switch(last.test, ((patterns, body), ((), reset_first(process[:-1])))),)
