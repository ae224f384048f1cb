"""The kernel: one fault from its first tick until nothing deviates, or to the end.

It reads `m` (the net), `clean` (fault-free codes of all elements, rows of the four regions one behind the other) and
writes `w` (a thread's own). Heads of `m` and `w` say where things are, see `codes`: few flat arrays, because numba
takes minutes to compile for many, and passing them costs more than the work. Between faults all marks and counts are 0.
Without numba these are plain functions.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
from numba import njit

from .codes import (
    DIFFER_END,
    DISTANCE_END,
    DISTANCE_MAX,
    IN_DRIVE,
    IN_PARAM,
    IN_STATE,
    LABEL,
    LABEL_DIFFERS,
    LAST,
    M_BASE,
    M_BLOCKS,
    M_CONSTANT,
    M_EVERY,
    M_FRAMES,
    M_HELD,
    M_HELD_WIDTH,
    M_LIMITS,
    M_OP,
    M_OUTPUT,
    M_OUTPUTS,
    M_READ,
    M_READ_WIDTH,
    M_SIZE,
    M_STEPS,
    M_VARYING,
    MOVING,
    OP_COLUMNS,
    OUT,
    OUTPUT_DIFFERS,
    TO_IN,
    TO_VALUE,
    W_ACTIVE,
    W_COUNT,
    W_LATCH_COUNT,
    W_LATCH_LIST,
    W_LATCHED,
    W_PLACE,
)
from .elements import deviates, forget, get, upset, usual
from .latches import begin, farthest, forget_latched, forget_states, latch_all, load
from .operations import evaluate, forget_block

__all__ = ["relax_many"]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _place(sample, frame, m, w):
    """The fault-free codes of this frame."""
    limits, place = m[M_LIMITS], sample * m[M_FRAMES] + frame
    w[W_PLACE + 1] = m[M_HELD] + place * m[M_HELD_WIDTH] - m[limits]
    w[W_PLACE + 2] = m[M_CONSTANT] - m[limits + 1]
    w[W_PLACE + 3] = m[M_READ] + place * m[M_READ_WIDTH] - m[limits + 2]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _judge(last, number, facts, m, w, clean):
    """What the readout says of outputs and labels; `last`: of the fault's label, too."""
    for o in range(m[M_OUTPUTS]):
        value, classes = m[m[M_OUTPUT] + 2 * o], m[m[M_OUTPUT] + 2 * o + 1]
        if not deviates(value, m, w, clean):
            continue
        facts[number, OUTPUT_DIFFERS] = 1
        if classes == 0:
            continue
        start = m[m[M_BASE] + value]
        for row in range(start, start + m[m[M_SIZE] + value], classes):
            best, plain = row, row
            for e in range(row + 1, row + classes):
                if get(e, m, w, clean) > get(best, m, w, clean):
                    best = e
                if usual(e, m, w, clean) > usual(plain, m, w, clean):
                    plain = e
            if best != plain:
                facts[number, LABEL_DIFFERS] = 1
            if last:
                facts[number, LABEL] = best - row


@njit(nogil=True, error_model="numpy", forceinline=True)
def _scan(start, end, tick, last, ups, target, targets, w):
    """List the upsets that act in this tick; how many, what they are in (a bit each), and the next tick that others act
    in (`last` if none)."""
    active, kinds, change = 0, 0, last
    for k in range(start, end):
        if ups[k]["first"] > tick:
            change = min(change, np.int64(ups[k]["first"]))
        elif ups[k]["last"] >= tick:
            w[w[W_ACTIVE] + active] = k - start
            active += 1
            kinds |= 1 << targets[target[k], TO_IN]
            change = min(change, np.int64(ups[k]["last"]) + 1)
    return active, kinds, change


@njit(nogil=True, error_model="numpy")
def _apply(kind, start, active, tick, ups, target, targets, m, w, clean):
    """Apply the active upsets of one kind."""
    for k in range(active):
        at = w[w[W_ACTIVE] + k]
        if targets[target[start + at], TO_IN] == kind:
            upset(start + at, at, tick, ups, target, targets, m, w, clean)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _forget_params(start, end, target, targets, m, w):
    for k in range(start, end):
        if targets[target[k], TO_IN] == IN_PARAM:
            forget(targets[target[k], TO_VALUE], m, w)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _toggles(start, active, tick, ups, target, targets, w):
    """Whether an at changes a register of the drive again in the next tick."""
    for k in range(active):
        at = start + w[w[W_ACTIVE] + k]
        up = ups[at]
        if targets[target[at], TO_IN] == IN_DRIVE and up["last"] > tick and (up["flip"] != 0 or up["add"] != 0):
            return True
    return False


@njit(nogil=True, error_model="numpy", forceinline=True)
def _held(m, w, clean):
    """Whether a value of the drive deviates."""
    for number in range(m[m[M_BLOCKS]], m[m[M_BLOCKS] + 1]):
        value = m[m[M_OP] + number * OP_COLUMNS + OUT]
        if w[w[W_COUNT] + value] and deviates(value, m, w, clean):
            return True
    return False


