"""Contracts between the parts: what an importer, a target and a simulator take and give.

A built-in and a stranger's plug-in register the same way, by an entry point (see `registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .artifact import Artifact, CoreDescription
from .diagnostics import Diagnostic, UnsupportedError, UsageError
from .ir import EqNet, IntNet
from .options import Assumption, QuantizeOptions, TuneOptions, option_faults
from .requirements import Requirements
from .typed_json import JsonObject, encode

__all__ = [
    "quiet",
    "Assumption",
    "ClockedRun",
    "Emission",
    "FloatRun",
    "Imported",
    "Lowered",
    "Plan",
    "QuantizeOptions",
    "Refusals",
    "Run",
    "Simulator",
    "Target",
    "TuneOptions",
    "Tuned",
    "Vectors",
]

Progress = Callable[[int, int], None]
"""`progress(done, total)`: called now and then during long work."""
StageProgress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`; a total of 0 is one that nobody knows."""


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Imported:
    """A checkpoint as an EqNet. `family` is `package.Class` as in the research code, e.g. `models.LoopedMLP`."""

    net: EqNet
    family: str
    path: Path
    assumed: tuple[Assumption, ...] = ()
    given: JsonObject = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    """Tensor keys that the file holds and inference does not use."""
    warnings: tuple[str, ...] = ()
    """What a reader of the result must know first, as whole sentences."""
    map: Mapping[str, str] = field(default_factory=dict)
    """Names that the user gave to tensors of the file, by the file's own."""


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
    details: JsonObject = field(default_factory=dict)

    def first(self, samples: int) -> Run:
        """The same of the first samples."""
        states = {name: codes[:, :samples] for name, codes in self.states.items()}
        outputs = {name: codes[:samples] for name, codes in self.outputs.items()}
        return Run(states, outputs, self.steps[:samples], self.details)


@dataclass(frozen=True)
class Lowered:
    """An IntNet and how it came about. `choices`: one row a tensor, state and input (JSON values)."""

    net: IntNet
    choices: Sequence[JsonObject]
    assumed: tuple[Assumption, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """Integers that a training is compared with: `accuracy` as a fraction by data set, empty where training diverged,
    and the proved `bound` of the contraction of a step, infinite where there is none."""

    accuracy: Mapping[str, float]
    bound: float


@dataclass(frozen=True)
class Tuned:
    """A trained checkpoint and how it came about.

    `checkpoint`: the dictionary form that the importers read, its `state_dict` of arrays; `net`: the IntNet that it
    lowers to with the same options and calibration data. `accuracy`: fractions by data set (`held-out`, `test`) and
    network (`float` before, `before` and `after` as integers). `history`: one row an epoch (JSON values). `frozen`:
    weights that training could not change, with the reason. `bound`: as in `Alternative`; `others`: what shows the
    price of a bound or a margin that was asked for, by name.
    """

    checkpoint: Mapping[str, object]
    net: IntNet
    accuracy: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, int]
    history: Sequence[JsonObject]
    epoch: int
    frozen: Mapping[str, str]
    bound: float
    others: Mapping[str, Alternative]


@dataclass(frozen=True)
class Vectors:
    """What an artifact's own bench runs, and what golden says must come of it.

    inputs: codes `[samples, (frame,) *shape]` by input, as the plan declares them. run: golden's run of the net on
    them, with states. variants: other nets on the same inputs, by the name that the plan gives them, with golden's
    runs.
    """

    inputs: Mapping[str, NDArray[np.int64]]
    run: Run
    variants: Mapping[str, tuple[IntNet, Run]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClockedRun:
    """A run of an artifact in a simulator that counts clocks, on inputs from `source`. Where its tool is absent there
    is no `run`, and `notes` are lines that say so."""

    source: str
    run: Run | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emission:
    """What a target says of the files that it wrote: figures, and lines for people that say their kind themselves."""

    details: JsonObject = field(default_factory=dict)
    summary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusals:
    """Every reason why a target cannot take a net; at least one."""

    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True)
