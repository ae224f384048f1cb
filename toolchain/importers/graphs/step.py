"""A graph of one relaxation step, from whatever it was written in: `inputs, states -> next states, outputs`.

Every output that is no state is a readout, evaluated once on the states after the last step. Two ways to write it give
the same number, that of a loop over the step which then reads the states that it ended with:

- of the new states, `h, x -> h_next, head(h_next)`: those of the last call are the last states;
- of the states that enter, `h, x -> h_next, head(h)`: it is taken of the last states, without a further step.

A readout that reads both, or that reads what the step makes of its states and inputs, is refused: in a loop its number
belongs to the states before the last step, which no state of the net holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays import Array
from ...diagnostics import Diagnostic, UnsupportedError
from ...ir import EqNet, State
from ...ir.ops import Op
from ...ir.types import ValueType
from .forms import Operand, Refused, Scope, Shape, plain
from .layers import Layers
from .reader import GraphReader, Values

__all__ = ["Arguments", "Form", "StepGraph", "StepNode", "StepReader"]


_DERIVED = " (derived)"
_UNREAD = "(unread)"
"""In place of a value that cannot be computed, as nothing can that reads it."""


@dataclass(frozen=True)
class StepNode:
    """One operation. `reads`: names of values or constants, by the names of its operands, one or several each;
    `options`: all else, by name; `place`: where the user wrote it; `shape`: of its value, where the graph says it."""

    kind: str
    reads: Mapping[str, str | tuple[str, ...]]
    options: Mapping[str, object] = field(default_factory=dict)
    place: str = ""
    shape: Shape | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it reads."""
        return tuple(n for r in self.reads.values() for n in ((r,) if isinstance(r, str) else r))


@dataclass(frozen=True)
class StepGraph:
    """A step. Shapes are those for one sample, with its axis of size 1 in front. `next`: the value that each state
    takes; `outputs`: the value of each output; `nodes` by the name of their value; `starts`: float64 `[*shape]` of
    states that do not start at 0."""

    inputs: Mapping[str, Shape]
    states: Mapping[str, Shape]
    next: Mapping[str, str]
    outputs: Mapping[str, str]
    nodes: Mapping[str, StepNode]
    constants: Mapping[str, Array]
    starts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    """What constants that were computed were made of."""


class Arguments:
    """What a node is called with, by name: operands (names of the net or constants) and options."""

    def __init__(self, operands: Mapping[str, Operand | tuple[Operand, ...]], options: Mapping[str, object]) -> None:
        self._operands = operands
        self._options = options

    def __getitem__(self, name: str) -> Operand:
        """An operand; a number among the options is a constant."""
        operand = self.get(name)
        if operand is None:
            raise Refused(f"its operand {name} is missing")
        return operand

    def get(self, name: str) -> Operand | None:
        """An operand, None if there is none."""
        if name in self._operands:
            operand = self._operands[name]
            return operand[0] if isinstance(operand, tuple) else operand
        value = self._options.get(name)
        return np.asarray(value, np.float64) if isinstance(value, (bool, int, float)) else None

    def all(self, name: str) -> tuple[Operand, ...]:
        """Operands of which there may be several."""
        operand = self._operands.get(name, ())
        return operand if isinstance(operand, tuple) else (operand,)

    def constant(self, name: str) -> NDArray[np.float64]:
        """An operand that must be a constant."""
        operand = self[name]
        if isinstance(operand, str):
            raise Refused(f"its operand {name} is not a constant")
        return operand

    def number(self, name: str, default: float | None = None) -> float:
        """An option or a constant operand of one entry."""
        operand = self.get(name)
        if operand is None and default is not None:
            return default
        if operand is None or isinstance(operand, str) or operand.size != 1:
            raise Refused(f"its {name} is not a constant of one entry")
        return float(operand.reshape(()))

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of whole numbers, or one number as a list of one."""
        value = self._options.get(name)
        if value is None and name in self._operands:
            value = [int(n) for n in self.constant(name).reshape(-1)]
        value = default if value is None else [value] if isinstance(value, int) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(n, int) for n in value):
            raise Refused(f"its {name} are not whole numbers known beforehand")
        return [int(n) for n in value]

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        return self.integers(name, None if default is None else [default])[0]

    def word(self, name: str, default: str = "") -> str:
        """A text."""
        return str(self._options.get(name) or default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A choice."""
        value = self._options.get(name)
        return default if value is None else bool(value)


