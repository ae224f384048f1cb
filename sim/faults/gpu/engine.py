"""Engine `gpu`: upsets and stuck bits of states and wrong weights, many millions a second, on an NVIDIA GPU.

To cut a transient upset short is lossless: once every state is on the clean run again, so is all that follows. So a
tile of faults stops when its last row has rejoined.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic
from ....toolchain.ir import IntNet
from ..circuit import Circuit
from ..draw import Draw
from ..engine import RESULT, Engine, Outcome, Session, Sweep, Tally
from ..golden_engine import GoldenEngine
from ..outcome import outcome_table
from ..table import Fault, FaultTable, Place
from .clean import Clean, clean_run
from .columns import columns_of
from .hold import Holder
from .plan import Plan, make_plan, refusals
from .reached import reached
from .resident import Resident
from .sweep import Sweeper, flat
from .wounds import Wounds, lasting, takes, wounds_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GpuEngine", "GpuSession"]

_ROWS = 1 << 22
"""Faults of one launch."""


class GpuSession(Session):
    """Clean codes on the device: `cuda`, or `cpu` under Triton's interpreter."""

    def __init__(
        self, plan: Plan, inputs: Mapping[str, NDArray[np.int64]], clean: Clean, *, near: int, device: str
    ) -> None:
        import torch

        self.plan, self.inputs, self.clean_codes, self.near, self.device = plan, inputs, clean, near, device
        self.outcomes = torch.from_numpy(outcome_table(plan.net)).to(device)
        self.machine = Resident(plan, clean, device)

    def run(self, table: FaultTable) -> NDArray[np.void]:
        held = lasting(table)
        if not held.any() or self.holder is None:
            return self._upsets(table)
        self.check(table)
        held &= self.takes(table)
        results = np.zeros(len(table), RESULT)
        if not held.all():
            results[~held] = self._upsets(table.take(np.flatnonzero(~held)))
        if held.any():
            results[held] = self.holder.rows(self.wounds(table.take(np.flatnonzero(held))))
        return results

    def everywhere(self, table: FaultTable) -> Sweep | None:
        if self.holder is None:
            return None
        self.check(table)
        return self.holder.every(self.wounds(table)) if self.takes(table).all() else None

    def check(self, table: FaultTable) -> None:
        """Raise UsageError for faults that the net has not."""
        clean = self.clean_codes
        Circuit.of(self.plan.net).check(table, samples=clean.samples, ticks=clean.ticks)

    def takes(self, table: FaultTable) -> NDArray[np.bool_]:
        """Which faults the kernel of faults that last takes."""
        assert self.holder is not None
        return takes(table, self.holder.reached, self.clean_codes.ticks)

    def wounds(self, table: FaultTable) -> Wounds:
        """Their columns."""
        assert self.holder is not None
        return wounds_of(table, self.holder.reached, self.clean_codes.ticks)

    @cached_property
    def holder(self) -> Holder | None:
        """Faults that last, on the device; None for a net that is not written so."""
        found = reached(self.plan) if flat(self.plan) else None
        return None if found is None else Holder(self.sweeper, found)

    def _upsets(self, table: FaultTable) -> NDArray[np.void]:
        """Results of upsets of states in one tick each."""
        import torch

        columns, order, slots = columns_of(table, self.plan.net, self.clean_codes.samples, self.clean_codes.ticks)
        results = np.zeros(len(table), RESULT)
        for start in range(0, len(table), _ROWS):
            part = {
                n: torch.from_numpy(np.ascontiguousarray(v[start : start + _ROWS])).to(self.device)
                for n, v in columns.items()
            }
            found = self.classified(part, slots)
            rows = np.zeros(len(part["tick"]), RESULT)
            for name, column in found.items():
                rows[name] = column.cpu().numpy()
            results[order[start : start + _ROWS]] = rows
        return results

    @cached_property
    def sweeper(self) -> Sweeper:
        """Flips of states, all or drawn, on the device."""
        return Sweeper(self.machine, self.outcomes, self.near)

    def sweep(self, state: str, units: tuple[int, int], masks: NDArray[np.int64]) -> Sweep | None:
        if not flat(self.plan):
            return None
        outcome, distance = self.sweeper.every(state, units, masks)
        part = outcome.permute(2, 3, 1, 0).contiguous()
        return Sweep(part.cpu().numpy().astype(np.uint8), distance.cpu().numpy().astype(np.int64))

    def tally(self, draw: Draw, kept: Sequence[Outcome]) -> Tally:
        inside = all(s.place is Place.STATE for s in draw.population.sites) and all(m is not None for m in draw.masks)
        if not inside or not flat(self.plan) or draw.count >= 1 << 31:
            return super().tally(draw, kept)
        found = self.sweeper.drawn(draw, kept=kept)
        return Tally(found.counts.cpu().numpy().astype(np.int64), found.kept.cpu().numpy())

    def trace(self, fault: Fault) -> Mapping[str, NDArray[np.int64]]:
        return self._one(fault.sample).trace(replace(fault, sample=0))

    def clean(self, sample: int) -> Mapping[str, NDArray[np.int64]]:
        return self._one(sample).clean(0)

    def _one(self, sample: int) -> Session:
        """A trajectory is looked at one by one: golden's will do."""
        given = {name: codes[sample : sample + 1] for name, codes in self.inputs.items()}
        return GoldenEngine().open(self.plan.net, given, near=self.near)

    def classified(self, columns: Mapping[str, Tensor], slots: int) -> dict[str, Tensor]:
        """Columns of `RESULT` of faults whose columns are on the device, sorted by tick."""
        import torch

        found = self.machine.relax(columns, slots)
        clean_label = self.machine.clean_label[columns["sample"].long()]
        after = found["last"] - columns["tick"] + 1
        rejoin = torch.where(found["differ"] > 0, torch.full_like(after, -1), torch.where(found["last"] < 0, 0, after))
        return {
            "outcome": self.outcomes[
                (found["label"] != clean_label).long(),
                (found["spoilt"] > 0).long(),
                (found["moved"] > 0).long(),
                rejoin.sign().long() + 1,
                (found["near"] <= self.near).long(),
            ],
            "label": found["label"],
            "rejoin": rejoin,
            "distance_max": found["far"],
            "distance_end": found["near"],
            "differ_end": found["differ"],
            "output_differs": found["spoilt"] > 0,
        }


class GpuEngine(Engine):
    """PyTorch and Triton on a CUDA device. `TRITON_INTERPRET=1` runs the same kernels on the CPU, slowly, for tests."""

    name: ClassVar[str] = "gpu"
    install: ClassVar[str] = "pip install 'eqcompile[torch]' on a machine with an NVIDIA GPU; engine fast needs none"
    sites: ClassVar[tuple[str, ...]] = ("state", "accumulator", "drive", "weight")
    usual: ClassVar[tuple[str, ...]] = ("state",)
    alone: ClassVar[bool] = True

    def missing(self) -> Sequence[str]:
        absent = [package for package in ("torch", "triton") if find_spec(package) is None]
        return absent if _interpreted() or _has_driver() else [*absent, "a CUDA device"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return refusals(net)

    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> GpuSession:
        plan = make_plan(net)
        device = "cpu" if _interpreted() else "cuda"
        return GpuSession(plan, inputs, clean_run(plan, inputs), near=near, device=device)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _has_driver() -> bool:
    """Whether the library of the NVIDIA driver loads; asked without importing PyTorch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