class Plan(ABC):
    """How a target takes a net, computed once. Abstract; a frozen dataclass. `net` is the verified net."""

    net: IntNet

    @property
    def core(self) -> CoreDescription | None:
        """How the artifact holds the values of the net, None if the target does not say it."""
        return None

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        """Input codes `[samples, (frame,) *shape]` of the artifact's own bench; empty if it has none."""
        return {}

    def bench_variants(self, run: Run) -> Mapping[str, IntNet]:
        """Other nets that the bench runs on the same inputs, by name. `run`: golden's of the net itself."""
        return {}

    @property
    def counts_clocks(self) -> bool:
        """Whether `finish` needs the clocks of simulated inferences."""
        return False

    @property
    def stage(self) -> str:
        """What progress calls `emit`, with an estimate where it takes long."""
        return "emit"

    @property
    def emission_parts(self) -> int:
        """How many parts `emit` tells its progress of."""
        return 1

    @abstractmethod
    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        """Write a self-contained artifact, but for net and manifest, into the empty `folder`.

        `vectors`: of the bench inputs, None if the plan has none. `progress`: parts written so far and
        `emission_parts`; a target with one part says nothing.
        """

    def finish(
        self, artifact: Artifact, vectors: Vectors | None, clocks: ClockedRun | None, progress: StageProgress
    ) -> Emission:
        """Long work on an artifact that was verified, such as synthesis: add files to its folder. `clocks`: of the
        user's inputs or else of the bench's, if `counts_clocks`."""
        return Emission()


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """A backend: a frozen dataclass whose fields are its command-line options (`toolchain.options.option`).

    Raises UsageError with every option whose value means nothing.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    install: ClassVar[str] = ""
    """The command that installs what `missing` lists."""
    conformance: ClassVar[tuple[str, ...]]
    """Nets of tests/conformance that it must take, as shell patterns: `plain`, and at least one more."""

    def __post_init__(self) -> None:
        faults = list(self.faults())
        if faults:
            raise UsageError(faults)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The target with options by name, those of its plug-ins among them, as `options` has them.

        Raises UsageError with every option that there is not, or whose value means nothing.
        """
        return cls(**options)

    @property
    def options(self) -> JsonObject:
        """The options by name, as JSON values that `of` takes."""
        return encode(self)

    def faults(self) -> Iterable[Diagnostic]:
        """What is wrong with the options, whatever the net: by default what their metadata say."""
        return option_faults(self)

    @abstractmethod
    def missing(self) -> Sequence[str]:
        """Names of absent tools that a run of the artifact needs; looked up without importing anything heavy."""

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        """Why the target cannot take a net, as far as it is certain before quantization; `plan` refuses each such net
        as well. By default nothing is."""
        return ()

    @abstractmethod
    def plan(self, net: IntNet, source: EqNet | None = None) -> Plan | Refusals:
        """How this target takes this net, or every reason why it cannot. `source`: the float net that was quantized, if
        there is one, for what an artifact says of it.

        Raises MissingToolError if a package that planning or emitting needs is absent.
        """

    def require_plan(self, net: IntNet, source: EqNet | None = None) -> Plan:
        """As `plan`; UnsupportedError with all refusals."""
        plan = self.plan(net, source)
        if isinstance(plan, Refusals):
            raise UnsupportedError(plan.diagnostics)
        return plan


class Simulator(ABC):
    """Runs an artifact for real."""

    name: ClassVar[str]
    target: ClassVar[str]
    """Name of the target whose artifacts it runs."""
    suite: ClassVar[Literal["all", "small", "few"]] = "all"
    """Which nets of a test suite it runs: small ones if it is slow, a few if it compiles each for seconds."""
    few: ClassVar[int | None] = None
    """How many samples it verifies unless it is asked for by name: a few if it is slow and another runs them all."""
    capacity: ClassVar[str] = "no limit of its own: memory and the time limit"
    """What it can hold, in words; `shortages` judges an artifact by it where it is a number."""
    compiler: ClassVar[str] = ""
    """What compiles an artifact before it runs, if that may take long: where it took too long for one simulator, others
    that need the same are left out."""

    def sample_s(self, run: Run) -> float | None:
        """Seconds that a sample takes here, estimated from a run of the same artifact in another simulator, by which
        verification decides how many samples fit in its limit; by default None: unknown."""
        return None

    def shortages(self, artifact: Artifact) -> Sequence[Diagnostic]:
        """What the artifact needs that this simulator has too little of (code `simulator-capacity`, both numbers); by
        default nothing. Told from manifest and files, without running anything."""
        return ()

    @abstractmethod
    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """Run input codes `[batch, (frame,) *shape]` through the artifact; nothing is written to its folder.
        `progress`: samples done and all of them; of a total of 0 the artifact is compiled first.

        Raises SimulatorError when it dies, hangs past `timeout_s`, or cannot be read; MissingToolError when a tool is
        absent.
        """
