"""What a float net asks of any hardware, whatever codes its weights and states get: known before any has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .ir import EqNet, ops
from .ir.ops import Op
from .passes import Analysis

__all__ = ["MapNeeds", "Requirements"]

KEPT = (
    ops.Linear,
    ops.Stencil,
    ops.Conv,
    ops.Embedding,
    ops.MatMul,
    ops.Greater,
    ops.Reshape,
    ops.Transpose,
    ops.Repeat,
)
"""Float operations that an integer one of the same class computes, in every net."""
BECOME = {ops.Softmax: ops.Divide, ops.Normalize: ops.Isqrt}
"""Float operations, and one of the integer ones that each becomes."""


@dataclass(frozen=True, eq=False)
class MapNeeds:
    """A linear map of the integer net, by lower bounds. `rows`, `columns`: entries of its result and its operand;
    `taps`: coefficients that are not zero; `low`, `high`: its smallest and largest weight code reach so far.

    `most_taps`, `top`: bounds from above, of the taps and of the magnitude of a code.

    `column_taps` [columns]: taps of columns of which no two have the same codes, `lost` of which at most may be zero
    all together; empty where nothing is known of columns.

    `vectors`: entries of the multipliers and the bias that its sums have, one for each row or channel; `group`: maps of
    the same have their sums joined by elementwise operations.
    """

    name: str
    rows: int
    columns: int
    taps: int
    low: int
    high: int
    column_taps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    lost: int = 0
    vectors: int = 0
    group: str = ""
    most_taps: int = 0
    top: int = 1

    @property
    def entries(self) -> int:
        """Of the matrix that the map is."""
        return self.rows * self.columns

    @property
    def magnitude(self) -> int:
        """That the codes reach at least."""
        return max(-self.low, self.high)

    def words(self, lanes: int) -> int:
        """The fewest words of `lanes` neighbouring rows that hold the taps of the columns, where columns that are alike
        share theirs."""
        return max(0, int((-(-self.column_taps // lanes)).sum()) - self.lost)


@dataclass(frozen=True, eq=False)
class Requirements:
    """`net`: the float net as it is lowered; `tolerance`: of the schedule of the integer net; `maps`: its linear maps,
    those that matter, once each."""

    net: EqNet
    tolerance: int
    maps: tuple[MapNeeds, ...] = ()

    def operations(self) -> Iterator[tuple[str, str, type[Op]]]:
        """Block, name and class of operations that the integer net has for certain, of those that matter."""
        for block, op in Analysis.of(self.net).live_ops:
            kind = type(op) if isinstance(op, KEPT) else BECOME.get(type(op))
            if kind is not None:
                yield block, op.out, kind
