"""Elements of the kernel: their codes, and what upsets make of them.

Of element e, `w[cur + 2 * e]` is the code if `w[cur + 2 * e + 1]`, its mark, says that it is listed for its value; else
its code is the fault-free one. See `kernel`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K

__all__ = ["deviates", "forget", "get", "half_up", "ix", "put", "upset", "usual", "word_of", "wrap"]


ix = np.uint64
"""An index that is known not to be negative: numba then leaves out the test for one, which every access has."""


@njit(nogil=True, error_model="numpy", forceinline=True)
def wrap(value, bits, signed):
    """The code that the lowest `bits` bits of an integer hold."""
    low = value & ((1 << bits) - 1)
    if signed:
        sign = 1 << (bits - 1)
        return (low ^ sign) - sign
    return low


@njit(nogil=True, error_model="numpy", forceinline=True)
def half_up(x, shift):
    """`x / 2**shift`, rounded to the nearest integer, halves up."""
    return (x + ((1 << shift) >> 1)) >> shift


@njit(nogil=True, error_model="numpy", forceinline=True)
def usual(e, m, w, clean):
    """The fault-free code of element `e` in the row that `w` points at."""
    limits = m[K.M_LIMITS]
    if e < m[limits]:
        return np.int64(clean[w[K.W_PLACE] + e])
    region = 1
    while e >= m[limits + region]:
        region += 1
    return np.int64(clean[w[K.W_PLACE + region] + e])


@njit(nogil=True, error_model="numpy", forceinline=True)
def get(e, m, w, clean):
    """The code of element `e` now."""
    at = w[K.W_CUR] + 2 * e
    if w[at + 1]:
        return w[at]
    return usual(e, m, w, clean)


@njit(nogil=True, error_model="numpy", forceinline=True)
def put(e, code, value, m, w):
    """Element `e` of `value` has this code from now on."""
    at = w[K.W_CUR] + 2 * e
    w[at] = code
    if not w[at + 1]:
        w[at + 1] = 1
        count = w[K.W_COUNT] + value
        w[w[K.W_LISTED] + m[m[K.M_BASE] + value] + w[count]] = e
        w[count] += 1


@njit(nogil=True, error_model="numpy", forceinline=True)
def forget(value, m, w):
    """All elements of `value` have their fault-free codes again."""
    start, count = w[K.W_LISTED] + m[m[K.M_BASE] + value], w[K.W_COUNT] + value
    for i in range(start, start + w[count]):
        w[w[K.W_CUR] + 2 * w[i] + 1] = 0
    w[count] = 0


@njit(nogil=True, error_model="numpy")
def deviates(value, m, w, clean):
    """Whether an element of `value` differs from the fault-free run."""
    start = w[K.W_LISTED] + m[m[K.M_BASE] + value]
    for k in range(start, start + w[w[K.W_COUNT] + value]):
        if w[w[K.W_CUR] + 2 * w[k]] != usual(w[k], m, w, clean):
            return True
    return False


@njit(nogil=True, error_model="numpy", forceinline=True)
def _changed(code, up, to):
    """The code that an upset makes of one, as `storage.changed`."""
    bits = to[K.TO_BITS]
    flip, one, zero = up["flip"], up["one"], up["zero"]
    read = code
    if (flip | one | zero) != 0:
        word = (((code & ((1 << bits) - 1)) ^ flip) | one) & ~zero
        if to[K.TO_TERNARY]:
            read = np.int64(0)
            if word & 1:
                read = 1 - (word & 2)
        else:
            read = wrap(word, bits, to[K.TO_SIGNED])
    total = read + up["add"]
    if to[K.TO_IN] == K.IN_PARAM:
        return total
    if to[K.TO_IN] == K.IN_STATE:
        low, high = np.int64(0), (1 << bits) - 1
        if to[K.TO_SIGNED]:
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        return min(max(total, low), high)
    return wrap(total, bits, to[K.TO_SIGNED])


@njit(nogil=True, error_model="numpy", forceinline=True)
def word_of(number, ups, words, copies):
    """The row of `targets` that an upset has; `copies` has them if repeats make several upsets of one."""
    if len(copies):
        return copies[number]
    return words[4 * np.int64(ups[number]["name"]) + np.int64(ups[number]["place"]), K.WORD_TARGET]


@njit(nogil=True, error_model="numpy")
def upset(number, order, tick, ups, to, m, w, clean):
    """Disturb one element, of a word `to` (a row of targets); `order`: which of its fault's upsets it is."""
    up = ups[number]
    e = to[K.TO_BASE] + np.int64(up["index"])
    code = get(e, m, w, clean)
    difference = w[K.W_DIFFERENCE] + order
    if up["held"] and tick > up["first"]:
        new = wrap(code + w[difference], to[K.TO_BITS], to[K.TO_SIGNED])
    else:
        new = _changed(code, up, to)
        w[difference] = new - code
    if new != code:
        put(e, new, to[K.TO_VALUE], m, w)
