"""A NIR graph of rates and leaky integrators becomes an EqNet: forward Euler with a stated time step.

Equations (Pedersen et al., Nature Communications 15, 8122, 2024; several edges into a node add up, all states start at
0), and what one tick of `dt` makes of them:

| node | equation | a tick |
|---|---|---|
| LI | `tau v' = v_leak - v + r I` | `v += dt/tau (v_leak - v + r I)` |
| I | `v' = r I` | `v += dt r I` |
| CubaLI | `tau_syn i' = -i + w_in S`, `tau_mem v' = v_leak - v + r i` | both at once, from the values before the tick |
| Delay | `y(t) = x(t - delay)` | a register for each `dt` |
| Affine, Linear, Scale, Conv1d, Conv2d, Flatten | memoryless | evaluated in the tick |
| Threshold | `1 if v > threshold else 0` | evaluated in the tick |

A number of ticks is no part of NIR: it is the setting `steps` (or the graph's own metadata `steps` and `dt`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic, ImportFileError, UnsupportedError
from ...interfaces import Imported
from ...ir import EqNet, Input, Output, Param, Schedule, State, ops
from ...ir.ops import Op
from ...ir.parts import OutputKind
from ...ir.verify import check
from ..family import Family, Setting
from ..files.nir_file import read_graph
from ..settings import resolve

__all__ = ["NIR_FAMILY", "import_nir"]

NIR_FAMILY = "nir.NIRGraph"
_SPIKING = ("IF", "LIF", "CubaLIF")
_STATEFUL = ("LI", "I", "CubaLI", "Delay")
_MEMORYLESS = ("Input", "Output", "Affine", "Linear", "Scale", "Threshold", "Flatten", "Conv1d", "Conv2d")
_MAX_REGISTERS = 1024

_SETTINGS = (
    Setting("steps", None, "ticks made for an input"),
    Setting("dt", 1e-4, "time step of forward Euler and of delays, in the graph's unit of time"),
    Setting("outputs", "classes", "what the outputs are: classes (label = largest) or values"),
)


def import_nir(data: bytes, path: Path, *, user: Mapping[str, Any], config: Mapping[str, Any]) -> Imported:
    """The net in the bytes of a `.nir` file; settings as in `import_model`.

    Raises ImportFileError (damaged, or no graph of this kind), UnsupportedError naming every node that is not read
    (spiking neurons, pooling, nested graphs, loops without memory), UsageError (settings) or MissingToolError.
    """
    graph = read_graph(data, path.name)
    kind = Family(NIR_FAMILY, "a graph of the Neuromorphic Intermediate Representation", (), _SETTINGS, _no_tensors)
    held = graph.metadata if isinstance(graph.metadata, dict) else {}
    stated = {n: held[n] for n in ("steps", "dt") if n in held}
    resolved = resolve(kind, user=user, config=config, stated=stated, label=path.name)
    try:
        net = _Reader(graph, path.name, resolved.values).net()
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        if isinstance(error, (ImportFileError, UnsupportedError)):
            raise
        text = " ".join(str(error).split())[:200]
        raise ImportFileError(Diagnostic("nir-graph", f"the graph cannot be read: {text}", path.name)) from error
    faults = [Diagnostic(d.code, d.what, f"{path.name}: {d.where}", d.hint) for d in check(net)]
    if faults:
        raise ImportFileError(faults)
    return Imported(net, NIR_FAMILY, path, resolved.assumed, resolved.given)


def _no_tensors(tensors: Any, settings: Mapping[str, Any]) -> NoReturn:
    raise TypeError("a NIR graph is not made of named tensors")


@dataclass
class _Reader:
    graph: Any
    label: str
    settings: Mapping[str, Any]
    params: list[Param] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.kinds = {name: type(node).__name__ for name, node in self.graph.nodes.items()}
        self.sources: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, sink in self.graph.edges:
            self.sources[sink].append(source)
        self.steps, self.dt = int(self.settings["steps"]), float(self.settings["dt"])

    def net(self) -> EqNet:
        self.refuse_unknown()
        order = self.order()
        clamped = self.clamped(order)
        values: dict[str, str] = {}
        inputs = []
        for name in self.of("Input"):
            values[name] = self.unique(name.removeprefix("input-") or "x")
            shape = tuple(int(n) for n in self.graph.nodes[name].input_type["input"])
            inputs.append(Input(values[name], shape))
        for name in self.of(*_STATEFUL):
            values[name] = self.unique(name)
        memoryless = [n for n in order if self.kinds[n] not in ("Input", *_STATEFUL)]
        drive: list[Op] = []
        for name in (n for n in memoryless if n in clamped):
            values[name] = self.memoryless(name, values, drive, "")
        # A readout reads no value of the step, so what it needs is there once more.
        step: list[Op] = []
        read: list[Op] = []
        at_end, in_step = dict(values), dict(values)
        at_tick, needed = self.needed(*_STATEFUL), self.needed("Output")
        for name in (n for n in memoryless if n not in clamped and self.kinds[n] != "Output"):
            if name in at_tick:
                in_step[name] = self.memoryless(name, in_step, step, "")
            if name in needed:
                at_end[name] = self.memoryless(name, at_end, read, "_read")
        for name in self.of(*_STATEFUL):
            self.stateful(name, values[name], in_step, step)
        outputs = []
        for name in self.of("Output"):
            block = drive if name in clamped else read
            value = at_end[name] if name in clamped else self.entering(name, at_end, block, "_read")
            outputs.append(Output(self.unique(name.removeprefix("output-")), value, self.output_kind()))
        return EqNet(
            name=re.sub(r"\W", "_", Path(self.label).stem) or "graph",
            family=NIR_FAMILY,
            inputs=tuple(inputs),
            params=tuple(self.params),
            states=tuple(self.states),
            drive=tuple(drive),
            step=tuple(step),
            readout=tuple(read),
            outputs=tuple(outputs),
            schedule=Schedule(self.steps),
        )

    # Structure

    def of(self, *kinds: str) -> list[str]:
        return [n for n, kind in self.kinds.items() if kind in kinds]

    def where(self, name: str) -> str:
        return f"{self.label}:{name[:80]}"

    def output_kind(self) -> OutputKind:
        found = self.settings["outputs"]
        if found == "classes":
            return "classes"
        if found == "values":
            return "values"
        raise ImportFileError(
            Diagnostic("setting-value", f"outputs is {found!r}, must be classes or values", self.label)
        )

    def refuse_unknown(self) -> None:
        faults = []
        for name, kind in self.kinds.items():
            if kind in _SPIKING:
                what = f"{kind} node {name[:80]!r} spikes and resets; read are rates and leaky integrators"
                faults.append(Diagnostic("nir-spiking", what, self.where(name), "replace it by LI to read its rate"))
            elif kind not in _STATEFUL and kind not in _MEMORYLESS:
                what = f"{kind} node {name[:80]!r} is not read; read are {', '.join((*_STATEFUL, *_MEMORYLESS))}"
                faults.append(Diagnostic("nir-node", what, self.where(name)))
        for kind in ("Input", "Output"):
            if not self.of(kind):
                faults.append(Diagnostic("nir-node", f"the graph has no {kind} node", self.label))
        if self.steps < 1 or not self.dt > 0.0:
            what = f"steps is {self.steps} and dt {self.dt:g}, both must be positive"
            faults.append(Diagnostic("nir-schedule", what, self.label))
        if faults:
            raise UnsupportedError(faults)

    def order(self) -> list[str]:
        """Nodes, each after what feeds it, a stateful one before all; UnsupportedError for a loop without memory."""
        starts = set(self.of("Input", *_STATEFUL))
        waits = {n: len(self.sources[n]) for n in self.kinds if n not in starts}
        sinks: dict[str, list[str]] = {n: [] for n in self.kinds}
        for source, sink in self.graph.edges:
            sinks[source].append(sink)
        order = [n for n in self.kinds if n in starts or not waits[n]]
        for name in order:
            for sink in sinks[name]:
                if sink in waits:
                    waits[sink] -= 1
                    if not waits[sink]:
                        order.append(sink)
        left = [n for n in waits if waits[n] > 0]
        if left:
            shown = ", ".join(repr(n[:40]) for n in left[:8])
            what = f"the nodes {shown} wait for each other: a loop without a Delay, LI or I"
            raise UnsupportedError(Diagnostic("nir-loop", what, self.where(left[0]), "put a Delay in the loop"))
        return order

    def clamped(self, order: list[str]) -> set[str]:
        """Nodes that depend on inputs alone."""
        found: set[str] = set()
        for name in order:
            if self.kinds[name] not in _STATEFUL and all(s in found for s in self.sources[name]):
                found.add(name)
        return found

    def needed(self, *kinds: str) -> set[str]:
        """Memoryless nodes that nodes of these kinds read, directly or through others."""
        found: set[str] = set()
        stack = [s for n in self.of(*kinds) for s in self.sources[n]]
        while stack:
            name = stack.pop()
            if name not in found and self.kinds[name] not in _STATEFUL:
                found.add(name)
                stack += self.sources[name]
        return found

    # Names and values

    def unique(self, wanted: str) -> str:
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        base = base if base and not base[0].isdigit() else f"n{base}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def param(self, name: str, part: str, value: Any) -> str:
        unique = self.unique(f"{name}_{part}")
        array = np.asarray(value, np.float64)
        if not np.isfinite(array).all():
            what = f"{int((~np.isfinite(array)).sum())} of {array.size} entries are NaN or infinite"
            raise ImportFileError(Diagnostic("tensor-not-finite", what, f"{self.where(name)}.{part}"))
        self.params.append(Param(unique, array, f"{self.where(name)}.{part}"))
        return unique

    def entering(self, name: str, values: Mapping[str, str], block: list[Op], mark: str) -> str:
        """The sum of the edges into a node."""
        sources = [values[s] for s in self.sources[name]]
        if not sources:
            return self.param(name, "nothing", np.zeros(tuple(self.graph.nodes[name].input_type["input"])))
        total = sources[0]
        for other in sources[1:]:
            total = self.emit(block, ops.Add(out=self.unique(f"{name}_sum{mark}"), a=total, b=other))
        return total

    def emit(self, block: list[Op], op: Op) -> str:
        block.append(op)
        return op.out

    def memoryless(self, name: str, values: Mapping[str, str], block: list[Op], mark: str) -> str:
        node, kind = self.graph.nodes[name], self.kinds[name]
        x = self.entering(name, values, block, mark)
        out = self.unique(f"{name}{mark}")
        match kind:
            case "Output":
                return x
            case "Affine" | "Linear":
                if node.weight.ndim != 2:
                    what = f"{kind} node {name[:80]!r} has a weight of {node.weight.ndim} axes, read are [out, in]"
                    raise UnsupportedError(Diagnostic("nir-node", what, self.where(name)))
                bias = self.param(name, "bias", node.bias) if kind == "Affine" else None
                return self.emit(
                    block, ops.Linear(out=out, x=x, weight=self.param(name, "weight", node.weight), bias=bias)
                )
            case "Scale":
                return self.emit(block, ops.Mul(out=out, a=x, b=self.param(name, "scale", node.scale)))
            case "Threshold":
                above = self.unique(f"{name}_above{mark}")
                self.emit(block, ops.Greater(out=above, a=x, b=self.param(name, "threshold", node.threshold)))
                one, zero = self.param(name, "one", 1.0), self.param(name, "zero", 0.0)
                return self.emit(block, ops.Select(out=out, condition=above, a=one, b=zero))
            case "Flatten":
                shape = tuple(int(n) for n in node.output_type["output"])
                return self.emit(block, ops.Reshape(out=out, x=x, shape=shape))
            case _:
                return self.emit(block, self.conv(name, node, x, out))

    def conv(self, name: str, node: Any, x: str, out: str) -> Op:
        stride, dilation = (set(np.ravel(v).tolist()) for v in (node.stride, node.dilation))
        padding = set(np.ravel(node.padding).tolist())
        if (
            len(stride) != 1
            or len(padding) != 1
            or dilation != {1}
            or node.groups != 1
            or isinstance(min(padding), str)
        ):
            want = "one stride, one number of padding, no groups, no dilation"
            what = f"{self.kinds[name]} node {name[:80]!r} has other options than are read: {want}"
            raise UnsupportedError(Diagnostic("nir-node", what, self.where(name)))
        weight, bias = self.param(name, "weight", node.weight), self.param(name, "bias", node.bias)
        return ops.Conv(out=out, x=x, weight=weight, bias=bias, stride=int(min(stride)), padding=int(min(padding)))

    # Nodes with memory

    def stateful(self, name: str, state: str, values: Mapping[str, str], step: list[Op]) -> None:
        node = self.graph.nodes[name]
        x = self.entering(name, values, step, "")
        shape = tuple(int(n) for n in node.input_type["input"])
        match self.kinds[name]:
            case "Delay":
                self.delay(name, state, node.delay, x, shape)
            case "I":
                rise = self.product(name, "gain", self.dt * node.r, x, step)
                self.states.append(State(state, shape, self.sum(name, "next", state, rise, step)))
            case "LI":
                self.leak(name, state, node.tau, node.r, node.v_leak, x, step)
            case _:
                current = self.unique(f"{name}_current")
                zero = np.zeros(shape)
                self.leak(name, current, node.tau_syn, node.w_in, zero, x, step)
                self.leak(name, state, node.tau_mem, node.r, node.v_leak, current, step)

    def leak(self, name: str, state: str, tau: Any, gain: Any, rest: Any, x: str, step: list[Op]) -> None:
        """`state += dt/tau (rest - state + gain x)`."""
        part = self.dt / np.asarray(tau, np.float64)
        if not ((part > 0.0) & (part <= 1.0)).all():
            what = f"dt {self.dt:g} is above a time constant (smallest {np.min(tau):g}): forward Euler overshoots"
            raise UnsupportedError(Diagnostic("nir-step", what, self.where(name), "choose a smaller --set dt=..."))
        target = self.product(name, "gain", gain, x, step)
        if np.any(rest):
            target = self.sum(name, "target", target, self.param(name, "leak", rest), step)
        out = self.unique(f"{state}_next")
        if np.all(part == part.flat[0]):
            alpha = float(part.flat[0])
            step.append(ops.Damp(out=out, old=state, new=target, alpha=alpha))
        else:
            gap = self.emit(step, ops.Sub(out=self.unique(f"{state}_gap"), a=target, b=state))
            change = self.product(name, "part", part, gap, step)
            step.append(ops.Add(out=out, a=state, b=change))
        self.states.append(State(state, tuple(np.shape(tau)), out))

    def product(self, name: str, part: str, factor: NDArray[Any], x: str, step: list[Op]) -> str:
        if np.all(np.asarray(factor) == 1.0):
            return x
        return self.emit(
            step, ops.Mul(out=self.unique(f"{name}_{part}"), a=x, b=self.param(name, f"{part}_factor", factor))
        )

    def sum(self, name: str, part: str, a: str, b: str, step: list[Op]) -> str:
        return self.emit(step, ops.Add(out=self.unique(f"{name}_{part}"), a=a, b=b))

    def delay(self, name: str, state: str, delay: Any, x: str, shape: tuple[int, ...]) -> None:
        ticks = np.asarray(delay, np.float64) / self.dt
        count = float(np.rint(ticks.flat[0])) if ticks.size and np.isfinite(ticks).all() else 0.0
        if not 1 <= count <= _MAX_REGISTERS or not np.allclose(ticks, count, rtol=1e-9, atol=0.0):
            what = f"Delay node {name[:80]!r} is {np.min(ticks):g} to {np.max(ticks):g} ticks of dt {self.dt:g}"
            hint = f"choose --set dt=... so that it is one whole number of 1 to {_MAX_REGISTERS} ticks"
            raise UnsupportedError(Diagnostic("nir-delay", what, self.where(name), hint))
        for k in range(int(count) - 1, 0, -1):
            register = self.unique(f"{state}_{k}")
            self.states.append(State(register, shape, x))
            x = register
        self.states.append(State(state, shape, x))
