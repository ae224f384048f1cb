"""The options of a fault campaign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import Bounds, option

from .options import COUNT, POSITIVE, InputsOption, LimitOption

if TYPE_CHECKING:
    from eqcompile.sim.campaign.notes import Notes

__all__ = ["BaselineOptions", "CampaignOptions", "EnvironmentOptions", "WorkerOptions", "environment"]

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
    counted: bool = option(
        False,
        help="draw by a counter where faults are injected, and store how many ended so, and faults with a wrong label "
        "alone: for many flips of states, as on a GPU",
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
