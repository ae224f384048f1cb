"""Fused blocks of the kernel: from deviating states to deviating units, each by its program. See `fuse`, `kernel`."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .elements import half_up, ix, put, wrap
from .latches import latch
from .operations import clamped, combine

__all__ = ["fused", "reaches"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def reaches(e, m):
    """Whether the step heeds entry `e` of the states."""
    start = m[K.M_REACH_START] + e
    return m[ix(start)] != m[ix(start + 1)]


@njit(nogil=True, error_model="numpy", forceinline=True)
def touch_units(block, source, m, w, clean):
    """List the units that may deviate because of the states in buffer `source`, and add to their totals."""
    states, count = m[ix(m[K.M_LIMITS] + 4)], 0
    starts, start = m[K.M_REACH_START] + block * (states + 1), source * states
    listed, latched, place = w[K.W_LATCH_LIST] + start, w[K.W_LATCHED] + start, w[K.W_PLACE]
    totals, seen, touched, reach = w[K.W_TOTAL], w[K.W_SEEN], w[K.W_TOUCHED], m[K.M_REACH]
    for k in range(w[ix(w[K.W_LATCH_COUNT] + source)]):
        e = w[ix(listed + k)]
        delta = w[ix(latched + e)] - clean[ix(place + e)]
        for j in range(reach + 3 * m[ix(starts + e)], reach + 3 * m[ix(starts + e + 1)], 3):
            unit = m[ix(j)]
            w[ix(totals + m[ix(j + 1)])] += m[ix(j + 2)] * delta
            if not w[ix(seen + unit)]:
                w[ix(seen + unit)] = 1
                w[ix(touched + count)] = unit
                count += 1
    return count


@njit(nogil=True, error_model="numpy", forceinline=True)
def _fetch(line, number, i, registers, gather, marks, latched, m, w, clean):
    """Operand `number` of result i."""
    mode, where = m[ix(line + K.LINE_MODES + 2 * number)], m[ix(line + K.LINE_MODES + 2 * number + 1)]
    if mode == K.FROM_REGISTER:
        return w[ix(registers + where)]
    e = m[ix(gather + where + i)]
    if mode == K.FROM_STATE:
        if w[ix(marks + e)]:
            return w[ix(latched + e)]
        return np.int64(clean[ix(w[K.W_PLACE] + e)])
    return np.int64(clean[ix(w[ix(K.W_PLACE + mode - K.FROM_REGION)] + e)])


@njit(nogil=True, error_model="numpy", forceinline=True)
def run_program(block, unit, source, m, w, clean):
    """Result of a unit."""
    program = m[K.M_PROGRAM] + m[ix(m[K.M_UNIT] + m[ix(m[K.M_UNIT_START] + block)] + unit)] * K.PROGRAM_COLUMNS
    i, start = unit - m[ix(program + K.PROGRAM_UNIT)], source * m[ix(m[K.M_LIMITS] + 4)]
    value = np.int64(0)
    registers, gather, constants = w[K.W_REGISTER], m[K.M_GATHER], w[K.W_PLACE + 2]
    marks, latched, totals, place = (
        w[K.W_LATCH_MARK] + start,
        w[K.W_LATCHED] + start,
        w[K.W_TOTAL] + i,
        w[ix(K.W_PLACE + 3 * block)] + i,
    )
    first = m[K.M_LINE] + m[ix(program + K.PROGRAM_LINE)] * K.LINE_COLUMNS
    for number in range(m[ix(program + K.PROGRAM_LINES)]):
        line = first + number * K.LINE_COLUMNS
        kind = m[ix(line + K.LINE_KIND)]
        if kind == K.SUM:
            total = totals + m[ix(line + K.LINE_TOTAL)]
            value = clean[ix(place + m[ix(line + K.LINE_BASE)])] + w[ix(total)]
            w[ix(total)] = 0
        else:
            slots, shift = m[ix(line + K.LINE_SLOTS)], m[ix(line + K.LINE_SHIFT)]
            a = _fetch(line, 0, i, registers, gather, marks, latched, m, w, clean)
            if kind == K.LOOKUP:
                entry = clamped(a, m[ix(line + K.LINE_FIRST)], m[ix(line + K.LINE_TABLE_SIZE)])
                value = np.int64(clean[ix(constants + m[ix(line + K.LINE_TABLE)] + entry)])
            elif kind == K.INTERPOLATE:
                entry = clamped(a, m[ix(line + K.LINE_FIRST)], m[ix(line + K.LINE_TABLE_SIZE)] << shift)
                slope = np.int64(clean[ix(constants + m[ix(line + K.LINE_SLOPE)] + (entry >> shift))])
                value = np.int64(clean[ix(constants + m[ix(line + K.LINE_TABLE)] + (entry >> shift))])
                value += half_up(slope * (entry & ((1 << shift) - 1)), shift)
            else:
                b, c = np.int64(0), np.int64(0)
                if slots > 1:
                    b = _fetch(line, 1, i, registers, gather, marks, latched, m, w, clean)
                if slots > 2:
                    c = _fetch(line, 2, i, registers, gather, marks, latched, m, w, clean)
                value = combine(kind, a, b, c, shift, m[ix(line + K.LINE_FACTOR)])
        value = wrap(value, m[ix(line + K.LINE_BITS)], m[ix(line + K.LINE_SIGNED)])
        w[ix(registers + number)] = value
    return program, i, value


@njit(nogil=True, error_model="numpy", forceinline=True)
def latch_unit(unit, program, code, old, after, m, w, clean):
    """Latch the result of a unit of the step: how far it deviates, and whether it did already."""
    code = wrap(code, m[ix(program + K.PROGRAM_BITS)], m[ix(program + K.PROGRAM_SIGNED)])
    plain = np.int64(clean[ix(after + unit)])
    if code == plain:
        return np.int64(0), 0
    latch(1 - old, unit, code, m, w)
    was = old * m[ix(m[K.M_LIMITS] + 4)] + unit
    return abs(code - plain), np.int64(w[ix(w[K.W_LATCH_MARK] + was)] != 0 and w[ix(w[K.W_LATCHED] + was)] == code)


@njit(nogil=True, error_model="numpy")
def fused(block, source, old, row, after, m, w, clean):
    """Evaluate a block from the states in buffer `source`. The step (0): a tick into buffer `1 - old`; how far any
    state deviates then, and whether the tick moved one (from what is latched in `old`). The readout (1): outputs are
    listed."""
    worst, same = np.int64(0), 0
    for t in range(touch_units(block, source, m, w, clean)):
        unit = w[ix(w[K.W_TOUCHED] + t)]
        w[ix(w[K.W_SEEN] + unit)] = 0
        program, i, code = run_program(block, unit, source, m, w, clean)
        if block == 0:
            far, again = latch_unit(unit, program, code, old, after, m, w, clean)
            worst, same = max(worst, far), same + again
        elif code != clean[ix(w[K.W_PLACE + 3] + m[ix(program + K.PROGRAM_BASE)] + i)]:
            put(m[ix(program + K.PROGRAM_BASE)] + i, code, m[ix(program + K.PROGRAM_VALUE)], m, w)
    counts = w[K.W_LATCH_COUNT]
    return worst, row != after or same != w[ix(counts + old)] or same != w[ix(counts + 1 - old)]
