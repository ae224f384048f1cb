"""A dataflow graph with registers becomes an EqNet; what the nodes mean is the business of a vocabulary (NIR, ONNX)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ...diagnostics import Diagnostic, EqcompileError, ImportFileError, UnsupportedError, UsageError
from ...interfaces import Imported
from ...ir import EqNet, Input, Output, Param, Schedule, State
from ...ir.ops import Op
from ...ir.parts import OutputKind
from ...ir.verify import check
from ..family import Setting, SettingValue
from ..settings import resolve

__all__ = ["OUTPUTS", "GraphKind", "GraphReader", "Values", "import_graph"]

G = TypeVar("G")
Values = Mapping[str, str]
"""Names in the net by the graph's own names."""

OUTPUTS = Setting("outputs", "classes", "what the outputs are: classes (label = largest) or values", "nothing")


@dataclass(frozen=True)
class GraphKind:
    """A vocabulary of nodes as `families` has classes of networks; `code` begins its diagnostics."""

    key: str
    code: str
    settings: tuple[Setting, ...]


class GraphReader(ABC, Generic[G]):
    """One graph in the reading.

    Nodes without memory that no register reaches are the drive; those that registers need are the step; those that
    outputs need are the readout, evaluated on the states after the last step. A node may be in both, for a readout
    reads no value of the step; its parameters are stored once.
    """

    kind: ClassVar[GraphKind]

    def __init__(self, graph: G, label: str, settings: Mapping[str, SettingValue]) -> None:
        self.graph = graph
        self.label = label
        self.settings = settings
        self._params: dict[tuple[str, str], Param] = {}
        self._taken: set[str] = set()
        self.steps = int(self.number("steps"))
        self.survey()

    # The vocabulary: names are the graph's own

    inputs: Mapping[str, tuple[int, ...]]
    """Shapes of the clamped inputs."""
    registers: Mapping[str, tuple[str, ...]]
    """What the next value of each register is computed from."""
    nodes: Mapping[str, tuple[str, ...]]
    """What each node without memory reads, in an order in which it can be read where the graph has one."""
    outputs: Mapping[str, tuple[str, ...]]
    """What each output is computed from."""

    @abstractmethod
    def survey(self) -> None:
        """Set the four tables above; UnsupportedError with every node that is not read, UsageError for settings."""

    @abstractmethod
    def node(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        """Add the operations of a node to `block`, their names ending in `mark`; its value."""

    @abstractmethod
    def latch(self, name: str, values: Values, step: list[Op]) -> list[State]:
        """The registers of the net that `name` becomes, its own last."""

    @abstractmethod
    def output(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        """The value of an output; operations that it takes are added to `block`."""

    def begin(self, values: Values) -> None:
        """Note what inputs and registers are called in the net, before any node is read."""

    def shown(self, name: str) -> str:
        """What an input, a register or an output is called in the net."""
        return name

    def settled(self) -> Mapping[str, str]:
        """Nodes whose value in the readout is that of a register."""
        return {}

    def order(self) -> Iterable[str]:
        """`nodes`, each after what it reads."""
        reads = {name: [r for r in read if r in self.nodes] for name, read in self.nodes.items()}
        try:
            return list(TopologicalSorter(reads).static_order())
        except CycleError as error:
            shown = ", ".join(repr(n[:40]) for n in sorted(set(error.args[1]))[:8])
            what = f"the nodes {shown} wait for each other: a loop without a register"
            hint = "put a node with memory in the loop"
            raise UnsupportedError(Diagnostic(f"{self.kind.code}-loop", what, self.label, hint)) from error

    # The net

    def net(self) -> EqNet:
        order = list(self.order())
        values = {name: self.unique(self.shown(name)) for name in (*self.inputs, *self.registers)}
        self.begin(values)
        moving = set(self.registers)
        for name in order:
            if moving.intersection(self.nodes[name]):
                moving.add(name)
        drive: list[Op] = []
        step: list[Op] = []
        read: list[Op] = []
        for name in order:
            if name not in moving:
                values[name] = self.node(name, values, drive, "")
        at_step, at_end = dict(values), values | {n: values[r] for n, r in self.settled().items()}
        for_step, for_read = self._needed(self.registers, at_step), self._needed(self.outputs, at_end)
        for name in order:
            if name in for_step:
                at_step[name] = self.node(name, at_step, step, "")
            if name in for_read:
                at_end[name] = self.node(name, at_end, read, "_read")
        states = [state for name in self.registers for state in self.latch(name, at_step, step)]
        outputs = []
        for name, sources in self.outputs.items():
            block, mark = (read, "_read") if moving.intersection(sources) else (drive, "")
            value = self.output(name, at_end, block, mark)
            outputs.append(Output(self.unique(self.shown(name)), value, self._output_kind()))
        read_by = {s.update for s in states} | {s.init for s in states} | {o.value for o in outputs}
        for block in (read, step, drive):
            block[:] = _used(block, read_by)
        return EqNet(
            name=re.sub(r"\W", "_", Path(self.label).stem) or "graph",
            family=self.kind.key,
            inputs=tuple(Input(values[name], shape) for name, shape in self.inputs.items()),
            params=tuple(p for p in self._params.values() if p.name in read_by),
            states=tuple(states),
            drive=tuple(drive),
            step=tuple(step),
            readout=tuple(read),
            outputs=tuple(outputs),
            schedule=Schedule(self.steps),
        )

    def _needed(self, sinks: Mapping[str, tuple[str, ...]], ready: Values) -> set[str]:
        """Nodes that `sinks` read, directly or through others, up to those that are `ready`."""
        needed: set[str] = set()
        stack = [name for sources in sinks.values() for name in sources]
        while stack:
            name = stack.pop()
            if name in self.nodes and name not in needed and name not in ready:
                needed.add(name)
                stack += self.nodes[name]
        return needed

    def _output_kind(self) -> OutputKind:
        kind = self.settings["outputs"]
        if kind == "classes":
            return "classes"
        if kind == "values":
            return "values"
        raise UsageError(Diagnostic("setting-value", f"outputs is {kind!r}, must be classes or values", self.label))

    # Names and parameters

    def unique(self, name: str) -> str:
        """A name of the net like `name` that is not taken."""
        base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        base = base if base and not base[0].isdigit() else f"n{base}"
        unique, count = base, 1
        while unique in self._taken:
            count += 1
            unique = f"{base}_{count}"
        self._taken.add(unique)
        return unique

    def param(self, key: tuple[str, str], name: str, value: ArrayLike, source: str) -> str:
        """A constant of the graph under a name like `name`; the same `key` may be asked for again."""
        if key not in self._params:
            array = np.asarray(value)
            array = array if array.dtype == np.int64 else array.astype(np.float64)
            if not np.isfinite(array).all():
                what = f"{int((~np.isfinite(array)).sum())} of {array.size} entries are NaN or infinite"
                raise ImportFileError(Diagnostic("tensor-not-finite", what, source))
            self._params[key] = Param(self.unique(name), array, source)
        return self._params[key].name

    def number(self, name: str) -> float:
        """A setting that is a number. Raises UsageError."""
        value = self.settings[name]
        if isinstance(value, (bool, str, tuple)):
            raise UsageError(Diagnostic("setting-value", f"{name} is {value!r}, must be a number", self.label))
        return float(value)

    def where(self, name: str) -> str:
        return f"{self.label}:{name[:80]}"

    def refused(self, what: str, name: str, hint: str = "") -> UnsupportedError:
        """The error for a node that is not read."""
        return UnsupportedError(Diagnostic(f"{self.kind.code}-node", what, self.where(name), hint))


def _used(block: list[Op], names: set[str | None]) -> list[Op]:
    """The operations whose values are among `names` or read by one of them; what they read is added to `names`."""
    kept = []
    for op in reversed(block):
        if op.out in names:
            kept.append(op)
            names.update(op.reads)
    return kept[::-1]


def import_graph(
    kind: GraphKind,
    read: Callable[[Mapping[str, SettingValue]], EqNet],
    path: Path,
    *,
    stated: Mapping[str, object],
    user: Mapping[str, object],
    config: Mapping[str, object],
    assume: bool,
) -> Imported:
    """The verified net that `read` makes of a graph with its settings, which come as in `import_model`; `stated` are
    those of the file.

    Raises ImportFileError (inconsistent), UnsupportedError naming every node that is not read, UsageError (settings).
    """
    resolved = resolve(kind, user=user, config=config, stated=stated, label=path.name, assume=assume)
    try:
        net = read(resolved.values)
    except EqcompileError:
        raise
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        what = f"the graph cannot be read: {' '.join(str(error).split())[:200]}"
        raise ImportFileError(Diagnostic(f"{kind.code}-graph", what, path.name)) from error
    faults = [Diagnostic(d.code, d.what, f"{path.name}: {d.where}", d.hint) for d in check(net)]
    if faults:
        raise ImportFileError(faults)
    return Imported(net, kind.key, path, resolved.assumed, resolved.given, warnings=resolved.warnings(kind))
