"""Weight tensors as integer codes with a scale: ternary ones exactly, float ones rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Codes", "quantize_weights", "ternary_scale"]

Array = NDArray[np.float64]

_SAME_MAGNITUDE = 1e-6
"""Largest relative spread of magnitudes that still count as one: a few units in the last place of float32."""

_TWN_THRESHOLD = 0.7
"""Times the mean magnitude: the approximate optimum of ternary weight networks (Li, Zhang, Liu 2016,
arXiv:1605.04711, eq. 6)."""


@dataclass(frozen=True)
class Codes:
    """`weight ~ scale * codes`; `scale` has shape `[]` (one for the tensor) or `[rows]` (axis 0 of the weight).

    `exact` says that the weight was ternary already and lost nothing but float noise.
    """

    codes: NDArray[np.int64]
    scale: Array
    kind: str
    exact: bool
    max_error: float

    @property
    def label(self) -> str:
        """How the codes were made, for provenance."""
        grain = "per row" if self.scale.ndim else "one scale"
        return f"{self.kind}, exact" if self.exact else f"{self.kind}, {grain}"

    def row(self, name: str, source: str) -> Mapping[str, Any]:
        """The row of a report (JSON values)."""
        return {
            "what": "tensor",
            "name": name,
            "source": source,
            "kind": self.kind,
            "exact": self.exact,
            "shape": list(self.codes.shape),
            "density": float(np.count_nonzero(self.codes) / self.codes.size) if self.codes.size else 0.0,
            "scale": self.scale.tolist(),
            "max_error": self.max_error,
        }


def ternary_scale(weight: Array) -> float | None:
    """The one magnitude of all nonzero entries (1.0 if there are none), or None where they differ."""
    magnitudes = np.abs(weight[weight != 0.0])
    if magnitudes.size == 0:
        return 1.0
    top = float(magnitudes.max())
    return top if top - float(magnitudes.min()) <= _SAME_MAGNITUDE * top else None


def quantize_weights(weight: Array, kind: str, *, per_row: bool) -> Codes:
    """Codes of a weight whose first axis counts the outputs.

    A tensor that is ternary already stays so, whatever `kind`. `"intB"` is symmetric: the largest magnitude of a row
    (or of the tensor) is `2**(B-1) - 1`, codes are rounded half to even. `"ternary"` keeps the entries above 0.7 times
    the mean magnitude, the scale is the mean of those kept.
    """
    common = ternary_scale(weight)
    if common is not None:
        return _codes(weight, np.sign(weight), np.asarray(common), "ternary", exact=True)
    grouped = weight.reshape(weight.shape[0], -1) if per_row else weight.reshape(1, -1)
    magnitude = np.abs(grouped)
    if kind == "ternary":
        kept = magnitude > _TWN_THRESHOLD * magnitude.mean(axis=1, keepdims=True)
        count = kept.sum(axis=1, keepdims=True)
        scale = (magnitude * kept).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        codes = np.sign(grouped) * kept
    else:
        top = (1 << (int(kind.removeprefix("int")) - 1)) - 1
        scale = magnitude.max(axis=1, keepdims=True) / top
        codes = np.rint(np.divide(grouped, scale, out=np.zeros_like(grouped), where=scale > 0.0))
    scales = scale[:, 0] if per_row else scale[0, 0]
    return _codes(weight, codes.reshape(weight.shape), np.asarray(scales), kind, exact=False)


def _codes(weight: Array, codes: Array, scale: Array, kind: str, *, exact: bool) -> Codes:
    spread = scale.reshape(scale.shape + (1,) * (weight.ndim - 1)) if scale.ndim else scale
    error = float(np.abs(codes * spread - weight).max()) if weight.size else 0.0
    return Codes(codes.astype(np.int64), scale, kind, exact, error)
