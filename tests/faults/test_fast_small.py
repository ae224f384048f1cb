"""Engine fast on nets of a few units, its kernel as plain Python: seconds where `test_fault_fast` takes minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from fast_kernel import plain_kernel
from strategies import small_net, with_formats

from eqcompile.sim.faults.fast import fuse
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain.ir import Format, IntNet, Output, Param, State, ops

INPUTS = {"x": np.array([[20, -7, 40], [3, 90, -60]])}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the matrix that takes all weights at once where many states deviate: in nets this small, one of them."""
    plain_kernel(monkeypatch)
    monkeypatch.setattr(fuse, "LARGEST", 0)


def remembers() -> IntNet:
    """`h <- h + (T[W h + g + x] - h) * 3 / 4` and `g <- T[h]`: units read states through weights, and beside them."""
    base = small_net([[0, 2, 0], [-1, 0, 1], [0, 0, 1]], table=[i // 2 for i in range(-90, 90)], first=-90, steps=5)
    read = Param("R", np.array([[1, -1, 2], [0, 1, 1]]), "test")
    net = replace(
        base,
        params=(*base.params, read),
        states=(*base.states, State("g", (3,), "z", frac=7)),
        step=(
            base.step[0],
            ops.Add(out="a", a="w", b="g"),
            ops.Add(out="p", a="a", b="x"),
            ops.Lookup(out="t", x="p", table="T", first=-90),
            ops.DampFixed(out="y", old="h", new="t", multiplier=3, shift=2),
            ops.Lookup(out="z", x="h", table="T", first=-90),
        ),
        readout=(ops.Linear(out="r", x="g", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        formats={"h": Format(8, True), "g": Format(8, True)},
    )
    return with_formats(net)


def differing(net: IntNet, faults: Sequence[str]) -> list[str]:
    """Faults of which the engine says another thing than golden."""
    table = FaultTable.of(map(parse_fault, faults))
    want, got = (engine.open(net, INPUTS, near=1).run(table) for engine in (GoldenEngine(), FastEngine()))
    return [f"{faults[i]}: {want[i]} != {got[i]}" for i in np.flatnonzero(want != got)]


@pytest.mark.parametrize("state", ["h", "g"])
def test_a_flip_in_any_unit_of_any_state(state: str) -> None:
    """Each unit that reads the state, through a weight or beside one, is followed, and no other."""
    places = product((0, 1), range(3), (1, 40), (0, 3))
    flips = [f"{sample}/any.0.0/state:{state}[{unit}]^{bit}@{tick}" for sample, unit, bit, tick in places]
    opened: Any = FastEngine().open(remembers(), INPUTS, near=1)
    assert opened.memory.fused
    assert differing(remembers(), flips) == []


def test_registers_that_are_held_keep_a_difference_each() -> None:
    """Of one fault: what the first changed by one, the second by 32, stays so in both while they are held."""
    net = remembers()
    held = [f"value:a[{u}]^{bit}@0-3!" for u, bit in zip((0, 1, 2) * 8, (1, 20, 4) * 8, strict=True)]
    assert differing(net, [f"{s}/any.0.0/" + ";".join(held[:n]) for s in (0, 1) for n in (1, 2, 3, 24)]) == []
