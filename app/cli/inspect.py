"""`eqcompile inspect`: what a checkpoint, a saved net or an artifact folder holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.diagnostics import Diagnostic, ImportFileError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families, distinct, fit
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.importers.graphs.nir import NIR
from eqcompile.toolchain.importers.graphs.qonnx import QONNX
from eqcompile.toolchain.importers.names import renamed
from eqcompile.toolchain.interfaces import Imported
from eqcompile.toolchain.ir import Net
from eqcompile.toolchain.ir.serial import is_saved_net, load
from eqcompile.toolchain.passes import Analysis
from eqcompile.toolchain.typed_json import encode

from ..options import ModelOptions
from ..report.data import plain, settings_of
from ..report.schema import Setting
from . import show
from .console import Parser, Reply
from .documents import Candidates, Inspection
from .families import describe
from .options import add_field_options, build, field_options
from .weights import weights_of

__all__ = ["command", "describe_net"]


def command(argv: Sequence[str]) -> Reply:
    """Describe one file or folder; a checkpoint whose family is open is answered with the families that fit."""
    parser = Parser(
        prog="eqcompile inspect",
        description="Show what a checkpoint, a net.onnx or an artifact folder holds.",
        examples="  eqcompile inspect model.pt\n  eqcompile inspect out --json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="checkpoint, net (.onnx) or artifact folder")
    add_field_options(parser, ModelOptions, None)
    namespace = parser.parse_all(argv)
    path: Path = namespace.model
    document: Inspection
    if path.is_dir():
        artifact = Artifact.open(path)
        what = f"artifact for {artifact.manifest.target}"
        document = {**describe_net(path, what, artifact.net), "manifest": encode(artifact.manifest)}
        _no_options(namespace, path, "an artifact")
    elif path.suffix == ".onnx" and is_saved_net(path):
        document = describe_net(path, "saved net", load(path))
        _no_options(namespace, path, "a saved net")
    else:
        return _checkpoint(path, build(ModelOptions, namespace))
    return Reply(document, show.inspection(document))


def _no_options(namespace: argparse.Namespace, path: Path, what: str) -> None:
    """Refuse options of an import for what is a net already."""
    options = [name.replace("settings", "set") for name in field_options(namespace, ModelOptions)]
    if options:
        listed = ", ".join(f"--{name}" for name in options)
        fault = f"{listed} has no effect: this is {what}, whose family and settings are fixed"
        raise UsageError(Diagnostic("usage", fault, str(path), "leave it out, or give the checkpoint"))


def _checkpoint(path: Path, model: ModelOptions) -> Reply:
    try:
        imported = import_model(path, family=model.family, settings=model.settings, config=model.config, map=model.map)
    except ImportFileError as error:
        if any(d.code == "family-ambiguous" for d in error.diagnostics):
            fitting = _candidates(path, model.map)
            return Reply(fitting, show.candidates(fitting))
        raise
    kinds = {NIR.key: "NIR graph", QONNX.key: "ONNX graph of one step"}
    document = describe_net(path, kinds.get(imported.family, "checkpoint"), imported.net, imported)
    return Reply(document, show.inspection(document))


def _candidates(path: Path, names: Mapping[str, str]) -> Candidates:
    tensors = Tensors(path.name, renamed(load_file(path), names).arrays)
    fitting = distinct(f for f in all_families().values() if fit(f, tensors).fits)
    return {
        "file": str(path),
        "what": "checkpoint",
        "candidates": [describe(f) for f in fitting],
        "tensors": {key: list(tensors[key].shape) for key in tensors},
    }


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
