"""Mutants of golden: each a one-line change of its source that the scalar interpreter must notice on random nets."""

from __future__ import annotations

import importlib.util
import random
import sys
from functools import cache
from importlib.resources import files
from types import ModuleType

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from strategies import random_inputs, random_net

from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import SimulatorError
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet

Array = NDArray[np.int64]
SEEDS = range(100)
HALF_UP = "return (x + ((1 << shift) >> 1)) >> shift"
LATCH = "latched[s.name][live] = new"
LOOKUP = "table[np.clip(value(x), first, first + len(table) - 1) - first]"

MUTANTS = {
    "no rounding constant": ("interpreter", HALF_UP, "return x >> shift"),
    "ties down": ("interpreter", HALF_UP, "return (x + (((1 << shift) - 1) >> 1)) >> shift"),
    "ties to even": ("interpreter", HALF_UP, "return np.rint(x / (1 << shift)).astype(np.int64)"),
    "truncation for floor": (
        "interpreter",
        HALF_UP,
        "return np.trunc((x + ((1 << shift) >> 1)) / (1 << shift)).astype(np.int64)",
    ),
    "lookup first off by one": ("interpreter", LOOKUP, LOOKUP.replace("value(x)", "value(x) + 1")),
    "lookup wraps": ("interpreter", LOOKUP, "table[(value(x) - first) % len(table)]"),
    "lookup saturates early": ("interpreter", LOOKUP, LOOKUP.replace("len(table) - 1", "max(len(table) - 2, 0)")),
    "interpolation without slope": ("interpreter", "slope[segment] * fraction", "slope[segment] * 0"),
    "interpolation ends early": (
        "interpreter",
        "(len(base) << shift) - 1) - first",
        "(len(base) - 1 << shift)) - first",
    ),
    "damping rounds twice": (
        "interpreter",
        "old + _half_up((new - old) * multiplier, shift)",
        "old + _half_up(new * multiplier, shift) - _half_up(old * multiplier, shift)",
    ),
    "division without rounding": ("interpreter", "(dividend << shift) + divisor // 2", "(dividend << shift)"),
    "gate not strict": ("interpreter", "left > right", "left >= right"),
    "gate inverted": ("interpreter", "np.where(*aligned(condition, a, b))", "np.where(*aligned(condition, b, a))"),
    "minimum for maximum": ("interpreter", "value(x).max(", "value(x).min("),
    "one repeat too few": ("interpreter", "range(op.count)", "range(op.count - 1)"),
    "repeat forgets": (
        "interpreter",
        "inner[op.carry] = self.hold(op.carry, self",
        "scope[op.carry] = self.hold(op.carry, self",
    ),
    "no initial state": ("interpreter", "if s.init is not None:", "if False:"),
    "latched in turn": ("interpreter", "new = self.hold(s.name", "new = scope[s.name] = self.hold(s.name"),
    "last move not latched": ("interpreter", LATCH, "latched[s.name][live[moved]] = new[moved]"),
    "settles late": ("interpreter", "distance > self.net.schedule", "distance >= self.net.schedule"),
    "settles early": ("interpreter", "distance > self.net.schedule", "distance > 1 + self.net.schedule"),
    "settles by one state": ("interpreter", "moved |= ", "moved = "),
    "settles by one unit": ("interpreter", "tolerance).any(axis=1)", "tolerance).all(axis=1)"),
    "settles as a batch": ("interpreter", "return latched, live[moved]", "return latched, live[moved | moved.any()]"),
    "ticks of the batch": ("interpreter", "steps[live] += 1", "steps += 1"),
    "frames start anew": ("interpreter", "if frame == 0:", "if frame >= 0:"),
    "first frame for all": ("interpreter", "value[:, frame]", "value[:, 0 * frame]"),
    "sleeps through frames": ("interpreter", "live = every\n", "live = every if frame == 0 else live\n"),
    "conv without bias": ("interpreter", "if bias is None:", "if bias is None or isinstance(op, ops.Conv):"),
    "conv flipped": ("event", "total += self.taps[:, :, tap]", "total += self.taps[:, :, -1 - tap]"),
    "outside reads the last site": ("event", "padded = np.pad(x, ((0, 0), (0, 1)))", "padded = x"),
    "event: operand not kept": ("event", "self.operand[samples] = x", "self.operand[samples] = self.operand[samples]"),
    "event: operand of another sample": ("event", "self.operand[samples] = x", "self.operand[: len(x)] = x"),
    "event: sum not kept": ("event", "self.total[samples] += ", "self.total[samples] = "),
    "event: common changes only": (
        "event",
        "np.flatnonzero(changed.any(axis=0))",
        "np.flatnonzero(changed.all(axis=0))",
    ),
    "event: rows changed in full only": (
        "event",
        "np.flatnonzero(changed.any(axis=1)), ",
        "np.flatnonzero(changed.all(axis=1)), ",
    ),
    "event: sites read in full only": ("event", "[self.index].any(axis=1)", "[self.index].all(axis=1)"),
}


@cache
def case(seed: int) -> tuple[IntNet, dict[str, Array], Run]:
    """A random net, inputs, and what the scalar interpreter makes of them."""
    rng = random.Random(seed)
    net = random_net(rng)
    inputs = random_inputs(net, rng, batch=3)
    states, outputs, steps = oracle.run(net, inputs)
    return net, inputs, Run(states=states, outputs=outputs, steps=steps)


def source(module: str) -> str:
    return (files("eqcompile.toolchain.golden") / f"{module}.py").read_text(encoding="utf-8")


def load(name: str, text: str) -> ModuleType:
    """A module of the package `eqcompile.toolchain.golden` made from `text`."""
    spec = importlib.util.spec_from_loader(f"eqcompile.toolchain.golden.{name}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = "eqcompile.toolchain.golden"
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def mutant(changed: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Golden with `old` replaced by `new` in `interpreter.py` or `event.py`, where it must stand exactly once."""
    text = {name: source(name) for name in ("interpreter", "event")}
    assert text[changed].count(old) == 1, f"{old!r} stands {text[changed].count(old)} times in {changed}.py"
    text[changed] = text[changed].replace(old, new)
    monkeypatch.setitem(sys.modules, "eqcompile.toolchain.golden.mutant_event", load("mutant_event", text["event"]))
    return load("mutant_golden", text["interpreter"].replace("from .event import", "from .mutant_event import"))


def killed(golden: ModuleType, seed: int) -> bool:
    net, inputs, want = case(seed)
    try:
        runs = [golden.run(net, inputs, evaluation=evaluation) for evaluation in ("dense", "event")]
    except SimulatorError:
        return True
    return not all(compare(want, run).ok for run in runs)


@pytest.mark.slow
def test_golden_itself_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the unchanged source failed here, every mutant would count as caught."""
    golden = mutant("interpreter", LATCH, LATCH, monkeypatch)
    assert not [seed for seed in SEEDS if killed(golden, seed)]


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this kind in golden that random nets and the scalar interpreter would not show."""
    golden = mutant(*MUTANTS[name], monkeypatch)
    assert any(killed(golden, seed) for seed in SEEDS)
