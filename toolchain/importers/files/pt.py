"""PyTorch files, read by NumPy alone: the pickle is judged as data, the numbers are the storages beside it.

A survey comes first: it can list all faults at once, and nothing is allocated before every size that the file claims is
held against the bytes that it has. No pickle is ever executed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError
from .arrays import widen_bfloat16
from .containers import READ_ERRORS, damaged, open_zip
from .format import SAVE_STATE
from .pickles import PickleError, StoredTensor, Survey, foreign_globals, survey

__all__ = ["LEGACY_MAGIC", "TorchFile", "is_torch_zip", "read_pt", "refuse_pickle"]

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of a file that torch before 1.6 wrote (a pickled magic number)."""

_LEGACY_PROTOCOL = 1001
_CODES: Mapping[str, str] = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "u1",
}
_MAX_PICKLE = 8 << 20
_TIED = 32
"""How many times over all tensors together may view the bytes on disk (tied weights)."""
_MAX_AXES = 32
_REFUSED = "would import or call {}, which a checkpoint of tensors never needs; nothing was executed"


@dataclass(frozen=True)
class TorchFile:
    """What `torch.save` was given: dictionaries, lists, numbers and strings, with a `StoredTensor` for each tensor and
    an `Opaque` for each other object. `order` is the byte order of the storages."""

    value: object
    storages: Mapping[str, bytes]
    order: Literal["<", ">"] = "<"
    _arrays: dict[int, Array] = field(default_factory=dict, repr=False)
    """By identity of the tensor: a pickle may name one a million times, which must not make a million copies."""

    def array(self, tensor: StoredTensor) -> Array:
        """The numbers of a tensor as a read-only view of its storage, in the type it was stored as (bfloat16 widened
        to float32, exactly). Raises ValueError for a shape that NumPy cannot hold."""
        if id(tensor) not in self._arrays:
            self._arrays[id(tensor)] = self._view(tensor)
        return self._arrays[id(tensor)]

    def _view(self, tensor: StoredTensor) -> Array:
        kind = tensor.storage.dtype
        flat = np.frombuffer(self.storages[tensor.storage.key], np.dtype(_CODES[kind]).newbyteorder(self.order))
        if 0 in tensor.shape:
            view = np.zeros(tensor.shape, flat.dtype)
        else:
            # A stride is only ever stepped where an axis has a second entry; torch writes any number elsewhere.
            strides = [s * flat.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.stride, strict=True)]
            view = as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
        if kind == "bfloat16":
            return widen_bfloat16(view)
        return view != 0 if kind == "bool" else view.astype(flat.dtype.newbyteorder("="), copy=False)


def is_torch_zip(names: list[str]) -> bool:
    """Whether the members of an archive are those of a torch file."""
    return any(n == "data.pkl" or n.endswith("/data.pkl") for n in names)


def read_pt(data: bytes, where: str) -> TorchFile:
    """The content of a torch file; ImportFileError with every fault found, before any array is made."""
    return _read_legacy(data, where) if data.startswith(LEGACY_MAGIC) else _read_zip(data, where)


def refuse_pickle(data: bytes, where: str) -> ImportFileError:
    """The error for a pickle that torch.save did not write."""
    names = foreign_globals(data)
    what = "this is a Python pickle, not a file of torch.save"
    what += f"; it {_REFUSED.format(_listed(names))}" if names else "; it was not unpickled"
    return ImportFileError(Diagnostic("pickle-foreign", what, where, SAVE_STATE))


def _listed(names: list[str], limit: int = 5) -> str:
    shown = [n[:80] for n in dict.fromkeys(names)]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def _read_zip(data: bytes, where: str) -> TorchFile:
    with open_zip(BytesIO(data), where, len(data), compressed=False) as archive:
        names = archive.namelist()
        roots = [n.removesuffix("data.pkl") for n in names if is_torch_zip([n])]
        root = min(roots, key=len)
        if len(roots) != 1 or not all(n.startswith(root) for n in names):
            what = f"the archive holds {len(roots)} data.pkl in several folders"
            raise ImportFileError(Diagnostic("archive-members", what, where))
        size = archive.getinfo(root + "data.pkl").file_size
        if size > _MAX_PICKLE:
            what = f"the archive's data.pkl has {size} bytes, more than {_MAX_PICKLE}"
            raise ImportFileError(Diagnostic("pickle-size", what, where, SAVE_STATE))
        try:
            broken = archive.testzip()
            members = {n.removeprefix(root): archive.read(n) for n in names} if broken is None else {}
        except READ_ERRORS as error:
            raise damaged(where, len(data), error) from error
    if broken is not None:
        raise damaged(where, len(data), f"the checksum of {broken} does not match")
    content = _surveyed(members["data.pkl"], where)
    faults = _judge(content, where, len(data)) + _records(content, members, where)
    if faults:
        raise ImportFileError(faults)
    order = members.get("byteorder", b"little")
    if order not in (b"little", b"big"):
        raise damaged(where, len(data), f"its byte order is {order[:20]!r}, must be little or big")
    storages = {key: members[f"data/{key}"] for key in content.storages}
    return TorchFile(content.value, storages, ">" if order == b"big" else "<")


