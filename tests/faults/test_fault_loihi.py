"""Engine `loihi`: faults in the processes of the Lava network, equal to golden in every state of every tick."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping

import numpy as np
import pytest
from fault_sessions import instrumented
from numpy.typing import NDArray
from strategies import random_inputs, small_net

from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.loihi_engine import LoihiEngine, LoihiSession
from eqcompile.sim.faults.models.events import EventsModel
from eqcompile.sim.faults.models.noise import NoiseModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.models.stuck import StuckModel
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.skipif(importlib.util.find_spec("lava") is None, reason="Lava is not installed"),
]

Codes = Mapping[str, NDArray[np.int64]]


def chosen(framed: bool) -> tuple[IntNet, Codes]:
    """Two coupled units that never settle, and their samples."""
    table = [int(v) for v in np.clip(np.arange(-128, 128) * 3 // 2 + 5, -100, 100)]
    net = small_net([[1, -1], [1, 1]], table=table, first=-128, steps=6, frames=framed)
    return net, random_inputs(net, random.Random(3), batch=3)


def opened(net: IntNet, codes: Codes) -> LoihiSession:
    return LoihiEngine(instrumented("loihi", net)).open(net, codes, near=1)


@pytest.fixture(scope="module")
def plain() -> LoihiSession:
    """The network without frames, emitted once."""
    return opened(*chosen(False))


def faults(net: IntNet, codes: Codes, each: int) -> FaultTable:
    """Faults of every model that the engine takes."""
    draw = np.random.default_rng(1)
    models = [SeuModel(sites="state"), StuckModel(sites="state"), NoiseModel()]
    models += [EventsModel(kind=kind, delay=2) for kind in ("dropped", "duplicated", "delayed")]
    return FaultTable.of(fault for model in models for fault in model.draw(net, each, draw, codes))


def differing(session: LoihiSession, net: IntNet, codes: Codes, table: FaultTable) -> int:
    """How many of the disturbed trajectories differ from golden's."""
    runs, golden = session.inject(table), GoldenEngine().open(net, codes, near=1)
    wrong = 0
    for row, fault in enumerate(table):
        want = golden.trace(fault)
        wrong += any((runs.states[name][:, row] != want[name]).any() for name in want)
    return wrong


@pytest.mark.parametrize("framed", [False, True])
def test_every_trajectory_is_goldens(framed: bool, plain: LoihiSession) -> None:
    """Would break if a state were disturbed a tick early or late, in another lane, or if a lost, doubled or late event
    were not what the model says of accumulators."""
    net, codes = chosen(framed)
    table = faults(net, codes, 30)
    session = opened(net, codes) if framed else plain
    golden = GoldenEngine().open(net, codes, near=1)
    assert differing(session, net, codes, table) == 0
    moved = sum(any((golden.trace(f)[n] != golden.clean(f.sample)[n]).any() for n in golden.clean(0)) for f in table)
    assert moved > len(table) // 4
    assert session.run(table).tolist() == golden.run(table).tolist()
    fault = table[0]
    assert all((session.trace(fault)[n] == rows).all() for n, rows in golden.trace(fault).items())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('^ fault["flip"] |', "|"),
        ("self.disturbed < self.ticks", "self.disturbed < self.ticks - 1"),
        ("return lane if", "return 0 if"),
        ("2 * event if", "3 * event if"),
        ("delta[lane, unit] += self.late.pop(number)", "self.late.pop(number)"),
        ('self.ticks == fault["tick"]', 'self.ticks == fault["tick"] + 1'),
    ],
)
def test_a_mutant_of_the_injection_is_caught(old: str, new: str, plain: LoihiSession) -> None:
    """Would break if the comparison could not fail: each mutant injects something else."""
    net, codes = chosen(False)
    path = plain.folder / "runtime" / "lanes.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        assert differing(plain, net, codes, faults(net, codes, 20)) > 0
    finally:
        path.write_text(text, encoding="utf-8")


def test_what_the_processes_cannot_be_given_is_refused_by_name(plain: LoihiSession) -> None:
    """Would break if a fault of an accumulator or a weight were dropped silently and counted as masked."""
    net = plain.net
    op = next(op for op in net.step)
    for text in (f"value:{op.out}[0]^1@1", f"param:{net.params[0].name}[0]^1@0"):
        with pytest.raises(UsageError, match="fault-loihi"):
            plain.run(FaultTable.of([parse_fault(f"0/any.0.0/{text}")]))
