"""The options of `eqfault run`, `plan` and `resume`, and all that is wrong with those of one command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.typed_json import JsonObject

from ..options import COUNT, POSITIVE, InputsOption, LimitOption
from .console import Parser
from .options import Faults, add_field_options, build, field_options

if TYPE_CHECKING:
    from eqcompile.sim.campaign.notes import Notes

__all__ = ["BaselineOptions", "CampaignOptions", "EnvironmentOptions", "WorkerOptions", "environment", "parse_campaign"]

_SHARE = Bounds(0, 1, above=True, below=True)
_NATURAL = Bounds(0)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Who injects."""

    scheduler: str = option("local", metavar="S", help="local, or HOST:PORT of a dask scheduler")
    workers: int | None = option(None, bounds=COUNT, help="local processes (default: one for each processor)")


@dataclass(frozen=True, kw_only=True)
class CampaignOptions(InputsOption, LimitOption):
    """What is injected into what, and how sure the rates are to be. `faults`: how many, or a rule for it."""

    model: str | None = option(None, metavar="M", help="fault model; `eqfault models` lists them")
    engine: str = option("golden", metavar="E", help="engine that injects")
    faults: int | Literal["auto", "exhaustive"] = option(
        "auto",
        bounds=COUNT,
        help="faults to draw: a number, auto (as the margin needs) or exhaustive (all there are)",
    )
    seed: int = option(0, metavar="S", bounds=_NATURAL, help="of everything drawn")
    near_lsb: int = option(
        1, metavar="K", bounds=_NATURAL, unit="LSB", help="distance of the states within which an end counts as near"
    )
    margin: float = option(0.01, metavar="M", bounds=_SHARE, help="half width of the interval of a rate, as 0.01 or 1%")
    confidence: float = option(0.95, metavar="C", bounds=_SHARE, help="of all intervals, as 0.95 or 95%")
    stop_at_margin: float | None = option(
        None,
        metavar="M",
        bounds=_SHARE,
        help="look at a few points that are fixed beforehand, and stop once every outcome is known to +/- M",
    )
    stratify: Literal["site", "bit", "tick"] | None = option(
        None,
        help="draw as many faults from every site, from every bit of each, or from every tick of that; rates weigh "
        "them by their shares",
    )


@dataclass(frozen=True, kw_only=True)
class BaselineOptions:
    """What is compared with."""

    baselines: tuple[Path, ...] = option(
        (),
        flag="--baseline",
        metavar="DIR",
        help="another net, as a feed-forward one, or core, as one with other hardening, for the same campaign (may be "
        "stated again)",
    )
    baseline_inputs: Path | None = option(None, metavar="X.npz", help="samples for the baselines (default: --inputs)")


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """What turns outcomes into rates of upsets and failures; times in seconds."""

    env: str | None = option(
        None, metavar="E", help="sealevel, avionics, leo, geo or FILE.toml: flux, upsets per bit and day, or an orbit"
    )
    part: str | None = option(
        None, metavar="P", help="class of the part: its cross-section or rate per bit (or in FILE.toml)"
    )
    scrub_s: float | None = option(
        None, flag="--scrub", metavar="TIME", unit="s", bounds=POSITIVE, help="period of scrubbing the weights"
    )
    mission_s: float | None = option(
        None, flag="--mission", metavar="TIME", unit="s", bounds=POSITIVE, help="length of the simulated mission"
    )
    devices: int = option(1, bounds=COUNT, help="devices in the mission")


def environment(options: EnvironmentOptions) -> Notes:
    """The environment as notes of a campaign; nothing without `--env`.

    Raises UsageError for options that need an environment without one, and for one that there is not.
    """
    if options.env is None:
        stated = {"part": options.part, "scrub": options.scrub_s, "mission": options.mission_s}
        if needing := [f"--{name}" for name, value in stated.items() if value is not None]:
            raise UsageError(Diagnostic("usage", f"{', '.join(needing)} without an environment", hint="add --env"))
        return {}
    from eqcompile.sim.campaign.environment.rates import read

    values = read(
        options.env,
        part=options.part,
        scrub_s=options.scrub_s,
        mission_s=options.mission_s,
        devices=options.devices,
    )
    return {"environment": values}


def parse_campaign(
    parser: Parser, argv: Sequence[str], *, required: Mapping[str, str] | None = None
) -> tuple[argparse.Namespace, CampaignOptions, JsonObject]:
    """Parse with the options of the model that `--model` names: what is parsed, the campaign, the options of the model.

    `required`: arguments and options that must be there, by name, as the help calls them. Raises UsageError with
    everything that is wrong: what the parser finds and what is missing, a model, an engine or an environment that there
    is not, and values that a model does not take.
    """
    from eqcompile.sim.faults.engine import Engine
    from eqcompile.sim.faults.model import FaultModel

    faults, model = Faults(), None
    add_field_options(parser, CampaignOptions, "campaign")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    name = first.parse_known_args(argv)[0].model
    if name is not None:
        with faults.gathering():
            model = registry.find_class("faults", name, FaultModel)
            add_field_options(parser, model, f"options of model {name} ({model.summary})")
    namespace, found = parser.parse(argv)
    # Options of a model that is not there cannot be told from none.
    faults.extend(d for d in found if name is None or model is not None or not d.code.startswith("unknown-"))
    options = build(CampaignOptions, namespace)
    stated = {**vars(namespace), "model": options.model}
    absent = [shown for name, shown in (required or {}).items() if stated.get(name) is None]
    faults.extend(Diagnostic("usage", f"{shown} is missing", hint=f"{parser.prog} --help") for shown in absent)
    if options.engine not in registry.names("engines"):
        with faults.gathering():
            registry.find_class("engines", options.engine, Engine)
    with faults.gathering():
        environment(build(EnvironmentOptions, namespace))
    chosen = {} if model is None else field_options(namespace, model)
    if model is not None:
        with faults.gathering():
            model(**chosen)
    faults.require()
    return namespace, options, chosen
