"""PyTorch files: judged as data first, then loaded with weights-only unpickling.

The survey comes first for three reasons: torch's allowed set can still be made to allocate (a `bytearray` of any
length, a 10 GB view of a 4 byte storage); releases before 2.6 could be made to run code in spite of
`weights_only=True` (CVE-2025-32434); and only a survey can list all faults at once.
"""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import Diagnostic, ImportFileError, MissingToolError
from .containers import READ_ERRORS, damaged, open_zip
from .pickles import PickleError, Survey, foreign_globals, survey

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LEGACY_MAGIC", "as_array", "is_torch_zip", "load_pt", "refuse_pickle"]

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of a file that torch before 1.6 wrote (a pickled magic number)."""

_MAX_PICKLE = 8 << 20
_TIED = 32
"""How many times over all tensors together may view the bytes on disk (tied weights)."""
_MAX_AXES = 32
_REFUSED = "would import or call {}, which a checkpoint of tensors never needs; nothing was executed"
_SAVE_STATE = "save the network with torch.save(model.state_dict(), path)"


def is_torch_zip(names: list[str]) -> bool:
    """Whether the members of an archive are those of a torch file."""
    return any(n == "data.pkl" or n.endswith("/data.pkl") for n in names)


def load_pt(data: bytes, where: str) -> Any:
    """The object tree of a torch file, tensors on the CPU; ImportFileError with every fault found, before loading."""
    faults = _survey_legacy(data, where) if data.startswith(LEGACY_MAGIC) else _survey_zip(data, where)
    if faults:
        raise ImportFileError(faults)
    try:
        import torch
    except ImportError as error:
        raise MissingToolError(
            Diagnostic("missing-tool", "reading a .pt file needs PyTorch", where, "pip install torch")
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch's own text advises to load the file without this guard: it is not passed on.
            what = "torch's weights-only unpickling refused the file; nothing was executed"
            raise ImportFileError(Diagnostic("pickle-refused", what, where, _SAVE_STATE)) from error
        except (*READ_ERRORS, AssertionError) as error:
            raise damaged(where, len(data), error) from error


def refuse_pickle(data: bytes, where: str) -> ImportFileError:
    """The error for a pickle that torch.save did not write."""
    names = foreign_globals(data)
    what = "this is a Python pickle, not a file of torch.save"
    what += f"; it {_REFUSED.format(_listed(names))}" if names else "; it was not unpickled"
    return ImportFileError(Diagnostic("pickle-foreign", what, where, _SAVE_STATE))


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The numbers of a loaded tensor, its own memory where the type allows (bfloat16 becomes float32, exactly).

    Raises ValueError, before allocating, for what is not a dense real CPU tensor that fits its own storage.
    """
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu" or tensor.is_complex():
        raise ValueError(f"is a {tensor.dtype} tensor of layout {tensor.layout}, must be dense and real")
    claimed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > stored:
        raise ValueError(f"has shape {list(tensor.shape)} ({claimed} bytes) over {stored} stored bytes")
    plain = tensor.detach()
    return np.asarray(plain.float().numpy() if plain.dtype == torch.bfloat16 else plain.numpy())


def _listed(names: list[str], limit: int = 5) -> str:
    shown = [n[:80] for n in dict.fromkeys(names)]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def _survey_zip(data: bytes, where: str) -> list[Diagnostic]:
    with open_zip(BytesIO(data), where, len(data), compressed=False) as archive:
        names = archive.namelist()
        roots = [n.removesuffix("data.pkl") for n in names if is_torch_zip([n])]
        root = min(roots, key=len)
        if any(n.startswith(root + "constants.pkl") for n in names):
            what = "this is a TorchScript archive, which holds code"
            return [Diagnostic("torchscript", what, where, _SAVE_STATE)]
        if len(roots) != 1 or not all(n.startswith(root) for n in names):
            return [Diagnostic("archive-members", f"the archive holds {len(roots)} data.pkl in several folders", where)]
        if archive.getinfo(root + "data.pkl").file_size > _MAX_PICKLE:
            size = archive.getinfo(root + "data.pkl").file_size
            what = f"the archive's data.pkl has {size} bytes, more than {_MAX_PICKLE}"
            return [Diagnostic("pickle-size", what, where, _SAVE_STATE)]
        try:
            broken = archive.testzip()
            text = archive.read(root + "data.pkl")
        except READ_ERRORS as error:
            raise damaged(where, len(data), error) from error
        if broken is not None:
            raise damaged(where, len(data), f"the checksum of {broken} does not match")
        found = _surveyed(text, where)
        return _judge(found, where, len(data)) + _records(found, archive, root, where)


