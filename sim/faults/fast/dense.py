"""Ticks of many deviating states in the kernel: all units of a fused step, operation by operation. See `units`.

`dense`: the weights `[states, totals]`, and a thread's totals and columns (a register each, then three operands).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .elements import half_up, ix
from .operations import clamped, combine
from .units import fused, latch_unit

__all__ = ["tick_on"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _sum_up(source, m, w, clean, weights, totals):
    """Deviations of all sums, modulo 2**16: four columns of weights at a time, as loads of the totals cost most."""
    start, place = source * m[m[K.M_LIMITS] + 4], w[K.W_PLACE]
    listed, latched, count = w[K.W_LATCH_LIST] + start, w[K.W_LATCHED] + start, w[w[K.W_LATCH_COUNT] + source]
    totals[:] = 0
    for k in range(0, count, 4):
        e0 = w[listed + k]
        e1, e2, e3 = e0, e0, e0
        d0, d1, d2, d3 = w[latched + e0] - clean[place + e0], np.int64(0), np.int64(0), np.int64(0)
        if k + 1 < count:
            e1 = w[listed + k + 1]
            d1 = w[latched + e1] - clean[place + e1]
        if k + 2 < count:
            e2 = w[listed + k + 2]
            d2 = w[latched + e2] - clean[place + e2]
        if k + 3 < count:
            e3 = w[listed + k + 3]
            d3 = w[latched + e3] - clean[place + e3]
        r0, r1, r2, r3 = weights[e0], weights[e1], weights[e2], weights[e3]
        for i in range(len(totals)):
            totals[i] = np.int16(totals[i] + r0[i] * d0 + r1[i] * d1 + r2[i] * d2 + r3[i] * d3)


@njit(nogil=True, error_model="numpy")
def _column(line, number, size, source, columns, m, w, clean):
    """Operand `number` of all results."""
    mode, where = m[line + K.LINE_MODES + 2 * number], m[line + K.LINE_MODES + 2 * number + 1]
    if mode == K.FROM_REGISTER:
        return columns[where]
    found, stride, start = columns[len(columns) - 3 + number], m[line + K.LINE_STRIDES + number], m[K.M_GATHER] + where
    place = w[K.W_PLACE]
    if mode > K.FROM_STATE:
        place = w[K.W_PLACE + mode - K.FROM_REGION]
    if stride == 1:
        codes = clean[place + m[start] : place + m[start] + size]
        for i in range(size):
            found[i] = codes[i]
    elif stride == 0:
        found[:size] = clean[place + m[start]]
    else:
        for i in range(size):
            found[i] = clean[place + m[start + i]]
    if mode == K.FROM_STATE:
        at = source * m[m[K.M_LIMITS] + 4]
        for i in range(size):
            e = at + m[start + i]
            if w[ix(w[K.W_LATCH_MARK] + e)]:
                found[i] = w[ix(w[K.W_LATCHED] + e)]
    return found


@njit(nogil=True, error_model="numpy", forceinline=True)
def _evaluate(line, size, source, out, columns, totals, m, w, clean):
    """All results of a line into `out`."""
    kind, shift, factor = m[line + K.LINE_KIND], m[line + K.LINE_SHIFT], m[line + K.LINE_FACTOR]
    mask, sign = (1 << m[line + K.LINE_BITS]) - 1, np.int64(0)
    if m[line + K.LINE_SIGNED]:
        sign = 1 << (m[line + K.LINE_BITS] - 1)
    if kind == K.SUM:
        base = w[K.W_PLACE] + m[line + K.LINE_BASE]
        codes, total = clean[base : base + size], totals[m[line + K.LINE_TOTAL] : m[line + K.LINE_TOTAL] + size]
        for i in range(size):
            out[i] = (((codes[i] + total[i]) & mask) ^ sign) - sign
        return
    a = _column(line, 0, size, source, columns, m, w, clean)
    if kind == K.LOOKUP or kind == K.INTERPOLATE:
        first, entries, base = (
            m[line + K.LINE_FIRST],
            m[line + K.LINE_TABLE_SIZE],
            w[K.W_PLACE + 2] + m[line + K.LINE_TABLE],
        )
        if kind == K.LOOKUP:
            table = clean[base : base + entries]
            for i in range(size):
                out[i] = ((np.int64(table[ix(clamped(a[i], first, entries))]) & mask) ^ sign) - sign
            return
        slopes = w[K.W_PLACE + 2] + m[line + K.LINE_SLOPE]
        for i in range(size):
            entry = clamped(a[i], first, entries << shift)
            value = np.int64(clean[slopes + (entry >> shift)]) * (entry & ((1 << shift) - 1))
            value = np.int64(clean[base + (entry >> shift)]) + half_up(value, shift)
            out[i] = ((value & mask) ^ sign) - sign
        return
    b, c = a, a
    if m[line + K.LINE_SLOTS] > 1:
        b = _column(line, 1, size, source, columns, m, w, clean)
    if m[line + K.LINE_SLOTS] > 2:
        c = _column(line, 2, size, source, columns, m, w, clean)
    if kind == K.RESCALE:
        for i in range(size):
            out[i] = ((half_up(a[i] * b[i], shift) & mask) ^ sign) - sign
    elif kind == K.ADD:
        for i in range(size):
            out[i] = (((a[i] + b[i]) & mask) ^ sign) - sign
    else:
        for i in range(size):
            out[i] = ((combine(kind, a[i], b[i], c[i], shift, factor) & mask) ^ sign) - sign


@njit(nogil=True, error_model="numpy")
def _dense_tick(source, old, row, after, m, w, clean, dense):
    weights, totals, columns = dense
    worst, same, counts = np.int64(0), np.int64(0), w[K.W_LATCH_COUNT]
    _sum_up(source, m, w, clean, weights, totals)
    for n in range(m[K.M_STATES]):
        program = m[K.M_PROGRAM] + n * K.PROGRAM_COLUMNS
        lines, first, size = m[program + K.PROGRAM_LINES], m[program + K.PROGRAM_UNIT], m[m[K.M_SIZE] + n]
        for number in range(lines):
            line = m[K.M_LINE] + (m[program + K.PROGRAM_LINE] + number) * K.LINE_COLUMNS
            _evaluate(line, size, source, columns[number], columns, totals, m, w, clean)
        if lines:
            out = columns[lines - 1]
            for i in range(size):
                far, again = latch_unit(first + i, program, out[i], old, after, m, w, clean)
                worst, same = max(worst, far), same + again
    return worst, row != after or same != w[counts + old] or same != w[counts + 1 - old]


@njit(nogil=True, error_model="numpy", forceinline=True)
def tick_on(source, old, row, after, m, w, clean, dense):
    """A fused tick of the states in buffer `source` into buffer `1 - old`: how far any state deviates then, and whether
    the tick moved one (from what is latched in `old`)."""
    if w[w[K.W_LATCH_COUNT] + source] < m[K.M_DENSE]:
        return fused(0, source, old, row, after, m, w, clean)
    return _dense_tick(source, old, row, after, m, w, clean, dense)
