"""A checkpoint file becomes a verified EqNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..diagnostics import Diagnostic, ImportFileError, UsageError
from ..interfaces import Imported
from ..ir import EqNet
from ..ir.verify import check
from .brevitas_state import BREVITAS_SETTINGS, is_brevitas, quantized_state
from .config import settings_from_config, width_faults
from .detect import all_families, detect, fit, named, unprefixed
from .family import Family, Reading, Tensors, normalise
from .files.config_file import read_config
from .files.containers import regular_file
from .files.format import LoadedFile
from .files.load import load_file
from .files.nir_file import is_hdf5
from .files.onnx_file import is_onnx
from .graphs.nir import NIR, import_nir
from .graphs.qonnx import QONNX, import_qonnx
from .names import demand_known, renamed
from .settings import Resolved, resolve

__all__ = ["import_model"]


def import_model(
    path: Path,
    *,
    family: str | None = None,
    settings: Mapping[str, object] | None = None,
    config: Path | None = None,
    map: Mapping[str, str] | None = None,
    assume: bool = True,
    known: Mapping[str, Family] | None = None,
) -> Imported:
    """Read a checkpoint (see `load_file`) or a graph (see `graphs.nir`, `graphs.qonnx`), find its family (see
    `detect`), settle its settings and build its net.

    `settings` are the user's, by name; strings are parsed. A setting comes from there, else from the JSON or TOML
    file `config`, else from what the checkpoint states, else from the source code's default (then listed in
    `assumed`; without `assume`, a default is refused if another value would make another net, unless the file states
    its class and arguments of it). `map` gives tensors of the file the names that a family reads (see `renamed`).
    `known` replaces the registered families. The net returned is verified.

    Raises ImportFileError (the file), UsageError (family, settings, config file) or MissingToolError (the package nir).
    """
    user_config = {} if config is None else read_config(config)
    start = _start(path)
    for is_graph, kind, import_graph in ((is_hdf5, NIR, import_nir), (is_onnx, QONNX, import_qonnx)):
        if is_graph(start):
            if family not in (None, kind.key):
                what = f"the file is a graph ({kind.key}), not a checkpoint of {family}"
                raise UsageError(Diagnostic("family-mismatch", what, path.name, "leave out --family"))
            if map:
                what = "--map names tensors of a checkpoint; the file is a graph, whose names are its own"
                raise UsageError(Diagnostic("usage", what, path.name, "leave out --map"))
            return import_graph(path.read_bytes(), path, user=settings or {}, config=user_config, assume=assume)
    names = map or {}
    file, user = _plain_layers(renamed(load_file(path), names), settings or {}, user_config)
    known = all_families() if known is None else known
    name = family or file.family
    file = unprefixed(file, known.values() if name is None else named(name, known))
    tensors = Tensors(file.label, file.arrays)
    _demand_norms(tensors)
    hints = {**file.config, **file.forward_kwargs, **user_config, **user}
    for stated in named(name, known) if name is not None and names else ():
        demand_known(names, stated, fit(stated, tensors, hints), file.label)
    network = detect(tensors, family, stated=file.family, known=known, settings=hints)
    resolved = resolve(
        network,
        user=user,
        config={name: value for name, value in user_config.items() if name not in BREVITAS_SETTINGS},
        stated=settings_from_config(network, file.config, file.forward_kwargs),
        label=file.label,
        # Arguments of its own class that a file leaves out are those that the class takes by default.
        assume=assume or (file.family is not None and bool(file.config)),
    )
    reading = network.read(tensors, resolved.values)
    net = _verified(reading.demand(network.key, tensors.label), tensors, file)
    _demand_weights(net, network, tensors, reading, resolved)
    ignored = tuple(stored for stored in tensors.arrays if _weight_of(stored) not in reading.read)
    warnings = resolved.warnings(network)
    return Imported(
        net, network.key, path, (*file.assumed, *resolved.assumed), resolved.given, ignored, warnings, names
    )


def _plain_layers(
    file: LoadedFile, user: Mapping[str, object], config: Mapping[str, object]
) -> tuple[LoadedFile, dict[str, object]]:
    """The file with the weights that Brevitas' quantizers make of its tensors, where it has any, and the settings of
    the user that are not about them."""
    stated = {n: v for source in (file.config, config, user) for n, v in source.items() if n in BREVITAS_SETTINGS}
    rest = {name: value for name, value in user.items() if name not in BREVITAS_SETTINGS}
    if not is_brevitas(file.arrays, stated):
        return file, dict(user)
    return replace(file, arrays=quantized_state(file.arrays, stated, file.label)), rest


def _start(path: Path) -> bytes:
    """The first bytes of a file, which tell its kind."""
    regular_file(path)
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error.strerror}", str(path))) from error


def _verified(net: EqNet, tensors: Tensors, file: LoadedFile) -> EqNet:
    faults = [Diagnostic(d.code, d.what, f"{file.label}: {d.where}", d.hint or tensors.shapes) for d in check(net)]
    if not faults:
        faults = width_faults(net, file.config)
    if faults:
        raise ImportFileError(faults)
    return net


def _demand_weights(net: EqNet, family: Family, tensors: Tensors, reading: Reading, resolved: Resolved) -> None:
    """UsageError if an assumed setting turns tensors into zeros: the net would be certified for what it lost."""
    weighty = {s.name: s for s in family.settings if s.changes == "weights"}
    assumed = [a for a in resolved.assumed if a.name in weighty]
    full = [tensors.source(key) for key in sorted(reading.read) if tensors[key].any()] if assumed else []
    empty = [p.source for p in net.params if not p.value.any() and any(p.source.startswith(f"{s} (") for s in full)]
    if empty:
        shown = ", ".join(f"{a.name} = {a.value}" for a in assumed)
        what = f"{shown} is assumed, and with it all of these weights are 0: {', '.join(empty)}"
        hint = " ".join(f"--set {a.name}=V  ({weighty[a.name].doc})" for a in assumed)
        raise UsageError(
            Diagnostic("assumption-empties", what, tensors.label, f"state what it was trained with: {hint}")
        )


def _weight_of(stored: str) -> str:
    """The normalised key that a stored key belongs to, singular vectors included."""
    key = normalise(stored)
    if key is not None:
        return key
    layer, parametrized, _ = stored.rpartition(".parametrizations.weight.0._")
    return f"{layer}.weight" if parametrized else stored[: -len("_u")]


def _demand_norms(tensors: Tensors) -> None:
    """ImportFileError for spectral norms whose vectors are missing, do not fit, or stand alone, and for weights that
    are stored twice: from such a file no family can be told."""
    faults: list[Diagnostic] = []
    first: dict[str, str] = {}
    for stored in tensors.arrays:
        key = normalise(stored)
        if key is None:
            if _weight_of(stored) not in tensors:
                what = f"{stored} is a vector of a spectral norm, its weight is missing"
                faults.append(Diagnostic("spectral-norm-weight", what, tensors.label))
        elif first.setdefault(key, stored) != stored:
            what = f"{first[key]} and {stored} are both the weight {key}"
            faults.append(Diagnostic("weight-twice", what, tensors.label, "save one state_dict of one network"))
        elif key != stored:
            try:
                tensors[key]
            except ImportFileError as error:
                faults += error.diagnostics
    if faults:
        raise ImportFileError(faults)
