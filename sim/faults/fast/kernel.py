"""The kernel: one fault from its first tick until nothing deviates, or to the end.

It reads `m` (the net), `clean` (fault-free codes of all elements, rows of the four regions one behind the other) and
writes `w` (a thread's own). Heads of `m` and `w` say where things are, see `codes`: few flat arrays, because numba
takes minutes to compile for many, and passing them costs more than the work. Between faults all marks and counts are 0.
Without numba these are plain functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import codes as K
from .dense import tick_on
from .digest import DIGEST
from .elements import deviates, forget, get, upset, usual, word_of
from .latches import begin, farthest, forget_latched, forget_states, latch, latch_all, load
from .operations import evaluate, forget_block
from .units import fused, reaches

__all__ = ["relax_many"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _place(sample, frame, m, w):
    """The fault-free codes of this frame."""
    limits, place = m[K.M_LIMITS], sample * m[K.M_FRAMES] + frame
    w[K.W_PLACE + 1] = m[K.M_HELD] + place * m[K.M_HELD_WIDTH] - m[limits]
    w[K.W_PLACE + 2] = m[K.M_CONSTANT] - m[limits + 1]
    w[K.W_PLACE + 3] = m[K.M_READ] + place * m[K.M_READ_WIDTH] - m[limits + 2]


@njit(nogil=True, error_model="numpy")
def _judge(last, m, w, clean):
    """What the readout says of outputs and labels; `last`: of the fault's label, too."""
    facts = w[K.W_FACT]
    for o in range(m[K.M_OUTPUTS]):
        value, classes = m[m[K.M_OUTPUT] + 2 * o], m[m[K.M_OUTPUT] + 2 * o + 1]
        if not deviates(value, m, w, clean):
            continue
        w[facts + K.OUTPUT_DIFFERS] = 1
        if classes == 0:
            continue
        start = m[m[K.M_BASE] + value]
        for row in range(start, start + m[m[K.M_SIZE] + value], classes):
            best, plain = row, row
            for e in range(row + 1, row + classes):
                if get(e, m, w, clean) > get(best, m, w, clean):
                    best = e
                if usual(e, m, w, clean) > usual(plain, m, w, clean):
                    plain = e
            if best != plain:
                w[facts + K.LABEL_DIFFERS] = 1
            if last:
                w[facts + K.LABEL] = best - row


@njit(nogil=True, error_model="numpy", forceinline=True)
def _scan(start, end, tick, last, ups, words, copies, targets, w):
    """List the upsets that act in this tick; how many, what they are in (a bit each), and the next tick that others act
    in (`last` if none)."""
    active, kinds, change = 0, 0, last
    for k in range(start, end):
        if ups[k]["first"] > tick:
            change = min(change, np.int64(ups[k]["first"]))
        elif ups[k]["last"] >= tick:
            w[w[K.W_ACTIVE] + active] = k - start
            active += 1
            kinds |= 1 << targets[word_of(k, ups, words, copies), K.TO_IN]
            change = min(change, np.int64(ups[k]["last"]) + 1)
    return active, kinds, change


