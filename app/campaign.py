"""A campaign of faults on a net: what it is defined by, its folder, and its run."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, EqcompileError, ImportFileError, UsageError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import load
from eqcompile.toolchain.typed_json import JsonObject

if TYPE_CHECKING:
    from eqcompile.sim.campaign.definition import Campaign
    from eqcompile.sim.campaign.notes import Notes, Samples, Source, Synthesis

    from .campaign_options import BaselineOptions, CampaignOptions, WorkerOptions

from .clocks import InputCodes
from .progress import progress_if

__all__ = ["begin", "define", "make", "plan_of_population", "read_net", "resume"]

_COMPILE_FIRST = "eqcompile MODEL --target numpy -o DIR compiles a model; hand over DIR, or its net.onnx"
_GENERATED = 16
_MANY = 2_000
"""Faults from which on a faster engine is worth a word."""


def read_net(source: Path | IntNet) -> tuple[IntNet, JsonObject, Source]:
    """The integer net of an artifact folder or a net file (or the net itself), what the manifest says of the core in it
    (empty if it holds none), and where it comes from (JSON values).

    Raises ArtifactError if the folder is none or was changed, ImportFileError if the file is no integer net.
    """
    if isinstance(source, IntNet):
        return source, {}, {"path": source.name, "target": None}
    if not source.is_dir():
        try:
            net = load(source)
        except ImportFileError as error:
            raise ImportFileError(replace(d, hint=_COMPILE_FIRST) for d in error.diagnostics) from error
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
        origin["synthesis"] = [_figures(cast("_Figures", d)) for d in documents]
    return artifact.net, core, origin


class _Use(TypedDict):
    key: str
    core: int


class _Figures(TypedDict):
    """What is read of a document of `eqcompile synth`."""

    part: str
    flip_flops: int
    fmax_mhz: float | None
    fmax_range_mhz: list[float] | None
    tools: list[str]
    usage: list[_Use]
    cells: dict[str, int]
    seeds: list[JsonObject]
    kind: str


def _figures(document: _Figures) -> Synthesis:
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
    options: CampaignOptions,
    model_options: JsonObject,
    source: Path | IntNet,
    inputs: Path | Inputs | None,
    notes: Notes,
    stack: ExitStack,
) -> Campaign:
    """The campaign that the command line describes, on the net of `source` with the samples `inputs`. `stack` removes
    what is built for it.

    Raises UsageError without a model, for a model of hardware that the artifact is not, and as `api.define`.
    """
    from eqcompile.sim.campaign import api
    from eqcompile.sim.faults.model import FaultModel

    from .instrument import instrument_builder

    if options.model is None:
        raise UsageError(Diagnostic("usage", "--model is missing", hint="`eqfault models` lists them"))
    net, core, origin = read_net(source)
    hardware = registry.find_class("faults", options.model, FaultModel).instrument
    if hardware and origin["target"] not in (None, hardware):
        what = f"model {options.model} upsets hardware of target {hardware}, this artifact is of {origin['target']}"
        raise UsageError(Diagnostic("fault-core", what, str(origin["path"]), f"compile it with --target {hardware}"))
    codes, samples = _samples(net, inputs, options.limit, options.seed)
    return api.define(
        net,
        codes,
        model=options.model,
        options=model_options,
        engine=options.engine,
        near=options.near_lsb,
        count=options.faults,
        seed=options.seed,
        margin=options.margin,
        confidence=options.confidence,
        stop_at_margin=options.stop_at_margin,
        strata=options.stratify,
        counted=options.counted,
        notes={"source": origin, "samples": samples, **notes},
        core=core,
        target=origin["target"],
        instrument=instrument_builder(net, core, stack),
    )


def _samples(
    net: IntNet, inputs: Path | Inputs | None, limit: int | None, seed: int
) -> tuple[dict[str, NDArray[np.int64]], Samples]:
    if isinstance(inputs, Inputs):
        chosen = inputs if limit is None else inputs.first(limit)
        return dict(InputCodes.of(net, chosen, "").codes), {"source": f"{chosen.count} that were handed over"}
    if inputs is not None:
        samples = InputCodes.read(inputs, net, limit)
        return dict(samples.codes), {"source": samples.source}
    count = limit or _GENERATED
    generator = np.random.default_rng(seed)
    codes: dict[str, NDArray[np.int64]] = {}
    for i in net.inputs:
        low, high = i.limits
        lead = (count, 4) if net.schedule.frames else (count,)
        codes[i.name] = generator.integers(low, high, (*lead, *i.shape), dtype=np.int64, endpoint=True)
    return codes, {"source": f"{count} generated, uniform codes, seed {seed}: give --inputs for real ones"}


def make(
    options: CampaignOptions,
    model_options: JsonObject,
    source: Path | IntNet,
    inputs: Path | Inputs | None,
    folder: Path,
    *,
    against: BaselineOptions,
    notes: Notes,
    force: bool,
) -> None:
    """Define a campaign and its baselines in `folder`.

    Raises as `define`, and ArtifactError for a folder that is there without `force`.
    """
    from eqcompile.sim.campaign import api

    with ExitStack() as stack:
        campaign = define(options, model_options, source, inputs, notes, stack)
        others = against.baseline_inputs or inputs
        baselines = [define(options, model_options, place, others, notes, stack) for place in against.baselines]
        api.create(campaign, folder, baselines=baselines, force=force)


def begin(folder: Path, *, workers: WorkerOptions, show: bool) -> None:
    """`resume` a campaign in `folder` that was made just now. What no engine takes leaves nothing behind."""
    from eqcompile.sim.campaign import api

    if show:
        sys.stderr.write(_sooner(folder))
    try:
        resume(folder, workers=workers, show=show)
    except EqcompileError:
        # What no engine takes leaves nothing that could be resumed.
        if not api.has_results(folder):
            shutil.rmtree(folder)
        raise


def _sooner(folder: Path) -> str:
    """A line that names the engine with the same results sooner, where many faults wait for golden; else empty."""
    from eqcompile.sim.campaign.definition import read_campaign
    from eqcompile.sim.faults.engine import Engine

    campaign = read_campaign(folder)
    if campaign.engine != "golden" or campaign.plan.size < _MANY:
        return ""
    fast = registry.find_class("engines", "fast", Engine)()
    if fast.check(campaign.net):
        return ""
    install = f" ({fast.install})" if fast.missing() else ""
    return f"{campaign.plan.size:,} faults in engine golden: --engine fast{install} gives the same results sooner\n"


def resume(folder: Path, *, workers: WorkerOptions, show: bool) -> None:
    """Run what a campaign in `folder` and its baselines still lack, and write the report; `show`: progress."""
    from eqcompile.sim.campaign import api
    from eqcompile.sim.campaign.run import State

    from .report.campaign import write

    with progress_if(show, "fault") as progress:

        def tell(name: str, state: State) -> None:
            if state.preparing:
                progress(f"engine {state.preparing} is compiled, once for this machine", 0, 0)
            else:
                progress(name or "faults", state.faults, state.plan.size)

        api.resume(folder, scheduler=workers.scheduler, workers=workers.workers, progress=tell)
    write(folder)


def plan_of_population(population: int | None, options: CampaignOptions) -> JsonObject:
    """How many faults a margin needs of a population (None: infinite), as JSON values."""
    from eqcompile.sim.campaign.statistics import sample_size

    return {
        "population": population,
        "margin": options.margin,
        "confidence": options.confidence,
        "faults": sample_size(population, margin=options.margin, confidence=options.confidence),
        "infinite_population": sample_size(None, margin=options.margin, confidence=options.confidence),
        "how": "N / (1 + e^2 (N - 1) / (t^2 p (1 - p))) at p = 0.5, Leveugle et al., DATE 2009",
        "kind": "estimated",
    }
