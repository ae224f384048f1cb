"""Every fault of a net: the folder, the run, and the report."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eqcompile.sim.campaign.exhaust.document import ExhaustDocument
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.typed_json import JsonObject

from .campaign import define
from .campaign_options import CampaignOptions
from .options import COUNT, InputsOption, LimitOption
from .progress import progress_if

__all__ = ["ExhaustOptions", "begin", "go_on", "report"]


@dataclass(frozen=True, kw_only=True)
class ExhaustOptions(InputsOption, LimitOption):
    """Which faults, of all of one model's, are injected into what."""

    model: str | None = option(None, metavar="M", help="fault model, one whose faults can be listed, as seu or pair")
    engine: str = option("fast", metavar="E", help="engine that injects")
    near_lsb: int = option(
        1, metavar="K", bounds=Bounds(0), unit="LSB", help="distance of the states within which an end counts as near"
    )
    scheduler: str = option("local", metavar="S", help="local, or HOST:PORT of a dask scheduler")
    workers: int = option(1, bounds=COUNT, help="local processes; engine fast uses all processors in one")
    proved: int = option(
        100,
        metavar="N",
        bounds=Bounds(0),
        help="samples whose certificate is compared with the worst case (0: none); a violation is exit code 8",
    )


def begin(
    options: ExhaustOptions,
    model_options: JsonObject,
    source: Path | IntNet,
    inputs: Path | Inputs | None,
    folder: Path,
    *,
    command: str,
    force: bool,
) -> None:
    """Make the folder, or take the one that is there if it is of the same faults.

    Raises as `campaign.define`, UsageError for a model without a list of all faults, and ArtifactError for a folder of
    something else.
    """
    from eqcompile.sim.campaign.exhaust import begin as begin_in

    asked = CampaignOptions(
        inputs=options.inputs,
        limit=options.limit,
        model=options.model,
        engine=options.engine,
        near_lsb=options.near_lsb,
        faults="exhaustive",
    )
    with ExitStack() as stack:
        campaign = define(asked, model_options, source, inputs, {"command": command}, stack)
        begin_in(campaign, folder, force=force)


def go_on(folder: Path, options: ExhaustOptions, *, show: bool) -> ExhaustDocument:
    """Inject what the folder lacks, and write the report; `show`: progress. Raises as
    `sim.campaign.exhaust.exhaust`."""
    from eqcompile.sim.campaign.exhaust import exhaust

    with progress_if(show, "fault") as progress:
        told = partial(progress, "faults")
        exhaust(folder, told, scheduler=options.scheduler, workers=options.workers)
    return report(folder, proved=options.proved)


def report(folder: Path, *, proved: int) -> ExhaustDocument:
    """Write `report.json` and `report.html` of what a folder holds so far, and return the document."""
    from eqcompile.sim.campaign.exhaust import document_of

    from .report import kit
    from .report.exhaust import render_exhaust

    document = document_of(folder, proved=proved)
    kit.write(folder, document, render_exhaust(document))
    return document