@njit(nogil=True, error_model="numpy")
def _apply(kind, start, active, tick, ups, words, copies, targets, m, w, clean):
    """Apply the active upsets of one kind."""
    for k in range(active):
        at = w[w[K.W_ACTIVE] + k]
        to = targets[word_of(start + at, ups, words, copies)]
        if to[K.TO_IN] == kind:
            upset(start + at, at, tick, ups, to, m, w, clean)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _forget_params(start, end, ups, words, copies, targets, m, w):
    for k in range(start, end):
        to = targets[word_of(k, ups, words, copies)]
        if to[K.TO_IN] == K.IN_PARAM:
            forget(to[K.TO_VALUE], m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _toggles(start, active, tick, ups, words, copies, targets, w):
    """Whether an upset changes a register of the drive again in the next tick."""
    for k in range(active):
        at = start + w[w[K.W_ACTIVE] + k]
        up = ups[at]
        inside = targets[word_of(at, ups, words, copies), K.TO_IN]
        if inside == K.IN_DRIVE and up["last"] > tick and (up["flip"] != 0 or up["add"] != 0):
            return True
    return False


@njit(nogil=True, error_model="numpy", forceinline=True)
def _held(m, w, clean):
    """Whether a value of the drive deviates."""
    for number in range(m[m[K.M_BLOCKS]], m[m[K.M_BLOCKS] + 1]):
        value = m[m[K.M_OP] + number * K.OP_COLUMNS + K.OUT]
        if w[w[K.W_COUNT] + value] and deviates(value, m, w, clean):
            return True
    return False


@njit(nogil=True, error_model="numpy", forceinline=True)
def _note(following, worst, old, w):
    """What is known after a tick that left buffer `old`, and of those that repeat it before `following`."""
    facts = w[K.W_FACT]
    if w[w[K.W_LATCH_COUNT] + old]:
        w[facts + K.LAST] = following - 1
        w[facts + K.DISTANCE_MAX] = max(w[facts + K.DISTANCE_MAX], worst)
        w[facts + K.DISTANCE_END] = worst


@njit(nogil=True, error_model="numpy", forceinline=True)
def _trace(tick, following, old, trace, m, w):
    """Write what deviates after ticks `tick` to `following - 1` into the rows of `trace`, if it has any."""
    states = m[m[K.M_LIMITS] + 4]
    for k in range(w[w[K.W_LATCH_COUNT] + old] if len(trace) else 0):
        e = w[w[K.W_LATCH_LIST] + old * states + k]
        for t in range(tick, following):
            trace[t, e] = w[w[K.W_LATCHED] + old * states + e]


@njit(nogil=True, error_model="numpy")
def _coast(source, old, tick, end, moved, sample, row_of, trace, m, w, clean, dense):
    """Fused ticks, and readouts, of the indices `tick` to `end - 1`, in which no upset acts but those of the states
    that buffer `source` has; `source` is `old` without. Ends early once nothing deviates.

    Gives the buffer of the last tick, the index that follows, and how far that tick moved the states, as `farthest`.
    """
    steps, width, counts = m[K.M_STEPS], m[K.M_VARYING], w[K.W_LATCH_COUNT]
    ticks = steps * m[K.M_FRAMES]
    while tick < end and w[counts + source]:
        row, frame = row_of[sample, tick] * width, tick // steps
        w[K.W_PLACE] = row
        if tick > 0 and tick == frame * steps and (m[K.M_EVERY] or tick == ticks):
            _place(sample, frame - 1, m, w)
            fused(1, source, source, 0, 0, m, w, clean)
            _judge(tick == ticks, m, w, clean)
            forget_block(2, m, w)
        following = tick + 1
        if tick < ticks:
            _place(sample, frame, m, w)
            after = row_of[sample, tick + 1] * width
            worst, moves = tick_on(source, old, row, after, m, w, clean, dense)
            moved = np.int64(moves)
            if not moves:
                # A fixed point: until a frame begins every tick repeats it.
                following = max(following, min(end, (frame + 1) * steps))
            elif tick == ticks - 1:
                moved = np.int64(farthest(old, row, after, w[w[K.W_FACT] + K.MOVING], m, w, clean))
            forget_latched(old, m, w)
            forget_latched(source, m, w)
            old = 1 - old
            source = old
            _note(following, min(worst, np.int64(2147483647)), old, w)
            _trace(tick, following, old, trace, m, w)
        tick = following
    return old, tick, moved


@njit(nogil=True, error_model="numpy")
def _end(old, moved, m, w):
    """The last facts of a fault that left buffer `old`."""
    facts, count = w[K.W_FACT], w[w[K.W_LATCH_COUNT] + old]
    w[facts + K.DIFFER_END] = count
    if count == 0:
        w[facts + K.DISTANCE_END] = 0
    w[facts + K.MOVING] = moved == 2
    forget_latched(old, m, w)


@njit(nogil=True, error_model="numpy")
def _relax(sample, start, end, row_of, ups, words, copies, targets, trace, m, w, clean, dense):
    """A fault of upsets `start` to `end - 1`: fill its facts (0 before, but the label that of the fault-free run), and
    what deviates into `trace` if it has rows."""
    steps, width = m[K.M_STEPS], m[K.M_VARYING]
    ticks = steps * m[K.M_FRAMES]
    counts = w[K.W_LATCH_COUNT]
    old, tick, constants, moved = np.int64(0), np.int64(0), False, np.int64(0)
    while True:
        active, kinds, change = _scan(start, end, tick, ticks + 1, ups, words, copies, targets, w)
        if active == 0 and not _held(m, w, clean):
            forget_block(0, m, w)
            if w[counts + old] == 0:
                if change > ticks:
                    break
                tick = change
                continue
            if m[m[K.M_FUSED]]:
                if constants:
                    _forget_params(start, end, ups, words, copies, targets, m, w)
                    constants = False
                old, tick, moved = _coast(old, old, tick, change, moved, sample, row_of, trace, m, w, clean, dense)
                if tick > ticks:
                    break
                continue
        begins = tick < ticks and tick % steps == 0
        row = row_of[sample, tick] * width
        w[K.W_PLACE] = row
        _place(sample, max(tick - 1, 0) // steps, m, w)
        if constants:
            _forget_params(start, end, ups, words, copies, targets, m, w)
        constants = (kinds >> K.IN_PARAM) & 1 != 0
        if constants:
            _apply(K.IN_PARAM, start, active, tick, ups, words, copies, targets, m, w, clean)
        if not begins and (kinds >> K.IN_DRIVE) & 1:
            _apply(K.IN_DRIVE, start, active, tick, ups, words, copies, targets, m, w, clean)
        if tick > 0:
            load(old, m, w)
            if (kinds >> K.IN_STATE) & 1:
                _apply(K.IN_STATE, start, active, tick, ups, words, copies, targets, m, w, clean)
            if tick % steps == 0 and (m[K.M_EVERY] or tick == ticks):
                evaluate(2, start, active, tick, ups, words, copies, targets, m, w, clean)
                _judge(tick == ticks, m, w, clean)
                forget_block(2, m, w)
        if tick == ticks:
            break
        if begins:
            forget_block(0, m, w)
            _place(sample, tick // steps, m, w)
            evaluate(0, start, active, tick, ups, words, copies, targets, m, w, clean)
            if tick == 0:
                begin(m, w, clean)
                load(old, m, w)
                _apply(K.IN_STATE, start, active, tick, ups, words, copies, targets, m, w, clean)
        evaluate(1, start, active, tick, ups, words, copies, targets, m, w, clean)
        after = row_of[sample, tick + 1] * width
        worst = min(latch_all(old, after, m, w, clean), np.int64(2147483647))
        far = w[w[K.W_FACT] + K.MOVING] if tick == ticks - 1 else -1
        moved = np.int64(farthest(old, row, after, far, m, w, clean))
        forget_block(1, m, w)
        forget_states(m, w)
        forget_latched(old, m, w)
        old = 1 - old
        following = tick + 1
        if moved == 0 and not _toggles(start, active, tick, ups, words, copies, targets, w):
            # A fixed point of the disturbed step: until other upsets act, or a frame begins, every tick repeats it.
            following = max(following, min(change, (tick // steps + 1) * steps))
        _note(following, worst, old, w)
        _trace(tick, following, old, trace, m, w)
        tick = following
    _end(old, moved, m, w)
    forget_block(0, m, w)
    forget_states(m, w)
    _forget_params(start, end, ups, words, copies, targets, m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _conclude(first, result, verdict, m, w):
    """Write the row of a fault whose first tick was `first`."""
    facts = w[K.W_FACT]
    last, ticks = w[facts + K.LAST], m[K.M_STEPS] * m[K.M_FRAMES]
    rejoin = np.int64(0)
    if last == ticks - 1:
        rejoin = np.int64(-1)
    elif last >= 0:
        rejoin = last + 1 - first
    near = np.int64(w[facts + K.DISTANCE_END] <= m[K.M_NEAR])
    result["label"], result["rejoin"], result["differ_end"] = w[facts + K.LABEL], rejoin, w[facts + K.DIFFER_END]
    result["distance_max"], result["distance_end"] = w[facts + K.DISTANCE_MAX], w[facts + K.DISTANCE_END]
    result["output_differs"] = w[facts + K.OUTPUT_DIFFERS] != 0
    result["outcome"] = verdict[
        w[facts + K.LABEL_DIFFERS], w[facts + K.OUTPUT_DIFFERS], w[facts + K.MOVING], np.sign(rejoin) + 1, near
    ]


def _compiled(digest):
    @njit(nogil=True, cache=True, error_model="numpy")
    def relax_many(
        first, last, queue, bounds, usual, row_of, faults, ups, words, copies, targets, verdict, results, trace, m, w,
        clean, dense,
    ):  # fmt: skip
        sample = np.searchsorted(bounds, first, side="right") - 1
        facts, counts, steps = w[K.W_FACT], w[K.W_LATCH_COUNT], m[K.M_STEPS]
        ticks = steps * m[K.M_FRAMES]
        for i in range(first, last):
            while bounds[sample + 1] <= i:
                sample += 1
            if w[facts + K.FRESH] != sample + 1:
                for k in range(K.FACTS):
                    w[facts + k] = 0
                w[facts + K.LAST], w[facts + K.LABEL], w[facts + K.MOVING] = -1, usual[sample, 0], usual[sample, 1]
                w[facts + K.FRESH] = sample + 1
            number, change = queue[i, 0] & 0xFFFFFFFF, queue[i, 1]
            if change >= 0:
                e, tick = queue[i, 0] >> 32, change >> 32
                reads = tick > 0 and tick % steps == 0
                if not reads and not reaches(e, m):
                    continue
                row = row_of[sample, tick] * m[K.M_VARYING]
                latch(2, e, np.int64(clean[row + e]) ^ ((change << 32) >> 32), m, w)
                old, source, moved = np.int64(0), np.int64(2), np.int64(0)
                if not reads:
                    # Most flips end here: nothing that a tick latches deviates.
                    w[K.W_PLACE] = row
                    _place(sample, tick // steps, m, w)
                    after = row_of[sample, tick + 1] * m[K.M_VARYING]
                    worst, moves = tick_on(2, 0, row, after, m, w, clean, dense)
                    if w[counts + 1] == 0:
                        forget_latched(2, m, w)
                        continue
                    moved = np.int64(1)
                    if tick == ticks - 1:
                        moved = np.int64(farthest(0, row, after, usual[sample, 1], m, w, clean))
                    forget_latched(2, m, w)
                    old = source = np.int64(1)
                    tick += 1
                    _note(tick, min(worst, np.int64(2147483647)), old, w)
                    _trace(tick - 1, tick, old, trace, m, w)
                old, tick, moved = _coast(
                    source, old, tick, ticks + 1, moved, sample, row_of, trace, m, w, clean, dense
                )
                forget_latched(2, m, w)
                _end(old, moved, m, w)
            else:
                start = faults[number]["start"]
                end = start + np.int64(faults[number]["count"])
                _relax(sample, start, end, row_of, ups, words, copies, targets, trace, m, w, clean, dense)
            w[facts + K.FRESH] = 0
            if w[facts + K.LAST] >= 0 or w[facts + K.OUTPUT_DIFFERS]:
                _conclude(np.int64(faults[number]["tick"]), results[number], verdict, m, w)
        return digest

    return relax_many


relax_many = _compiled(DIGEST)
"""Faults at places `first` to `last - 1` of the queue, one after the other (see `queue` for it and for `bounds`).

`usual[sample]`: the fault-free label, and how many states the last tick moves beyond the tolerance without a fault.
`words`: a row for each name and place, see `codes`; `verdict`: the outcome by what `_conclude` knows. Rows of `results`
are written where a state or an output deviates. If `trace` has rows, it gets what deviates.
"""
