"""Exact linear maps, whole or by what changed: the weights of golden.

Exactness. A map whose every possible partial sum is below 2**53 in magnitude runs in float64, where BLAS is fast: each
product and each partial sum, in whatever order and with or without fused multiply-add, is then an integer that a
float64 holds exactly, so no rounding ever happens. The bound is `max over rows of sum |w|` times the span of the
operand's proved interval, which covers the operand and every difference of two operands. A larger map runs in int64.

Event-driven evaluation. The accumulator of a linear map is an exact integer, so `A(new) = A(old) + W (new - old)` holds
to the bit, and entries that did not change cost nothing. It starts from the operand 0, whose accumulator is 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir import Interval

__all__ = ["Accumulator", "ConvMap", "LinearMap", "StencilMap", "WeightedMap", "exact_dtype"]

Array = NDArray[np.int64]


def exact_dtype(weight: Array, operand: Interval) -> np.dtype[Any]:
    """float64 if no partial sum of `weight` `[rows, taps]` over entries or differences of `operand` reaches 2**53,
    else int64."""
    span = max(operand.hi, 0) - min(operand.lo, 0)
    largest = max(abs(int(weight.min(initial=0))), abs(int(weight.max(initial=0))))
    if largest * weight.shape[1] >= 1 << 53:  # keeps the row sums below inside a word, too
        return np.dtype(np.int64)
    bound = int(np.abs(weight).sum(axis=1).max(initial=0)) * span
    return np.dtype(np.float64 if bound < 1 << 53 else np.int64)


class WeightedMap(ABC):
    """Abstract: a linear map without its bias. `fanout[entry]`: how many nonzero weights read that operand entry."""

    fanout: Array

    @abstractmethod
    def product(self, x: Array) -> Array:
        """The exact map of `x` `[samples, *operand shape]`."""

    @abstractmethod
    def change(self, delta: Array) -> Array:
        """The same result as `product(delta)`, with work only where `delta` is not 0."""


class LinearMap(WeightedMap):
    """`y[..., o] = sum_i weight[o, i] * x[..., i]`."""

    def __init__(self, weight: Array, operand: Interval, shape: tuple[int, ...]) -> None:
        # [in, out]: what one changed entry adds lies together.
        self.columns = np.ascontiguousarray(weight.T, exact_dtype(weight, operand))
        self.fanout = np.broadcast_to(np.count_nonzero(weight, axis=0), shape)

    def product(self, x: Array) -> Array:
        product: Array = (x.astype(self.columns.dtype) @ self.columns).astype(np.int64)
        return product

    def change(self, delta: Array) -> Array:
        flat = delta.reshape(-1, delta.shape[-1])
        changed = flat != 0
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        result = np.zeros((len(flat), self.columns.shape[1]), np.int64)
        few = flat[np.ix_(rows, columns)].astype(self.columns.dtype)
        weight = self.columns if len(columns) == len(self.columns) else self.columns[columns]
        result[rows] = (few @ weight).astype(np.int64)
        return result.reshape(*delta.shape[:-1], self.columns.shape[1])


class StencilMap(WeightedMap):
    """`y[n] = sum_k weight[n, k] * x[index[n, k]]`; an index of -1 reads 0."""

    def __init__(self, weight: Array, index: Array, shape: tuple[int, ...]) -> None:
        self.weight, self.index = weight, index
        self.fanout = np.zeros(shape, np.int64)
        np.add.at(self.fanout, index[(index >= 0) & (weight != 0)], 1)

    def product(self, x: Array) -> Array:
        return self._at(x, np.arange(len(self.weight)))

    def change(self, delta: Array) -> Array:
        changed = delta != 0
        rows = np.flatnonzero(changed.any(axis=1))
        sites = np.flatnonzero(np.append(changed.any(axis=0), False)[self.index].any(axis=1))
        result = np.zeros((len(delta), len(self.weight)), np.int64)
        result[np.ix_(rows, sites)] = self._at(delta[rows], sites)
        return result

    def _at(self, x: Array, sites: NDArray[np.intp]) -> Array:
        # Index -1 picks the appended column of zeros. One tap at a time keeps memory at [samples, sites].
        padded = np.pad(x, ((0, 0), (0, 1)))
        result = np.zeros((len(x), len(sites)), np.int64)
        for weight, index in zip(self.weight[sites].T, self.index[sites].T, strict=True):
            result += weight * padded[:, index]
        return result


class ConvMap(WeightedMap):
    """Cross-correlation with zero padding: one matrix product over the channels for each kernel offset."""

    def __init__(self, weight: Array, stride: int, padding: int, operand: Interval, shape: tuple[int, ...]) -> None:
        taps = weight.reshape(*weight.shape[:2], -1)
        self.taps = taps.astype(exact_dtype(weight.reshape(len(weight), -1), operand))
        self.stride, self.padding = stride, padding
        self.kernel = weight.shape[2:]
        self.space = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(shape[1:], self.kernel, strict=True))
        reads = np.zeros((shape[0], *(n + 2 * padding for n in shape[1:])), np.int64)
        channels = (-1, *(1 for _ in self.kernel))
        for tap, offset in enumerate(np.ndindex(*self.kernel)):
            reads[self._window(offset)] += np.count_nonzero(taps[:, :, tap], axis=0).reshape(channels)
        inside = (slice(None), *(slice(padding, padding + n) for n in shape[1:]))
        self.fanout = reads[inside]

    def _window(self, offset: tuple[int, ...]) -> tuple[slice, ...]:
        """Entries `[channel, *padded space]` that a kernel offset reads, one for each output position."""
        reach = (slice(o, o + self.stride * (n - 1) + 1, self.stride) for o, n in zip(offset, self.space, strict=True))
        return (slice(None), *reach)

    def product(self, x: Array) -> Array:
        border = ((0, 0), (0, 0), *((self.padding, self.padding) for _ in self.space))
        # Channels first, samples last: each kernel offset is one matrix product over all samples and positions.
        padded = np.moveaxis(np.pad(x.astype(self.taps.dtype), border), 0, -1)
        total = np.zeros((len(self.taps), math.prod(self.space) * len(x)), self.taps.dtype)
        for tap, offset in enumerate(np.ndindex(*self.kernel)):
            total += self.taps[:, :, tap] @ padded[self._window(offset)].reshape(len(padded), total.shape[1])
        return np.moveaxis(total.astype(np.int64).reshape(len(self.taps), *self.space, len(x)), -1, 0)

    def change(self, delta: Array) -> Array:
        rows = np.flatnonzero(delta.reshape(len(delta), -1).any(axis=1))
        result = np.zeros((len(delta), len(self.taps), *self.space), np.int64)
        result[rows] = self.product(delta[rows])
        return result


class Accumulator:
    """One linear map of the step with, for each sample, its previous operand and the exact accumulator.

    Counts additions (one for each nonzero weight that is added) both ways, whichever is used: `dense` adds every
    weight at every evaluation, `event` those of the operand entries that changed since the previous evaluation.
    """

    def __init__(self, weighted: WeightedMap, batch: int, shape: tuple[int, ...]) -> None:
        self.map = weighted
        self.operand = np.zeros((batch, *weighted.fanout.shape), np.int64)
        self.total = np.zeros((batch, *shape), np.int64)
        self.dense = 0
        self.event = 0

    def evaluate(self, x: Array, samples: NDArray[np.intp], *, by_event: bool) -> Array:
        """The map of `x`, whose rows belong to `samples`."""
        delta = x - self.operand[samples]
        self.operand[samples] = x
        self.dense += len(x) * int(self.map.fanout.sum())
        self.event += int((np.count_nonzero(delta, axis=0) * self.map.fanout).sum())
        if not by_event:
            return self.map.product(x)
        self.total[samples] += self.map.change(delta)
        return self.total[samples]
