"""Where the clocks of a net go, by instruction, before there is a core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from .assembly import listing
from .compiler import Program
from .isa import TableKind, Vector
from .outside import MemoryModel
from .simulator import Processor
from .timing import Timing

__all__ = ["Profile", "profile"]

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """`clocks[k]`, `runs[k]`, `words[k]`: of instruction k, over all samples; `words` of weights that it reads, each of
    which adds to all lanes. `totals`: clocks of each sample, from its first code to its last result. Inputs are there
    when they are read, and results are taken at once."""

    program: Program
    clocks: tuple[int, ...]
    runs: tuple[int, ...]
    words: tuple[int, ...]
    totals: tuple[int, ...]

    @property
    def additions(self) -> int:
        """Of a weight, which may be 0, times a difference to a sum, over all samples."""
        return sum(self.words) * self.program.image.core.lanes

    @property
    def lookups(self) -> int:
        """Entries of tables that are asked for, over all samples; an interpolation asks for two."""
        vectors = [(n, i) for n, i in zip(self.runs, self.program.instructions, strict=True) if isinstance(i, Vector)]
        reads = {TableKind.LOOKUP: 1, TableKind.INTERPOLATE: 2}
        return sum(n * prod(i.counts[: len(i.counts) - i.reduced]) * reads[i.table.kind] for n, i in vectors if i.table)

    def __str__(self) -> str:
        """The listing of the program, in front of each line clocks and runs a sample."""
        lines = listing(self.program.instructions, self.program.values).splitlines()
        samples = len(self.totals)
        rows = zip(self.clocks, self.runs, lines, strict=True)
        return "\n".join(f"{c / samples:10.1f} {r / samples:8.1f}  {line}" for c, r, line in rows)


def profile(program: Program, samples: Sequence[Sequence[Codes]], memory: MemoryModel | None = None) -> Profile:
    """Run `samples` in the simulator of instructions: of each the input codes, `[inputs]` for every frame. With
    `memory` weights come from one outside; the clocks are then those of a core behind a memory that does as the model
    says, an estimate of any other."""
    processor = Processor(program.image)
    processor.timing = Timing(program.image.core, processor.program, memory)
    results = [processor.run(frames) for frames in samples]
    places = range(len(program.instructions))
    return Profile(
        program=program,
        clocks=tuple(sum(r.clocks[k] for r in results) for k in places),
        runs=tuple(sum(r.runs[k] for r in results) for k in places),
        words=tuple(sum(r.words[k] for r in results) for k in places),
        totals=tuple(r.clocks.total() for r in results),
    )
