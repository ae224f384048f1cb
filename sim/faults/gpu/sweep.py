"""Flips of states on the card: all there are of every sample, or many that are drawn and counted there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....toolchain.arrays import Array
from ..draw import Draw
from ..engine import Outcome
from .follow_source import PANEL, TASK, Text, flat, text_of
from .program import THREADS, Program
from .resident import Resident

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Drawn", "Prepared", "Sweeper", "flat"]

_SHARED = 220 * 1024
"""Bytes of shared memory of a block."""
Prepared = tuple[Program, "list[Tensor | int]", dict[str, int]]
"""A program, its last arguments, and how it is launched."""
_C = {"int8": "i8", "int16": "i16", "int32": "i32", "uint32": "u32"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """What became of drawn flips, on the card. `counts` `[ticks, places, outcomes]` int32; `kept` `[n]` int64: numbers
    of faults whose outcome was asked for, ascending; `outcome` `[faults]` int8 of each fault, or empty."""

    counts: Tensor
    kept: Tensor
    outcome: Tensor


class Sweeper:
    """The compiled kernel and what it reads; `outcomes` as `outcome_table`. For plans that are `flat`."""

    def __init__(self, machine: Resident, outcomes: Tensor, near: int) -> None:
        import torch

        self.machine, self.near, self.device = machine, near, machine.device
        clean, plan = machine.clean, machine.plan
        self.samples, self.ticks = clean.samples, clean.ticks
        rows = np.concatenate([v.reshape(*v.shape[:2], -1) for v in clean.states.values()], axis=2)
        same = (rows == rows[-1]).all(axis=2)[::-1]
        self.settled = self.ticks + 1 - np.where(same.all(axis=0), len(same), same.argmin(axis=0))
        moving = (np.abs(rows[-1] - rows[-2]) > plan.net.schedule.tolerance).any(axis=1)
        sizes = [plan.sizes[s.name] for s in plan.net.states]
        self.first = {s.name: sum(sizes[:k]) for k, s in enumerate(plan.net.states)}
        """The first element of each state."""
        self.fixed: list[Tensor | int] = [
            *(self.there(c) for c in (self.settled, moving, clean.labels(plan))),
            outcomes.reshape(-1).to(torch.uint8).contiguous(),
            self.samples,
        ]
        self.filled = False

    def there(self, column: Array) -> Tensor:
        """A column on the device, int32."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(column, np.int32)).to(self.device)

    @cached_property
    def compiled(self) -> Prepared:
        """The program of flips."""
        return self.prepared(lambda types: text_of(self.machine.plan, types, self.samples))

    @cached_property
    def slack(self) -> list[Tensor]:
        """Of each tick, sample and unit how far its sum may fall and rise, which the kernel `slacks` fills in."""
        import torch

        units = self.machine.plan.sizes[self.machine.plan.net.states[0].name]
        size = self.ticks * self.samples * (-(-units // PANEL) * PANEL)
        return [torch.empty(size, dtype=torch.uint8, device=self.device) for _ in range(4)]

    def prepared(self, write: Callable[[dict[tuple[str, str], str]], Text]) -> Prepared:
        """The program that `write` writes of C types of arrays, ready to be launched."""
        import torch

        arrays = write({}).arrays
        held = [self.machine.array(*key) for key in arrays]
        types = {
            key: "u32" if key[0] == "packed" else _C[str(tensor.dtype).removeprefix("torch.")]
            for key, tensor in zip(arrays, held, strict=True)
        }
        text = write(types)
        program = Program(text.text, self.device)
        arguments: list[Tensor | int] = [*self.fixed, *(self.slack if text.slack else ()), *held]
        if text.slack and not self.filled:
            program.run("slacks", arguments, blocks=4096, threads=256, shared=0)
            self.filled = True
        warps = min(THREADS // 32, (_SHARED // 4 - text.shared_words) // text.warp_words)
        blocks = 1
        if self.device != "cpu":
            blocks = torch.cuda.get_device_properties(self.device).multi_processor_count
        shared = 4 * (text.shared_words + warps * text.warp_words)
        return program, arguments, {"blocks": blocks, "threads": 32 * warps, "shared": shared}

    def every(self, state: str, units: tuple[int, int], masks: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Outcomes of flipping the bits of each of `masks` `[flips]` in each of the units `units[0]` to `units[1] - 1`
        of a state: `[samples, T + 1, units, flips]` int8, and how far the states of each sample and tick are off at the
        end, at most, `[samples, T + 1]` int32."""
        import torch

        counts = self.settled + 1
        samples = np.repeat(np.arange(self.samples), counts)
        ticks = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
        count = units[1] - units[0]
        shape = (self.samples, self.ticks + 1, count, len(masks))
        outcome = torch.full(shape, -1, dtype=torch.int8, device=self.device)
        distance = torch.zeros(shape[:2], dtype=torch.int32, device=self.device)
        none = torch.zeros(1, dtype=torch.int32, device=self.device)
        ends = np.zeros(len(samples), np.int64), np.full(len(samples), count * len(masks))
        element = np.repeat(self.first[state] + np.arange(*units), len(masks))
        places = self.there(element), self.there(np.tile(masks, count))
        self._launch(samples, ticks, *ends, (outcome, distance, none, none, none), places, drawn=0)
        return outcome, distance

    def drawn(self, draw: Draw, *, kept: Sequence[Outcome] = (), single: bool = False) -> Drawn:
        """What becomes of drawn flips of states in the ticks 0 to T. `kept`: of which outcomes the numbers come back;
        `single`: the outcome of each does, too."""
        import torch

        last = np.cumsum(draw.groups)
        samples, ticks = np.divmod(np.arange(len(last)), len(draw.ticks))
        outcome = torch.zeros(draw.count if single else 0, dtype=torch.int8, device=self.device)
        counts = torch.zeros((self.ticks + 1, draw.places, len(Outcome)), dtype=torch.int32, device=self.device)
        numbers = torch.empty(draw.count if kept else 1, dtype=torch.int32, device=self.device)
        listed = torch.zeros(1, dtype=torch.int32, device=self.device)
        results = outcome, listed, counts, numbers, listed
        sites = [(s, m) for s, m in zip(draw.population.sites, draw.masks, strict=True) if m is not None]
        element = [np.repeat(self.first[s.target] + np.arange(s.units), s.bits) for s, _ in sites]
        mask = [np.tile(m, s.units) for s, m in sites]
        places = self.there(np.concatenate(element)), self.there(np.concatenate(mask))
        ends = last - draw.groups, last
        self._launch(
            samples, draw.ticks[ticks], *ends, results, places, drawn=2 if single else 1, seed=draw.seed, kept=kept
        )
        return Drawn(counts[torch.from_numpy(draw.ticks)], numbers[: int(listed)].long().sort().values, outcome)

    def _launch(
        self,
        samples: NDArray[np.int64],
        ticks: NDArray[np.int64],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        results: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        places: tuple[Tensor, Tensor],
        *,
        drawn: int,
        seed: int = 0,
        kept: Sequence[Outcome] = (),
    ) -> None:
        """Run the rows `first` to `last - 1` of groups of one sample and tick each."""
        import torch

        program, arguments, launch = self.compiled
        # Tasks are made on the card: they are many.
        tasks = self.there(-(-(last - first) // TASK)).long()
        group = torch.repeat_interleave(torch.arange(len(tasks), device=self.device), tasks)
        within = torch.arange(len(group), device=self.device) - (torch.cumsum(tasks, 0) - tasks)[group]
        start = (self.there(first)[group] + within * TASK).int()
        counter = torch.zeros(1, dtype=torch.int32, device=self.device)
        of_groups = [self.there(column) for column in (samples, ticks, last)]
        columns: list[Tensor | int] = [group.int(), start, len(group), counter, *of_groups]
        bits = sum(1 << int(o) for o in kept)
        numbers: list[Tensor | int] = [
            *places,
            len(places[0]),
            _signed(seed),
            _signed(seed >> 32),
            drawn,
            bits,
            self.near,
        ]
        program.run("follow", [*columns, *results, *numbers, *arguments], **launch)


def _signed(word: int) -> int:
    """The lowest 32 bits, as a signed number."""
    return ((word & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
