"""Flat arrays for the kernel: the net, the fault-free run, and what one thread writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....toolchain.ir import IntNet
from . import codes
from .clean import CleanRun
from .fuse import NOTHING, dense, fuse
from .graph import Layout

__all__ = ["Memory"]


@dataclass(frozen=True)
class Memory:
    """`net` and `clean` as `kernel` reads them; `states`: how many codes the states have; the rest: sizes of what a
    thread needs."""

    net: NDArray[np.int64]
    clean: NDArray[np.int32] | NDArray[np.int64]
    states: int
    elements: int
    widest: int
    values: int
    registers: int
    fused: bool
    weights: NDArray[np.int16]

    @classmethod
    def of(cls, net: IntNet, layout: Layout, done: CleanRun, near: int) -> Memory:
        graph, schedule = layout.graph, net.schedule
        fusion = fuse(graph._asdict()) or NOTHING
        weights, dense_from = dense(graph._asdict(), fusion)
        constants = [np.asarray(net.param(n)).reshape(-1) for n in layout.constant]
        constant = np.concatenate(constants) if constants else np.zeros(0, np.int64)
        dtype = np.int64 if constant.size and np.abs(constant).max() >= 1 << 31 else done.rows.dtype
        regions = [done.rows, done.held, constant, done.read]
        places = np.cumsum([0, *(r.size for r in regions)])
        parts = [np.asarray(part, np.int64).reshape(-1) for part in (*graph, *fusion)]
        starts = codes.M_HEAD + np.cumsum([0, *(len(p) for p in parts)])
        head = np.zeros(codes.M_HEAD, np.int64)
        head[: len(parts)] = starts[:-1]
        numbers = {
            codes.M_STATES: len(graph.state),
            codes.M_OUTPUTS: len(graph.output),
            codes.M_STEPS: schedule.steps,
            codes.M_FRAMES: (done.row_of.shape[1] - 1) // schedule.steps,
            codes.M_EVERY: int(schedule.emit == "every"),
            codes.M_TOLERANCE: schedule.tolerance,
            codes.M_VARYING: done.rows.shape[1],
            codes.M_HELD: places[1],
            codes.M_HELD_WIDTH: done.held.shape[1],
            codes.M_CONSTANT: places[2],
            codes.M_READ: places[3],
            codes.M_READ_WIDTH: done.read.shape[1],
            codes.M_NEAR: near,
            codes.M_DENSE: dense_from,
        }
        head[list(numbers)] = list(numbers.values())
        return cls(
            net=np.concatenate([head, *parts]),
            clean=np.concatenate([r.astype(dtype, copy=False).reshape(-1) for r in regions]),
            states=int(graph.limits[4]),
            elements=int(graph.limits[3]),
            widest=max(int(graph.size.max()), int(fusion.unit_start.max()), int(fusion.fused[1])),
            values=len(graph.size),
            registers=int(fusion.fused[2]),
            fused=bool(fusion.fused[0]),
            weights=weights,
        )

    def scratch(self, upsets: int) -> NDArray[np.int64]:
        """Memory of one thread, for faults of at most so many upsets."""
        sizes = {
            codes.W_CUR: 2 * self.elements,
            codes.W_LISTED: self.elements,
            codes.W_COUNT: self.values,
            codes.W_TOUCHED: self.widest,
            codes.W_SEEN: self.widest,
            codes.W_TOTAL: self.widest,
            codes.W_LATCHED: 3 * self.states,
            codes.W_LATCH_MARK: 3 * self.states,
            codes.W_LATCH_LIST: 3 * self.states,
            codes.W_LATCH_COUNT: 3,
            codes.W_ACTIVE: upsets,
            codes.W_DIFFERENCE: upsets,
            codes.W_REGISTER: self.registers,
            codes.W_FACT: codes.FACTS,
        }
        starts = codes.W_HEAD + np.cumsum([0, *sizes.values()])
        made = np.zeros(int(starts[-1]), np.int64)
        made[list(sizes)] = starts[:-1]
        return made

    def dense(self) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
        """Weights, and a thread's memory: totals, and columns for registers and three operands."""
        columns = np.zeros((self.registers + 3, self.states), np.int64)
        return self.weights, np.zeros(self.weights.shape[1], np.int16), columns
