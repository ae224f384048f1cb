"""Quantized ONNX files (QONNX): bytes become a model, and its constants are folded, the quantized ones exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError, UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["FOLDED", "QUANTIZERS", "attributes", "folded", "is_onnx", "quantized", "read_model"]

Singles: TypeAlias = NDArray[np.float32]

QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
_POINTWISE = (
    "Abs", "Add", "Cast", "Div", "Equal", "Exp", "Greater", "Less", "Mul", "Neg", "Not", "Pow", "Reciprocal", "Sign",
    "Sqrt", "Sub", "Tanh", "Where",
)  # fmt: skip
_RESHAPED = ("Concat", "Constant", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
FOLDED = (*QUANTIZERS, *_POINTWISE, *_RESHAPED, "Gather", "MatMul", "Shape")
"""Operations that are computed where all they read is constant. None makes much of little, but by broadcasting."""
_MAX_NODES = 100_000
_MAX_ENTRIES = 1 << 28
_ROUNDINGS = ("ROUND", "HALF_EVEN")


def is_onnx(start: bytes) -> bool:
    """Whether a file begins as an ONNX model does: with the field of its IR version. (A safetensors file may begin with
    the same byte; its ninth is a brace.)"""
    return start[:1] == b"\x08" and start[8:9] != b"{"


def read_model(data: bytes, label: str) -> ModelProto:
    """The model in the bytes of a file; no other file is opened.

    Raises ImportFileError if they are no ONNX model, hold data elsewhere, or a graph inside the graph.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        what = f"the file ({len(data)} bytes) begins as an ONNX model and is none, or is cut short"
        raise ImportFileError(Diagnostic("onnx-file", what, label, "export it again")) from error
    graph = model.graph
    faults = []
    if not graph.node or len(graph.node) > _MAX_NODES:
        what = f"the graph has {len(graph.node)} nodes, read are 1 to {_MAX_NODES}"
        faults.append(Diagnostic("onnx-file", what, label))
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            what = f"the data of {tensor.name[:80]!r} are in another file; it was not opened"
            faults.append(Diagnostic("onnx-external", what, label, "save the model with its data inside"))
    if faults:
        raise ImportFileError(faults)
    return model


def attributes(node: NodeProto) -> dict[str, object]:
    """Attributes of a node by name; strings as text."""
    from onnx import helper

    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in values.items()
    }


def folded(node: NodeProto, operands: list[Array], opset: int, where: str) -> list[Array]:
    """The values of a node of `FOLDED` on constants of any shape, in their own dtype, as onnx itself computes them.

    Raises UnsupportedError for a quantizer's rounding that is not read, and a result of more than 2^28 entries.
    """
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    match node.op_type:
        case "Constant" if any(a.name == "value" for a in node.attribute):
            return [numpy_helper.to_array(next(a.t for a in node.attribute if a.name == "value"))]
        case "Identity":
            return operands
        case "Transpose":
            return [operands[0].transpose(next((a.ints for a in node.attribute if a.name == "perm"), None))]
        case "Reshape":
            return [operands[0].reshape(np.asarray(operands[1], np.int64).tolist())]
        case kind if kind in QUANTIZERS:
            return [quantized(kind, cast("list[Singles]", operands), attributes(node), where)]
        case "Gather":
            size = operands[0].size * operands[1].size
        case "MatMul":
            size = math.prod(o.size for o in operands) // max(1, *operands[0].shape[-1:]) ** 2
        case kind if kind in _POINTWISE:
            size = math.prod(np.broadcast_shapes(*(o.shape for o in operands)))
        case _:
            size = sum(o.size for o in operands)
    if size > _MAX_ENTRIES:
        what = f"{node.op_type} of constants makes {size} entries, at most {_MAX_ENTRIES} are computed"
        raise UnsupportedError(Diagnostic("qonnx-node", what, where, "fold the constants before the export"))
    names = [name for name in node.input if name]
    held = [numpy_helper.from_array(o, n) for n, o in zip(names, operands, strict=True)]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "constants", [], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, {})]


def quantized(kind: str, inputs: list[Singles], options: Mapping[str, object], where: str) -> Singles:
    """What a quantizer makes of a constant, as the QONNX standard defines it and in the constant's own precision.

    Quant: `(round(clip(x / scale + zero, low, high)) - zero) scale`, with the limits of `bits`, `signed` and `narrow`,
    rounding half to even; BipolarQuant: `scale` where x >= 0, else `-scale`. Arrays broadcast, the result has the shape
    of x. Raises UnsupportedError for another rounding.
    """
    x, scale = inputs[0], inputs[1]
    if kind == "BipolarQuant":
        return np.asarray(np.where(x >= 0.0, scale, -scale))
    zero, bits = inputs[2], inputs[3]
    mode = str(options.get("rounding_mode", "ROUND")).upper()
    count = float(bits.reshape(-1)[0]) if bits.size == 1 else np.nan
    if mode not in _ROUNDINGS or not (count == int(count) if np.isfinite(count) else False) or not 1 <= count <= 32:
        what = f"it has rounding_mode {mode[:20]} and {count:g} bits, read are {' or '.join(_ROUNDINGS)} and 1 to 32"
        raise UnsupportedError(Diagnostic("qonnx-quant", what, where))
    signed, narrow = bool(options.get("signed", 1)), bool(options.get("narrow", 0))
    if signed and count == 1:
        return np.asarray(np.where(x / scale + zero >= 0.0, scale, -scale) - zero * scale)
    span = 1 << int(count)
    low = (-(span >> 1) + int(narrow)) if signed else 0
    high = (span >> 1) - 1 if signed else span - 1 - int(narrow)
    codes = np.rint(np.clip(x / scale + zero, low, high))
    return np.asarray((codes - zero) * scale)
