"""The contract of an injection engine: the same table of faults, the same results, on golden, a fast engine or RTL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet
from .draw import Draw
from .sites import KINDS
from .table import Fault, FaultTable

__all__ = ["RESULT", "Engine", "Outcome", "Session", "Sweep", "Tally"]


_AT_ONCE = 1 << 20
"""Faults that are drawn as a table at once."""


class Outcome(IntEnum):
    """What became of a fault, against the fault-free run of the same input; the first that applies, in this order of
    precedence: HANG, DETECTED, SDC, MASKED, HEALED, NEAR, UNSETTLED, OTHER.

    MASKED: no code of any state ever differed, and no output does. HEALED: states differed, in the end none does and no
    output does (healed exactly). NEAR: in the end every state code is within `near` codes, same label. UNSETTLED: same
    label, farther than that, and the last tick still moved a state by more than the schedule's tolerance. OTHER:
    another fixed point with the same label. SDC: a label changed (silent data corruption). DETECTED: a hardening
    mechanism reported it. HANG: the hardware did not end (its watchdog did).

    A state differs if what a tick latched does: an upset register that is overwritten before anything heeds it is
    MASKED.
    """

    MASKED = 0
    HEALED = 1
    NEAR = 2
    OTHER = 3
    SDC = 4
    UNSETTLED = 5
    DETECTED = 6
    HANG = 7


RESULT: Final = np.dtype(
    [
        *[("outcome", np.uint8), ("label", np.int32), ("rejoin", np.int32)],
        *[("distance_max", np.int32), ("distance_end", np.int32), ("differ_end", np.int32)],
        *[("output_differs", np.bool_), ("aborted", np.bool_), ("flags", np.uint8), ("corrected", np.int32)],
    ]
)
"""One row a fault. `label`: of the last row (last frame, last position) of the first classes output, -1 without one; a
label of any row that differs makes an SDC. The others are about the codes that ticks latch, as a trace shows them.
`rejoin`: ticks from the fault's first tick until all equal the clean run's for good, 0 if they never differed, -1 if
they differ after the last tick. `distance_max`, `distance_end`: largest absolute difference of any code after any tick,
and after the last; `differ_end`: how many codes differ after the last tick; `output_differs`: a code of any output
does. Of a core with hardening, else 0: `aborted`: it withheld its result; `flags`: a bit for each of
`Session.mechanisms` that reported the fault; `corrected`: clocks in which it repaired a stored word. A fault that is
corrected and MASKED or HEALED is repaired; votes repair silently, and their faults count as MASKED alone."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What became of faults in every sample. `outcome` `[units, flips, ticks, samples]` uint8 of flips of a state;
    `distance` `[samples, ticks]` int64: by how many codes any state is off after the last tick, at most. Ticks are 0 to
    T, the readout's."""

    outcome: NDArray[np.uint8]
    distance: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tally:
    """What became of drawn faults. `counts` `[ticks, places, outcomes]` int64; `kept` `[n]` int64: numbers of faults
    with an outcome that was asked for, ascending."""

    counts: NDArray[np.int64]
    kept: NDArray[np.int64]


class Session(ABC):
    """A net and its inputs, with the clean trajectory stored. `mechanisms`: names of the bits of `RESULT`'s flags;
    `clocks`: of the longest fault-free inference, 0 where nothing has a clock."""

    mechanisms: tuple[str, ...] = ()
    clocks: int = 0

    @abstractmethod
    def run(self, table: FaultTable) -> NDArray[np.void]:
        """Results (dtype `RESULT`) in the order of the table. A fault whose `sample` is no input, or that names no word
        of the net, is the caller's mistake (UsageError)."""

    def sweep(self, state: str, units: tuple[int, int], masks: NDArray[np.int64]) -> Sweep | None:
        """Flip the bits of each of `masks` `[flips]` in units `units[0]` to `units[1] - 1` of a state, in every tick of
        every sample; None where the engine has no faster way for that than `run`."""
        return None

    def everywhere(self, table: FaultTable) -> Sweep | None:
        """Inject each fault of a table in every sample, whatever sample it names: `outcome` `[faults, samples]`,
        `distance` `[samples, T + 1]` by the first tick of the fault; None where the engine has no faster way for that
        than `run`."""
        return None

    def tally(self, draw: Draw, kept: Sequence[Outcome]) -> Tally:
        """Draw faults, inject them and count what becomes of them; `kept`: of which outcomes the numbers come back."""
        counts = np.zeros((len(draw.ticks), draw.places, len(Outcome)), np.int64)
        numbers = []
        for start in range(0, draw.count, _AT_ONCE):
            which = np.arange(start, min(start + _AT_ONCE, draw.count))
            table = draw.faults(which)
            outcome = self.run(table)["outcome"]
            tick = np.searchsorted(draw.ticks, table.faults["tick"])
            np.add.at(counts, (tick, draw.placed(which), outcome), 1)
            numbers.append(which[np.isin(outcome, kept)])
        return Tally(counts, np.concatenate(numbers))

    @abstractmethod
    def trace(self, fault: Fault) -> Mapping[str, NDArray[np.int64]]:
        """States `[ticks, *shape]` after each tick of the disturbed run of one sample."""

    @abstractmethod
    def clean(self, sample: int) -> Mapping[str, NDArray[np.int64]]:
        """The same of the fault-free run."""


class Engine(ABC):
    """Abstract; registered by entry point (`eqcompile.engines`).

    `instrument`: the target whose instrumented artifact this engine runs, empty for one that computes the net alone;
    `sites`: the kinds of sites whose upsets it takes; `usual`: those that are meant where none are asked for, empty for
    all of them; `alone`: one process uses all of its device. `artifact` is
    the folder of the instrumented artifact: whoever creates a campaign builds it, an engine never does.
    """

    name: ClassVar[str]
    install: ClassVar[str] = ""
    instrument: ClassVar[str] = ""
    sites: ClassVar[tuple[str, ...]] = KINDS
    usual: ClassVar[tuple[str, ...]] = ()
    alone: ClassVar[bool] = False

    def __init__(self, artifact: Path | None = None) -> None:
        self.artifact = artifact

    def opened_artifact(self) -> Path:
        """The folder of the instrumented artifact; UsageError if none was handed in."""
        if self.artifact is None:
            what = f"engine {self.name} runs an instrumented artifact of target {self.instrument}, and was given none"
            raise UsageError(Diagnostic("no-instrument", what, hint="eqfault run builds one into the campaign"))
        return self.artifact

    @abstractmethod
    def missing(self) -> Sequence[str]:
        """Names of absent packages; found without importing anything heavy."""

    @abstractmethod
    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        """Every reason why this engine cannot run this net."""

    def prepare(self, net: IntNet) -> None:
        """What the first session on a machine would wait for and later ones find done, such as compiling this engine;
        by default nothing."""
        return None

    @abstractmethod
    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> Session:
        """Run the clean inferences of input codes `[samples, (frame,) *shape]` and keep what injections need."""
