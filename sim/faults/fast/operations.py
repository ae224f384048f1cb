"""Operations of the kernel: which results may deviate, and what they are. See `kernel`."""

from __future__ import annotations

import numpy as np
from numba import njit

from .codes import (
    ABS,
    ADD,
    BITS,
    COPY,
    DAMP,
    DIVIDE,
    DOT,
    EMBED,
    FACTOR,
    FIRST,
    GREATER,
    INTERPOLATE,
    KIND,
    LIST,
    LOOKUP,
    M_BASE,
    M_BLOCKS,
    M_FAN_START,
    M_FAN_TO,
    M_FAN_WEIGHT,
    M_GATHER,
    M_LIST_A,
    M_LIST_B,
    M_LIST_START,
    M_OP,
    M_PAIR_FROM,
    M_PAIR_START,
    M_PAIR_TO,
    M_SIZE,
    M_SLOT,
    MAX,
    MUL,
    OP_COLUMNS,
    OUT,
    RESCALE,
    SHIFT,
    SIGNED,
    SLOPE,
    SLOT,
    SLOT_COLUMNS,
    SLOT_FAN,
    SLOT_GATHER,
    SLOT_SAME,
    SLOT_VALUE,
    SLOTS,
    SUB,
    SUM,
    TABLE,
    TO_OP,
    W_ACTIVE,
    W_COUNT,
    W_CUR,
    W_LISTED,
    W_SEEN,
    W_TOTAL,
    W_TOUCHED,
    WEIGHT,
)
from .elements import forget, get, half_up, put, upset, usual, word_of, wrap

__all__ = ["clamped", "combine", "evaluate", "forget_block"]


@njit(nogil=True, error_model="numpy")
def _listed_result(op, i, m, w, clean):
    """Result i of a maximum or of an inner product."""
    dot = m[op + KIND] == DOT
    first, a, b = m[M_LIST_START] + m[op + LIST] + i, m[M_LIST_A], m[M_LIST_B]
    best = np.int64(0)
    for k in range(m[first], m[first + 1]):
        code = get(m[a + k], m, w, clean)
        if dot:
            best += code * get(m[b + k], m, w, clean)
        elif k == m[first] or code > best:
            best = code
    return best


@njit(nogil=True, error_model="numpy", forceinline=True)
def _operand(op, number, i, m, w, clean):
    slot = m[M_SLOT] + (m[op + SLOT] + number) * SLOT_COLUMNS
    return get(m[m[M_GATHER] + m[slot + SLOT_GATHER] + i], m, w, clean)


