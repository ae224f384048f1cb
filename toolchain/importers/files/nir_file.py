"""NIR files: HDF5 held against its bytes before anything is read, then the graph by the `nir` package."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from ...arrays import Codes, Reals
from ...diagnostics import Diagnostic, ImportFileError, MissingToolError
from .containers import READ_ERRORS, UNPACK_FREE, UNPACK_RATIO, damaged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5py import File

__all__ = ["NirGraph", "NirNode", "is_hdf5", "read_graph"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FILTERS = (None, "gzip", "lzf", "szip")
_MAX_NODES = 100_000


class NirNode(Protocol):
    """A node of the package nir, which has no types: each kind has some of these attributes."""

    weight: Reals
    bias: Reals
    scale: Reals
    threshold: Reals
    stride: Codes
    padding: Codes
    dilation: Codes
    groups: int
    delay: Reals
    r: Reals
    tau: Reals
    tau_syn: Reals
    tau_mem: Reals
    v_leak: Reals
    w_in: Reals
    input_type: Mapping[str, Codes]
    output_type: Mapping[str, Codes]


class NirGraph(Protocol):
    """What `nir.NIRGraph` is read for."""

    nodes: Mapping[str, NirNode]
    edges: Sequence[tuple[str, str]]
    metadata: object


def is_hdf5(start: bytes) -> bool:
    """Whether a file begins as an HDF5 file does."""
    return start.startswith(_HDF5_MAGIC)


def read_graph(data: bytes, label: str) -> NirGraph:
    """The `nir.NIRGraph` in the bytes of a file. Nothing outside of them is opened and nothing is executed.

    Raises ImportFileError (damaged, no NIR graph, links, bombs) or MissingToolError.
    """
    if find_spec("nir") is None:
        what = "reading NIR graphs needs the package nir"
        raise MissingToolError(Diagnostic("missing-tool", what, label, "pip install 'eqcompile[nir]'"))
    import h5py
    import nir

    try:
        with h5py.File(BytesIO(data), "r") as file:
            _demand_plain(file, len(data), label)
            if "node" not in file or "version" not in file:
                what = "this is an HDF5 file but no NIR graph: it has no `node` and `version`"
                raise ImportFileError(Diagnostic("nir-file", what, label, "write it with nir.write(path, graph)"))
        graph = nir.read(BytesIO(data), type_check=False)
        if not isinstance(graph, nir.NIRGraph):
            what = f"the file holds a node of type {type(graph).__name__}, a graph is wanted"
            raise ImportFileError(Diagnostic("nir-file", what, label, "write it with nir.write(path, graph)"))
        graph.validate_structure()
    except (*READ_ERRORS, AssertionError, NotImplementedError) as error:
        if isinstance(error, ImportFileError):
            raise
        raise damaged(label, len(data), error or type(error).__name__) from error
    return cast("NirGraph", graph)


def _demand_plain(file: File, size: int, label: str) -> None:
    """Only hard links, plain numbers and strings stored in the file itself, of a plausible total size."""
    import h5py

    total, count = 0, 0
    stack = [(file, "")]
    while stack:
        group, path = stack.pop()
        for name in group:
            count += 1
            where = f"{label}:{path}/{name}"[:200]
            if count > 16 * _MAX_NODES:
                raise ImportFileError(
                    Diagnostic("nir-file", f"the file holds more than {16 * _MAX_NODES} items", label)
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                what = "the entry is a link to another place or file; it was not followed"
                raise ImportFileError(Diagnostic("nir-link", what, where, "write the graph again with nir.write"))
            item = group[name]
            if isinstance(item, h5py.Group):
                if path.count("/") > 64:
                    raise ImportFileError(Diagnostic("nir-file", "groups are nested more than 64 deep", where))
                stack.append((item, f"{path}/{name}"))
                continue
            if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                what = "the data of the entry are in another file; it was not opened"
                raise ImportFileError(Diagnostic("nir-link", what, where, "write the graph again with nir.write"))
            text = h5py.check_string_dtype(item.dtype) is not None
            if not text and item.dtype.kind not in "biuf":
                raise ImportFileError(Diagnostic("array-dtype", f"the entry is {item.dtype}, must be numbers", where))
            if item.compression not in _FILTERS:
                raise ImportFileError(Diagnostic("nir-file", f"unknown compression {item.compression!r}", where))
            total += int(np.prod(item.shape or (), dtype=object)) * item.dtype.itemsize
            allowed = max(UNPACK_FREE, UNPACK_RATIO * size)
            if total > allowed:
                what = f"the file of {size} bytes claims to unpack to {total} bytes, at most {allowed} are allowed"
                raise ImportFileError(Diagnostic("archive-bomb", what, where, "do not use a file from this source"))
