"""ONNX files in pieces: parameters go from their arrays to the file and are never part of a message, which would hold
them once more for each message that it becomes part of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, row_parts

if TYPE_CHECKING:
    from google.protobuf.message import Message  # type: ignore[import-untyped]
    from onnx import ModelProto, TensorProto

__all__ = ["Model", "empty_tensor"]


def empty_tensor(name: str, array: Array) -> TensorProto:
    """The initializer of an array of any shape and dtype, without its content."""
    from onnx import TensorProto, helper

    return TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))


@dataclass(frozen=True, eq=False)
class Model:
    """An ONNX model whose initializers are all without content, and the array of each by its name."""

    proto: ModelProto
    arrays: Mapping[str, Array]

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the model with contents as `raw_data`, as protobuf's deterministic serialisation has them:
        fields by number. An array is converted to the element type of its initializer, a part at a time."""
        graph = self.proto.graph
        tensors = [self._tensor(tensor) for tensor in graph.initializer]
        first, last = _around(self.proto, "graph")
        above, below = _around(graph, "initializer")
        number = graph.DESCRIPTOR.fields_by_name["initializer"].number
        heads = [_field(number, len(head) + size) + head for head, size, _, _ in tensors]
        length = sum(len(head) + size for head, (_, size, _, _) in zip(heads, tensors, strict=True))
        yield first
        yield _field(self.proto.DESCRIPTOR.fields_by_name["graph"].number, len(above) + length + len(below)) + above
        for head, (_, _, flat, dtype) in zip(heads, tensors, strict=True):
            yield head
            yield from (flat[part].astype(dtype).tobytes() for part in row_parts(flat))
        yield below
        yield last

    def _tensor(self, tensor: TensorProto) -> tuple[bytes, int, Array, np.dtype[np.generic]]:
        """What stands before the content, the bytes of the content, and the flat array in which type."""
        from onnx import helper

        flat = self.arrays[tensor.name].reshape(-1)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        size = flat.size * dtype.itemsize
        head = tensor.SerializeToString(deterministic=True)
        return head + _field(tensor.DESCRIPTOR.fields_by_name["raw_data"].number, size), size, flat, dtype


def _around(message: Message, name: str) -> tuple[bytes, bytes]:
    """The fields with lower and those with higher numbers than a field, as bytes."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    lower, higher = type(message)(), type(message)()
    lower.CopyFrom(message)
    higher.CopyFrom(message)
    for field, _ in message.ListFields():
        for side, kept in ((lower, field.number < number), (higher, field.number > number)):
            if not kept:
                side.ClearField(field.name)
    return lower.SerializeToString(deterministic=True), higher.SerializeToString(deterministic=True)


def _field(number: int, length: int) -> bytes:
    """Tag and length of a field of so many bytes."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
