"""What holds for every fault model and injection engine that is installed, a stranger's included."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
from fault_sessions import instrumented
from numpy.typing import NDArray
from plugged import under_test
from strategies import small_net

from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.engine import Engine
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import Format, IntNet

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
NETS = {
    "signed": NET,
    "unsigned": small_net(
        [[1, -1, 0], [0, 1, 1], [-1, 0, 1]],
        table=[0, 40, 130, 200, 255],
        first=-2,
        steps=6,
        init=[255, 0, 128],
        state=Format(8, False),
    ),
}
CODES = {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}
ENGINES = [
    pytest.param(name, marks=[] if name == "golden" else [pytest.mark.simulator]) for name in under_test("engines")
]


def engine_of(name: str, net: IntNet = NET) -> Engine:
    """An engine that can run here and takes the plainest loop; skipped where a tool is absent."""
    kind = registry.find_class("engines", name, Engine)
    engine = kind()
    assert kind.name == name
    if engine.missing():
        pytest.skip(f"{name} needs {', '.join(engine.missing())}: {engine.install}")
    refusals = list(engine.check(net))
    if refusals and net is not NET:
        pytest.skip(f"{name} refuses it: {refusals[0].what}")
    assert refusals == []
    return kind(instrumented(kind.instrument, net)) if kind.instrument else engine


def flips(count: int) -> FaultTable:
    """Faults that every engine takes: one bit of one state before one tick."""
    rng = random.Random(5)

    def fault() -> Fault:
        tick = rng.randrange(NET.schedule.steps)
        upset = Upset(Place.STATE, "h", rng.randrange(3), tick, tick, flip=1 << rng.randrange(8))
        return Fault(rng.randrange(3), "state:h", upset.index, 0, (upset,))

    return FaultTable.of(fault() for _ in range(count))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_golden_s_results(name: str, net: str) -> None:
    """A campaign counts what an engine says: another row for the same fault would be another statistic. Of a state
    without a sign the highest bit is magnitude: an engine that reads one there makes negative codes."""
    session, golden = (e.open(NETS[net], CODES, near=1) for e in (engine_of(name, NETS[net]), GoldenEngine()))
    table = flips(60)
    expected = golden.run(table)
    assert len(set(expected["outcome"].tolist())) > 1
    np.testing.assert_array_equal(session.run(table), expected)
    for fault in list(table)[:3]:
        for state, rows in golden.trace(fault).items():
            np.testing.assert_array_equal(session.trace(fault)[state], rows)
            np.testing.assert_array_equal(session.clean(fault.sample)[state], golden.clean(fault.sample)[state])


@pytest.mark.parametrize("name", ENGINES)
def test_a_fault_that_is_not_there_is_refused(name: str) -> None:
    """A fault of a sample, a state or a unit that does not exist would be counted as masked."""
    session = engine_of(name).open(NET, CODES, near=1)
    missing = (
        Fault(3, "s", 0, 0, (Upset(Place.STATE, "h", 0, 1, 1, flip=1),)),
        Fault(0, "s", 0, 0, (Upset(Place.STATE, "nowhere", 0, 1, 1, flip=1),)),
        Fault(0, "s", 0, 0, (Upset(Place.STATE, "h", 3, 1, 1, flip=1),)),
    )
    for fault in missing:
        with pytest.raises(UsageError):
            session.run(FaultTable.of([fault]))


def drawn(name: str, net: IntNet, codes: Mapping[str, NDArray[np.int64]], seed: int) -> tuple[FaultModel, FaultTable]:
    model = registry.find_class("faults", name, FaultModel)()
    try:
        return model, model.draw(net, 40, np.random.default_rng(seed), codes)
    except UsageError as error:
        pytest.skip(f"{name} needs options or a core: {error.diagnostics[0].code}")


@pytest.mark.parametrize("name", under_test("faults"))
def test_a_model_draws_faults_of_the_net(name: str) -> None:
    """A fault of a word that the net has not, or a draw that its seed does not decide, could not be replayed."""
    model, table = drawn(name, NET, CODES, 1)
    assert model.name == name
    assert model.summary
    assert len(table) == 40
    assert list(table) == list(drawn(name, NET, CODES, 1)[1])
    assert list(table) != list(drawn(name, NET, CODES, 2)[1])
    Circuit.of(NET).check(table, samples=3, ticks=NET.schedule.steps, core=True)
    population = model.population(NET, CODES)
    assert population.size > 0
    assert {fault.site for fault in table} <= {site.name for site in population.sites}
