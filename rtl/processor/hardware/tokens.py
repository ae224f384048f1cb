"""What goes through the pipeline of vector instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth import Const, Module, Mux, Shape, Signal, Value

from ..encoding import Opcode
from ..features import Features
from .memories import Memories
from .record import Record

__all__ = ["ZERO", "Stages", "Token", "choose", "rounded", "without"]

Token = dict[str, Value]
"""What goes through the pipeline together: `valid`, addresses, and of lane 2 `value.2`, and so on."""

ZERO = Const(0, Shape(2, signed=True))


def choose(selector: Value, forms: Mapping[int, Value]) -> Value:
    """The form whose number the selector has; the last one otherwise, and 0 where there is none."""
    if not forms:
        return Const(0)
    *others, (_, value) = forms.items()
    for number, form in reversed(others):
        value = Mux(selector == number, form, value)
    return value


def without(t: Token, *names: str) -> Token:
    """What the later stages still need."""
    return {key: value for key, value in t.items() if key.split(".")[0] not in names}


def rounded(x: Value, shift: Value, shifts: Sequence[int]) -> Value:
    """`(x + (1 << shift - 1)) >> shift`, for the shifts that occur."""
    if not any(shifts):
        return x
    up = x + choose(shift, {s: Const(1 << s - 1 if s else 0) for s in shifts})
    return choose(shift, {s: up >> s for s in shifts})


class Stages:
    """What all stages use: the instruction at hand, and the registers between them, which move in a clock with `go`."""

    def __init__(self, m: Module, memories: Memories, features: Features, record: Record) -> None:
        self.m, self.memories, self.features, self.record = m, memories, features, record
        self.core = memories.core
        self.lanes = range(self.core.width)
        self.go = Signal()
        self.stage = 0
        self.valids: list[Value] = []

    def field(self, name: str) -> Value:
        return self.record.of(Opcode.VECTOR, name)

    def later(self, token: Token, *, valid: Value | None = None) -> Token:
        """All values of a token a clock later, while nothing waits."""
        later: Token = {}
        with self.m.If(self.go):
            for name, value in token.items():
                register = Signal(value.shape(), name=f"{name.replace('.', '_')}_{self.stage}")
                if name == "valid":
                    self.m.d.control += register.eq(value if valid is None else valid)
                else:
                    self.m.d.sync += register.eq(value)
                later[name] = register
        self.stage += 1
        self.valids.append(later["valid"])
        return later
