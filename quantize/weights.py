"""Weight tensors as integer codes with a scale: those that hold codes already exactly, others rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exact import kind_of, on_grid, top_code

__all__ = ["Codes", "quantize_weights"]

Array = NDArray[np.float64]

_TWN_THRESHOLD = 0.7
"""Times the mean magnitude: the approximate optimum of ternary weight networks (Li, Zhang, Liu 2016,
arXiv:1605.04711, eq. 6)."""


@dataclass(frozen=True)
class Codes:
    """`weight ~ scale * codes`; `scale` has shape `[]` (one for the tensor) or `[rows]` (axis 0 of the weight).

    `kind`: what was asked for, or the narrowest that holds the codes if all were found in the weight. `exact_rows`:
    rows whose codes were in the weight already and that lost nothing but float noise.
    """

    codes: NDArray[np.int64]
    scale: Array
    kind: str
    exact_rows: int
    max_error: float

    @property
    def exact(self) -> bool:
        """Whether nothing was rounded."""
        return self.exact_rows == len(self.codes)

    @property
    def label(self) -> str:
        """How the codes were made, for provenance."""
        grain = "per row" if self.scale.ndim else "one scale"
        if self.exact:
            return f"{self.kind}, exact" if not self.scale.ndim else f"{self.kind}, {grain}, exact"
        some = f", {self.exact_rows} of {len(self.codes)} rows exact" if self.exact_rows else ""
        return f"{self.kind}, {grain}{some}"

    def row(self, name: str, source: str) -> Mapping[str, Any]:
        """The row of a report (JSON values)."""
        return {
            "what": "tensor",
            "name": name,
            "source": source,
            "kind": self.kind,
            "exact": self.exact,
            "exact_rows": self.exact_rows,
            "shape": list(self.codes.shape),
            "density": float(np.count_nonzero(self.codes) / self.codes.size) if self.codes.size else 0.0,
            "scale": self.scale.tolist(),
            "max_error": self.max_error,
        }


def quantize_weights(weight: Array, kind: str, *, per_row: bool) -> Codes:
    """Codes of a weight whose first axis counts the outputs.

    A tensor that is one scale times codes of `kind` (or narrower ones, ternary included) keeps exactly these, and so
    does each such row with `per_row`. Else: `"intB"` is symmetric, the largest magnitude of a row (or of the tensor)
    is `2**(B-1) - 1`, codes are rounded half to even. `"ternary"` keeps the entries above 0.7 times the mean
    magnitude, the scale is the mean of those kept.
    """
    top, rows = top_code(kind), len(weight)
    whole = on_grid(weight.reshape(-1), top)
    if whole is not None:
        # A scale of zero would make the scale of a sum zero; no code is left to be scaled.
        return _codes(weight, whole[0].reshape(weight.shape), np.asarray(whole[1] or 1.0), None, rows)
    grouped = weight.reshape(rows, -1) if per_row else weight.reshape(1, -1)
    found = [on_grid(group, top) if per_row else None for group in grouped]
    codes, scales = np.zeros_like(grouped), np.zeros(len(grouped))
    for k, (group, held) in enumerate(zip(grouped, found, strict=True)):
        codes[k], scales[k] = held if held is not None else _rounded(group, kind, top)
    exact = sum(held is not None for held in found)
    scale = scales if per_row else scales[0]
    return _codes(weight, codes.reshape(weight.shape), np.asarray(scale), None if exact == rows else kind, exact)


def _rounded(group: Array, kind: str, top: int) -> tuple[Array, float]:
    magnitude = np.abs(group)
    if kind == "ternary":
        kept = magnitude > _TWN_THRESHOLD * magnitude.mean()
        return np.sign(group) * kept, float(magnitude[kept].mean())
    scale = float(magnitude.max()) / top
    return np.rint(group / scale), scale


def _codes(weight: Array, codes: Array, scale: Array, kind: str | None, exact_rows: int) -> Codes:
    """`kind` None: the narrowest that holds the codes."""
    spread = scale.reshape(scale.shape + (1,) * (weight.ndim - 1)) if scale.ndim else scale
    error = float(np.abs(codes * spread - weight).max()) if weight.size else 0.0
    integers = codes.astype(np.int64)
    return Codes(integers, scale, kind_of(integers) if kind is None else kind, exact_rows, error)
