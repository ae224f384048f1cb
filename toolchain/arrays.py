"""Types of arrays by what they hold."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Codes", "Numbers", "Reals"]

Array: TypeAlias = NDArray[np.generic]
"""Anything: what a file holds, or a caller hands over."""
Codes: TypeAlias = NDArray[np.int64]
"""Integers of an IntNet, indices and masks."""
Reals: TypeAlias = NDArray[np.float64]
"""Values of an EqNet."""
Numbers: TypeAlias = Codes | Reals
"""Parameters and values of a net of either level."""