@njit(nogil=True, error_model="numpy", forceinline=True)
def combine(kind, a, b, c, shift, factor):
    """A result of an operation that works entry by entry and has no table."""
    if kind == RESCALE:
        return half_up(a * b, shift)
    if kind == ADD:
        return a + b
    if kind == COPY:
        return a
    if kind == ABS:
        return abs(a)
    if kind == SUB:
        return a - b
    if kind == MUL:
        return a * b
    if kind == GREATER:
        return np.int64(a > b)
    if kind == DAMP:
        return a + half_up((b - a) * factor, shift)
    if kind == DIVIDE:
        divisor = max(b, np.int64(1))
        return ((a << shift) + divisor // 2) // divisor
    if a:
        return b
    return c


@njit(nogil=True, error_model="numpy", forceinline=True)
def clamped(a, first, size):
    """The entry of a table that `a` reads."""
    return min(max(a, first), first + size - 1) - first


@njit(nogil=True, error_model="numpy")
def _result(op, i, m, w, clean):
    """Result i of an operation that is no sum."""
    kind, slots = m[op + KIND], m[op + SLOTS]
    if kind == MAX or kind == DOT:
        return _listed_result(op, i, m, w, clean)
    a, b, c = _operand(op, 0, i, m, w, clean), np.int64(0), np.int64(0)
    shift, first, table = m[op + SHIFT], m[op + FIRST], m[op + TABLE]
    if kind == LOOKUP:
        return get(m[m[M_BASE] + table] + clamped(a, first, m[m[M_SIZE] + table]), m, w, clean)
    if kind == EMBED:
        return get(m[m[M_BASE] + table] + a * first + i % first, m, w, clean)
    if kind == INTERPOLATE:
        at = clamped(a, first, m[m[M_SIZE] + table] << shift)
        base = get(m[m[M_BASE] + table] + (at >> shift), m, w, clean)
        slope = get(m[m[M_BASE] + m[op + SLOPE]] + (at >> shift), m, w, clean)
        return base + half_up(slope * (at & ((1 << shift) - 1)), shift)
    if slots > 1:
        b = _operand(op, 1, i, m, w, clean)
    if slots > 2:
        c = _operand(op, 2, i, m, w, clean)
    return combine(kind, a, b, c, shift, m[op + FACTOR])


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touch(i, count, w):
    if not w[w[W_SEEN] + i]:
        w[w[W_SEEN] + i] = 1
        w[w[W_TOUCHED] + count] = i
        return count + 1
    return count


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touch_operand(slot, is_sum, count, m, w, clean):
    """Results that may deviate because of one operand, and for a sum by how much."""
    value = m[slot + SLOT_VALUE]
    base, same, fans = m[m[M_BASE] + value], m[slot + SLOT_SAME], m[M_FAN_START] + m[slot + SLOT_FAN]
    start = w[W_LISTED] + base
    for k in range(start, start + w[w[W_COUNT] + value]):
        e = w[k]
        if same:
            count = _touch(e - base, count, w)
            continue
        delta = w[w[W_CUR] + 2 * e] - usual(e, m, w, clean)
        fan = fans + e - base
        for j in range(m[fan], m[fan + 1]):
            to = m[m[M_FAN_TO] + j]
            count = _touch(to, count, w)
            if is_sum:
                w[w[W_TOTAL] + to] += m[m[M_FAN_WEIGHT] + j] * delta
    return count


@njit(nogil=True, error_model="numpy")
def _touch_weights(op, count, m, w, clean):
    """The same because of weights: of `(v + dv)(x + dx) - v x = v dx + dv (x + dx)` the operand gave the first part."""
    value = m[op + WEIGHT]
    base = m[m[M_BASE] + value]
    start = w[W_LISTED] + base
    for k in range(start, start + w[w[W_COUNT] + value]):
        e = w[k]
        delta = w[w[W_CUR] + 2 * e] - usual(e, m, w, clean)
        pair = m[M_PAIR_START] + m[op + LIST] + e - base
        for j in range(m[pair], m[pair + 1]):
            to = m[m[M_PAIR_TO] + j]
            count = _touch(to, count, w)
            w[w[W_TOTAL] + to] += delta * get(m[m[M_PAIR_FROM] + j], m, w, clean)
    return count


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touched(op, m, w, clean):
    """List the results of an operation that may deviate; how many they are."""
    count = 0
    is_sum = m[op + KIND] == SUM
    slots = m[M_SLOT] + m[op + SLOT] * SLOT_COLUMNS
    for slot in range(slots, slots + m[op + SLOTS] * SLOT_COLUMNS, SLOT_COLUMNS):
        if w[w[W_COUNT] + m[slot + SLOT_VALUE]]:
            count = _touch_operand(slot, is_sum, count, m, w, clean)
    if m[op + WEIGHT] >= 0 and w[w[W_COUNT] + m[op + WEIGHT]]:
        count = _touch_weights(op, count, m, w, clean)
    for column in range(TABLE, SLOPE + 1):
        table = m[op + column]
        if table >= 0 and w[w[W_COUNT] + table]:
            for i in range(m[m[M_SIZE] + m[op + OUT]]):
                count = _touch(i, count, w)
    return count


@njit(nogil=True, error_model="numpy")
def evaluate(which, start, active, tick, ups, words, copies, targets, m, w, clean):
    """Evaluate what deviates in one block of operations: 0 drive, 1 step, 2 readout."""
    for number in range(m[m[M_BLOCKS] + which], m[m[M_BLOCKS] + which + 1]):
        op = m[M_OP] + number * OP_COLUMNS
        out, bits, signed, is_sum = m[op + OUT], m[op + BITS], m[op + SIGNED], m[op + KIND] == SUM
        base = m[m[M_BASE] + out]
        for t in range(_touched(op, m, w, clean)):
            i = w[w[W_TOUCHED] + t]
            w[w[W_SEEN] + i] = 0
            before = usual(base + i, m, w, clean)
            if is_sum:
                value = before + w[w[W_TOTAL] + i]
                w[w[W_TOTAL] + i] = 0
            else:
                value = _result(op, i, m, w, clean)
            value = wrap(value, bits, signed)
            if value != before:
                put(base + i, value, out, m, w)
        for k in range(active):
            at = w[w[W_ACTIVE] + k]
            to = targets[word_of(start + at, ups, words, copies)]
            if to[TO_OP] == number:
                upset(start + at, at, tick, ups, to, m, w, clean)


@njit(nogil=True, error_model="numpy")
def forget_block(which, m, w):
    for number in range(m[m[M_BLOCKS] + which], m[m[M_BLOCKS] + which + 1]):
        forget(m[m[M_OP] + number * OP_COLUMNS + OUT], m, w)
