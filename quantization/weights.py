"""Weight tensors as integer codes with a scale: those that hold codes already exactly, others rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..toolchain.arrays import row_parts
from ..toolchain.typed_json import JsonObject
from .exact import kind_of, on_grid, top_code
from .fit import fit
from .moments import Moments

__all__ = ["Codes", "quantize_weights", "spread"]

Array = NDArray[np.float64]


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
    metric: str
    max_error: float

    @property
    def exact(self) -> bool:
        """Whether nothing was rounded."""
        return self.exact_rows == len(self.codes)

    def real(self, rows: slice) -> Array:
        """What the codes of some rows mean, shaped as these rows of the weight."""
        scale = self.scale[rows] if self.scale.ndim else self.scale
        return self.codes[rows] * spread(scale, self.codes.ndim)

    @property
    def label(self) -> str:
        """How the codes were made, for provenance."""
        grain = "per row" if self.scale.ndim else "one scale"
        if self.exact:
            return f"{self.kind}, exact" if not self.scale.ndim else f"{self.kind}, {grain}, exact"
        some = f", {self.exact_rows} of {len(self.codes)} rows exact" if self.exact_rows else ""
        return f"{self.kind}, {grain}{some}"

    def row(self, name: str, source: str) -> JsonObject:
        """The row of a report (JSON values)."""
        return {
            "what": "tensor",
            "name": name,
            "source": source,
            "kind": self.kind,
            "exact": self.exact,
            "exact_rows": self.exact_rows,
            "least_error_of": None if self.exact else self.metric,
            "shape": list(self.codes.shape),
            "density": float(np.count_nonzero(self.codes) / self.codes.size) if self.codes.size else 0.0,
            "scale": self.scale.tolist(),
            "max_error": self.max_error,
        }


def spread(scale: Array, rank: int) -> Array:
    """A scale, per row or not, with axes of size 1 so that it multiplies a weight of that rank.

    `scale`: float64 scalar or `[outputs]`.
    """
    return scale.reshape(scale.shape + (1,) * (rank - 1)) if scale.ndim else scale


def quantize_weights(
    weight: Array, kind: str, *, per_row: bool, moments: Moments | None = None, centred: bool = False
) -> Codes:
    """Codes of a weight whose first axis counts the outputs.

    A tensor that is one scale times codes of `kind` (or narrower ones, ternary included) keeps exactly these, and so
    does each such row with `per_row`. All others get the codes, at most `2**(B-1) - 1` in magnitude for `"intB"`, and
    the scales of least error: of the row's sums where `moments` say what the weights read (`centred`: of sums whose
    mean a bias takes), else of the weights.

    `weight`: float64 `[outputs, ...]`.
    """
    top, rows = top_code(kind), len(weight)
    whole = on_grid(weight.reshape(-1), top)
    if whole is not None:
        # A scale of zero would make the scale of a sum zero; no code is left to be scaled.
        exact_codes = whole[0].astype(np.int64).reshape(weight.shape)
        return _codes(weight, exact_codes, np.asarray(whole[1] or 1.0), None, rows, "weights")
    grouped = weight.reshape(rows, -1)
    found = [on_grid(group, top) if per_row else None for group in grouped]
    free = np.array([held is None for held in found])
    scales = np.zeros(rows if per_row else 1)
    if free.all():
        codes, scales = fit(grouped, moments, top, scales=len(scales), centred=centred)
    else:
        codes = np.zeros(grouped.shape, np.int64)
        for k, held in enumerate(found):
            if held is not None:
                codes[k], scales[k] = held
    exact = int(rows - free.sum())
    if 0 < exact < rows:
        chosen = None if moments is None else moments.rows(free)
        codes[free], scales[free] = fit(grouped[free], chosen, top, scales=rows - exact, centred=centred)
    made, scale = codes.reshape(weight.shape), np.asarray(scales if per_row else scales[0])
    return _codes(weight, made, scale, None if exact == rows else kind, exact, _metric(moments))


def _metric(moments: Moments | None) -> str:
    return "weights" if moments is None else "sums"


def _codes(
    weight: Array, codes: NDArray[np.int64], scale: Array, kind: str | None, exact_rows: int, metric: str
) -> Codes:
    """`kind` None: the narrowest that holds the codes. The codes become read-only: a net holds them as they are."""
    codes.setflags(write=False)
    made = Codes(codes, scale, kind_of(codes) if kind is None else kind, exact_rows, metric, 0.0)
    errors = (float(np.abs(made.real(part) - weight[part]).max()) for part in row_parts(weight))
    return replace(made, max_error=max(errors, default=0.0))
