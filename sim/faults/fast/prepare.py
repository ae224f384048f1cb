"""The kernel compiled before it is needed: by one process, for all that find it in numba's cache."""

from __future__ import annotations

import numpy as np

from ..engine import RESULT, Outcome
from ..table import FAULT, UPSET
from . import codes

__all__ = ["prepare"]


def prepare(code: type[np.int32 | np.int64]) -> None:
    """Call what is compiled on no faults at all, with the types that every session has; `code`: of the fault-free
    run. The first time on a machine that takes about a minute, later less than a second."""
    from .kernel import relax_many
    from .queue import enqueue, survey

    row, table = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    faults, upsets, results = np.zeros(1, FAULT), np.zeros(1, UPSET), np.zeros(1, RESULT)
    span = (np.int64(0), np.int64(0))
    words = np.zeros((1, codes.WORD_COLUMNS), np.int64)
    targets = np.zeros((0, codes.TO_COLUMNS), np.int64)
    survey(*span, *span, faults, upsets, words, 0, row)
    labels = np.zeros((2, 2), np.int64)[:, 0]
    enqueue(*span, False, faults, upsets, words, targets, row, labels, Outcome.MASKED, table, results)
    net, scratch = np.zeros(codes.M_HEAD, np.int64), np.zeros(codes.W_HEAD, np.int64)
    verdict = np.zeros((1, 1, 1, 1, 1), np.uint8)
    dense = (np.zeros((1, 1), np.int16), np.zeros(1, np.int16), table)
    relax_many(
        *(0, 0), table, row, table, table, faults, upsets, words, row, targets, verdict, results, table, net, scratch,
        np.zeros(1, code), dense,
    )  # fmt: skip
