"""The fault-free run, as the kernel reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eqcompile.toolchain import golden

from ....toolchain.ir import IntNet
from .graph import Layout

__all__ = ["CleanRun", "clean_run", "code_type", "without_tolerance"]

Codes = NDArray[np.int64]
BATCH = 128
"""Samples that golden computes side by side."""


class CleanRun:
    """Rows of all elements, the label of each sample and its states; see `kernel.Clean` for the arrays."""

    def __init__(self, rows: Codes, row_of: Codes, held: Codes, read: Codes, far: Codes, label: Codes) -> None:
        self.rows, self.row_of, self.held, self.read, self.far, self.label = rows, row_of, held, read, far, label


class _Recorder(golden.Machine):
    """Golden, with the last code of every value."""

    def __init__(self, net: IntNet, batch: int) -> None:
        self.seen: dict[str, Codes] = {}
        super().__init__(net, batch, "dense")

    def hold(self, name: str, value: Codes) -> Codes:
        self.seen[name] = value
        return super().hold(name, value)

    def flat(self, names: tuple[str, ...], values: Mapping[str, Codes]) -> Codes:
        parts = [np.asarray(values[name], np.int64).reshape(self.batch, -1) for name in names]
        return np.concatenate(parts, axis=1) if parts else np.zeros((self.batch, 0), np.int64)


def clean_run(net: IntNet, inputs: Mapping[str, Codes], layout: Layout, tolerance: int) -> CleanRun:
    """Every value of every tick of `net`, which has no repeats and no tolerance, on codes `[batch, (frame,) *shape]`. A
    tick that repeats another of its frame shares its row."""
    codes, samples, frames = golden.clamped_codes(net, inputs)
    parts = [
        _batch(net, {n: v[i : i + BATCH] for n, v in codes.items()}, frames, layout, tolerance, code_type(net))
        for i in range(0, samples, BATCH)
    ]
    offset = 0
    for part in parts:
        part.row_of += offset
        offset += len(part.rows)
    fields = ("rows", "row_of", "held", "read", "far", "label")
    return CleanRun(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def code_type(net: IntNet) -> type[np.int32 | np.int64]:
    """Of every code of a net: 32 bits where all fit."""
    return np.int32 if all(f.bits < 32 for f in net.formats.values()) else np.int64


def _batch(
    net: IntNet,
    codes: Mapping[str, Codes],
    frames: int,
    layout: Layout,
    tolerance: int,
    dtype: DTypeLike,
) -> CleanRun:
    batch, steps = len(next(iter(codes.values()))), net.schedule.steps
    machine, every = _Recorder(net, batch), np.arange(batch)
    names = tuple(s.name for s in net.states)
    width = sum(layout.size[n] for n in names)
    ticks: list[Codes] = []
    held, read = [], []
    states: dict[str, Codes] = {}
    label = np.full(batch, -1, np.int64)
    for tick in range(frames * steps):
        if tick % steps == 0:
            clamped = {n: v[:, tick // steps] for n, v in codes.items()}
            machine.evaluate(net.drive, clamped, every)
            held.append(machine.flat(layout.held, clamped).astype(dtype))
            states = states or machine.initial(clamped)
        before = states
        states, _ = machine.tick(clamped, states, every)
        ticks.append(machine.flat(layout.varying, {**machine.seen, **before}).astype(dtype))
        if (tick + 1) % steps == 0:
            outputs = machine.read(clamped, states)
            read.append(machine.flat(layout.read, machine.seen).astype(dtype))
    classes = next((o.name for o in net.outputs if o.kind == "classes"), None)
    if classes is not None:
        label = golden.labels(outputs[classes]).reshape(batch, -1)[:, -1]
    end = np.zeros_like(ticks[-1])
    end[:, :width] = machine.flat(names, states)
    ticks.append(end)
    moved = [np.abs(b[:, :width].astype(np.int64) - a[:, :width]) for a, b in zip(ticks[:-1], ticks[1:], strict=True)]
    fresh = np.ones((len(ticks), batch), bool)
    for tick in range(1, len(ticks)):
        begins = tick % steps == 0 and tick < frames * steps
        fresh[tick] = begins | moved[tick - 1].any(axis=1)
    # Rows of one sample lie together, in the order of its ticks.
    number = np.cumsum(fresh.T.reshape(-1)).reshape(batch, len(ticks)) - 1
    stacked = np.stack(ticks, axis=1)
    return CleanRun(
        rows=stacked[fresh.T],
        row_of=number,
        held=np.stack(held, axis=1).reshape(batch * frames, -1),
        read=np.stack(read, axis=1).reshape(batch * frames, -1),
        far=(moved[-1] > tolerance).sum(axis=1),
        label=label,
    )


def without_tolerance(net: IntNet) -> IntNet:
    """The same net, whose runs make all their ticks."""
    return replace(net, schedule=replace(net.schedule, tolerance=0))
