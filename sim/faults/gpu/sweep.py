"""Flips of states on the card: all there are of every sample, or many that are drawn and counted there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..table import FaultTable, Place
from .philox import below
from .resident import Resident, load_kernel
from .sweep_source import sweep_kernel_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Drawn", "Sweeper", "drawn_table"]

_TILE = 16
"""Rows of a tile, as measured with 256 units: more wait longer for the last row, and their registers spill."""
_WARPS = 4


@dataclass(frozen=True, eq=False)
class Drawn:
    """Drawn flips on the card, those of a sample and a tick side by side. `groups` `[samples * (T + 1)]`: how many each
    has (on the host); `flip` `[faults]` int32: unit times bits plus bit; `outcome` `[faults]` int8."""

    groups: NDArray[np.int64]
    flip: Tensor
    outcome: Tensor


class Sweeper:
    """Compiled kernels and what they read; `moving` and `settled` by sample, `outcomes` as `outcome_table`."""

    def __init__(self, machine: Resident, outcomes: Tensor, near: int) -> None:
        import torch

        self.machine, self.near = machine, near
        self.device = machine.device
        self.outcomes = outcomes.reshape(-1).to(torch.int8).contiguous()
        clean, tolerance = machine.clean, machine.plan.net.schedule.tolerance
        self.samples, self.ticks = clean.samples, clean.ticks
        rows = np.concatenate([v.reshape(*v.shape[:2], -1) for v in clean.states.values()], axis=2)
        same = (rows == rows[-1]).all(axis=2)[::-1]
        self.settled = self.ticks + 1 - np.where(same.all(axis=0), len(same), same.argmin(axis=0))
        moving = (np.abs(rows[-1] - rows[-2]) > tolerance).any(axis=1)
        self.moving = torch.from_numpy(moving.astype(np.int32)).to(self.device)
        self.kernels: dict[int, tuple[Any, tuple[tuple[str, str], ...]]] = {}
        self.ends = torch.from_numpy(self.settled.astype(np.int32)).to(self.device)

    def flips(self, state: str) -> tuple[int, int, int]:
        """Number of a state, its units and bits."""
        names = [s.name for s in self.machine.plan.net.states]
        return names.index(state), self.machine.plan.sizes[state], self.machine.plan.net.formats[state].bits

    def every(self, state: str, part: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Outcomes of every flip, `[samples, T + 1, units, bits]` int8, and how far the states of each sample and tick
        are off at the end, at most, `[samples, T + 1]` int32; on the card. `part`: units `part[0]` to `part[1] - 1`
        alone, the others have outcome -1."""
        import torch

        _, units, bits = self.flips(state)
        first, stop = part or (0, units)
        counts = self.settled + 1
        samples = np.repeat(np.arange(self.samples), counts)
        ticks = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (self.samples, self.ticks + 1, units, bits)
        outcome = torch.full(shape, -1, dtype=torch.int8, device=self.device)
        distance = torch.zeros(shape[:2], dtype=torch.int32, device=self.device)
        ends = np.full(len(samples), first * bits), np.full(len(samples), stop * bits)
        self._launch(state, samples, ticks, *ends, (outcome, distance, distance), seed=0, drawn=0)
        return outcome, distance

    def drawn(self, state: str, count: int, seed: int) -> Drawn:
        """Draw `count` flips, uniform over samples, ticks 0 to T, units and bits, and what becomes of each."""
        import torch

        groups = _groups(self.samples * (self.ticks + 1), count, seed)
        last = np.cumsum(groups)
        samples, ticks = np.divmod(np.arange(len(groups)), self.ticks + 1)
        outcome = torch.full((count,), -1, dtype=torch.int8, device=self.device)
        flip = torch.empty(count, dtype=torch.int32, device=self.device)
        none = torch.zeros((self.samples, self.ticks + 1), dtype=torch.int32, device=self.device)
        self._launch(state, samples, ticks, last - groups, last, (outcome, none, flip), seed=seed, drawn=1)
        return Drawn(groups, flip, outcome)

    def _launch(
        self,
        state: str,
        samples: NDArray[np.int64],
        ticks: NDArray[np.int64],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        results: tuple[Tensor, Tensor, Tensor],
        *,
        seed: int,
        drawn: int,
    ) -> None:
        """Run the rows `first` to `last - 1` of groups of one sample and tick each."""
        import torch

        number, units, bits = self.flips(state)
        if number not in self.kernels:
            made = sweep_kernel_of(self.machine.plan, number)
            self.kernels[number] = load_kernel(made.text), made.arrays
        kernel, arrays = self.kernels[number]

        def there(column: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(column.astype(np.int32)).to(self.device)

        # Tiles are made on the card: they are many.
        tiles = there(-(-(last - first) // _TILE)).long()
        group = torch.repeat_interleave(torch.arange(len(tiles), device=self.device), tiles)
        within = torch.arange(len(group), device=self.device) - (torch.cumsum(tiles, 0) - tiles)[group]
        start = (there(first)[group] + within * _TILE).int()
        kernel[(len(group),)](
            group.int(),
            start,
            there(samples),
            there(ticks),
            there(last),
            self.ends,
            self.moving,
            self.machine.clean_label,
            self.outcomes,
            *(self.machine.array(*a) for a in arrays),
            *results,
            seed,
            drawn,
            self.samples,
            self.ticks,
            self.near,
            B=_TILE,
            UNITS=units,
            BITS=bits,
            num_warps=_WARPS,
            num_stages=1,
        )


def _groups(groups: int, count: int, seed: int) -> NDArray[np.int64]:
    """How many of `count` faults fall into each of the groups, which are as large as one another."""
    return np.random.default_rng(seed).multinomial(count, np.full(groups, 1 / groups))


def drawn_table(
    state: str, units: int, bits: int, samples: int, ticks: int, *, count: int, seed: int, which: NDArray[np.int64]
) -> FaultTable:
    """Faults `which` `[n]` int64 of those that `Sweeper.drawn` draws, for any engine: the same, drawn on the CPU."""
    from ..model import Columns, Points

    last = np.cumsum(_groups(samples * (ticks + 1), count, seed))
    sample, tick = np.divmod(np.searchsorted(last, which, side="right"), ticks + 1)
    unit, bit = np.divmod(below(units * bits, seed, which), bits)
    columns = Columns(
        owner=np.arange(len(which)),
        place=Place.STATE,
        name=0,
        index=unit,
        first=tick,
        last=tick,
        flip=np.left_shift(np.int64(1), bit),
    )
    return columns.table([state], [f"state:{state}"], Points(np.zeros_like(unit), unit, bit, tick, sample))
