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

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ...arrays import Reals
from ...diagnostics import Diagnostic, UnsupportedError
from ...interfaces import Imported
from ...ir import EqNet, State, ops
from ...ir.ops import Op
from ..family import Setting, SettingValue
from ..files.nir_file import NirGraph, NirNode, read_graph
from .reader import OUTPUTS, GraphKind, GraphReader, Values, import_graph

__all__ = ["NIR", "import_nir"]

NIR = GraphKind(
    "nir.NIRGraph",
    "nir",
    (
        Setting("steps", None, "ticks made for an input"),
        Setting("dt", 1e-4, "time step of forward Euler and of delays, in the graph's unit of time"),
        OUTPUTS,
    ),
)
_SPIKING = ("IF", "LIF", "CubaLIF")
_STATEFUL = ("LI", "I", "CubaLI", "Delay")
_MEMORYLESS = ("Input", "Output", "Affine", "Linear", "Scale", "Threshold", "Flatten", "Conv1d", "Conv2d")
_MAX_REGISTERS = 1024


def import_nir(
    data: bytes, path: Path, *, user: Mapping[str, object], config: Mapping[str, object], assume: bool
) -> Imported:
    """The net in the bytes of a `.nir` file; settings as in `import_model`.

    Raises ImportFileError (damaged, or no graph of this kind), UnsupportedError naming every node that is not read
    (spiking neurons, pooling, nested graphs, loops without memory), UsageError (settings) or MissingToolError.
    """
    graph = read_graph(data, path.name)
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    stated = {name: metadata[name] for name in ("steps", "dt") if name in metadata}

    def read(settings: Mapping[str, SettingValue]) -> EqNet:
        return _Reader(graph, path.name, settings).net()

    return import_graph(NIR, read, path, stated=stated, user=user, config=config, assume=assume)