@njit(nogil=True, error_model="numpy")
def _relax(sample, start, end, row_of, ups, target, targets, number, facts, trace, m, w, clean):
    """Fault `number`: fill its facts (0 before, the label that of the fault-free run), and what deviates into `trace`
    if it has rows."""
    steps, width = m[M_STEPS], m[M_VARYING]
    ticks = steps * m[M_FRAMES]
    counts = w[W_LATCH_COUNT]
    facts[number, LAST] = -1
    old, tick, constants, moved = 0, np.int64(0), False, 0
    while True:
        active, kinds, change = _scan(start, end, tick, ticks + 1, ups, target, targets, w)
        if active == 0 and w[counts + old] == 0 and not _held(m, w, clean):
            forget_block(0, m, w)
            if change > ticks:
                break
            tick = change
            continue
        begins = tick < ticks and tick % steps == 0
        row = row_of[sample, tick] * width
        w[W_PLACE] = row
        _place(sample, max(tick - 1, 0) // steps, m, w)
        if constants:
            _forget_params(start, end, target, targets, m, w)
        constants = (kinds >> IN_PARAM) & 1 != 0
        if constants:
            _apply(IN_PARAM, start, active, tick, ups, target, targets, m, w, clean)
        if not begins and (kinds >> IN_DRIVE) & 1:
            _apply(IN_DRIVE, start, active, tick, ups, target, targets, m, w, clean)
        if tick > 0:
            load(old, m, w)
            if (kinds >> IN_STATE) & 1:
                _apply(IN_STATE, start, active, tick, ups, target, targets, m, w, clean)
            if tick % steps == 0 and (m[M_EVERY] or tick == ticks):
                evaluate(2, start, active, tick, ups, target, targets, m, w, clean)
                _judge(tick == ticks, number, facts, m, w, clean)
                forget_block(2, m, w)
        if tick == ticks:
            break
        if begins:
            forget_block(0, m, w)
            _place(sample, tick // steps, m, w)
            evaluate(0, start, active, tick, ups, target, targets, m, w, clean)
            if tick == 0:
                begin(m, w, clean)
                load(old, m, w)
                _apply(IN_STATE, start, active, tick, ups, target, targets, m, w, clean)
        evaluate(1, start, active, tick, ups, target, targets, m, w, clean)
        after = row_of[sample, tick + 1] * width
        worst = min(latch_all(old, after, m, w, clean), np.int64(2147483647))
        far = facts[number, MOVING] if tick == ticks - 1 else -1
        moved = farthest(old, row, after, far, m, w, clean)
        forget_block(1, m, w)
        forget_states(m, w)
        forget_latched(old, m, w)
        old = 1 - old
        following = tick + 1
        if moved == 0 and not _toggles(start, active, tick, ups, target, targets, w):
            # A fixed point of the disturbed step: until other upsets act, or a frame begins, every tick repeats it.
            following = max(following, min(change, (tick // steps + 1) * steps))
        if w[counts + old]:
            facts[number, LAST] = following - 1
            facts[number, DISTANCE_MAX] = max(np.int64(facts[number, DISTANCE_MAX]), worst)
            facts[number, DISTANCE_END] = worst
        for k in range(w[counts + old] if len(trace) else 0):
            e = w[w[W_LATCH_LIST] + old * m[m[M_LIMITS] + 4] + k]
            for t in range(tick, following):
                trace[t, e] = w[w[W_LATCHED] + old * m[m[M_LIMITS] + 4] + e]
        tick = following
    facts[number, DIFFER_END] = w[counts + old]
    if w[counts + old] == 0:
        facts[number, DISTANCE_END] = 0
    facts[number, MOVING] = moved == 2
    forget_latched(old, m, w)
    forget_block(0, m, w)
    forget_states(m, w)
    _forget_params(start, end, target, targets, m, w)


def _compiled(digest):
    @njit(nogil=True, cache=True, error_model="numpy")
    def relax_many(first, last, faults, row_of, ups, target, targets, facts, trace, m, w, clean):
        for i in range(first, last):
            sample, start = np.int64(faults[i]["sample"]), faults[i]["start"]
            end = start + np.int64(faults[i]["count"])
            _relax(sample, start, end, row_of, ups, target, targets, i, facts, trace, m, w, clean)
        return digest

    return relax_many


def _digest():
    """Of all sources here: numba's cache knows this file and the variables of a closure, but not the files it calls."""
    folder = resources.files(__package__)
    sources = b"".join((folder / name).read_bytes() for name in _SOURCES)
    return int.from_bytes(hashlib.sha256(sources).digest()[:4], "big")


_SOURCES = ("codes.py", "elements.py", "latches.py", "operations.py", "kernel.py")
relax_many = _compiled(_digest())
"""Faults `first` to `last - 1`, one after the other, each with its rows of `ups` and of `target` (a row of `targets`).

`facts[i]` of fault i comes with the fault-free label, and in `MOVING` how many states the last tick moves beyond the
tolerance without a fault. If `trace` has rows, it gets what deviates.
"""
