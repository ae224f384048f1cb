"""Contracts between the parts: what an importer, a target and a simulator take and give.

A built-in and a stranger's plug-in register the same way, by an entry point (see `registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .diagnostics import Diagnostic
from .ir import EqNet, IntNet
from .options import Assumption, QuantizeOptions, TuneOptions

__all__ = [
    "Assumption",
    "FloatRun",
    "Given",
    "Imported",
    "Lowered",
    "QuantizeOptions",
    "Run",
    "Simulator",
    "Target",
    "TuneOptions",
    "Tuned",
]

Progress = Callable[[int, int], None]
"""`progress(done, total)`: called now and then during long work."""
StageProgress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`."""


@dataclass(frozen=True)
class Imported:
    """A checkpoint as an EqNet. `family` is `package.Class` as in the research code, e.g. `models.LoopedMLP`."""

    net: EqNet
    family: str
    path: Path
    assumed: tuple[Assumption, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    """Tensor keys that the file holds and inference does not use."""
    warnings: tuple[str, ...] = ()
    """What a reader of the result must know first, as whole sentences."""


@dataclass(frozen=True)
class FloatRun:
    """Float64 evaluation of an EqNet.

    `states`: last state, `[batch, *shape]`; `trace`: `[ticks, batch, *shape]` after each tick (None unless asked for);
    `outputs`: `[batch, *shape]`, or `[batch, frame, *shape]` if the schedule emits every frame; `steps`: ticks made,
    `[batch]`. `ranges`: for every value, the smallest and largest entry seen at any tick.
    """

    states: Mapping[str, NDArray[np.float64]]
    outputs: Mapping[str, NDArray[np.float64]]
    steps: NDArray[np.int64]
    trace: Mapping[str, NDArray[np.float64]] | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Integer evaluation of an IntNet, by golden or by a simulator.

    `states`: `[ticks, batch, *shape]` int64 codes after each tick (ticks = frames * steps; a sample that settled keeps
    its codes); empty unless a trace was asked for. `outputs`: integer codes, shaped as in `FloatRun`. `steps`:
    ticks made until settled, summed over frames, `[batch]`. `details` holds counters of the runner (JSON values);
    its `summary`, a list of lines that say their kind themselves, is what people are shown.
    """

    states: Mapping[str, NDArray[np.int64]]
    outputs: Mapping[str, NDArray[np.int64]]
    steps: NDArray[np.int64]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """Input codes that the user gave, `[samples, (frame,) *shape]` by input, and where they come from."""

    codes: Mapping[str, NDArray[np.int64]]
    source: str


@dataclass(frozen=True)
class Lowered:
    """An IntNet and how it came about. `choices`: one row a tensor, state and input (JSON values)."""

    net: IntNet
    choices: Sequence[Mapping[str, Any]]
    assumed: tuple[Assumption, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """A trained checkpoint and how it came about.

    `checkpoint`: the dictionary form that the importers read, its `state_dict` of arrays; `net`: the IntNet that it
    lowers to with the same options and calibration data. `accuracy`: fractions by data set (`held-out`, `test`) and
    network (`float` before, `before` and `after` as integers). `history`: one row an epoch (JSON values). `frozen`:
    weights that training could not change, with the reason.
    """

    checkpoint: Mapping[str, Any]
    net: IntNet
    accuracy: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, int]
    history: Sequence[Mapping[str, Any]]
    epoch: int
    frozen: Mapping[str, str]


class Target(ABC):
    """A backend: a frozen dataclass whose fields are its command-line options (`field(metadata={"help": ...})`)."""

    name: ClassVar[str]
    summary: ClassVar[str]
    install: ClassVar[str] = ""
    """The command that installs what `missing` found absent."""

    @abstractmethod
    def missing(self) -> Sequence[str]:
        """Names of absent tools that a run of the artifact needs; found without importing anything heavy."""

    @abstractmethod
    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        """Every reason why this target cannot take this net."""

    @abstractmethod
    def emit(self, net: IntNet, folder: Path) -> Mapping[str, Any]:
        """Write a self-contained artifact into the empty `folder`; return details for `manifest.json` (JSON values).

        Its `summary`, a list of lines that say their kind themselves, is what people are shown.
        """

    def emit_source(self, net: EqNet, folder: Path) -> Mapping[str, Any]:
        """Add what this target makes of the float net that was quantized, after `emit`; return details that join those
        of `emit`. Only a compiled checkpoint has one.
        """
        return {}

    def finish(
        self, net: IntNet, folder: Path, given: Callable[[], Given | None], progress: StageProgress
    ) -> Mapping[str, Any]:
        """Long work on an emitted artifact that was verified, such as synthesis: add files to `folder`; return details
        that join those of `emit`, the lines of `summary` after its own. `given` reads the user's inputs.
        """
        return {}


class Simulator(ABC):
    """Runs an artifact for real."""

    name: ClassVar[str]
    target: ClassVar[str]
    """Name of the target whose artifacts it runs."""
    suite: ClassVar[Literal["all", "small", "few"]] = "all"
    """Which nets of a test suite it runs: small ones if it is slow, a few if it compiles each for seconds."""

    @abstractmethod
    def run(
        self,
        folder: Path,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """Run input codes `[batch, (frame,) *shape]` through the artifact.

        Raises SimulatorError when it dies, hangs past `timeout_s`, or cannot be read; MissingToolError when a tool is
        absent.
        """
