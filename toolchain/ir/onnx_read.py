"""Read operations back from an ONNX graph: typed, bounded, nothing trusted."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from ..arrays import Numbers
from ..typed_json import ReadError, decode_as
from . import ops
from .onnx_functions import DOMAIN
from .onnx_graph import REPEAT
from .ops import Op, Repeat
from .verify import LEGAL

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

__all__ = ["read_blocks", "read_param"]

CLASSES: Mapping[str, type[Op]] = {cls.mnemonic: cls for cls in LEGAL}

EMPTY_AXIS = 1 << 16
"""An empty parameter needs no bytes, whatever its other axes claim; loops run over them."""


def read_param(tensor: TensorProto) -> Numbers:
    """An initializer as float64 or int64 of its own shape; its bytes are checked against that before anything is
    allocated. Raises ReadError."""
    from onnx import TensorProto

    dtype = {int(TensorProto.DOUBLE): np.dtype("<f8"), int(TensorProto.INT64): np.dtype("<i8")}.get(tensor.data_type)
    if dtype is None or tensor.external_data or tensor.data_location != TensorProto.DEFAULT:
        raise ReadError(f"parameter {tensor.name} has element type {tensor.data_type} or external data")
    size = dtype.itemsize
    for n in tensor.dims:
        if n < 0:
            raise ReadError(f"parameter {tensor.name} has shape {list(tensor.dims)}")
        size *= n
    if len(tensor.raw_data) != size:
        raise ReadError(
            f"parameter {tensor.name} of shape {list(tensor.dims)} needs {size} bytes, has {len(tensor.raw_data)}"
        )
    if size == 0 and max(tensor.dims) > EMPTY_AXIS:
        raise ReadError(f"parameter {tensor.name} is empty and has shape {list(tensor.dims)}")
    values = np.frombuffer(tensor.raw_data, dtype).astype(dtype.newbyteorder("=")).reshape(list(tensor.dims))
    return cast("Numbers", values)


def read_blocks(graph: GraphProto, inputs_of: Mapping[str, Iterable[str]]) -> dict[str, tuple[Op, ...]]:
    """The operations of `drive`, `step` and `readout`. `inputs_of` gives the input fields of each function.

    Raises ReadError on a call that is no operation.
    """
    found: dict[str, list[Op]] = {"drive": [], "step": [], "readout": []}
    _collect(graph, inputs_of, found)
    return {name: tuple(block) for name, block in found.items()}


def _collect(graph: GraphProto, inputs_of: Mapping[str, Iterable[str]], found: dict[str, list[Op]]) -> None:
    for node in graph.node:
        if node.domain == DOMAIN or (node.op_type == "Loop" and node.name.startswith(REPEAT)):
            place = node.output[0].partition("/")[0] if node.output else ""
            if place not in found:
                raise ReadError(f"the operation {node.op_type} of {list(node.output)} stands in no block")
            found[place].append(_operation(node, inputs_of))
        else:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    _collect(attribute.g, inputs_of, found)


def _operation(node: NodeProto, inputs_of: Mapping[str, Iterable[str]]) -> Op:
    out = _ir_name(node.output[0])
    if node.domain != DOMAIN:
        return _repeat(node, out, inputs_of)
    cls = CLASSES.get(node.op_type.rstrip("0123456789").rstrip("_"))
    if cls is None or cls is Repeat or node.op_type not in inputs_of:
        raise ReadError(f"{out} calls {node.op_type!r}, which is no operation of this file")
    names = list(inputs_of[node.op_type])
    if len(names) != len(node.input) or len(node.output) != 1:
        raise ReadError(f"{out} gives {len(node.input)} operands to {node.op_type}, which has {names}")
    values: dict[str, object] = {name: _ir_name(value) for name, value in zip(names, node.input, strict=True)}
    values |= {a.name: _attribute(a) for a in node.attribute}
    booleans = {name for name, hint in typing.get_type_hints(cls).items() if hint is bool}
    values |= {n: bool(v) for n, v in values.items() if n in booleans and v in (0, 1)}
    return decode_as(cls, values | {"out": out}, f"operation {out}")


def _repeat(node: NodeProto, out: str, inputs_of: Mapping[str, Iterable[str]]) -> Repeat:
    said = {p.key: p.value for p in node.metadata_props}
    bodies = [a.g for a in node.attribute if a.HasField("g")]
    if set(said) != {"init", "count", "carry", "result"} or len(bodies) != 1 or not said["count"].isdecimal():
        raise ReadError(f"the repeat {out} has metadata {said} and {len(bodies)} bodies")
    body = tuple(
        _operation(n, inputs_of)
        for n in bodies[0].node
        if n.output and (n.domain == DOMAIN or (n.op_type == "Loop" and n.name.startswith(REPEAT)))
    )
    return ops.Repeat(
        out=out,
        init=said["init"],
        count=decode_as(int, int(said["count"][:20]), f"operation {out}.count"),
        carry=said["carry"],
        body=body,
        result=said["result"],
    )


def _ir_name(onnx_name: str) -> str:
    return onnx_name.rpartition("/")[2]


def _attribute(attribute: AttributeProto) -> int | float | str | tuple[int, ...]:
    from onnx import AttributeProto, TensorProto

    match attribute.type:
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.INTS:
            return tuple(attribute.ints)
        case AttributeProto.STRING:
            return attribute.s.decode("utf-8")
        case AttributeProto.TENSOR:
            tensor = attribute.t
            if tensor.data_type != TensorProto.DOUBLE or tensor.dims or len(tensor.raw_data) != 8:
                raise ReadError(f"attribute {attribute.name} is no double scalar")
            return float(np.frombuffer(tensor.raw_data, "<f8")[0])
        case _:
            raise ReadError(f"attribute {attribute.name} has type {attribute.type}")
