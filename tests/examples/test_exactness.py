"""The benchmark of ways back to the bit disturbs runs as the fault engines do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.sim.faults.engine import Engine
from eqcompile.sim.faults.model import FaultModel
from eqcompile.toolchain import registry

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
exactness = importlib.import_module("exactness")
healing = importlib.import_module("healing")
sys.path.pop(0)

IMAGES = 4


@pytest.fixture(scope="module")
def runs() -> Any:
    net, codes, _ = healing.load(healing.Case("digits_layered.npz"), Path(), IMAGES)
    return exactness.Runs(net, codes, IMAGES)


def test_one_bit_of_each_image_flips(runs: Any) -> None:
    before = runs.states[5]["h"]
    after = runs.flipped(runs.states[5], np.random.default_rng(1))["h"]
    assert ((before != after).sum(axis=1) == 1).all()
    flips = (before ^ after)[before != after] & 255
    assert (flips & (flips - 1) == 0).all()
    assert after.min() >= -128
    assert after.max() <= 127


def test_a_flip_ends_where_the_fault_engine_ends(runs: Any) -> None:
    """Would break if the benchmark counted ticks otherwise than the campaigns beside it."""
    table = registry.find_class("faults", "seu", FaultModel)(sites="state").draw(
        runs.net, 6, np.random.default_rng(0), runs.codes
    )
    session = registry.find_class("engines", "golden", Engine)().open(runs.net, runs.codes, near=1)
    for fault in table:
        (upset,) = fault.upsets
        states = {"h": runs.states[upset.first]["h"].copy()}
        codes = states["h"][fault.sample : fault.sample + 1]
        word = (codes[0, upset.index] & 255) ^ upset.flip
        codes[0, upset.index] = word - 256 * (word >> 7)
        for _ in range(upset.first, runs.net.schedule.steps):
            states, _ = runs.tick(states)
        assert (states["h"][fault.sample] == session.trace(fault)["h"][-1]).all()


def test_dropped_bits_are_rounded_half_up() -> None:
    assert exactness.upper(np.array([-3, -2, 1, 2, 5, 6]), 2).tolist() == [-1, 0, 0, 1, 1, 2]
    assert exactness.upper(np.array([7]), -2).tolist() == [7]
