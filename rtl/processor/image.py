"""What is loaded into a processor: program, weights, tables, and the words of banks that hold parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .configuration import Core

__all__ = ["Image"]


@dataclass(frozen=True, eq=False)
class Image:
    """Contents of all memories.

    `program`: records. `weights`: words of the weight memory, codes in the lowest bits, the number of the group above.
    `columns`: first word and number of words of each row of the column table, int64 `[rows, 2]`. `tables`: int64.
    `words`: parameters by bank and first address, int64.
    """

    core: Core
    program: tuple[int, ...]
    weights: tuple[int, ...]
    columns: NDArray[np.int64]
    tables: NDArray[np.int64]
    words: Mapping[tuple[int, int], NDArray[np.int64]]
