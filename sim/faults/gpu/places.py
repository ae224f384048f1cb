"""What a net computes place by place, as C: the code of unit i of a value, from sums, states and constants there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....toolchain.ir.ops import Op
from .expressions import expression
from .plan import Plan

__all__ = ["Places"]


class Places:
    """Expressions of a plan. `pointers`: the arrays that they read, each `(kind, name)`, by name in C."""

    def __init__(self, plan: Plan, types: dict[tuple[str, str], str]) -> None:
        self.plan, self.types = plan, types
        self.states = [s.name for s in plan.net.states]
        self.first = [sum(plan.sizes[n] for n in self.states[:k]) for k in range(len(self.states) + 1)]
        self.start = [sum(-(-plan.sizes[n] // 4) * 4 for n in self.states[:k]) for k in range(len(self.states) + 1)]
        self.pointers: dict[tuple[str, str], str] = {}
        self.made = {op.out: op for op in (*plan.step, *plan.readout)}

    def slice(self, end: str, block: Sequence[Op]) -> list[Op]:
        """The operations of a block that a value follows from, in order."""
        needed, found = {self.plan.resolve(end)}, []
        for op in reversed(block):
            if op.out in needed:
                found.append(op)
                if op.out not in self.plan.matrices:
                    needed |= {self.plan.resolve(n) for n in op.reads}
        return found[::-1]

    def reads(self, part: Sequence[Op], state: str) -> bool:
        """Whether an operation that is no map reads a state."""
        return any(state in {self.plan.resolve(n) for n in op.reads} for op in part if op.out not in self.plan.matrices)

    def reads_state(self, update: str, part: Sequence[Op]) -> bool:
        return any(self.reads(part, n) or self.plan.resolve(update) == n for n in self.states)

    def own(self, number: int) -> list[str]:
        """States that the update of a state reads code by code."""
        update = self.plan.net.states[number].update
        part = self.slice(update, self.plan.step)
        return [n for n in self.states if self.reads(part, n) or self.plan.resolve(update) == n]

    def inputs(self, update: str, part: Sequence[Op]) -> list[str]:
        """Arguments of an update: what deviates of its sums and of the states that it reads."""
        sums = [f"sum_{self.id(op.out)}" for op in part if op.out in self.plan.matrices]
        states = [n for n in self.states if self.reads(part, n) or self.plan.resolve(update) == n]
        return [*sums, *(f"own_{self.states.index(n)}" for n in states)]

    def operation(self, op: Op, sums: str, tick: str) -> Iterator[str]:
        """Statements that compute an operation at place i; `sums`: how what deviates of sums is named."""
        out = self.id(op.out)
        if op.out in self.plan.matrices:
            yield f"const i32 {out} = {self.stated(op, f'{self.sum(op.out, tick)} + {sums}_{out}')};"
            return
        before, code = expression(
            op,
            self.plan,
            lambda name: self.value(name, tick),
            lambda table: f"net->{self.pointer('entries', table)}",
            entry=f"e_{out}",
        )
        if before:
            yield before
        yield f"const i32 {out} = {self.stated(op, code)};"

    def stated(self, op: Op, code: str) -> str:
        """The code of a result; here no disturbance takes one out of the range that is proved."""
        return code

    def latched(self, number: int, code: str) -> str:
        """The code that a state takes from that of its update; the same holds of it."""
        return code

    # Names

    def id(self, value: str) -> str:
        return f"v{list(self.made).index(value)}"

    def pointer(self, kind: str, name: str) -> str:
        return self.pointers.setdefault((kind, name), f"{kind}{len(self.pointers)}")

    def state(self, name: str, index: str, tick: str) -> str:
        """A code of the fault-free run."""
        pointer, size = self.pointer("codes", name), self.plan.sizes[name]
        return f"net->{pointer}[((INDEX)({tick}) * net->samples + sample) * {size} + {index}]"

    def sum(self, name: str, tick: str) -> str:
        """A sum of the fault-free run."""
        size = self.plan.sizes[name]
        if any(op.out == name for op in self.plan.step):
            return f"net->{self.pointer('sum', name)}[((INDEX)({tick}) * net->samples + sample) * {size} + i]"
        return f"net->{self.pointer('sum', name)}[(INDEX)sample * {size} + i]"

    def value(self, name: str, tick: str) -> str:
        """The code of a value at place i."""
        name = self.plan.resolve(name)
        if name in self.states:
            return f"({self.state(name, 'i', tick)} + own_{self.states.index(name)})"
        if name in self.plan.params:
            entries = self.plan.params[name]
            return f"({int(entries[0])})" if len(entries) == 1 else f"net->{self.pointer('entries', name)}[i]"
        if name in self.plan.held:
            size = self.plan.sizes[name]
            return f"net->{self.pointer('fixed', name)}[(INDEX)sample * {size} + {'i' if size > 1 else '0'}]"
        return self.id(name)
