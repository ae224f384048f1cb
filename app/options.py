"""Options that several commands have, each defined here alone. Imports nothing heavy: the help of a command is made of
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.options import Bounds, option

__all__ = [
    "ForceOption",
    "InputsOption",
    "InspectOptions",
    "LimitOption",
    "ModelOptions",
    "SeedsOption",
    "SimulatorsOption",
    "TicksOption",
    "TimeoutOption",
    "VerifyOptions",
]

POSITIVE = Bounds(0, above=True)
COUNT = Bounds(1)


@dataclass(frozen=True, kw_only=True)
class ForceOption:
    """Whether an output that exists is replaced."""

    force: bool = option(False, help="replace an output that exists")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a checkpoint is, where its file does not say it."""

    family: str | None = option(None, metavar="F", help="class of the network, where the file does not say it")
    settings: Mapping[str, object] = option(
        {}, flag="--set", metavar="K=V", help="a setting that the file does not hold, as steps=20 (may be given again)"
    )
    config: Path | None = option(None, metavar="FILE", help="settings in a .json or .toml file")
    map: Mapping[str, str] = option(
        {}, metavar="OWN=NAME", help="read the tensors OWN of the file as NAME, as fc_rec=W_rec (may be given again)"
    )
    assume: bool = option(False, help="take the source code's defaults for settings that nothing states")


@dataclass(frozen=True, kw_only=True)
class InspectOptions(ModelOptions):
    """What `inspect` looks at beside the net."""

    part: str | None = option(
        None, metavar="PART", help="say how much block RAM of a part, as ecp5-25k, a core of the net takes at least"
    )


@dataclass(frozen=True, kw_only=True)
class InputsOption:
    """Samples of the user's."""

    inputs: Path | None = option(None, metavar="X.npz", help="samples (default: generated ones, or those of a bench)")


@dataclass(frozen=True, kw_only=True)
class LimitOption:
    """How many of the samples."""

    limit: int | None = option(None, bounds=COUNT, help="take the first N samples only")


@dataclass(frozen=True, kw_only=True)
class TicksOption:
    """How many ticks after an upset are looked at."""

    ticks: int = option(20, bounds=COUNT, help="ticks that an upset leaves, at most")


@dataclass(frozen=True, kw_only=True)
class SimulatorsOption:
    """Simulators by name, None for all of the target's."""

    simulators: tuple[str, ...] | None = option(
        None,
        flag="--simulator",
        metavar="NAME",
        help="run only this one, on all samples (may be given again; default: all, the slow ones on a few samples)",
    )


@dataclass(frozen=True, kw_only=True)
class TimeoutOption:
    """The limit of a simulator's run."""

    timeout_s: float = option(
        600.0, flag="--timeout", metavar="S", unit="s", bounds=POSITIVE, help="limit of each simulator's run"
    )


@dataclass(frozen=True, kw_only=True)
class SeedsOption:
    """Placements of a core."""

    seeds: int = option(3, bounds=COUNT, help="placements to make, each with a seed of its own")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(InputsOption, SimulatorsOption, TimeoutOption):
    """How an artifact is verified. `samples`: how many inputs are run through reference, golden and simulators; without
    `verify` no simulator is run."""

    samples: int = option(16, flag="--verify", bounds=COUNT, help="samples to compare")
    verify: bool = option(True, flag="--no-verify", help="write the artifact without running it")
