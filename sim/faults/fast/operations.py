"""Operations of the kernel: which results may deviate, and what they are. See `kernel`."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .elements import forget, get, half_up, put, upset, usual, word_of, wrap

__all__ = ["clamped", "combine", "evaluate", "forget_block"]


@njit(nogil=True, error_model="numpy")
def _listed_result(op, i, m, w, clean):
    """Result i of a maximum or of an inner product."""
    dot = m[op + K.KIND] == K.DOT
    first, a, b = m[K.M_LIST_START] + m[op + K.LIST] + i, m[K.M_LIST_A], m[K.M_LIST_B]
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
    slot = m[K.M_SLOT] + (m[op + K.SLOT] + number) * K.SLOT_COLUMNS
    return get(m[m[K.M_GATHER] + m[slot + K.SLOT_GATHER] + i], m, w, clean)


@njit(nogil=True, error_model="numpy", forceinline=True)
def combine(kind, a, b, c, shift, factor):
    """A result of an operation that works entry by entry and has no table."""
    if kind == K.RESCALE:
        return half_up(a * b, shift)
    if kind == K.ADD:
        return a + b
    if kind == K.COPY:
        return a
    if kind == K.ABS:
        return abs(a)
    if kind == K.SUB:
        return a - b
    if kind == K.MUL:
        return a * b
    if kind == K.GREATER:
        return np.int64(a > b)
    if kind == K.DAMP:
        return a + half_up((b - a) * factor, shift)
    if kind == K.DIVIDE:
        divisor = max(b, np.int64(1))
        return ((a << shift) + divisor // 2) // divisor
    if kind == K.ISQRT:
        return _isqrt(a)
    if a:
        return b
    return c


@njit(nogil=True, error_model="numpy")
def _isqrt(a):
    """The integer square root, 0 of a negative number.

    That of the double may be one too large, where `v` rounds up to a square. It is never too small: a square of 32 bits
    rounds down by less than what its root, which a double holds, could show.
    """
    v = max(a, np.int64(0))
    root = np.int64(np.sqrt(np.float64(v)))
    return root - 1 if root * root > v else root


@njit(nogil=True, error_model="numpy", forceinline=True)
def clamped(a, first, size):
    """The entry of a table that `a` reads."""
    return min(max(a, first), first + size - 1) - first


@njit(nogil=True, error_model="numpy")
def _result(op, i, m, w, clean):
    """Result i of an operation that is no sum."""
    kind, slots = m[op + K.KIND], m[op + K.SLOTS]
    if kind == K.MAX or kind == K.DOT:
        return _listed_result(op, i, m, w, clean)
    a, b, c = _operand(op, 0, i, m, w, clean), np.int64(0), np.int64(0)
    shift, first, table = m[op + K.SHIFT], m[op + K.FIRST], m[op + K.TABLE]
    if kind == K.LOOKUP:
        return get(m[m[K.M_BASE] + table] + clamped(a, first, m[m[K.M_SIZE] + table]), m, w, clean)
    if kind == K.EMBED:
        return get(m[m[K.M_BASE] + table] + a * first + i % first, m, w, clean)
    if kind == K.INTERPOLATE:
        at = clamped(a, first, m[m[K.M_SIZE] + table] << shift)
        base = get(m[m[K.M_BASE] + table] + (at >> shift), m, w, clean)
        slope = get(m[m[K.M_BASE] + m[op + K.SLOPE]] + (at >> shift), m, w, clean)
        return base + half_up(slope * (at & ((1 << shift) - 1)), shift)
    if slots > 1:
        b = _operand(op, 1, i, m, w, clean)
    if slots > 2:
        c = _operand(op, 2, i, m, w, clean)
    return combine(kind, a, b, c, shift, m[op + K.FACTOR])


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touch(i, count, w):
    if not w[w[K.W_SEEN] + i]:
        w[w[K.W_SEEN] + i] = 1
        w[w[K.W_TOUCHED] + count] = i
        return count + 1
    return count


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touch_operand(slot, is_sum, count, m, w, clean):
    """Results that may deviate because of one operand, and for a sum by how much."""
    value = m[slot + K.SLOT_VALUE]
    base, same, fans = m[m[K.M_BASE] + value], m[slot + K.SLOT_SAME], m[K.M_FAN_START] + m[slot + K.SLOT_FAN]
    start = w[K.W_LISTED] + base
    for k in range(start, start + w[w[K.W_COUNT] + value]):
        e = w[k]
        if same:
            count = _touch(e - base, count, w)
            continue
        delta = w[w[K.W_CUR] + 2 * e] - usual(e, m, w, clean)
        fan = fans + e - base
        for j in range(m[fan], m[fan + 1]):
            to = m[m[K.M_FAN_TO] + j]
            count = _touch(to, count, w)
            if is_sum:
                w[w[K.W_TOTAL] + to] += m[m[K.M_FAN_WEIGHT] + j] * delta
    return count


@njit(nogil=True, error_model="numpy")
def _touch_weights(op, count, m, w, clean):
    """The same because of weights: of `(v + dv)(x + dx) - v x = v dx + dv (x + dx)` the operand gave the first part."""
    value = m[op + K.WEIGHT]
    base = m[m[K.M_BASE] + value]
    start = w[K.W_LISTED] + base
    for k in range(start, start + w[w[K.W_COUNT] + value]):
        e = w[k]
        delta = w[w[K.W_CUR] + 2 * e] - usual(e, m, w, clean)
        pair = m[K.M_PAIR_START] + m[op + K.LIST] + e - base
        for j in range(m[pair], m[pair + 1]):
            to = m[m[K.M_PAIR_TO] + j]
            count = _touch(to, count, w)
            w[w[K.W_TOTAL] + to] += delta * get(m[m[K.M_PAIR_FROM] + j], m, w, clean)
    return count


@njit(nogil=True, error_model="numpy", forceinline=True)
def _touched(op, m, w, clean):
    """List the results of an operation that may deviate; how many they are."""
    count = 0
    is_sum = m[op + K.KIND] == K.SUM
    slots = m[K.M_SLOT] + m[op + K.SLOT] * K.SLOT_COLUMNS
    for slot in range(slots, slots + m[op + K.SLOTS] * K.SLOT_COLUMNS, K.SLOT_COLUMNS):
        if w[w[K.W_COUNT] + m[slot + K.SLOT_VALUE]]:
            count = _touch_operand(slot, is_sum, count, m, w, clean)
    if m[op + K.WEIGHT] >= 0 and w[w[K.W_COUNT] + m[op + K.WEIGHT]]:
        count = _touch_weights(op, count, m, w, clean)
    for column in range(K.TABLE, K.SLOPE + 1):
        table = m[op + column]
        if table >= 0 and w[w[K.W_COUNT] + table]:
            for i in range(m[m[K.M_SIZE] + m[op + K.OUT]]):
                count = _touch(i, count, w)
    return count


@njit(nogil=True, error_model="numpy")
def evaluate(which, start, active, tick, ups, words, copies, targets, m, w, clean):
    """Evaluate what deviates in one block of operations: 0 drive, 1 step, 2 readout."""
    for number in range(m[m[K.M_BLOCKS] + which], m[m[K.M_BLOCKS] + which + 1]):
        op = m[K.M_OP] + number * K.OP_COLUMNS
        out, bits, signed, is_sum = m[op + K.OUT], m[op + K.BITS], m[op + K.SIGNED], m[op + K.KIND] == K.SUM
        base = m[m[K.M_BASE] + out]
        for t in range(_touched(op, m, w, clean)):
            i = w[w[K.W_TOUCHED] + t]
            w[w[K.W_SEEN] + i] = 0
            before = usual(base + i, m, w, clean)
            if is_sum:
                value = before + w[w[K.W_TOTAL] + i]
                w[w[K.W_TOTAL] + i] = 0
            else:
                value = _result(op, i, m, w, clean)
            value = wrap(value, bits, signed)
            if value != before:
                put(base + i, value, out, m, w)
        for k in range(active):
            at = w[w[K.W_ACTIVE] + k]
            to = targets[word_of(start + at, ups, words, copies)]
            if to[K.TO_OP] == number:
                upset(start + at, at, tick, ups, to, m, w, clean)


@njit(nogil=True, error_model="numpy")
def forget_block(which, m, w):
    """All values of block `which` have their fault-free codes again."""
    for number in range(m[m[K.M_BLOCKS] + which], m[m[K.M_BLOCKS] + which + 1]):
        forget(m[m[K.M_OP] + number * K.OP_COLUMNS + K.OUT], m, w)