Form = Callable[[Layers, Arguments], str]


class StepReader(GraphReader[StepGraph]):
    """Any graph of a step. A vocabulary says in `forms` what its operations are in the IR."""

    forms: ClassVar[Mapping[str, Form]]

    def survey(self) -> None:
        """The tables of the graph. Noted are nodes that have no form, and readouts that the states do not give."""
        graph = self.graph
        self.scope = Scope()
        self.faults: dict[Diagnostic, None] = {}
        self._sources: dict[str, NDArray[np.float64]] = {}
        self.inputs = {name: plain(shape) for name, shape in graph.inputs.items()}
        self.registers = {name: (new,) for name, new in graph.next.items()}
        self.nodes = {name: node.names for name, node in graph.nodes.items()}
        self.outputs = {name: (value,) for name, value in graph.outputs.items()}
        for name, node in graph.nodes.items():
            if node.kind not in self.forms:
                what = f"{node.kind} is not read"
                hint = "" if self.faults else self._listing()
                self.faults[Diagnostic(f"{self.kind.code}-node", what, self.place(name), hint)] = None
        self.faults |= dict.fromkeys(self._mixed())

    def _listing(self) -> str:
        """What is read, for a node that is not."""
        return f"read are {', '.join(sorted(kind for kind in self.forms if not kind.startswith('_')))}"

    def place(self, name: str) -> str:
        """Where the user wrote a node."""
        return self.graph.nodes[name].place or self.where(name)

    def order(self) -> Iterable[str]:
        """That of the graph, if it is one."""
        ready = {*self.inputs, *self.registers}
        for name, reads in self.nodes.items():
            if any(r in self.nodes and r not in ready for r in reads):
                return super().order()
            ready.add(name)
        return list(self.nodes)

    def settled(self) -> Mapping[str, str]:
        """After the last step, a new state is the state."""
        return {new: name for name, new in self.graph.next.items() if new in self.nodes}

    def _mixed(self) -> Iterator[Diagnostic]:
        """Readouts of states before the step that read states after it too, or what the step makes of them and of the
        inputs."""
        settled = self.settled()
        step = self._reach(list(self.graph.next.values()), ()) & self._both()
        for name, value in self.graph.outputs.items():
            reach = self._reach(self.outputs[name], tuple(settled))
            old = sorted(reach & set(self.registers))
            new = sorted(reach & set(settled))
            shared = [n for n in self.nodes if n in reach & step and n not in settled]
            if not old or not (new or shared):
                continue
            hint = "compute it from the new states alone, as head(h_next)"
            if new:
                both = f"{', '.join(old)} and {', '.join(new)}"
                what = f"output {name[:80]!r} reads both {both}, states before and after the step"
            else:
                kinds = ", ".join(dict.fromkeys(self.graph.nodes[n].kind for n in shared[:4]))
                what = (
                    f"output {name[:80]!r} reads what the step computes from {', '.join(old)} and the inputs ({kinds}):"
                )
                what += " in a loop that is the value of the last step, made from the states before it"
            yield Diagnostic(
                f"{self.kind.code}-readout", what, self.place(value) if value in self.nodes else self.label, hint
            )

    def _reach(self, sinks: Sequence[str], ends: Sequence[str]) -> set[str]:
        """All that `sinks` read, directly or through others, themselves too; what `ends` read is left out."""
        visited: set[str] = set()
        stack = list(sinks)
        while stack:
            name = stack.pop()
            if name not in visited:
                visited.add(name)
                stack += [] if name in ends else self.nodes.get(name, ())
        return visited

    def _both(self) -> set[str]:
        """Nodes that hang on a state and on an input."""
        moving, driven = set(self.registers), set(self.inputs)
        for name in self.order():
            for among in (moving, driven):
                if not among.isdisjoint(self.nodes[name]):
                    among.add(name)
        return moving & driven

    # The net

    def net(self) -> EqNet:
        """The net. Raises UnsupportedError with every node that has no form, or not with its operands and options, and
        every readout that the states do not give."""
        net = super().net()
        if self.faults:
            raise UnsupportedError(list(self.faults))
        return net

    def begin(self, values: Values) -> None:
        for name, shape in (*self.graph.inputs.items(), *self.graph.states.items()):
            self.scope.types[values[name]] = ValueType(plain(shape))
            self.scope.shapes[values[name]] = shape
        self.scope.states |= {values[name] for name in self.graph.states}

    def node(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        node = self.graph.nodes[name]
        if node.kind not in self.forms or any(values.get(n) == _UNREAD for n in node.names):
            return _UNREAD
        operands = {
            key: self._operand(read, values) if isinstance(read, str) else tuple(self._operand(r, values) for r in read)
            for key, read in node.reads.items()
        }
        constants = {n: self._sources[n] for n in node.names if n in self._sources}
        layers = Layers(
            self.scope,
            block,
            lambda hint: self.unique(f"{name}{f'_{hint}' if hint else ''}{mark}"),
            lambda array: self._held(array, constants, name),
        )
        try:
            value = self.forms[node.kind](layers, Arguments(operands, node.options))
            if node.shape is not None and self.scope.shapes[value] != node.shape:
                value = layers.reshape(value, node.shape)
        except Refused as refused:
            what = f"{node.kind}: {refused}"
            self.faults[Diagnostic(f"{self.kind.code}-node", what, self.place(name))] = None
            return _UNREAD
        return value

    def _operand(self, name: str, values: Values) -> Operand:
        if name in values:
            return values[name]
        if name not in self._sources:
            self._sources[name] = np.asarray(self.graph.constants[name], np.float64)
        return self._sources[name]

    def _held(self, array: NDArray[np.generic], constants: Mapping[str, NDArray[np.float64]], node: str) -> str:
        """A parameter that holds a constant of a node: one of those that it reads, or what was computed from them."""
        if array.size == 1 and not any(c.size == 1 for c in constants.values()):
            return self._param(("", f"{array.shape}{array.item()!r}"), "constant", array, f"{self.label}:constant")
        view = next((n for n, c in constants.items() if np.may_share_memory(c, array)), None)
        origin = view or next((n for n, c in constants.items() if c.size == array.size), node)
        part = next((p for p in self._params.values() if p.source and np.may_share_memory(p.value, array)), None)
        if view is None and part is not None:
            name, source = part.name, part.source.removesuffix(_DERIVED)
        else:
            name = self.graph.origins.get(origin, origin)
            source = f"{self.label}:{name}"
        same = view is not None and origin not in self.graph.origins and constants[origin].size == array.size
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return self._param((origin, f"{array.shape}{digest}"), name, array, source + ("" if same else _DERIVED))

    def _param(self, key: tuple[str, str], name: str, array: NDArray[np.generic], source: str) -> str:
        parameter = self.param(key, name, array, source)
        self.scope.types[parameter] = ValueType(array.shape)
        self.scope.arrays[parameter] = self._params[key].value
        return parameter

    def latch(self, name: str, values: Values, step: list[Op]) -> list[State]:
        start = self.graph.starts.get(name)
        init = None if start is None else self.param((name, "start"), f"{name}_start", start, f"{self.label}:{name}")
        return [State(values[name], plain(self.graph.states[name]), self._value(self.graph.next[name], values), init)]

    def output(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        return self._value(self.graph.outputs[name], values)

    def _value(self, name: str, values: Values) -> str:
        """A value of the net; a constant is a parameter."""
        if name in values:
            return values[name]
        array = self._operand(name, values)
        return array if isinstance(array, str) else self._held(array.reshape(plain(array.shape)), {name: array}, name)
