"""Ticks of many deviating states in the kernel: all units of a fused step, operation by operation. See `units`.

`dense`: the weights `[states, totals]`, and a thread's totals and columns (a register each, then three operands).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .codes import (
    ADD,
    FROM_REGION,
    FROM_REGISTER,
    FROM_STATE,
    INTERPOLATE,
    LINE_BASE,
    LINE_BITS,
    LINE_COLUMNS,
    LINE_FACTOR,
    LINE_FIRST,
    LINE_KIND,
    LINE_MODES,
    LINE_SHIFT,
    LINE_SIGNED,
    LINE_SLOPE,
    LINE_SLOTS,
    LINE_STRIDES,
    LINE_TABLE,
    LINE_TABLE_SIZE,
    LINE_TOTAL,
    LOOKUP,
    M_DENSE,
    M_GATHER,
    M_LIMITS,
    M_LINE,
    M_PROGRAM,
    M_SIZE,
    M_STATES,
    PROGRAM_COLUMNS,
    PROGRAM_LINE,
    PROGRAM_LINES,
    PROGRAM_UNIT,
    RESCALE,
    SUM,
    W_LATCH_COUNT,
    W_LATCH_LIST,
    W_LATCH_MARK,
    W_LATCHED,
    W_PLACE,
)
from .elements import half_up, ix
from .operations import clamped, combine
from .units import fused, latch_unit

__all__ = ["tick_on"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _sum_up(source, m, w, clean, weights, totals):
    """Deviations of all sums, modulo 2**16: four columns of weights at a time, as loads of the totals cost most."""
    start, place = source * m[m[M_LIMITS] + 4], w[W_PLACE]
    listed, latched, count = w[W_LATCH_LIST] + start, w[W_LATCHED] + start, w[w[W_LATCH_COUNT] + source]
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
    mode, where = m[line + LINE_MODES + 2 * number], m[line + LINE_MODES + 2 * number + 1]
    if mode == FROM_REGISTER:
        return columns[where]
    found, stride, start = columns[len(columns) - 3 + number], m[line + LINE_STRIDES + number], m[M_GATHER] + where
    place = w[W_PLACE]
    if mode > FROM_STATE:
        place = w[W_PLACE + mode - FROM_REGION]
    if stride == 1:
        codes = clean[place + m[start] : place + m[start] + size]
        for i in range(size):
            found[i] = codes[i]
    elif stride == 0:
        found[:size] = clean[place + m[start]]
    else:
        for i in range(size):
            found[i] = clean[place + m[start + i]]
    if mode == FROM_STATE:
        at = source * m[m[M_LIMITS] + 4]
        for i in range(size):
            e = at + m[start + i]
            if w[ix(w[W_LATCH_MARK] + e)]:
                found[i] = w[ix(w[W_LATCHED] + e)]
    return found


@njit(nogil=True, error_model="numpy", forceinline=True)
def _evaluate(line, size, source, out, columns, totals, m, w, clean):
    """All results of a line into `out`."""
    kind, shift, factor = m[line + LINE_KIND], m[line + LINE_SHIFT], m[line + LINE_FACTOR]
    mask, sign = (1 << m[line + LINE_BITS]) - 1, np.int64(0)
    if m[line + LINE_SIGNED]:
        sign = 1 << (m[line + LINE_BITS] - 1)
    if kind == SUM:
        base = w[W_PLACE] + m[line + LINE_BASE]
        codes, total = clean[base : base + size], totals[m[line + LINE_TOTAL] : m[line + LINE_TOTAL] + size]
        for i in range(size):
            out[i] = (((codes[i] + total[i]) & mask) ^ sign) - sign
        return
    a = _column(line, 0, size, source, columns, m, w, clean)
    if kind == LOOKUP or kind == INTERPOLATE:
        first, entries, base = m[line + LINE_FIRST], m[line + LINE_TABLE_SIZE], w[W_PLACE + 2] + m[line + LINE_TABLE]
        if kind == LOOKUP:
            table = clean[base : base + entries]
            for i in range(size):
                out[i] = ((np.int64(table[ix(clamped(a[i], first, entries))]) & mask) ^ sign) - sign
            return
        slopes = w[W_PLACE + 2] + m[line + LINE_SLOPE]
        for i in range(size):
            entry = clamped(a[i], first, entries << shift)
            value = np.int64(clean[slopes + (entry >> shift)]) * (entry & ((1 << shift) - 1))
            value = np.int64(clean[base + (entry >> shift)]) + half_up(value, shift)
            out[i] = ((value & mask) ^ sign) - sign
        return
    b, c = a, a
    if m[line + LINE_SLOTS] > 1:
        b = _column(line, 1, size, source, columns, m, w, clean)
    if m[line + LINE_SLOTS] > 2:
        c = _column(line, 2, size, source, columns, m, w, clean)
    if kind == RESCALE:
        for i in range(size):
            out[i] = ((half_up(a[i] * b[i], shift) & mask) ^ sign) - sign
    elif kind == ADD:
        for i in range(size):
            out[i] = (((a[i] + b[i]) & mask) ^ sign) - sign
    else:
        for i in range(size):
            out[i] = ((combine(kind, a[i], b[i], c[i], shift, factor) & mask) ^ sign) - sign


@njit(nogil=True, error_model="numpy")
def _dense_tick(source, old, row, after, m, w, clean, dense):
    weights, totals, columns = dense
    worst, same, counts = np.int64(0), np.int64(0), w[W_LATCH_COUNT]
    _sum_up(source, m, w, clean, weights, totals)
    for n in range(m[M_STATES]):
        program = m[M_PROGRAM] + n * PROGRAM_COLUMNS
        lines, first, size = m[program + PROGRAM_LINES], m[program + PROGRAM_UNIT], m[m[M_SIZE] + n]
        for number in range(lines):
            line = m[M_LINE] + (m[program + PROGRAM_LINE] + number) * LINE_COLUMNS
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
    if w[w[W_LATCH_COUNT] + source] < m[M_DENSE]:
        return fused(0, source, old, row, after, m, w, clean)
    return _dense_tick(source, old, row, after, m, w, clean, dense)
