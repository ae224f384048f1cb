"""Save and load a net as an ONNX model (decision 0001).

The operations are calls of model-local functions in the domain `eqcompile`, the parameters are initializers, and the
whole model runs in any ONNX runtime. What a graph does not say (formats, encodings, schedule, provenance, family) is
JSON under the metadata key `eqcompile`. `load` rebuilds the net from both, then builds the graph of that net anew and
demands that the file holds the same one: what runs and what is loaded cannot differ.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..diagnostics import ArtifactError, Diagnostic, EqcompileError, ImportFileError
from ..typed_json import ReadError, decode_as
from .net import EqNet, IntNet
from .onnx_graph import build_model
from .onnx_read import read_blocks, read_param
from .parts import Format, Input, Output, Param, Schedule, State
from .verify import MAX_BITS, check, verify

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["is_saved_net", "load", "save"]

KEY = "eqcompile"
VERSION = 2
MAX_BYTES = (1 << 31) - (1 << 20)
"""Protobuf holds less than 2 GiB; the rest is room for the graph."""
MAX_FRAC = 1024


def save(net: EqNet | IntNet, path: Path) -> None:
    """Write `net` to `path`; a failure leaves what was there. The same net gives the same bytes.

    Raises VerifyError for a net that breaks a rule, ArtifactError if it is too large or cannot be written.
    """
    verify(net)
    size = sum(p.value.nbytes for p in net.params)
    if size > MAX_BYTES:
        raise ArtifactError(
            Diagnostic(
                "output-too-large",
                f"the parameters have {size} bytes, an ONNX file holds {MAX_BYTES}",
                net.name,
                "split the net, or choose smaller layers",
            )
        )
    model = build_model(net, {KEY: _metadata(net)})
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(model.pieces())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise ArtifactError(
            Diagnostic("output-not-writable", f"cannot write: {error.strerror}", str(path), "choose another -o")
        ) from error


def load(path: Path) -> EqNet | IntNet:
    """The net that `save` wrote: same digest, name, family and provenance.

    Raises ImportFileError if the file cannot be read, is truncated, is not from eqcompile, or was changed.
    """
    model = _parse(path)
    try:
        net, digest = _net(model)
        faults = check(net)
        if not faults:
            _demand_same(model, net, digest)
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        # Protobuf checks wire types only: a damaged string comes out as bytes, a repeated field as anything.
        raise _fault(path, "net-file", f"the file is damaged or was changed: {error}") from error
    if faults:
        raise ImportFileError(faults)
    return net


def is_saved_net(path: Path) -> bool:
    """Whether an ONNX file is one that `save` wrote, whole or not. Raises ImportFileError if it is no ONNX file."""
    return any(p.key == KEY for p in _parse(path).metadata_props)


def _fault(path: Path, code: str, what: str) -> ImportFileError:
    return ImportFileError(Diagnostic(code, what, str(path), "write it again with eqcompile"))


def _parse(path: Path) -> ModelProto:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES + (1 << 20):
            raise _fault(path, "net-file-size", f"the file has {size} bytes, an ONNX file at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise _fault(path, "net-file", f"cannot read: {error.strerror}") from error
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model: ModelProto = ModelProto.FromString(content)
    except DecodeError as error:
        raise _fault(path, "net-file", f"not an ONNX file, or truncated ({size} bytes)") from error
    return model


def _metadata(net: EqNet | IntNet) -> str:
    formats = {n: asdict(f) for n, f in sorted(net.formats.items())} if isinstance(net, IntNet) else {}
    return json.dumps(
        {
            "version": VERSION,
            "level": "intnet" if isinstance(net, IntNet) else "eqnet",
            "name": net.name,
            "family": net.family,
            "digest": net.digest,
            "sources": [p.source for p in net.params],
            "inputs": [asdict(i) for i in net.inputs],
            "states": [asdict(s) for s in net.states],
            "outputs": [asdict(o) for o in net.outputs],
            "formats": formats,
            "schedule": asdict(net.schedule),
        }
    )


def _net(model: ModelProto) -> tuple[EqNet | IntNet, str]:
    document = _metadata_of(model)
    sources = decode_as(tuple[str, ...], document["sources"], "sources")
    tensors = model.graph.initializer
    if len(sources) != len(tensors):
        raise ReadError(f"{len(tensors)} parameters, {len(sources)} sources")
    blocks = read_blocks(model.graph, {f.name: list(f.input) for f in model.functions})
    formats = decode_as(Mapping[str, Format], document["formats"], "formats")
    net = EqNet(
        name=decode_as(str, document["name"], "name"),
        family=decode_as(str, document["family"], "family"),
        inputs=decode_as(tuple[Input, ...], document["inputs"], "inputs"),
        params=tuple(Param(t.name, read_param(t), s) for t, s in zip(tensors, sources, strict=True)),
        states=decode_as(tuple[State, ...], document["states"], "states"),
        outputs=decode_as(tuple[Output, ...], document["outputs"], "outputs"),
        schedule=decode_as(Schedule, document["schedule"], "schedule"),
        **blocks,
    )
    _demand_bounded([*formats.values(), *(i.encoding.format for i in net.inputs if i.encoding)], net.states)
    digest = decode_as(str, document["digest"], "digest")
    if document["level"] == "intnet":
        return IntNet(**{f.name: getattr(net, f.name) for f in fields(EqNet)}, formats=formats), digest
    if document["level"] == "eqnet" and not formats:
        return net, digest
    raise ReadError(f"level {document['level']!r} with {len(formats)} formats")


def _metadata_of(model: ModelProto) -> dict[str, object]:
    texts = [p.value for p in model.metadata_props if p.key == KEY]
    if len(texts) != 1:
        raise ReadError("it is an ONNX model but not a net that eqcompile wrote")
    try:
        document = json.loads(texts[0])
    except ValueError as error:
        raise ReadError(f"its metadata is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ReadError("its metadata is not an object")
    if document.get("version") != VERSION:
        raise ReadError(f"net version {document.get('version')!r}, this eqcompile reads {VERSION}")
    known = {"version", "level", "name", "family", "digest", "sources", "inputs", "states", "outputs", "formats"}
    if set(document) != known | {"schedule"}:
        raise ReadError(f"its metadata has the keys {sorted(document)}")
    return document


def _demand_bounded(formats: list[Format], states: tuple[State, ...]) -> None:
    """Numbers that are exponents later must not be able to fill the memory."""
    for f in formats:
        if not 1 <= f.bits <= MAX_BITS:
            raise ReadError(f"a format has {f.bits} bits, must be in 1..{MAX_BITS}")
    for s in states:
        if s.frac is not None and abs(s.frac) > MAX_FRAC:
            raise ReadError(f"state {s.name} has {s.frac} fraction bits")


def _demand_same(model: ModelProto, net: EqNet | IntNet, digest: str) -> None:
    if net.digest != digest:
        raise ReadError(f"it says digest {digest[:12]}, its content has {net.digest[:12]}")
    try:
        again = build_model(net, {KEY: _metadata(net)}).proto
    except EqcompileError as error:
        raise ReadError(str(error)) from error
    for part in ("functions", "opset_import", "graph"):
        if _bare(model, part) != _bare(again, part):
            raise ReadError(f"its {part} is not that of its net")


def _bare(model: ModelProto, part: str) -> bytes:
    """One part of a model in canonical bytes. Takes the parameters' content out of it: the digest covers that."""
    if part != "graph":
        return b"".join(m.SerializeToString(deterministic=True) for m in getattr(model, part))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return bytes(model.graph.SerializeToString(deterministic=True))
