"""Array files: `.npy` and `.npz`, each claimed size held against its bytes first."""

from __future__ import annotations

import math
import warnings
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError
from .containers import READ_ERRORS, damaged, open_zip, zip_names
from .format import FileFormat, LoadedFile, config_text, refuse

__all__ = ["NPY_MAGIC", "NPZ", "Header", "NpzFile", "read_npy", "widen_bfloat16"]

NPY_MAGIC = b"\x93NUMPY"

_NUMBERS = "biuf"


@dataclass(frozen=True)
class Header:
    """What a `.npy` stream says about itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    length: int
    """Bytes before the data."""


def _header(handle: BinaryIO, size: int, where: str) -> Header:
    """Header of the `.npy` stream of `size` bytes at `handle`; ImportFileError if its claim and its bytes differ."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(handle)  # type: ignore[no-untyped-call]
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(handle)  # type: ignore[no-untyped-call]
        length = handle.tell()
    except (*READ_ERRORS, MemoryError) as error:
        raise damaged(where, size, error) from error
    if dtype.hasobject:
        what = "the array holds Python objects, which only unpickling could read; nothing was executed"
        raise ImportFileError(Diagnostic("array-objects", what, where, "save numbers: numpy.asarray(x, float)"))
    if dtype.kind not in _NUMBERS + "U" or dtype.itemsize == 0:
        what = f"the array has elements of type {dtype}, must be numbers"
        raise ImportFileError(Diagnostic("array-dtype", what, where, "save it as float32 or float64"))
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != size - length:
        what = f"the array claims shape {list(shape)} of {dtype} ({claimed} bytes), {size - length} bytes are stored"
        raise ImportFileError(Diagnostic("array-size", what, where, "copy or save the file again"))
    return Header(shape, dtype, length)


def widen_bfloat16(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Numbers stored as bfloat16, the upper half of float32, exactly; `words` of any shape."""
    return np.asarray(np.left_shift(words, 16, dtype=np.uint32).view(np.float32))


def read_npy(handle: BinaryIO, size: int, where: str) -> Array:
    """The array of a `.npy` file of `size` bytes, in the shape and dtype that it states. Raises ImportFileError if it
    is damaged, or no array of numbers."""
    _header(handle, size, where)
    handle.seek(0)
    try:
        return _array(handle)
    except READ_ERRORS as error:
        raise damaged(where, size, error) from error


def _array(handle: BinaryIO) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.lib.format.read_array(handle, allow_pickle=False)  # type: ignore[no-untyped-call]
        return np.asarray(array)


class NpzFile:
    """An `.npz` archive. `headers` holds every member's header by key; `read` decompresses one.

    Opening it raises ImportFileError for a damaged archive, a bomb, and for every member that is no array of numbers
    (or text), all at once.
    """

    def __init__(self, handle: BinaryIO, size: int, where: str) -> None:
        self.where = where
        self._archive = open_zip(handle, where, size, compressed=True)
        self.headers: dict[str, Header] = {}
        faults: list[Diagnostic] = []
        for member in self._archive.infolist():
            try:
                self._add(member)
            except ImportFileError as error:
                faults += error.diagnostics
        if faults:
            raise ImportFileError(faults)

    def _add(self, member: zipfile.ZipInfo) -> None:
        where = f"{self.where}:{member.filename[:80]}"
        if not member.filename.endswith(".npy"):
            what = "the archive holds a member that is not an array"
            raise ImportFileError(Diagnostic("array-foreign", what, where, "save it with numpy.savez"))
        try:
            with self._archive.open(member) as stream:
                head = _header(BytesIO(stream.read(1 << 16)), member.file_size, where)
        except READ_ERRORS as error:
            if isinstance(error, ImportFileError):
                raise
            raise damaged(where, member.file_size, error) from error
        self.headers[member.filename.removesuffix(".npy")] = head

    def read(self, key: str) -> Array:
        """The array under `key`; ImportFileError if its bytes are damaged."""
        member = self._archive.getinfo(f"{key}.npy")
        try:
            # The whole member is read, so that its checksum is judged.
            return _array(BytesIO(self._archive.read(member)))
        except READ_ERRORS as error:
            raise damaged(f"{self.where}:{member.filename[:80]}", member.file_size, error) from error

    def text(self, key: str) -> str | None:
        """The string under `key`, None if there is none; ImportFileError if it is not one string."""
        if key not in self.headers:
            return None
        array = self.read(key)
        if array.shape != () or array.dtype.kind != "U":
            what = f"{key} is {array.dtype}{list(array.shape)}, must be one string"
            raise ImportFileError(Diagnostic("array-dtype", what, self.where))
        return str(array)


def _matches_npz(data: bytes) -> bool:
    return any(name.endswith(".npy") for name in zip_names(data))


def _read_npz(data: bytes, label: str) -> LoadedFile:
    """Members that begin with two underscores are no tensors: `__family__` and `__config__` say what the rest is."""
    file = NpzFile(BytesIO(data), len(data), label)
    arrays = {key: file.read(key) for key in file.headers if not key.startswith("__")}
    for key, array in arrays.items():
        if array.dtype.kind == "U":
            refuse("array-dtype", f"{key} holds text, must be numbers", label, "leave it out, or name it __note__")
    config = config_text(file.text("__config__"), label)
    return LoadedFile(label, arrays, file.text("__family__"), config, wrapper="npz")


NPZ = FileFormat("npz", _matches_npz, _read_npz)
