"""Engine `gpu`: transient upsets of states, many millions a second, on an NVIDIA GPU; in PyTorch where there is none.

To cut a transient upset short is lossless: once every state is on the clean run again, so is all that follows. So a
tile of faults stops when its last row has rejoined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic
from ....toolchain.ir import IntNet
from ..engine import RESULT, Engine, Outcome, Session
from ..golden_engine import GoldenEngine
from ..table import Fault, FaultTable
from .clean import Clean, clean_run
from .columns import columns_of
from .fallback import Fallback
from .plan import Plan, make_plan, refusals
from .resident import Resident

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GpuEngine", "GpuSession", "outcome_of"]

_ROWS = 1 << 22
"""Faults of one launch, or of one pass on the CPU a 64th of it."""


class GpuSession(Session):
    """Clean codes on the device; `device` is `cuda` or `cpu`."""

    def __init__(
        self, plan: Plan, inputs: Mapping[str, NDArray[np.int64]], clean: Clean, *, near: int, device: str
    ) -> None:
        self.plan, self.inputs, self.clean_codes, self.near, self.device = plan, inputs, clean, near, device
        self.machine = Fallback(plan, clean) if device == "cpu" else Resident(plan, clean, device)

    def run(self, table: FaultTable) -> NDArray[np.void]:
        import torch

        columns, order, slots = columns_of(table, self.plan.net, self.clean_codes.samples, self.clean_codes.ticks)
        results = np.zeros(len(table), RESULT)
        size = _ROWS >> 6 if self.device == "cpu" else _ROWS
        for start in range(0, len(table), size):
            part = {
                n: torch.from_numpy(np.ascontiguousarray(v[start : start + size])).to(self.device)
                for n, v in columns.items()
            }
            found = self.classified(part, slots)
            rows = np.zeros(len(part["tick"]), RESULT)
            for name, column in found.items():
                rows[name] = column.cpu().numpy()
            results[order[start : start + size]] = rows
        return results

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
            "outcome": outcome_of(found, clean_label, self.near),
            "label": found["label"],
            "rejoin": rejoin,
            "distance_max": found["far"],
            "distance_end": found["near"],
            "differ_end": found["differ"],
            "output_differs": found["spoilt"] > 0,
        }


def outcome_of(found: Mapping[str, Tensor], clean_label: Tensor, near: int) -> Tensor:
    """`Outcome` of each row, uint8: the cases from the last of the precedence to the first."""
    import torch

    outcome = torch.full_like(found["label"], int(Outcome.OTHER), dtype=torch.uint8)
    outcome[found["moved"] > 0] = int(Outcome.UNSETTLED)
    outcome[found["near"] <= near] = int(Outcome.NEAR)
    same = (found["differ"] == 0) & (found["spoilt"] == 0)
    outcome[same] = int(Outcome.HEALED)
    outcome[same & (found["last"] < 0)] = int(Outcome.MASKED)
    outcome[found["label"] != clean_label] = int(Outcome.SDC)
    return outcome


class GpuEngine(Engine):
    """PyTorch and Triton on a CUDA device; without one, PyTorch on the CPU with the same results."""

    name: ClassVar[str] = "gpu"
    install: ClassVar[str] = "pip install 'eqcompile[torch]'"

    def missing(self) -> Sequence[str]:
        return [] if find_spec("torch") else ["torch"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return refusals(net)

    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> GpuSession:
        import torch

        plan = make_plan(net)
        # The kernel of a CUDA device is written in Triton, which PyTorch brings along where it supports one.
        usable = torch.cuda.is_available() and find_spec("triton") is not None
        return GpuSession(plan, inputs, clean_run(plan, inputs), near=near, device="cuda" if usable else "cpu")
