"""An ONNX graph of one relaxation step, quantized or not, becomes an EqNet.

The graph takes the clamped inputs and the states and gives the states after one step and what is read out:
`x, h -> h_next, logits`. An input NAME is a state if there is an output NAME_next (or as the setting `states` says:
`h:new_h,z:new_z`); so is an output NAME_next alone, for exporters drop an input that nothing reads. States start at 0.
The number of steps is no part of the graph: it is the setting `steps`. Readouts are those of `step`: `head(h_next)`, or
`head(h)`.

What is read of values is listed in `onnx_forms`. Constants are folded in their own precision, the quantized ones as
QONNX says; a BipolarQuant of a value is a threshold. A Quant of a value rounds it, which no operation of the float
level does: it is refused by name, or left out on demand (`act_quant=ignore`), for `--state-bits` rounds states to a
power-of-two grid in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError, UnsupportedError, UsageError
from ...interfaces import Imported
from ...ir import EqNet
from ...ir.serial import is_saved_net
from ..family import Setting, SettingValue
from ..files.onnx_file import FOLDED, QUANTIZERS, attributes, folded, read_model
from .forms import Shape
from .onnx_forms import ONNX_FORMS
from .reader import OUTPUTS, GraphKind, import_graph
from .step import StepGraph, StepNode, StepReader

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

__all__ = ["QONNX", "import_qonnx"]

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
_OPERANDS = {
    "Quant": ("x", "scale", "zero", "bits"),
    "IntQuant": ("x", "scale", "zero", "bits"),
    "BipolarQuant": ("x", "scale"),
}
_STANDARD = ("", "ai.onnx")
_NEXT = "_next"


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
    model = read_model(data, path.name)

    def read(settings: Mapping[str, SettingValue]) -> EqNet:
        return _Reader(_Model(model, path.name, settings).step(), path.name, settings).net()

    return import_graph(QONNX, read, path, stated={}, user=user, config=config, assume=assume)


class _Reader(StepReader):
    kind = QONNX
    forms = ONNX_FORMS


class _Model:
    """A model in the reading. `constants` are those that it stores and those computed from them."""

    def __init__(self, model: ModelProto, label: str, settings: Mapping[str, SettingValue]) -> None:
        from onnx import numpy_helper

        self.model, self.graph = model, model.graph
        self.sizes: dict[str, list[int]] = {}
        self.label = label
        self.settings = settings
        self.opset = max((o.version for o in model.opset_import if o.domain in _STANDARD), default=1)
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}

    def step(self) -> StepGraph:
        """The graph of the step. Raises as `import_qonnx`."""
        shapes = {i.name: self.shape(i) for i in self.graph.input if i.name not in self.constants}
        outputs = [o.name for o in self.graph.output]
        new = self.states(list(shapes), outputs)
        unread = {o.name.removesuffix(_NEXT): o for o in self.graph.output if o.name.endswith(_NEXT)}
        for name, output in unread.items():
            if name not in shapes and output.name not in new.values():
                # An exporter drops an input that nothing reads: a state that is written alone.
                shapes[name], new[name] = self.shape(output), output.name
        nodes = self.nodes(shapes)
        return StepGraph(
            inputs={name: shape for name, shape in shapes.items() if name not in new},
            states={name: shapes[name] for name in new},
            next=new,
            outputs={o: o for o in outputs if o not in new.values()},
            nodes=nodes,
            constants=self.constants,
        )

    def nodes(self, inputs: Mapping[str, Shape]) -> dict[str, StepNode]:
        """What depends on inputs or states; what depends on constants and on shapes alone is computed.

        Raises UnsupportedError with every node that is not read.
        """
        nodes: dict[str, StepNode] = {}
        faults = []
        for node in self.graph.node:
            if node.op_type == "Shape" and node.input[0] not in self.constants:
                self.constants[node.output[0]] = self.size(node, inputs)
                continue
            constant = all(name in self.constants for name in node.input if name)
            kind, name, known = node.op_type, _name(node), FOLDED if constant else ONNX_FORMS
            where = f"{self.label}:{name}"
            if kind not in known or (node.domain not in _STANDARD and kind not in QUANTIZERS):
                on = "constants" if constant else "values"
                hint = f"read on {on} are {', '.join(sorted(known))}"
                faults.append(Diagnostic("qonnx-node", f"{kind} node {name!r} is not read on {on}", where, hint))
            elif kind in ("Quant", "IntQuant") and not constant and self.settings["act_quant"] != "ignore":
                what = f"{kind} node {name!r} rounds a value, the float level cannot"
                hint = "states are rounded by --state-bits; --set act_quant=ignore leaves this one out"
                faults.append(Diagnostic("qonnx-activation", what, where, hint))
            elif constant and not faults:
                operands = [self.constants[n] for n in node.input if n]
                self.constants |= zip(node.output, folded(node, operands, self.opset, where), strict=False)
            else:
                nodes |= self.parts(node, where)
        if faults:
            raise UnsupportedError(faults)
        return nodes

    def parts(self, node: NodeProto, where: str) -> dict[str, StepNode]:
        """A node as one for each value that it gives; of other nodes than a split only the first can be read."""
        names, options = self.schema(node)
        reads: dict[str, str | tuple[str, ...]] = {}
        for i, name in enumerate(node.input):
            if name and i < len(names) and not names[i].endswith("*"):
                reads[names[i]] = name
        if names and names[-1].endswith("*"):
            reads[names[-1][:-1]] = tuple(node.input[len(names) - 1 :])
        options = {**options, **attributes(node), "opset": self.opset, "parts": len(node.output)}
        kinds = [node.op_type] * (len(node.output) if node.op_type == "Split" else 1)
        return {
            out: StepNode(kind, reads, {**options, "item": item}, where)
            for item, (kind, out) in enumerate(zip(kinds, node.output, strict=False))
        }

    def schema(self, node: NodeProto) -> tuple[tuple[str, ...], dict[str, object]]:
        """Names of a node's operands, the last with a star if there may be several, and options by default."""
        from onnx import defs, helper

        if node.op_type in _OPERANDS:
            return _OPERANDS[node.op_type], {}
        schema = defs.get_schema(node.op_type, self.opset, "")
        several = defs.OpSchema.FormalParameterOption.Variadic
        names = tuple(f"{i.name}*" if i.option == several else i.name for i in schema.inputs)
        values = {
            n: helper.get_attribute_value(a.default_value) for n, a in schema.attributes.items() if a.default_value.name
        }
        return names, {n: v.decode() if isinstance(v, bytes) else v for n, v in values.items()}

    def size(self, node: NodeProto, inputs: Mapping[str, Shape]) -> Array:
        """The shape of a value, as onnx infers it for one sample; -1 where it does not know, which a reshape takes."""
        if not self.sizes:
            from onnx import ModelProto, shape_inference

            single = ModelProto()
            single.CopyFrom(self.model)
            for value in single.graph.input:
                if value.name in inputs:
                    value.type.tensor_type.shape.dim[0].dim_value = 1
            known = shape_inference.infer_shapes(single, data_prop=True).graph
            for value in (*known.input, *known.value_info):
                dims = value.type.tensor_type.shape.dim
                self.sizes[value.name] = [d.dim_value if d.dim_value > 0 else -1 for d in dims]
        dims = self.sizes.get(node.input[0], [])
        options = attributes(node)
        start, end = options.get("start", 0), options.get("end", len(dims))
        assert isinstance(start, int)
        assert isinstance(end, int)
        return np.asarray(dims[start:end], np.int64)

    def shape(self, value: ValueInfoProto) -> Shape:
        """The shape of an input for one sample."""
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) < 2 or any(d < 1 for d in dims[1:]):
            what = f"input {value.name[:80]!r} has shape {dims}, must be [batch, ...] of known sizes"
            raise ImportFileError(Diagnostic("qonnx-input", what, self.label, "export with example inputs of batch 1"))
        return (1, *dims[1:])

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


def _name(node: NodeProto) -> str:
    return str(node.name or node.output[0])[:80]