class _Reader(GraphReader[NirGraph]):
    kind = NIR

    def survey(self) -> None:
        self.dt = self.number("dt")
        self.kinds = {name: type(node).__name__ for name, node in self.graph.nodes.items()}
        self.refuse_unknown()
        sources: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, sink in self.graph.edges:
            sources[sink].append(source)
        self.sources = {name: tuple(read) for name, read in sources.items()}
        self.inputs = {name: self.entry(name) for name in self.of("Input")}
        self.registers = {name: self.sources[name] for name in self.of(*_STATEFUL)}
        self.outputs = {name: self.sources[name] for name in self.of("Output")}
        others = (*self.inputs, *self.registers, *self.outputs)
        self.nodes = {name: read for name, read in self.sources.items() if name not in others}

    def of(self, *kinds: str) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind in kinds]

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
            what = f"steps is {self.settings['steps']} and dt {self.dt:g}, both must be positive"
            faults.append(Diagnostic("nir-schedule", what, self.label))
        if faults:
            raise UnsupportedError(faults)

    def shown(self, name: str) -> str:
        return name.removeprefix("input-").removeprefix("output-") or "x"

    # Values

    def entry(self, name: str) -> tuple[int, ...]:
        """Shape of what enters a node."""
        return tuple(int(n) for n in self.graph.nodes[name].input_type["input"])

    def constant(self, name: str, part: str, value: ArrayLike, state: str = "") -> str:
        """A parameter of a node (of one of its states), stored once however often the node is evaluated."""
        return self.param((state or name, part), f"{state or name}_{part}", value, f"{self.where(name)}.{part}")

    def output(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        """The sum of the edges into a node."""
        sources = [values[s] for s in self.sources[name]]
        if not sources:
            return self.constant(name, "nothing", np.zeros(self.entry(name)))
        total = sources[0]
        for other in sources[1:]:
            total = _add(block, ops.Add(out=self.unique(f"{name}_sum{mark}"), a=total, b=other))
        return total

    def node(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        node, kind = self.graph.nodes[name], self.kinds[name]
        x = self.output(name, values, block, mark)
        out = self.unique(f"{name}{mark}")
        match kind:
            case "Affine" | "Linear":
                if node.weight.ndim != 2:
                    what = f"{kind} node {name[:80]!r} has a weight of {node.weight.ndim} axes, read are [out, in]"
                    raise self.refused(what, name)
                bias = self.constant(name, "bias", node.bias) if kind == "Affine" else None
                weight = self.constant(name, "weight", node.weight)
                return _add(block, ops.Linear(out=out, x=x, weight=weight, bias=bias))
            case "Scale":
                return _add(block, ops.Mul(out=out, a=x, b=self.constant(name, "scale", node.scale)))
            case "Threshold":
                threshold = self.constant(name, "threshold", node.threshold)
                above = _add(block, ops.Greater(out=self.unique(f"{name}_above{mark}"), a=x, b=threshold))
                one, zero = self.constant(name, "one", 1.0), self.constant(name, "zero", 0.0)
                return _add(block, ops.Select(out=out, condition=above, a=one, b=zero))
            case "Flatten":
                shape = tuple(int(n) for n in node.output_type["output"])
                return _add(block, ops.Reshape(out=out, x=x, shape=shape))
            case _:
                return _add(block, self.conv(name, node, x, out))

    def conv(self, name: str, node: NirNode, x: str, out: str) -> Op:
        stride, dilation = (set(np.ravel(v).tolist()) for v in (node.stride, node.dilation))
        padding = set(np.ravel(node.padding).tolist())
        plain = len(stride) == 1 and len(padding) == 1 and not isinstance(min(padding), str)
        if not plain or dilation != {1} or node.groups != 1:
            want = "one stride, one number of padding, no groups, no dilation"
            what = f"{self.kinds[name]} node {name[:80]!r} has other options than are read: {want}"
            raise self.refused(what, name)
        weight, bias = self.constant(name, "weight", node.weight), self.constant(name, "bias", node.bias)
        return ops.Conv(out=out, x=x, weight=weight, bias=bias, stride=int(min(stride)), padding=int(min(padding)))

    # Nodes with memory

    def latch(self, name: str, values: Values, step: list[Op]) -> list[State]:
        node, state, shape = self.graph.nodes[name], values[name], self.entry(name)
        x = self.output(name, values, step, "")
        match self.kinds[name]:
            case "Delay":
                return self.delay(name, state, node.delay, x, shape)
            case "I":
                rise = self.product(name, state, "gain", self.dt * node.r, x, step)
                return [State(state, shape, _add(step, ops.Add(out=self.unique(f"{state}_next"), a=state, b=rise)))]
            case "LI":
                return [self.leak(name, state, node.tau, node.r, node.v_leak, x, step)]
            case _:
                current = self.unique(f"{name}_current")
                return [
                    self.leak(name, current, node.tau_syn, node.w_in, np.zeros(shape), x, step),
                    self.leak(name, state, node.tau_mem, node.r, node.v_leak, current, step),
                ]

    def leak(self, name: str, state: str, tau: Reals, gain: Reals, rest: Reals, x: str, step: list[Op]) -> State:
        """`state += dt/tau (rest - state + gain x)`."""
        part = self.dt / np.asarray(tau, np.float64)
        if not ((part > 0.0) & (part <= 1.0)).all():
            what = f"dt {self.dt:g} is above a time constant (smallest {np.min(tau):g}): forward Euler overshoots"
            raise UnsupportedError(Diagnostic("nir-step", what, self.where(name), "choose a smaller --set dt=..."))
        target = self.product(name, state, "gain", gain, x, step)
        if np.any(rest):
            leak = self.constant(name, "leak", rest, state)
            target = _add(step, ops.Add(out=self.unique(f"{state}_target"), a=target, b=leak))
        out = self.unique(f"{state}_next")
        if np.all(part == part.flat[0]):
            step.append(ops.Damp(out=out, old=state, new=target, alpha=float(part.flat[0])))
        else:
            gap = _add(step, ops.Sub(out=self.unique(f"{state}_gap"), a=target, b=state))
            step.append(ops.Add(out=out, a=state, b=self.product(name, state, "part", part, gap, step)))
        return State(state, tuple(np.shape(tau)), out)

    def product(self, name: str, state: str, part: str, factor: Reals, x: str, step: list[Op]) -> str:
        if np.all(np.asarray(factor) == 1.0):
            return x
        constant = self.constant(name, f"{part}_factor", factor, state)
        return _add(step, ops.Mul(out=self.unique(f"{state}_{part}"), a=x, b=constant))

    def delay(self, name: str, state: str, delay: Reals, x: str, shape: tuple[int, ...]) -> list[State]:
        ticks = np.asarray(delay, np.float64) / self.dt
        count = float(np.rint(ticks.flat[0])) if ticks.size and np.isfinite(ticks).all() else 0.0
        if not 1 <= count <= _MAX_REGISTERS or not np.allclose(ticks, count, rtol=1e-9, atol=0.0):
            what = f"Delay node {name[:80]!r} is {np.min(ticks):g} to {np.max(ticks):g} ticks of dt {self.dt:g}"
            hint = f"choose --set dt=... so that it is one whole number of 1 to {_MAX_REGISTERS} ticks"
            raise UnsupportedError(Diagnostic("nir-delay", what, self.where(name), hint))
        states = []
        for k in range(int(count) - 1, 0, -1):
            states.append(State(self.unique(f"{state}_{k}"), shape, x))
            x = states[-1].name
        return [*states, State(state, shape, x)]


def _add(block: list[Op], op: Op) -> str:
    block.append(op)
    return op.out
