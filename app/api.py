"""The Python interface, as `import eqcompile` gives it: a function a stage, each of which returns a frozen object.

import eqcompile as eq

net = eq.load("model.pt")
q = eq.quantize(net, calibrate="train.npz", weights="int4")
art = eq.compile(q, target="rtl", out="core", inputs="test.npz")
eq.compare(eq.golden(q, "test.npz"), art.run("test.npz")).require()

Each object shows itself: as text (`print`), in a notebook (a table and a picture), and as a picture (`plot()`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eqcompile.sim.campaign.environment.summary import RateDocument, load_orbit, summary
from eqcompile.toolchain.diagnostics import EqcompileError
from eqcompile.toolchain.options import QuantizeOptions

from .campaign_options import EnvironmentOptions
from .comparison import BuildComparison
from .comparison import compare_builds as comparison_of
from .documents import Candidates, InjectionDocument, Inspection, TargetState
from .family_package import new_family
from .inspection import inspect_path
from .installation import Installation, families, injection, installation, refusals, targets
from .options import InspectOptions
from .report.comparison import write_comparison
from .stages.build import Build, VerifiedBuild, compile, open, target
from .stages.campaign import Campaign, Replay, campaign, open_campaign, plan_campaign
from .stages.certification import Certification, certify
from .stages.display import Display, Picture
from .stages.exhaust import Exhaust, exhaust
from .stages.inference import Difference, Inference, compare
from .stages.keywords import keyword_options
from .stages.model import Model, load
from .stages.quantization import Quantization, quantize
from .stages.samples import SampleSource
from .stages.tools import Search, Synthesis, Tuning, search, synthesise, tune

__all__ = [
    "Build",
    "Campaign",
    "Certification",
    "Difference",
    "Display",
    "EqcompileError",
    "Exhaust",
    "Inference",
    "Model",
    "Picture",
    "Quantization",
    "Replay",
    "Search",
    "Synthesis",
    "Tuning",
    "VerifiedBuild",
    "available_targets",
    "campaign",
    "certify",
    "compare",
    "compare_builds",
    "compile",
    "doctor",
    "exhaust",
    "families",
    "fault_models",
    "golden",
    "inspect",
    "load",
    "new_family",
    "open",
    "open_campaign",
    "plan_campaign",
    "quantize",
    "search",
    "synthesise",
    "target",
    "tune",
    "upset_rates",
]


def golden(net: Quantization | Build, x: SampleSource, *, limit: int | None = None, trace: bool = True) -> Inference:
    """Relax samples `[samples, (frame,) *shape]` of real numbers, or a file of them, in the golden interpreter, the
    definition of right; the first `limit` of them. Without `trace` the states after each tick are not kept.

    Raises ImportFileError with everything that is wrong with the samples.
    """
    if isinstance(net, Build):
        return net.run(x, simulator="golden", limit=limit, trace=trace)
    return net.run(x, limit=limit, trace=trace)


def upset_rates(
    file: str | Path, *, mission: float | str | None = None, mission_s: float | None = None, devices: int = 1
) -> RateDocument:
    """Upset rates of an orbit by kind of memory cell, as `eqfault rate` tells them (docs/how-to/rate-from-an-orbit.md).

    Args:
        file: a TOML file with spectra and cross-sections.
        mission: length of a mission in seconds, or as `5y`, for the upsets expected in it; `mission_s`: in seconds.
        devices: devices in the mission.

    Raises:
        UsageError: the file cannot be read, or the mission is no positive time. ImportFileError: it or a spectrum is
            not as it must be, with every fault.
    """
    times = {name: value for name, value in {"mission": mission, "mission_s": mission_s}.items() if value is not None}
    length = keyword_options(EnvironmentOptions, times, "eq.upset_rates").mission_s
    return summary(load_orbit(Path(file)), mission_s=length, devices=devices)


def inspect(source: str | Path, **options: Any) -> Inspection | Candidates:
    """What a checkpoint, a saved net or an artifact folder holds, as JSON values; of a checkpoint whose family is open,
    the families that fit.

    `options`: those of `load` for a file, and `part`, as `ecp5-25k`: what a core of the net takes of its block RAM.
    Raises UsageError for options of an import where there is a net already, and what opening and importing raise.
    """
    return inspect_path(Path(source), keyword_options(InspectOptions, options, "eq.inspect"))


def available_targets(model: Model | None = None, **options: Any) -> list[TargetState]:
    """The targets, whether their tools are installed, and the simulators that check them. With a model also what each
    target with its default options refuses of it for certain, without quantizing it.

    `options`: fields of `QuantizeOptions`. Raises UsageError for options that mean nothing.
    """
    rows = targets()
    if model is None:
        return rows
    reasons = refusals(model.net, keyword_options(QuantizeOptions, options, "eq.available_targets"))
    return [{**row, "refusals": reasons.get(row["name"], [])} for row in rows]


def compare_builds(
    first: Build | str | Path,
    second: Build | str | Path,
    *,
    inputs: str | Path | None = None,
    limit: int | None = None,
    report: str | Path | None = None,
) -> BuildComparison:
    """What two artifacts have in common, as JSON values; with a file of `inputs` also how both nets run in golden on
    them, the first `limit` of them. `report`: a folder for `report.json` and `report.html`.

    Raises ArtifactError for a folder that is none, and what reading the samples for either net raises.
    """
    folders = [build.folder if isinstance(build, Build) else Path(build) for build in (first, second)]
    document = comparison_of(folders[0], folders[1], None if inputs is None else Path(inputs), limit=limit)
    if report is not None:
        write_comparison(document, Path(report))
    return document


def doctor() -> Installation:
    """What is installed, and the commands that install the rest."""
    return installation()


def fault_models() -> InjectionDocument:
    """The fault models and engines that are installed, for `campaign`."""
    return injection()