def _survey_legacy(data: bytes, where: str) -> list[Diagnostic]:
    """Pickles (magic number, protocol, system, object, storage keys), then the length and bytes of each storage."""
    position = len(LEGACY_MAGIC)
    found = []
    for _ in range(4):
        found.append(_surveyed(data[position : position + _MAX_PICKLE], where))
        position += found[-1].end
    model = found[2]
    needed = sum(8 + s.elements * s.item_bytes for s in model.storages.values())
    faults = [d for part in found for d in _judge(part, where, len(data))]
    if needed > len(data) - position:
        what = f"its tensors need {needed} bytes, the file has {len(data) - position} left for them"
        faults.append(Diagnostic("tensor-larger-than-storage", what, where, "copy or save the file again"))
    return faults


def _surveyed(text: bytes, where: str) -> Survey:
    """The survey of a pickle; ImportFileError names every global that it may not use, or what is odd about it."""
    names = foreign_globals(text)
    if names:
        what = f"the file's pickle {_REFUSED.format(_listed(names))}"
        raise ImportFileError(Diagnostic("pickle-global", what, where, _SAVE_STATE))
    try:
        return survey(text)
    except PickleError as error:
        what = f"the file's pickle is not one that torch.save writes: {error}; nothing was executed"
        raise ImportFileError(Diagnostic("pickle-malformed", what, where, _SAVE_STATE)) from error


def _judge(found: Survey, where: str, size: int) -> list[Diagnostic]:
    """Tensors of a surveyed pickle in a file of `size` bytes that reach beyond their storage."""
    faults = []
    total = 0
    for t in found.tensors:
        elements = math.prod(t.shape)
        total += elements * t.storage.item_bytes
        last = t.offset + sum((n - 1) * s for n, s in zip(t.shape, t.stride, strict=True)) + 1 if elements else 0
        if elements > t.storage.elements or last > t.storage.elements or len(t.shape) > _MAX_AXES:
            what = (
                f"claims shape {_shape(t.shape)} ({_number(elements * t.storage.item_bytes)} bytes) "
                f"over {_number(t.storage.elements * t.storage.item_bytes)} stored bytes"
            )
            hint = "save a contiguous copy of the tensor, or do not use a file from this source"
            faults.append(Diagnostic("tensor-larger-than-storage", what, f"{where}:{found.name_of(t)[:80]}", hint))
    if not faults and total > _TIED * size:
        what = f"its {len(found.tensors)} tensors claim {total} bytes, the file has {size}"
        faults.append(Diagnostic("tensor-larger-than-storage", what, where, "do not use a file from this source"))
    return faults


def _records(found: Survey, archive: zipfile.ZipFile, root: str, where: str) -> list[Diagnostic]:
    """Storages whose member is missing or has another size than their tensors were promised."""
    sizes = {m.filename: m.file_size for m in archive.infolist()}
    faults = []
    for s in found.storages.values():
        member, needed = f"{root}data/{s.key}", s.elements * s.item_bytes
        if sizes.get(member) != needed:
            has = "is missing" if member not in sizes else f"has {sizes[member]} bytes"
            what = f"storage {s.key[:40]} {has}, its tensors need {_number(needed)}"
            faults.append(Diagnostic("tensor-larger-than-storage", what, where, "copy or save the file again"))
    return faults


def _number(n: int) -> str:
    """Decimal text of any integer; Python refuses those of thousands of digits."""
    return str(n) if n.bit_length() < 200 else f"about 2**{n.bit_length() - 1}"


def _shape(shape: tuple[int, ...]) -> str:
    shown = ", ".join(_number(n) for n in shape[:_MAX_AXES])
    return f"[{shown}{', ...' if len(shape) > _MAX_AXES else ''}]"
