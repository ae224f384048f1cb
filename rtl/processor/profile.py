"""Where the clocks of a net go, by instruction, before there is a core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .assembly import listing
from .compiler import Program
from .simulator import Processor

__all__ = ["Profile", "profile"]

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """`clocks[k]`, `runs[k]`: of instruction k, over all samples. `totals`: of each sample, from its first code to its
    last result. Inputs are there when they are read, and results are taken at once."""

    program: Program
    clocks: tuple[int, ...]
    runs: tuple[int, ...]
    totals: tuple[int, ...]

    def __str__(self) -> str:
        """The listing of the program, in front of each line clocks and runs a sample."""
        lines = listing(self.program.instructions, self.program.values).splitlines()
        samples = len(self.totals)
        rows = zip(self.clocks, self.runs, lines, strict=True)
        return "\n".join(f"{c / samples:10.1f} {r / samples:8.1f}  {line}" for c, r, line in rows)


def profile(program: Program, samples: Sequence[Sequence[Codes]]) -> Profile:
    """Run `samples` in the simulator of instructions: of each the input codes, `[inputs]` for every frame."""
    processor = Processor(program.image)
    results = [processor.run(frames) for frames in samples]
    places = range(len(program.instructions))
    return Profile(
        program=program,
        clocks=tuple(sum(r.clocks[k] for r in results) for k in places),
        runs=tuple(sum(r.runs[k] for r in results) for k in places),
        totals=tuple(r.clocks.total() for r in results),
    )
