"""What the commands of `eqfault` share: the net, the samples, the model with its options, the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, ImportFileError, UsageError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import load
from eqcompile.toolchain.typed_json import JsonObject

if TYPE_CHECKING:
    from eqcompile.sim.campaign.definition import Campaign
    from eqcompile.sim.campaign.notes import Notes, Samples, Source, Synthesis

from ..clocks import InputCodes
from ..options import LimitOption
from .console import Parser
from .numbers import duration, integer
from .options import add_field_options, build, field_options

__all__ = ["add_environment", "define", "environment", "parse_with_model", "read_net"]

_GENERATED = 16
_TIME = "in seconds, or with a unit: 90s, 12h, 365d, 5y"


def parse_with_model(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parse with the options of the model that `--model` names."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    name = first.parse_known_args(argv)[0].model
    if name is None:
        return parser.parse_all(argv), {}
    from eqcompile.sim.faults.model import FaultModel

    model = registry.find_class("faults", name, FaultModel)
    add_field_options(parser, model, f"options of model {name} ({model.summary})")
    namespace = parser.parse_all(argv)
    return namespace, field_options(namespace, model)


def add_environment(parser: Any) -> None:
    """Options that turn outcomes into rates of failure."""
    group = parser.add_argument_group("environment (rates of upsets and failures in the report)")
    group.add_argument(
        "--env", metavar="E", help="sealevel, avionics, leo, geo or FILE.toml: flux, or upsets per bit and day"
    )
    group.add_argument(
        "--part", metavar="P", help="class of the part: its cross-section or rate per bit (or in FILE.toml)"
    )
    group.add_argument("--scrub", type=duration, metavar="TIME", help=f"period of scrubbing the weights; {_TIME}")
    group.add_argument("--mission", type=duration, metavar="TIME", help=f"length of the simulated mission; {_TIME}")
    group.add_argument("--devices", type=integer(1), default=1, metavar="N", help="devices in the mission (default 1)")


def environment(namespace: argparse.Namespace) -> Notes:
    """The environment as JSON values for the notes of a campaign; nothing without `--env`.

    Raises UsageError for options that need an environment without one.
    """
    if namespace.env is None:
        options = [f"--{name}" for name in ("part", "scrub", "mission") if getattr(namespace, name) is not None]
        if options:
            raise UsageError(Diagnostic("usage", f"{', '.join(options)} without an environment", hint="add --env"))
        return {}
    from eqcompile.sim.campaign.environment.rates import read

    values = read(
        namespace.env,
        part=namespace.part,
        scrub_s=namespace.scrub,
        mission_s=namespace.mission,
        devices=namespace.devices,
    )
    return {"environment": values}


def read_net(source: Path) -> tuple[IntNet, JsonObject, Source]:
    """The integer net of an artifact folder or a net file, what its manifest says of the core in it (empty if it holds
    none), and where it comes from (JSON values).

    Raises ArtifactError if the folder is none or was changed, ImportFileError if the file is no integer net.
    """
    if not source.is_dir():
        net = load(source)
        if not isinstance(net, IntNet):
            what = "the file holds a float net, faults are injected into integers"
            raise ImportFileError(Diagnostic("not-integers", what, str(source), "compile it first"))
        return net, {}, {"path": str(source), "target": None}
    artifact = Artifact.open(source)
    manifest = artifact.manifest
    if manifest.target == "rtl" and manifest.core is None:
        what = "the manifest does not say which core this is"
        raise ArtifactError(Diagnostic("artifact-core", what, str(source), "compile it again"))
    core = dict(manifest.core.options) if manifest.target == "rtl" and manifest.core is not None else {}
    origin: Source = {"path": str(source), "target": manifest.target}
    if isinstance(documents := manifest.details.get("synthesis"), list):
        origin["synthesis"] = [_figures(d) for d in documents]
    return artifact.net, core, origin


def _figures(document: Mapping[str, Any]) -> Synthesis:
    """What the synthesis for a part found, of what the campaign's report compares: cells of the core by kind."""
    cells = {u["key"]: u["core"] for u in document["usage"]} or dict(document["cells"])
    return {
        "part": document["part"],
        "flip_flops": document["flip_flops"],
        "fmax_mhz": document["fmax_mhz"],
        "fmax_range_mhz": document["fmax_range_mhz"],
        "tools": document["tools"],
        "cells": cells,
        "seeds": len(document["seeds"]),
        "kind": "estimated",
        "how": document["kind"],
    }


def define(
    namespace: argparse.Namespace,
    source: Path,
    inputs: Path | None,
    options: Mapping[str, Any],
    notes: Notes,
    stack: ExitStack,
) -> Campaign:
    """The campaign that the command line describes, on the net of `source`. `stack` removes what is built for it.

    Raises UsageError for a model of hardware that the artifact is not, and as `api.define`.
    """
    from eqcompile.sim.campaign import api
    from eqcompile.sim.faults.model import FaultModel

    from ..instrument import instrument_builder

    net, core, origin = read_net(source)
    hardware = registry.find_class("faults", namespace.model, FaultModel).instrument
    if hardware and origin["target"] not in (None, hardware):
        what = f"model {namespace.model} upsets hardware of target {hardware}, this artifact is of {origin['target']}"
        raise UsageError(Diagnostic("fault-core", what, str(source), f"compile it with --target {hardware}"))
    codes, samples = _samples(net, inputs, build(LimitOption, namespace).limit, namespace.seed)
    return api.define(
        net,
        codes,
        model=namespace.model,
        options=options,
        engine=namespace.engine,
        near=namespace.near_lsb,
        count=namespace.faults,
        seed=namespace.seed,
        margin=namespace.margin,
        confidence=namespace.confidence,
        stop_at_margin=namespace.stop_at_margin,
        notes={"source": origin, "samples": samples, **notes},
        core=core,
        target=origin["target"],
        instrument=instrument_builder(net, core, stack),
    )


def _samples(
    net: IntNet, path: Path | None, limit: int | None, seed: int
) -> tuple[dict[str, NDArray[np.int64]], Samples]:
    if path is not None:
        samples = InputCodes.read(path, net, limit)
        return dict(samples.codes), {"source": samples.source}
    count = limit or _GENERATED
    generator = np.random.default_rng(seed)
    codes: dict[str, NDArray[np.int64]] = {}
    for i in net.inputs:
        low, high = i.limits
        lead = (count, 4) if net.schedule.frames else (count,)
        codes[i.name] = generator.integers(low, high, (*lead, *i.shape), dtype=np.int64, endpoint=True)
    return codes, {"source": f"{count} generated, uniform codes, seed {seed}: give --inputs for real ones"}
