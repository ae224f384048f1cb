"""Tables of faults, checked and sorted by sample for the kernel: loops over rows, for numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .digest import DIGEST
from .elements import wrap

__all__ = ["enqueue", "survey"]


def _compiled(digest):
    @njit(nogil=True, cache=True, error_model="numpy")
    def survey(first, last, begin, end, faults, ups, words, ticks, counts):
        for i in range(first, last):
            sample = faults[i]["sample"]
            if sample < 0 or sample >= len(counts):
                return -1
            counts[sample] += 1
        for k in range(begin, end):
            up = ups[k]
            word = words[4 * np.int64(up["name"]) + np.int64(up["place"])]
            index, bits = np.int64(up["index"]), up["flip"] | up["one"] | up["zero"]
            if index < 0 or index >= word[K.WORD_SIZE] or bits < 0 or bits >> word[K.WORD_BITS]:
                return -1
            if up["last"] < 0 or up["last"] > ticks or (up["held"] and not word[K.WORD_HELD]):
                return -1
        return digest

    @njit(nogil=True, cache=True, error_model="numpy")
    def enqueue(first, last, fused, faults, ups, words, targets, offsets, labels, outcome, queue, results):
        for i in range(first, last):
            sample = np.int64(faults[i]["sample"])
            results[i]["label"], results[i]["outcome"] = labels[sample], outcome
            at = offsets[sample]
            offsets[sample] += 1
            queue[at, 0], queue[at, 1] = i, -1
            if not fused or faults[i]["count"] != 1:
                continue
            up = ups[faults[i]["start"]]
            flip = up["flip"]
            if up["place"] != 0 or up["first"] != up["last"] or flip >> 31 or (up["one"] | up["zero"] | up["add"]) != 0:
                continue
            to = targets[words[4 * np.int64(up["name"]), K.WORD_TARGET]]
            flip = wrap(flip, to[K.TO_BITS], to[K.TO_SIGNED])
            queue[at, 0] = i | ((to[K.TO_BASE] + np.int64(up["index"])) << 32)
            queue[at, 1] = (np.int64(up["first"]) << 32) | (flip & 0xFFFFFFFF)
        return digest

    return survey, enqueue


survey, enqueue = _compiled(DIGEST)
"""`survey` counts faults `first` to `last - 1` by sample into `counts`; below 0 if one names another sample, or if one
of the upsets `begin` to `end - 1` is in no word of the net, or not in its `ticks` and the readout: what is wrong
`circuit.Circuit.check` says.

`enqueue` appends faults `first` to `last - 1` to `queue`, each behind the others of its sample (`offsets`: where the
next of each goes), and writes rows of faults that change nothing into `results`: the label, the outcome. A row of the
queue: the number of the fault, and the entry of the states in its upper half; the flipped bits, sign extended, and the
tick in its upper half. The second is -1 for all faults but those of one flip of a state in one tick, and for those too
if the net is not fused.
"""
