"""What a user chooses or leaves to defaults: values that a manifest records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .typed_json import JSON

__all__ = ["Assumption", "QuantizeOptions"]


@dataclass(frozen=True)
class Assumption:
    """A value that the file does not hold and that was taken from a default; `source` says whose default."""

    name: str
    value: JSON
    source: str


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What the user chooses about the integers. Defaults live at the CLI and API edge, here.

    `weights`: "ternary" or "int2".."int8" for float weights; tensors that are ternary already stay exactly so.
    `widths`: the same for single weights, by name. `input_range`: used where no calibration data is given.
    `contract`: weaken recurrent weights until each block is proved to contract by this factor; None leaves them.
    """

    weights: str = "int8"
    per_row: bool = True
    state_bits: int = 8
    input_bits: int = 8
    input_range: tuple[float, float] = (-1.0, 1.0)
    tolerance: int = 0
    widths: Mapping[str, str] = field(default_factory=dict)
    contract: float | None = None
