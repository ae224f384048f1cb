"""A quantized ONNX graph of one relaxation step becomes an EqNet.

The graph takes the clamped inputs and the states and gives the states after one step and what is read out of the
states: `x, h -> h_next, logits`. An input NAME is a state if there is an output NAME_next (or as the setting `states`
says: `h:new_h,z:new_z`); every other output is evaluated on the states after the last step. States start at 0. The
number of steps is no part of the graph: it is the setting `steps`.

Read are MatMul and Gemm with a constant matrix, Add, Sub, Mul, Div (by a constant), Neg, Abs, Tanh, Sigmoid, Relu,
Identity, and on constants Quant, BipolarQuant, Transpose, Reshape and Constant; a BipolarQuant of a value is a
threshold. A Quant of a value rounds it, which no operation of the float level does: it is refused by name, or left out
on demand (`act_quant=ignore`), for `--state-bits` rounds states to a power-of-two grid in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic, ImportFileError, UnsupportedError, UsageError
from ...interfaces import Imported
from ...ir import EqNet, Input, Output, Param, Schedule, State, ops
from ...ir.ops import Op
from ...ir.parts import OutputKind
from ...ir.verify import check
from ..family import Family, Setting
from ..files.onnx_file import QUANTIZERS, attributes, quantized, read_model
from ..settings import resolve

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["QONNX_FAMILY", "import_qonnx"]

Array = NDArray[Any]

QONNX_FAMILY = "qonnx.Step"
_ACTIVATIONS: Mapping[str, ops.ActivationKind] = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu"}
_VALUES = ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Identity", *_ACTIVATIONS, *QUANTIZERS)
_CONSTANTS = (*QUANTIZERS, "Constant", "Identity", "Transpose", "Reshape")
_SETTINGS = (
    Setting("steps", None, "steps made for an input"),
    Setting("states", "", "states as input:output pairs, where outputs are not called NAME_next"),
    Setting("outputs", "classes", "what the outputs are: classes (label = largest) or values"),
    Setting("act_quant", "refuse", "a Quant of a value: refuse it, or ignore it (--state-bits rounds states)"),
)


def import_qonnx(data: bytes, path: Path, *, user: Mapping[str, Any], config: Mapping[str, Any]) -> Imported:
    """The net in the bytes of an `.onnx` file; settings as in `import_model`.

    Raises ImportFileError (damaged, inconsistent), UnsupportedError naming every node that is not read, or UsageError
    (settings).
    """
    model = read_model(data, path.name)
    kind = Family(QONNX_FAMILY, "one relaxation step as a quantized ONNX graph", (), _SETTINGS, _no_tensors)
    resolved = resolve(kind, user=user, config=config, stated={}, label=path.name)
    try:
        net = _Reader(model, path.name, resolved.values).net()
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        if isinstance(error, (ImportFileError, UnsupportedError, UsageError)):
            raise
        text = " ".join(str(error).split())[:200]
        raise ImportFileError(Diagnostic("qonnx-graph", f"the graph cannot be read: {text}", path.name)) from error
    faults = [Diagnostic(d.code, d.what, f"{path.name}: {d.where}", d.hint) for d in check(net)]
    if faults:
        raise ImportFileError(faults)
    return Imported(net, QONNX_FAMILY, path, resolved.assumed, resolved.given)


def _no_tensors(tensors: Any, settings: Mapping[str, Any]) -> NoReturn:
    raise TypeError("a graph is not made of named tensors")


@dataclass
class _Reader:
    model: ModelProto
    label: str
    settings: Mapping[str, Any]
    params: dict[str, Param] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: dict[str, NodeProto] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def net(self) -> EqNet:
        from onnx import numpy_helper

        graph = self.model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.fold()
        inputs = {i.name: self.shape(i) for i in graph.input if i.name not in self.constants}
        outputs = [o.name for o in graph.output]
        states = self.states(list(inputs), outputs)
        clamped = [name for name in inputs if name not in states]
        names = {name: self.unique(name) for name in inputs}
        drive: list[Op] = []
        step: list[Op] = []
        read: list[Op] = []
        depends = self.depends(set(states))
        at_drive = {n: names[n] for n in clamped}
        for name in (n for n in self.nodes if not depends[n]):
            at_drive[name] = self.node(name, at_drive, drive, "")
        values = {**names, **at_drive}
        at_step, at_end = dict(values), dict(values)
        in_step, in_read = (
            self.needed(list(states.values())),
            self.needed([o for o in outputs if o not in states.values()]),
        )
        for name in (n for n in self.nodes if depends[n]):
            if name in in_step:
                at_step[name] = self.node(name, at_step, step, "")
            if name in in_read:
                at_end[name] = self.node(name, at_end, read, "_read")
        return EqNet(
            name=re.sub(r"\W", "_", Path(self.label).stem) or "graph",
            family=QONNX_FAMILY,
            inputs=tuple(Input(names[n], inputs[n]) for n in clamped),
            params=tuple(self.params.values()),
            states=tuple(State(names[n], inputs[n], self.value(at_step, new)) for n, new in states.items()),
            drive=tuple(drive),
            step=tuple(step),
            readout=tuple(read),
            outputs=tuple(
                Output(self.unique(o), self.value(at_end, o), self.kind()) for o in outputs if o not in states.values()
            ),
            schedule=Schedule(int(self.settings["steps"])),
        )

    # Structure

    def where(self, node: NodeProto) -> str:
        return f"{self.label}:{(node.name or node.output[0])[:80]}"

    def fold(self) -> None:
        """Evaluate what depends on constants alone; the rest, each after what it reads, is `nodes`.

        Raises UnsupportedError with every node that is not read.
        """
        faults = []
        for node in self.model.graph.node:
            constant = all(name in self.constants for name in node.input if name)
            kind = node.op_type
            if kind not in (_CONSTANTS if constant else _VALUES) or len(node.output) != 1:
                on = "constants" if constant else "values"
                hint = f"read on {on} are {', '.join(_CONSTANTS if constant else _VALUES)}"
                what = f"{kind} node {(node.name or node.output[0])[:80]!r} is not read on {on}"
                faults.append(Diagnostic("qonnx-node", what, self.where(node), hint))
            elif kind in ("Quant", "IntQuant") and not constant and self.settings["act_quant"] != "ignore":
                what = f"{kind} node {(node.name or node.output[0])[:80]!r} rounds a value, the float level cannot"
                hint = "states are rounded by --state-bits; --set act_quant=ignore leaves this one out"
                faults.append(Diagnostic("qonnx-activation", what, self.where(node), hint))
            elif constant and not faults:
                self.constants[node.output[0]] = self.folded(node)
            else:
                self.nodes[node.output[0]] = node
        if faults:
            raise UnsupportedError(faults)

    def folded(self, node: NodeProto) -> Array:
        from onnx import numpy_helper

        held, options = [self.constants[n] for n in node.input if n], attributes(node)
        match node.op_type:
            case "Constant":
                return np.asarray(numpy_helper.to_array(options["value"]))
            case "Identity":
                return held[0]
            case "Transpose":
                return held[0].transpose(options.get("perm"))
            case "Reshape":
                return held[0].reshape([int(n) for n in held[1]])
            case kind:
                return quantized(kind, held, options, self.where(node))

    def shape(self, value: Any) -> tuple[int, ...]:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) < 2 or any(d < 1 for d in dims[1:]):
            what = f"input {value.name[:80]!r} has shape {dims}, must be [batch, ...] of known sizes"
            raise ImportFileError(Diagnostic("qonnx-input", what, self.label, "export with example inputs of batch 1"))
        return tuple(dims[1:])

    def states(self, inputs: list[str], outputs: list[str]) -> dict[str, str]:
        """The output that each state takes."""
        text = str(self.settings["states"])
        if text:
            found = {name: new for name, _, new in (pair.partition(":") for pair in text.split(","))}
        else:
            found = {name: f"{name}_next" for name in inputs if f"{name}_next" in outputs}
        wrong = [f"{n}:{new}" for n, new in found.items() if n not in inputs or new not in outputs]
        if wrong or not found:
            what = (
                f"there is no such pair of an input and an output: {', '.join(wrong)}"
                if wrong
                else "no input NAME has an output NAME_next: the graph has no state"
            )
            hint = f"--set states=h:h_next; inputs {', '.join(inputs)}; outputs {', '.join(outputs)}"
            raise UsageError(Diagnostic("qonnx-states", what, self.label, hint))
        return found

    def kind(self) -> OutputKind:
        found = self.settings["outputs"]
        if found == "classes":
            return "classes"
        if found == "values":
            return "values"
        raise UsageError(Diagnostic("setting-value", f"outputs is {found!r}, must be classes or values", self.label))

    def depends(self, states: set[str]) -> dict[str, bool]:
        """Whether each node reads a state, directly or through others."""
        found: dict[str, bool] = {}
        for name, node in self.nodes.items():
            found[name] = any(n in states or found.get(n, False) for n in node.input)
        return found

    def needed(self, outputs: list[str]) -> set[str]:
        found: set[str] = set()
        stack = list(outputs)
        while stack:
            name = stack.pop()
            if name in self.nodes and name not in found:
                found.add(name)
                stack += self.nodes[name].input
        return found

    # Values

    def unique(self, wanted: str) -> str:
        base = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_")
        base = base if base and not base[0].isdigit() else f"n{base}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def param(self, name: str, value: Array, note: str = "") -> str:
        """A constant of the graph; the same name and note may be asked for again."""
        key = f"{name} {note}"
        if key not in self.params:
            array = np.asarray(value, np.float64)
            if not np.isfinite(array).all():
                what = f"{int((~np.isfinite(array)).sum())} of {array.size} entries are NaN or infinite"
                raise ImportFileError(Diagnostic("tensor-not-finite", what, f"{self.label}:{name[:80]}"))
            source = f"{self.label}:{name}" + (f" ({note})" if note else "")
            self.params[key] = Param(self.unique(name), array, source)
        return self.params[key].name

    def value(self, values: Mapping[str, str], name: str) -> str:
        """A value of the net; a constant without the batch axis, which is 1."""
        if name in values:
            return values[name]
        array = self.constants[name]
        return self.param(name, array.reshape(array.shape[1:]) if array.ndim > 1 and array.shape[0] == 1 else array)

    def node(self, name: str, values: Mapping[str, str], block: list[Op], mark: str) -> str:
        node = self.nodes[name]
        out = self.unique(f"{name}{mark}")
        for op in self.made(node, values, out, mark):
            block.append(op)
        return values[node.input[0]] if node.op_type in ("Identity", "Quant", "IntQuant") else out

    def made(self, node: NodeProto, values: Mapping[str, str], out: str, mark: str) -> list[Op]:
        kind, options = node.op_type, attributes(node)
        match kind:
            case "Identity" | "Quant" | "IntQuant":
                return []
            case "MatMul" | "Gemm":
                return [self.linear(node, options, values, out)]
            case "Tanh" | "Sigmoid" | "Relu":
                return [ops.Activation(out=out, x=values[node.input[0]], kind=_ACTIVATIONS[kind])]
            case "Abs":
                return [ops.Abs(out=out, x=values[node.input[0]])]
            case "Neg":
                return [ops.Scale(out=out, x=values[node.input[0]], factor=-1.0)]
            case "BipolarQuant":
                scale = self.constants.get(node.input[1])
                if scale is None:
                    raise self.refused(node, "its scale is not a constant")
                below = self.unique(f"{out}_negative")
                zero = self.param(f"{node.input[1]} zero", np.zeros(()))
                low, high = (self.param(node.input[1], s * scale.reshape(()), t) for s, t in ((-1, "negated"), (1, "")))
                return [
                    ops.Greater(out=below, a=zero, b=values[node.input[0]]),
                    ops.Select(out=out, condition=below, a=low, b=high),
                ]
            case _:
                a, b = (self.value(values, n) for n in node.input)
                if kind == "Div":
                    if node.input[1] not in self.constants:
                        raise self.refused(node, "its divisor is not a constant")
                    b = self.param(
                        node.input[1], 1.0 / np.asarray(self.constants[node.input[1]], np.float64), "inverse"
                    )
                made = {"Add": ops.Add, "Sub": ops.Sub}.get(kind, ops.Mul)
                return [made(out=out, a=a, b=b)]

    def linear(self, node: NodeProto, options: Mapping[str, Any], values: Mapping[str, str], out: str) -> Op:
        x, matrix = node.input[0], self.constants.get(node.input[1])
        if x not in values or matrix is None or matrix.ndim != 2 or options.get("transA", 0):
            raise self.refused(node, "read is a value times a constant matrix")
        note = "" if options.get("transB", 0) else "transposed"
        weight = matrix if options.get("transB", 0) else matrix.T
        alpha, beta = float(options.get("alpha", 1.0)), float(options.get("beta", 1.0))
        bias = None
        if len(node.input) > 2 and node.input[2]:
            held = self.constants.get(node.input[2])
            if held is None or held.size not in (1, len(weight)):
                raise self.refused(node, "its third operand is not a constant for each output")
            bias = self.param(
                node.input[2],
                beta * np.broadcast_to(np.asarray(held, np.float64).reshape(-1), (len(weight),)),
                "" if beta == 1.0 else f"times {beta:g}",
            )
        note = note if alpha == 1.0 else f"{note} times {alpha:g}".strip()
        made = self.param(node.input[1], alpha * np.asarray(weight, np.float64), note)
        return ops.Linear(out=out, x=values[x], weight=made, bias=bias)

    def refused(self, node: NodeProto, why: str) -> UnsupportedError:
        what = f"{node.op_type} node {(node.name or node.output[0])[:80]!r}: {why}"
        return UnsupportedError(Diagnostic("qonnx-node", what, self.where(node)))
