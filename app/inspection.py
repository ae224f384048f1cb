"""What a checkpoint, a saved net or an artifact folder holds, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from eqcompile.targets.rtl.synth.parts import part_named
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.diagnostics import Diagnostic, ImportFileError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families, distinct, fit
from eqcompile.toolchain.importers.family import Family, Tensors
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.importers.graphs.nir import NIR
from eqcompile.toolchain.importers.graphs.qonnx import QONNX
from eqcompile.toolchain.importers.names import renamed
from eqcompile.toolchain.interfaces import Imported
from eqcompile.toolchain.ir import Net
from eqcompile.toolchain.ir.serial import is_saved_net, load
from eqcompile.toolchain.passes import Analysis
from eqcompile.toolchain.typed_json import encode

from .core_memory import with_memory
from .documents import Candidates, FamilyDocument, Inspection, SettingDocument
from .options import InspectOptions, ModelOptions
from .report.data import plain, settings_of
from .report.schema import Setting
from .weights import weights_of

__all__ = ["describe_family", "describe_model", "describe_net", "inspect_path"]

_GRAPHS = {NIR.key: "NIR graph", QONNX.key: "ONNX graph of one step"}


def inspect_path(path: Path, options: InspectOptions) -> Inspection | Candidates:
    """Describe one file or folder; of a checkpoint whose family is open, the families that fit.

    Raises UsageError for options of an import where there is a net already, and what opening and importing raise.
    """
    part = None if options.part is None else part_named(options.part)
    model = ModelOptions(**{f.name: getattr(options, f.name) for f in fields(ModelOptions)})
    if path.is_dir():
        artifact = Artifact.open(path)
        what = f"artifact for {artifact.manifest.target}"
        document: Inspection = {**describe_net(path, what, artifact.net), "manifest": encode(artifact.manifest)}
        _demand_no_options(model, path, "an artifact")
        return with_memory(document, artifact, part)
    if path.suffix == ".onnx" and is_saved_net(path):
        net = load(path)
        document = describe_net(path, "saved net", net)
        _demand_no_options(model, path, "a saved net")
        return with_memory(document, net, part)
    try:
        imported = import_model(path, family=model.family, settings=model.settings, config=model.config, map=model.map)
    except ImportFileError as error:
        if any(d.code == "family-ambiguous" for d in error.diagnostics):
            return _candidates(path, model.map)
        raise
    return with_memory(describe_model(imported, path), imported.net, part)


def _demand_no_options(model: ModelOptions, path: Path, what: str) -> None:
    """Refuse options of an import for what is a net already."""
    default = ModelOptions()
    options = [
        f.metadata.get("flag", f"--{f.name}")
        for f in fields(model)
        if getattr(model, f.name) != getattr(default, f.name)
    ]
    if options:
        fault = f"{', '.join(options)} has no effect: this is {what}, whose family and settings are fixed"
        raise UsageError(Diagnostic("usage", fault, str(path), "leave it out, or give the checkpoint"))


def _candidates(path: Path, names: Mapping[str, str]) -> Candidates:
    tensors = Tensors(path.name, renamed(load_file(path), names).arrays)
    fitting = distinct(f for f in all_families().values() if fit(f, tensors).fits)
    return {
        "file": str(path),
        "what": "checkpoint",
        "candidates": [describe_family(f) for f in fitting],
        "tensors": {key: list(tensors[key].shape) for key in tensors},
    }


def describe_family(family: Family) -> FamilyDocument:
    """A family as JSON values; a default of null must be given."""
    settings: list[SettingDocument] = [{"name": s.name, "default": s.default, "doc": s.doc} for s in family.settings]
    return {
        "family": family.key,
        "summary": family.summary,
        "settings": settings,
        "same_as": family.same_as,
        "offer": family.offer,
    }


def describe_model(imported: Imported, path: Path | None = None) -> Inspection:
    """An imported net as JSON values, as `describe_net`. `path`: where it is from, where that is not said already."""
    what = _GRAPHS.get(imported.family, "checkpoint")
    return describe_net(path or imported.path, what, imported.net, imported)


def describe_net(path: Path, what: str, net: Net, imported: Imported | None = None) -> Inspection:
    """A net as JSON values: shapes, settings, weights with density and spectral norm, canonical text."""
    types = Analysis.of(net).types
    stated = {} if imported is None else imported.given
    certificate = certify(net, norms=True)
    given: list[Setting] = [
        {"name": k, "value": plain(v), "source": "--set, --config or the file"} for k, v in stated.items()
    ]
    own = {} if imported is None else imported.map
    given += [{"name": k, "value": f"read as {v}", "source": "--map"} for k, v in own.items()]
    assumed = [] if imported is None else settings_of(imported.assumed)
    return {
        "warnings": [] if imported is None else list(imported.warnings),
        "file": str(path),
        "what": what,
        "family": net.family,
        "digest": net.digest,
        "inputs": {i.name: list(i.shape) for i in net.inputs},
        "states": {s.name: list(s.shape) for s in net.states},
        "outputs": {o.name: list(types[o.value].shape) for o in net.outputs},
        "steps": net.schedule.steps,
        "settings": {"given": given, "assumed": assumed},
        "ignored_tensors": [] if imported is None else list(imported.ignored),
        "weights": weights_of(net),
        "certificate": certificate.to_json() | {"lines": certificate.lines()},
        "text": str(net),
    }
