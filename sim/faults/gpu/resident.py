"""The clean run on the device, padded as the kernel reads it, and the compiled kernel."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....toolchain.arrays import Array
from .clean import Clean
from .follow_source import PANEL
from .plan import Plan
from .source import SLOT, kernel_of, padded

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RESULTS", "Resident", "load_kernel"]

RESULTS = ("last", "far", "near", "differ", "moved", "label", "spoilt")
"""What is known of a row: the last tick after which a state differed (-1: none); the largest distance at any tick, and
after the last; how many codes differ after the last; whether the last tick moved a code by more than the tolerance; the
label; whether any output differs."""
_TILE = 32
"""Rows of a tile, as measured with 256 units: a larger tile waits longer for its last row, and its registers spill."""
_WARPS = 4


class Resident:
    """What does not change between the faults of a session, on a device of PyTorch that runs the kernel."""

    def __init__(self, plan: Plan, clean: Clean, device: str) -> None:
        import torch

        self.plan, self.clean, self.device = plan, clean, device
        self.clean_label = torch.from_numpy(clean.labels(plan).astype(np.int32)).to(device)
        self.sources: dict[str, Callable[[str], Array]] = {
            "state": lambda name: _rows(clean.states[name]),
            "held": lambda name: _rows(clean.held[name]).astype(np.int32),
            "index": lambda name: _rows(clean.lookups[name][0]),
            "entry": lambda name: _rows(clean.lookups[name][1]),
            "matrix": lambda name: _matrix(plan.matrices[name]),
            "row": lambda name: _rows(plan.params[name]).astype(np.int32),
            "table": lambda name: plan.params[name].astype(np.int32),
            "output": lambda name: _rows(clean.outputs[name]).astype(np.int32),
            "answer": lambda name: _narrowest(clean.outputs[name]),
            "codes": lambda name: _narrowest(clean.states[name]),
            "sum": lambda name: _narrowest(clean.sums[name]),
            "entries": lambda name: _narrowest(plan.params[name]),
            "origin": lambda name: _narrowest(clean.drive[name]),
            "fixed": lambda name: _narrowest(clean.held[name]),
            "packed": lambda name: _packed(plan.matrices[name]),
            "column": lambda name: plan.matrices[name].T,
        }
        self.held: dict[tuple[str, str], Tensor] = {}
        self.kernels: dict[int, tuple[Any, tuple[tuple[str, str], ...]]] = {}

    def array(self, kind: str, name: str) -> Tensor:
        """An argument of the kernel, on the device."""
        import torch

        if (kind, name) not in self.held:
            made = np.ascontiguousarray(self.sources[kind](name))
            self.held[kind, name] = torch.from_numpy(made).to(self.device)
        return self.held[kind, name]

    def relax(self, columns: Mapping[str, Tensor], slots: int) -> dict[str, Tensor]:
        """Results `[rows]` int32 of columns on the device."""
        import torch

        if slots not in self.kernels:
            made = kernel_of(self.plan, slots)
            self.kernels[slots] = (load_kernel(made.text), made.arrays)
        kernel, arrays = self.kernels[slots]
        count = len(columns["tick"])
        results = {name: torch.empty(count, dtype=torch.int32, device=self.device) for name in RESULTS}
        kernel[((count + _TILE - 1) // _TILE,)](
            columns["sample"],
            columns["tick"],
            *(columns[field] for field in SLOT),
            self.clean_label,
            *(self.array(*a) for a in arrays),
            *results.values(),
            count,
            self.clean.samples,
            self.clean.ticks,
            B=_TILE,
            num_warps=_WARPS,
            num_stages=1,
        )
        return results


def load_kernel(text: str) -> Any:
    """The kernel of a module text; ImportError without a file, from which Triton reads the source."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-gpu-") as folder:
        path = Path(folder) / "relax.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("eqcompile_gpu_relax", path)
        if spec is None or spec.loader is None:
            raise ImportError(str(path))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module.relax


def _rows(codes: NDArray[np.int64]) -> Array:
    """Rows padded for the kernel, in the narrowest type that holds the codes."""
    extra = padded(codes.shape[-1]) - codes.shape[-1]
    return _narrowest(np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, extra)]))


def _narrowest(codes: Array) -> Array:
    """The codes in the narrowest type that holds them."""
    lo, hi = int(codes.min(initial=0)), int(codes.max(initial=0))
    kind = next(k for k in (np.int8, np.int16, np.int32) if np.iinfo(k).min <= lo and hi <= np.iinfo(k).max)
    return codes.astype(kind)


def _matrix(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """`[padded in, padded out]`."""
    rows, units = codes.shape
    return np.pad(codes.T, [(0, padded(units) - units), (0, padded(rows) - rows)])


def _packed(codes: NDArray[np.int8]) -> NDArray[np.int32]:
    """`[in, words]`: four weights a word as `w0 + 256 w1 + ...`, so that a word times a difference is that of each."""
    units, inputs = codes.shape
    columns = np.zeros((inputs, -(-units // PANEL) * PANEL), np.int64)
    columns[:, :units] = codes.T
    words = (columns.reshape(inputs, -1, 4) << (8 * np.arange(4))).sum(axis=2)
    packed: NDArray[np.int32] = words.astype(np.uint32).view(np.int32)
    return packed
