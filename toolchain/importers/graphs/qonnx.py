"""An ONNX graph of one relaxation step, quantized or not, becomes an EqNet.

The graph takes the clamped inputs and the states and gives the states after one step and what is read out:
`x, h -> h_next, logits`. An input NAME is a state if there is an output NAME_next (or as the setting `states` says:
`h:new_h,z:new_z`). States start at 0. The number of steps is no part of the graph: it is the setting `steps`.

Every other output is a readout, evaluated once after the last step. Two forms are read, and both give what a loop of
`steps` calls gives in the end: computed from the states that enter (`head(h)`), it is taken of the last states;
computed from the new states (`head(h_next)`), it is taken of the same, for those of the last call are the last states.
A readout that mixes both is refused.

Read are MatMul and Gemm with a constant matrix, Add, Sub, Mul, Div (by a constant), Neg, Abs, Tanh, Sigmoid, Relu,
Identity, and on constants Quant, BipolarQuant, Transpose, Reshape and Constant; a BipolarQuant of a value is a
threshold. A Quant of a value rounds it, which no operation of the float level does: it is refused by name, or left out
on demand (`act_quant=ignore`), for `--state-bits` rounds states to a power-of-two grid in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError, UnsupportedError, UsageError
from ...interfaces import Imported
from ...ir import State, ops
from ...ir.ops import Op
from ...ir.serial import is_saved_net
from ..family import Setting
from ..files.onnx_file import QUANTIZERS, attributes, quantized, read_model
from .reader import OUTPUTS, GraphKind, GraphReader, Values, import_graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto  # noqa: F401 - ruff does not look into class bases

__all__ = ["QONNX", "import_qonnx"]

_ACTIVATIONS: Mapping[str, ops.ActivationKind] = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu"}
_VALUES = ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Identity", *_ACTIVATIONS, *QUANTIZERS)
_CONSTANTS = (*QUANTIZERS, "Constant", "Identity", "Transpose", "Reshape")
QONNX = GraphKind(
    "qonnx.Step",
    "qonnx",
    (
        Setting("steps", None, "steps made for an input"),
        Setting("states", "", "input:output pairs of states, where outputs are not called NAME_next", "nothing"),
        OUTPUTS,
        Setting("act_quant", "refuse", "a Quant of a value: refuse it, or ignore it (see --state-bits)", "nothing"),
    ),
)


def import_qonnx(
    data: bytes, path: Path, *, user: Mapping[str, object], config: Mapping[str, object], assume: bool
) -> Imported:
    """The net in the bytes of an `.onnx` file; settings as in `import_model`.

    Raises ImportFileError (damaged, inconsistent), UnsupportedError naming every node that is not read, or UsageError
    (settings).
    """
    if is_saved_net(path):
        what = "this is a net that eqcompile wrote, not a graph of one step"
        raise ImportFileError(Diagnostic("onnx-saved-net", what, path.name, "give the checkpoint it was made from"))
    return import_graph(_Reader, read_model(data, path.name), path, stated={}, user=user, config=config, assume=assume)


class _Reader(GraphReader["ModelProto"]):
    kind = QONNX

    def survey(self) -> None:
        from onnx import numpy_helper

        graph = self.graph.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.protos = self.fold()
        self.nodes = {name: tuple(node.input) for name, node in self.protos.items()}
        self.shapes = {i.name: self.shape(i) for i in graph.input if i.name not in self.constants}
        outputs = [o.name for o in graph.output]
        self.next = self.states(list(self.shapes), outputs)
        self.inputs = {name: shape for name, shape in self.shapes.items() if name not in self.next}
        self.registers = {name: (new,) for name, new in self.next.items()}
        self.outputs = {o: (o,) for o in outputs if o not in self.next.values()}
        self.refuse_mixed()

    # Structure

    def order(self) -> Iterable[str]:
        """ONNX demands that nodes stand in order."""
        return self.nodes

    def fold(self) -> dict[str, NodeProto]:
        """Evaluate what depends on constants alone; returns the rest by output.

        Raises UnsupportedError with every node that is not read.
        """
        nodes: dict[str, NodeProto] = {}
        faults = []
        for node in self.graph.graph.node:
            constant = all(name in self.constants for name in node.input if name)
            kind, name = node.op_type, _name(node)
            if kind not in (_CONSTANTS if constant else _VALUES) or len(node.output) != 1:
                on = "constants" if constant else "values"
                hint = f"read on {on} are {', '.join(_CONSTANTS if constant else _VALUES)}"
                faults.append(
                    Diagnostic("qonnx-node", f"{kind} node {name!r} is not read on {on}", self.where(name), hint)
                )
            elif kind in ("Quant", "IntQuant") and not constant and self.settings["act_quant"] != "ignore":
                what = f"{kind} node {name!r} rounds a value, the float level cannot"
                hint = "states are rounded by --state-bits; --set act_quant=ignore leaves this one out"
                faults.append(Diagnostic("qonnx-activation", what, self.where(name), hint))
            elif constant and not faults:
                self.constants[node.output[0]] = self.folded(node)
            else:
                nodes[node.output[0]] = node
        if faults:
            raise UnsupportedError(faults)
        return nodes

    def folded(self, node: NodeProto) -> Array:
        from onnx import numpy_helper

        operands, options = [self.constants[n] for n in node.input if n], attributes(node)
        match node.op_type:
            case "Constant":
                return numpy_helper.to_array(next(a.t for a in node.attribute if a.name == "value"))
            case "Identity":
                return operands[0]
            case "Transpose":
                return operands[0].transpose(next((a.ints for a in node.attribute if a.name == "perm"), None))
            case "Reshape":
                return operands[0].reshape(np.asarray(operands[1], np.int64).tolist())
            case kind:
                return quantized(kind, operands, options, self.where(_name(node)))

    def shape(self, value: ValueInfoProto) -> tuple[int, ...]:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) < 2 or any(d < 1 for d in dims[1:]):
            what = f"input {value.name[:80]!r} has shape {dims}, must be [batch, ...] of known sizes"
            raise ImportFileError(Diagnostic("qonnx-input", what, self.label, "export with example inputs of batch 1"))
        return tuple(dims[1:])

    def states(self, inputs: list[str], outputs: list[str]) -> dict[str, str]:
        """The output that each state takes."""
        text = str(self.settings["states"])
        if text:
            pairs = {name: new for name, _, new in (pair.partition(":") for pair in text.split(","))}
        else:
            pairs = {name: f"{name}_next" for name in inputs if f"{name}_next" in outputs}
        wrong = [f"{n}:{new}" for n, new in pairs.items() if n not in inputs or new not in outputs]
        if wrong or not pairs:
            what = (
                f"there is no such pair of an input and an output: {', '.join(wrong)}"
                if wrong
                else "no input NAME has an output NAME_next: the graph has no state"
            )
            hint = f"--set states=h:h_next; inputs {', '.join(inputs)}; outputs {', '.join(outputs)}"
            raise UsageError(Diagnostic("qonnx-states", what, self.label, hint))
        return pairs

    def settled(self) -> Mapping[str, str]:
        """After the last step, a new state is the state."""
        return {new: name for name, new in self.next.items() if new in self.nodes}

    def refuse_mixed(self) -> None:
        """Refuse outputs that read states both before and after the step: no state of the net holds the former."""
        faults = []
        for name in self.outputs:
            old, new, visited, stack = set(), set(), set(), [name]
            while stack:
                value = stack.pop()
                if value in self.settled():
                    new.add(value)
                elif value in self.next:
                    old.add(value)
                elif value not in visited:
                    visited.add(value)
                    stack += self.nodes.get(value, ())
            if old and new:
                states = f"{', '.join(sorted(old))} and {', '.join(sorted(new))}"
                what = f"output {name[:80]!r} reads both {states}, states before and after the step"
                hint = "compute it from the states that enter the step, or from the new ones alone"
                faults.append(Diagnostic("qonnx-readout", what, self.where(name), hint))
        if faults:
            raise UnsupportedError(faults)

    # Values

    def latch(self, name: str, values: Values, step: list[Op]) -> list[State]:
        return [State(values[name], self.shapes[name], self.output(self.next[name], values, step, ""))]

    def output(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        """A value of the net; a constant without the batch axis, which is 1."""
        return values[name] if name in values else self.constant(name, _row(self.constants[name]))

    def constant(self, name: str, value: Array, note: str = "") -> str:
        return self.param((name, note), name, value, f"{self.label}:{name}" + (f" ({note})" if note else ""))

    def node(self, name: str, values: Values, block: list[Op], mark: str) -> str:
        node = self.protos[name]
        out = self.unique(f"{name}{mark}")
        kind, options, x = node.op_type, attributes(node), node.input[0]
        match kind:
            case "Identity" | "Quant" | "IntQuant":
                return values[x]
            case "MatMul" | "Gemm":
                block.append(self.linear(node, options, values, out))
            case "Tanh" | "Sigmoid" | "Relu":
                block.append(ops.Activation(out=out, x=values[x], kind=_ACTIVATIONS[kind]))
            case "Abs":
                block.append(ops.Abs(out=out, x=values[x]))
            case "Neg":
                block.append(ops.Scale(out=out, x=values[x], factor=-1.0))
            case "BipolarQuant":
                block += self.threshold(node, values[x], out)
            case "Div":
                block.append(ops.Mul(out=out, a=self.output(x, values, block, mark), b=self.inverse(node)))
            case _:
                a, b = (self.output(n, values, block, mark) for n in node.input)
                pointwise = ops.Add if kind == "Add" else ops.Sub if kind == "Sub" else ops.Mul
                block.append(pointwise(out=out, a=a, b=b))
        return out

    def threshold(self, node: NodeProto, x: str, out: str) -> list[Op]:
        """`scale` where x >= 0, else `-scale`."""
        scale = self.constants.get(node.input[1])
        if scale is None:
            raise self.unread(node, "its scale is not a constant")
        below = self.unique(f"{out}_negative")
        zero = self.constant(node.input[1], np.zeros(()), "zero")
        low = self.constant(node.input[1], -scale.reshape(()), "negated")
        high = self.constant(node.input[1], scale.reshape(()))
        return [
            ops.Greater(out=below, a=zero, b=x),
            ops.Select(out=out, condition=below, a=low, b=high),
        ]

    def inverse(self, node: NodeProto) -> str:
        """The reciprocal of a constant divisor."""
        divisor = self.constants.get(node.input[1])
        if divisor is None:
            raise self.unread(node, "its divisor is not a constant")
        if not divisor.all():
            raise self.unread(node, f"{int((divisor == 0).sum())} of {divisor.size} entries of its divisor are 0")
        return self.constant(node.input[1], 1.0 / np.asarray(_row(divisor), np.float64), "inverse")

    def linear(self, node: NodeProto, options: Mapping[str, object], values: Values, out: str) -> Op:
        x, matrix = node.input[0], self.constants.get(node.input[1])
        if x not in values or matrix is None or matrix.ndim != 2 or options.get("transA", 0):
            raise self.unread(node, "read is a value times a constant matrix")
        note = "" if options.get("transB", 0) else "transposed"
        weight = matrix if options.get("transB", 0) else matrix.T
        alpha, beta = (float(str(options.get(name, 1.0))) for name in ("alpha", "beta"))
        bias = None
        if len(node.input) > 2 and node.input[2]:
            offset = self.constants.get(node.input[2])
            if offset is None or offset.size not in (1, len(weight)):
                raise self.unread(node, "its third operand is not a constant for each output")
            row = np.broadcast_to(np.asarray(offset, np.float64).reshape(-1), (len(weight),))
            bias = self.constant(node.input[2], beta * row, "" if beta == 1.0 else f"times {beta:g}")
        note = note if alpha == 1.0 else f"{note} times {alpha:g}".strip()
        scaled = self.constant(node.input[1], alpha * np.asarray(weight, np.float64), note)
        return ops.Linear(out=out, x=values[x], weight=scaled, bias=bias)

    def unread(self, node: NodeProto, why: str) -> UnsupportedError:
        return self.refused(f"{node.op_type} node {_name(node)!r}: {why}", _name(node))


def _name(node: NodeProto) -> str:
    return str(node.name or node.output[0])[:80]


def _row(array: Array) -> Array:
    """A constant without the batch axis."""
    return array.reshape(array.shape[1:]) if array.ndim > 1 and array.shape[0] == 1 else array