def _read_legacy(data: bytes, where: str) -> TorchFile:
    """Pickles (magic number, protocol, system, object, storage keys), then the length and bytes of each storage, in
    little endian whatever the system."""
    position = len(LEGACY_MAGIC)
    parts = []
    for _ in range(4):
        parts.append(_surveyed(data[position : position + _MAX_PICKLE], where))
        position += parts[-1].end
    protocol, _, content, order = parts
    needed = sum(8 + s.elements * s.item_bytes for s in content.storages.values())
    faults = [d for part in parts for d in _judge(part, where, len(data))]
    if needed > len(data) - position:
        what = f"its tensors need {needed} bytes, the file has {len(data) - position} left for them"
        faults.append(Diagnostic("tensor-larger-than-storage", what, where, "copy or save the file again"))
    if faults:
        raise ImportFileError(faults)
    if protocol.value != _LEGACY_PROTOCOL or not isinstance(order.value, list):
        raise damaged(where, len(data), "it is not of the old format's version 1001")
    storages: dict[str, bytes] = {}
    for key in order.value:
        stored = content.storages.get(key) if isinstance(key, str) else None
        count = int.from_bytes(data[position : position + 8], "little")
        if stored is None or key in storages or count != stored.elements:
            raise damaged(where, len(data), f"storage {str(key)[:40]!r} is not the one that its tensors need")
        position += 8
        storages[key] = data[position : position + stored.elements * stored.item_bytes]
        position += len(storages[key])
    if len(storages) != len(content.storages):
        raise damaged(where, len(data), f"{len(storages)} of {len(content.storages)} storages follow")
    return TorchFile(content.value, storages)


def _surveyed(text: bytes, where: str) -> Survey:
    """The survey of a pickle; ImportFileError names every global that it may not use, or what is odd about it."""
    names = foreign_globals(text)
    if names:
        what = f"the file's pickle {_REFUSED.format(_listed(names))}"
        raise ImportFileError(Diagnostic("pickle-global", what, where, SAVE_STATE))
    try:
        return survey(text)
    except PickleError as error:
        what = f"the file's pickle is not one that torch.save writes: {error}; nothing was executed"
        raise ImportFileError(Diagnostic("pickle-malformed", what, where, SAVE_STATE)) from error


def _judge(content: Survey, where: str, size: int) -> list[Diagnostic]:
    """Tensors of a surveyed pickle in a file of `size` bytes that reach beyond their storage."""
    faults = []
    total = 0
    for t in content.tensors:
        elements = math.prod(t.shape)
        total += elements * t.storage.item_bytes
        last = t.offset + sum((n - 1) * s for n, s in zip(t.shape, t.stride, strict=True)) + 1 if elements else 0
        if elements > t.storage.elements or last > t.storage.elements or len(t.shape) > _MAX_AXES:
            what = (
                f"claims shape {_shape(t.shape)} ({_number(elements * t.storage.item_bytes)} bytes) "
                f"over {_number(t.storage.elements * t.storage.item_bytes)} stored bytes"
            )
            hint = "save a contiguous copy of the tensor, or do not use a file from this source"
            faults.append(Diagnostic("tensor-larger-than-storage", what, f"{where}:{content.name_of(t)[:80]}", hint))
    if not faults and total > _TIED * size:
        what = f"its {len(content.tensors)} tensors claim {total} bytes, the file has {size}"
        faults.append(Diagnostic("tensor-larger-than-storage", what, where, "do not use a file from this source"))
    return faults


def _records(content: Survey, members: Mapping[str, bytes], where: str) -> list[Diagnostic]:
    """Storages whose member is missing or has another size than their tensors were promised."""
    faults = []
    for s in content.storages.values():
        member, needed = members.get(f"data/{s.key}"), s.elements * s.item_bytes
        if member is None or len(member) != needed:
            has = "is missing" if member is None else f"has {len(member)} bytes"
            what = f"storage {s.key[:40]} {has}, its tensors need {_number(needed)}"
            faults.append(Diagnostic("tensor-larger-than-storage", what, where, "copy or save the file again"))
    return faults


def _number(n: int) -> str:
    """Decimal text of any integer; Python refuses those of thousands of digits."""
    return str(n) if n.bit_length() < 200 else f"about 2**{n.bit_length() - 1}"


def _shape(shape: tuple[int, ...]) -> str:
    shown = ", ".join(_number(n) for n in shape[:_MAX_AXES])
    return f"[{shown}{', ...' if len(shape) > _MAX_AXES else ''}]"
