"""Around the injection: the weight memory, what is drawn at a time, processors, programs that must end."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from strategies import small_net

from eqcompile.app.report.campaign.document import _cube
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.sim import process
from eqcompile.sim.campaign.store import COLUMNS, open_store
from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.models import noise
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.rtl import loop
from eqcompile.sim.faults.rtl.weights import Memory
from eqcompile.sim.faults.table import Place, Upset
from eqcompile.toolchain.diagnostics import SimulatorError
from eqcompile.toolchain.ir import State, ops
from eqcompile.toolchain.process import end_group

INPUTS = {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}


def test_a_weight_that_another_column_shares_is_not_disturbed_in_place() -> None:
    """Columns that are alike are stored once, the first at entry 0, whose row of the table is the word 0."""
    net = small_net([[1, 1, 0], [0, 0, 1], [-1, -1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=3)
    engine = SerialEngine(net, inject=True)
    weights = engine.plan.weights
    words = np.zeros(weights.load_words, np.int64)
    loaded = engine.load_words(net)
    words[: len(loaded)] = loaded
    layout = {name: getattr(weights, name) for name in ("lanes", "code_bits", "depth", "parts", "address_bits")}
    first = dict(zip((m.out for m in engine.plan.maps), weights.rows, strict=True))
    memory = Memory(net, words, {**layout, "capacity": weights.capacity, "rows": first})
    row = first["w"]
    assert memory.words[row] == memory.words[row + 1] == 0
    upset = Upset(Place.PARAM, "W", 3, 0, net.schedule.steps, flip=1)
    disturbed = words.copy()
    for address, word, _ in memory.loads([upset], Circuit.of(net)):
        disturbed[address] = word
    after = replace(memory, words=disturbed)
    assert after._column(row) != memory._column(row)
    assert [after._column(row + k) for k in (1, 2)] == [memory._column(row + k) for k in (1, 2)]


def test_noise_is_the_same_however_much_is_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn at once, a chunk of a large net took arrays of more than a gigabyte; a seed must stay a table."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[0], first=0, steps=5)
    tables = []
    for limit in (1, 100, 1 << 20):
        monkeypatch.setattr(noise, "_DRAWN", limit)
        tables.append(list(noise.NoiseModel(sigma=0.05).draw(net, 40, np.random.default_rng(3), INPUTS)))
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize("engine", [GoldenEngine, FastEngine])
def test_a_net_of_one_step_has_nothing_to_settle(engine: Any) -> None:
    """Its only tick moves every state from where it begins: counted as unsettled, a feed-forward net looks restless."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=1)
    table = SeuModel(sites="state,weight,table").exhaustive(net, INPUTS)
    outcomes = set(engine().open(net, INPUTS, near=0).run(table)["outcome"].tolist())
    assert Outcome.UNSETTLED not in outcomes
    assert Outcome.OTHER in outcomes


def test_processors_are_counted_everywhere_and_shared_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that each start a thread for every processor take them from one another; macOS has no affinity."""
    monkeypatch.setattr(process.os, "cpu_count", lambda: 7)
    monkeypatch.delattr(process.os, "sched_getaffinity", raising=False)
    assert process.usable_processors() == 7
    monkeypatch.setenv(process.SHARE, "2")
    assert process.usable_processors() == 2


def test_a_core_that_does_not_answer_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed loop waited for ever, and what its program had started lived on."""
    code = "import subprocess as s, time; p = s.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    monkeypatch.setattr(loop, "ROUND_S", 0.2)
    asked = object.__new__(loop.ClosedLoop)
    asked._program, asked.session = program, SimpleNamespace(core=tmp_path)  # type: ignore[assignment]
    asked._end = weakref.finalize(asked, end_group, program)
    with pytest.raises(SimulatorError, match=r"no answer in 0\.2 s"):
        asked._ask()
    program.communicate()
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[1]


def test_units_of_another_state_are_not_counted_for_a_cube(tmp_path: Path) -> None:
    """`_` stands for any letter in a pattern of SQL: state h_1 had the faults of hx1 as well."""
    net = SimpleNamespace(
        states=(State("h_1", (2, 2, 2), "u"),), step=(ops.Stencil(out="u", x="h_1", weight="W", index="I"),)
    )
    with open_store(tmp_path / "s.duckdb", write=True) as store:
        for number, site in enumerate(("state:h_1", "state:hx1", "state:hx1")):
            values = [0 if kind != "VARCHAR" else "" for kind in COLUMNS.values()]
            row = dict(zip(COLUMNS, values, strict=True)) | {"number": number, "site": site, "outcome": Outcome.OTHER}
            marks = ", ".join("?" for _ in row)
            store._db.execute(f"INSERT INTO results ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        cube = _cube(SimpleNamespace(net=net), store)  # type: ignore[arg-type]
    assert cube is not None
    assert sum(cube["faults"]) == sum(cube["hits"]) == 1
