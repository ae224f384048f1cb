"""Faults that last on the card: wrong weights, stuck bits of states, upsets of several words at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..engine import RESULT, Sweep
from .follow_source import TASK
from .hold_source import hold_text
from .reached import Reached
from .sweep import Prepared, Sweeper
from .wounds import UPSETS, Wounds

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Holder"]

_ROW = ("label", "rejoin", "distance_max", "distance_end", "differ_end", "output_differs")
"""Columns of a row of the kernel."""
_MOST = 1 << 28
"""Faults of a launch, at most, of which every sample is injected: a byte each."""


class Holder:
    """The kernel `hold`, beside the fault-free run that a `Sweeper` holds."""

    def __init__(self, sweeper: Sweeper, reached: Reached) -> None:
        self.sweeper, self.reached = sweeper, reached
        self.programs: dict[int, Prepared] = {}

    def every(self, wounds: Wounds) -> Sweep:
        """Each fault in every sample: `outcome` `[faults, samples]`, `distance` `[samples, T + 1]` by first tick."""
        count = len(wounds.first)
        parts = [self.everywhere(wounds, slice(k, k + self.most)) for k in range(0, count, self.most)]
        outcome = np.concatenate([found.T.cpu().numpy() for found, _ in parts]).astype(np.uint8)
        return Sweep(outcome, np.max([far.cpu().numpy() for _, far in parts], axis=0).astype(np.int64))

    @property
    def most(self) -> int:
        """Faults of a launch."""
        return max(1, _MOST // self.sweeper.samples)

    def everywhere(self, wounds: Wounds, part: slice) -> tuple[Tensor, Tensor]:
        """The same of a part of the faults, on the card: `[samples, faults]` int8 and `[samples, T + 1]` int32."""
        import torch

        made, count = self.sweeper, len(wounds.first[part])
        outcome = torch.empty((made.samples, count), dtype=torch.int8, device=made.device)
        distance = torch.zeros((made.samples, made.ticks + 1), dtype=torch.int32, device=made.device)
        self._launch(wounds, part, made.samples, outcome, distance, distance)
        return outcome, distance

    def rows(self, wounds: Wounds) -> NDArray[np.void]:
        """Results (dtype `RESULT`) of each fault in its own sample."""
        import torch

        made, count = self.sweeper, len(wounds.first)
        outcome = torch.empty(count, dtype=torch.int8, device=made.device)
        rows = torch.empty((count, len(_ROW)), dtype=torch.int32, device=made.device)
        self._launch(wounds, slice(None), 0, outcome, rows, rows)
        results = np.zeros(count, RESULT)
        results["outcome"] = outcome.cpu().numpy()
        for name, column in zip(_ROW, rows.cpu().numpy().T, strict=True):
            results[name] = column
        return results

    def _launch(
        self, wounds: Wounds, part: slice, samples: int, outcome: Tensor, distance: Tensor, rows: Tensor
    ) -> None:
        """Run faults in each of `samples` samples, or (0) each in its own."""
        import torch

        made = self.sweeper
        if wounds.slots not in self.programs:
            self.programs[wounds.slots] = made.prepared(
                lambda types: hold_text(self.reached, types, made.samples, wounds.slots)
            )
        program, arguments, launch = self.programs[wounds.slots]
        names = ("sample", "first", "last", "weight", "row", "column", "delta")
        held = [*(getattr(wounds, n) for n in names), *(wounds.upsets[n] for n in UPSETS)]
        columns = [made.there(column[part]) for column in held]
        places = len(columns[0])
        chunks = -(-places // TASK)
        counter = torch.zeros(1, dtype=torch.int32, device=made.device)
        single = int(samples == 0)
        work: list[Tensor | int] = [chunks * max(samples, 1), chunks, counter, places, single, *columns]
        program.run("hold", [*work, outcome, distance, rows, made.near, *arguments], **launch)
