"""Latches of the kernel: two buffers hold the states that deviate before a tick and after it, a third those that a
transient upset is in. See `kernel`."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .elements import forget, get, ix, put, usual, wrap

__all__ = ["begin", "farthest", "forget_latched", "forget_states", "latch", "latch_all", "load"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def forget_states(m, w):
    """All states hold their fault-free codes again."""
    for n in range(m[K.M_STATES]):
        forget(m[m[K.M_STATE] + n * K.STATE_COLUMNS + K.STATE_VALUE], m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def latch(buffer, e, code, m, w):
    """Element `e` of the states is `code` in a buffer, and listed there."""
    start = buffer * m[ix(m[K.M_LIMITS] + 4)]
    w[ix(w[K.W_LATCHED] + start + e)] = code
    w[ix(w[K.W_LATCH_MARK] + start + e)] = 1
    count = w[K.W_LATCH_COUNT] + buffer
    w[ix(w[K.W_LATCH_LIST] + start + w[ix(count)])] = e
    w[ix(count)] += 1


@njit(nogil=True, error_model="numpy", forceinline=True)
def forget_latched(buffer, m, w):
    """Nothing is listed in a buffer any more."""
    start, count = buffer * m[ix(m[K.M_LIMITS] + 4)], w[K.W_LATCH_COUNT] + buffer
    for k in range(w[ix(count)]):
        w[ix(w[K.W_LATCH_MARK] + start + w[ix(w[K.W_LATCH_LIST] + start + k)])] = 0
    w[ix(count)] = 0


@njit(nogil=True, error_model="numpy")
def begin(m, w, clean):
    """Initial states that deviate, because of values of the drive and constants that do."""
    for n in range(m[K.M_STATES]):
        state = m[K.M_STATE] + n * K.STATE_COLUMNS
        first, value = m[state + K.STATE_FIRST], m[state + K.STATE_VALUE]
        if first < 0 or not w[w[K.W_COUNT] + first]:
            continue
        base = m[m[K.M_BASE] + value]
        for i in range(m[m[K.M_SIZE] + value]):
            code = get(m[m[K.M_GATHER] + m[state + K.STATE_GATHER] + i], m, w, clean)
            code = wrap(code, m[state + K.STATE_BITS], m[state + K.STATE_SIGNED])
            if code != usual(base + i, m, w, clean):
                latch(0, base + i, code, m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def load(old, m, w):
    """What the last tick latched is what the states hold."""
    at, left, n, state = old * m[m[K.M_LIMITS] + 4], w[w[K.W_LATCH_COUNT] + old], 0, m[K.M_STATE]
    for k in range(left):
        e = w[w[K.W_LATCH_LIST] + at + k]
        n = 0
        while e >= m[m[K.M_BASE] + m[state + n * K.STATE_COLUMNS]] + m[m[K.M_SIZE] + m[state + n * K.STATE_COLUMNS]]:
            n += 1
        put(e, w[w[K.W_LATCHED] + at + e], m[state + n * K.STATE_COLUMNS], m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def latch_all(old, after, m, w, clean):
    """Latch all states into the buffer that is not `old`; how far any deviates then. `after`: the row that follows."""
    worst = np.int64(0)
    for n in range(m[K.M_STATES]):
        state = m[K.M_STATE] + n * K.STATE_COLUMNS
        update, base = m[state + K.STATE_UPDATE], m[m[K.M_BASE] + m[state + K.STATE_VALUE]]
        start = m[m[K.M_BASE] + update]
        for k in range(w[w[K.W_COUNT] + update]):
            source = w[w[K.W_LISTED] + start + k]
            e = base + source - start
            code = wrap(w[w[K.W_CUR] + 2 * source], m[state + K.STATE_BITS], m[state + K.STATE_SIGNED])
            plain = np.int64(clean[after + e])
            if code != plain:
                latch(1 - old, e, code, m, w)
                worst = max(worst, abs(code - plain))
    return worst


@njit(nogil=True, error_model="numpy")
def farthest(old, row, after, far, m, w, clean):
    """How far the tick moved a state at most, as 0, 1 (it moved) or 2 (beyond the tolerance); `far`: how many states
    the fault-free run moves beyond it, -1 if that does not matter."""
    states, tolerance = m[m[K.M_LIMITS] + 4], m[K.M_TOLERANCE]
    moved = 0 if row == after else 1
    left = far
    for buffer in range(2):
        for k in range(w[w[K.W_LATCH_COUNT] + buffer]):
            e = w[w[K.W_LATCH_LIST] + buffer * states + k]
            was, old_mark = old * states + e, w[w[K.W_LATCH_MARK] + old * states + e]
            if buffer != old and old_mark:
                continue
            now = (1 - old) * states + e
            before, code = np.int64(clean[row + e]), np.int64(clean[after + e])
            if far > 0 and abs(code - before) > tolerance:
                left -= 1
            if old_mark:
                before = w[w[K.W_LATCHED] + was]
            if w[w[K.W_LATCH_MARK] + now]:
                code = w[w[K.W_LATCHED] + now]
            if abs(code - before) > tolerance:
                moved = 2
            elif code != before:
                moved = max(moved, 1)
    return 2 if left > 0 else moved
