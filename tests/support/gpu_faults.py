"""Faults for the kernel of engine `gpu`, its results against golden's, and wrong kernels."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from strategies import random_net, small_net, with_formats

from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu import resident
from eqcompile.sim.faults.gpu.engine import GpuEngine, GpuSession
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain.ir import IntNet, Output, Param, ops

__all__ = [
    "INPUTS",
    "MUTANTS",
    "Comparison",
    "compared",
    "drawn_net",
    "faults",
    "large",
    "loop",
    "mutated",
    "noticed",
    "opened",
]

MUTANTS = (
    ("t < ticks) & ((latest", "t < ticks - 1) & ((latest"),
    ("spoilt = tl.maximum(spoilt, tl.max(w, 1))", "pass"),
    ("w = (w ^ 128) - 128", "pass"),
    (" != i, other=e", " < i, other=e"),
    ("tick == t", "tick == t + 1"),
)
"""Text of the kernel, and what a wrong kernel has in its place."""
INPUTS = {"x": np.array([[20, 0, -19], [50, -33, 1], [2, 0, -1]])}
"""Of `loop`."""


@dataclass(frozen=True)
class Comparison:
    """How many faults were run, how many steps their runs make until golden's schedule ends, and of how many faults a
    column of the result is not golden's."""

    faults: int
    steps: int
    mismatches: int

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(self.faults + other.faults, self.steps + other.steps, self.mismatches + other.mismatches)


def drawn_net(source: random.Random) -> IntNet:
    """Mostly what the kernel takes; operations that it lacks are drawn, too."""
    extras = ("gate", "interpolate", "select", "reduce", "mul", "sweep", "copy")
    return random_net(source, spaces=("vector", "sites"), extras=extras, frames=False)


def upsets(net: IntNet, ticks: int, source: random.Random, slots: int) -> tuple[Upset, ...]:
    """Upsets of states in one tick, the readout's among them; every kind of change."""
    tick = source.randint(0, ticks)
    changes = []
    for _ in range(slots):
        state = source.choice(net.states)
        bits = net.formats[state.name].bits
        kind = source.choice(("flip", "one", "zero", "add"))
        change = source.randint(-200, 200) or 1 if kind == "add" else 1 << source.randrange(bits)
        index = source.randrange(int(np.prod(state.shape)))
        changes.append(Upset(Place.STATE, state.name, index, tick, tick, **{kind: change}))  # type: ignore[arg-type]
    return tuple(changes)


def faults(net: IntNet, samples: int, ticks: int, source: random.Random, count: int) -> FaultTable:
    """`count` faults of one to three upsets each."""
    return FaultTable.of(
        Fault(source.randrange(samples), "state", 0, -1, upsets(net, ticks, source, source.randint(1, 3)))
        for _ in range(count)
    )


def compared(net: IntNet, codes: Mapping[str, NDArray[np.int64]], seed: int, count: int) -> Comparison:
    """Engine `gpu` against `golden` on `count` random faults of input codes `[samples, *shape]`."""
    tried, right = (engine.open(net, codes, near=1) for engine in (GpuEngine(), GoldenEngine()))
    ticks = net.schedule.steps
    table = faults(net, len(next(iter(codes.values()))), ticks, random.Random(seed), count)
    steps = int((ticks - table.faults["tick"]).clip(0).sum())
    return Comparison(len(table), steps, int((tried.run(table) != right.run(table)).sum()))


@contextmanager
def mutated(right: str, wrong: str) -> Iterator[list[str]]:
    """Kernels have `wrong` in place of `right`; the names of what is in the list were changed by it."""
    loaded, changed = resident.load_kernel, []

    def mutant(text: str) -> object:
        if right in text:
            changed.append(right)
        return loaded(text.replace(right, wrong))

    resident.load_kernel = mutant
    try:
        yield changed
    finally:
        resident.load_kernel = loaded


def loop(tolerance: int = 0, steps: int = 6) -> IntNet:
    """A loop of three units that settles, with classes."""
    weight = [[1, -1, 0], [0, 1, 1], [-1, 0, 1]]
    base = small_net(weight, table=[i // 3 for i in range(-90, 90)], first=-90, steps=steps)
    read = Param("R", np.array([[1, 0, -1], [-1, 1, 0]]), "test")
    net = replace(
        base,
        params=(*base.params, read),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        schedule=replace(base.schedule, tolerance=tolerance),
    )
    return with_formats(net)


def large() -> tuple[IntNet, Any]:
    """A loop of more units than a warp adds at once, whose codes stand in wide ranges of their sums, and one input."""
    source = np.random.default_rng(3)
    units = 260
    weight = source.integers(-1, 2, (units, units)) * (source.random((units, units)) < 0.1)
    base = small_net(weight.tolist(), table=[i // 12 for i in range(-400, 400)], first=-400, steps=3)
    read = Param("R", source.integers(-1, 2, (40, units)), "test")
    net = replace(
        base,
        params=(*base.params, read),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
    )
    return with_formats(net), {"x": source.integers(-100, 100, (1, units))}


def opened(net: IntNet, codes: Any) -> GpuSession:
    return GpuEngine().open(net, codes, near=1)


def noticed(work: Callable[[], bool]) -> bool:
    """Whether `work` says so, in a child: a wrong kernel may write anywhere, and one that dies of it is noticed."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of threads, which wait
        child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.disable()
            signal.alarm(300)
            # A team of threads that PyTorch has made is not in the child, which would wait for it.
            torch.set_num_threads(1)
            status = int(not work())
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status != -signal.SIGALRM
    return status <= 0
