"""The float form: an EqNet as an ONNX model of standard operators, in single or double precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...toolchain.ir import EqNet
from ...toolchain.ir.onnx_functions import DOMAIN
from ...toolchain.ir.onnx_graph import TICKS, build_model, output_names
from ...toolchain.ir.onnx_write import Model
from ...toolchain.passes import Analysis, label_keys, output_keys
from .graph import STEPS, input_names, top_index

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

__all__ = ["float_model"]


def float_model(net: EqNet, *, single: bool) -> Model:
    """The model of a verified net, deterministic. Inputs `[batch, (frame,) *shape]` and outputs are float32 (`single`)
    or float64, labels int64, `steps` the ticks that the batch made (int64 scalar; a model's own stop rule ends all
    samples together)."""
    import onnx.inliner
    from onnx import helper

    model = onnx.inliner.inline_local_functions(build_model(net, {}).proto)
    standard = [o for o in model.opset_import if o.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    graph = model.graph
    keys = output_keys(net)
    ends = dict(zip(output_names(net), keys.values(), strict=True))
    taken = {STEPS, *keys.values(), *label_keys(net).values()}
    params = {name: f"param.{name}" for name in net.param_names & taken}
    _rename(graph, {k: n for k, n in {**ends, **input_names(net), **params}.items() if k != n})
    results = [o for o in graph.output if o.name in keys.values()]
    types = Analysis.of(net).types
    lead = ["batch", *(["frame"] if net.schedule.emit == "every" else [])]
    for output, key in label_keys(net).items():
        shape = next(types[o.value].shape for o in net.outputs if o.name == output)
        graph.node.extend(top_index(keys[output], key))
        results.append(helper.make_tensor_value_info(key, onnx.TensorProto.INT64, [*lead, *shape[:-1]]))
    graph.node.append(helper.make_node("Identity", [TICKS], [STEPS]))
    results.append(helper.make_tensor_value_info(STEPS, onnx.TensorProto.INT64, []))
    del graph.output[:]
    graph.output.extend(results)
    del graph.value_info[:]
    if single:
        _to_single(graph)
    return Model(model, {params.get(p.name, p.name): p.value for p in net.params})


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give values of a graph and of its subgraphs other names."""
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for node in graph.node if names else ():
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _to_single(graph: GraphProto) -> None:
    """Every double of a graph and of its subgraphs as a float."""
    from onnx import AttributeProto, TensorProto

    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.data_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _single(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _to_single(attribute.g)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT


def _single(tensor: TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.DOUBLE:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
