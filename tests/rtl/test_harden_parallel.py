"""Votes in the parallel core: which registers, what becomes of upsets in them, and whose report says which units."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emitting import emitted, refused, write_core
from fault_sessions import core_faults
from rtl_engines import differences, simulate
from strategies import random_inputs, small_net, with_formats

from eqcompile.app.report.campaign import write
from eqcompile.rtl.harden import tmr
from eqcompile.rtl.parallel.engine import ParallelEngine
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.parallel.protect import ranked_units
from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.exhaust import begin, document_of, exhaust
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.sim.faults.table import FaultTable
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.diagnostics import UnsupportedError, UsageError
from eqcompile.toolchain.ir import IntNet, Output, Param, ops

# A table long enough for block RAM.
NET = small_net(
    [[1, -1, 0], [0, 1, 1], [-1, 0, 1]],
    table=[int(np.clip(v // 2, -128, 127)) for v in range(-300, 300)],
    first=-300,
    steps=6,
)
INPUTS = random_inputs(NET, random.Random(1), batch=3)
VOTED = Parallel(harden="tmr", protect="h=0,2")


@pytest.mark.parametrize("step_levels", [None, 1])
@pytest.mark.parametrize("units", [(), (1,), (0, 1, 2)])
def test_results_stay_golden_s(step_levels: int | None, units: tuple[int, ...]) -> None:
    """A vote, or a table in logic instead of block RAM, that changes a code."""
    protect = {"h": units} if units else {}
    engine = ParallelEngine(NET, trace=True, step_levels=step_levels, harden=("tmr",), protect=protect)
    assert differences(NET, INPUTS, simulate(engine, NET, INPUTS)) == []
    assert engine.describe()["block_tables"] == (3 - len(units) if step_levels is None else 0)


def outcomes(folder: Path) -> dict[str, set[int]]:
    """What becomes of flips in registers: of a protected unit and of control, each copy, and of an unprotected one."""
    session = RtlSession(NET, INPUTS, 1, core=folder)
    clocks = int(session.undisturbed.latency.max())
    names = {
        "protected": ("engine.vote_copy_1.vote1_h_0", "engine.vote_copy_1.vote1_seen_h_2"),
        "control": ("engine.vote_copy_0.vote0_fsm_state", "vote_copy_2", "engine.vote_copy_0.vote0_left"),
        "bare": ("engine.h_1", "engine.seen_h_1"),
    }
    return {
        kind: set(session.run(FaultTable.of(core_faults(session, 120, 1, clocks, begins)))["outcome"].tolist())
        for kind, begins in names.items()
    }


@pytest.mark.simulator
def test_upsets_of_protected_registers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register that has one copy after all, or a vote that one copy decides; an unprotected unit shows that upsets
    of these registers are seen."""
    write_core(NET, VOTED, tmp_path, trace=True, saboteurs=True)
    found = outcomes(tmp_path)
    assert found["protected"] == found["control"] == {Outcome.MASKED}
    assert found["bare"] - {Outcome.MASKED}


@pytest.mark.simulator
def test_a_vote_that_one_copy_decides_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above must notice it."""
    monkeypatch.setattr(tmr, "majority", lambda a, b, c: b)
    write_core(NET, VOTED, tmp_path, trace=True, saboteurs=True)
    assert outcomes(tmp_path)["protected"] - {Outcome.MASKED}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small campaign of upsets of states, with its report."""
    folder = tmp_path_factory.mktemp("ranked") / "campaign"
    plan = {"count": 400, "seed": 1, "margin": 0.01, "confidence": 0.95, "stop_at_margin": None, "notes": {}}
    made = api.define(NET, INPUTS, model="seu", options={"sites": "state"}, engine="golden", near=1, **plan)
    api.create(made, folder, baselines=[], force=False)
    api.resume(folder, scheduler="local", workers=1)
    write(folder)
    return folder


@pytest.mark.slow
def test_a_campaign_s_report_says_which_units(campaign: Path, tmp_path: Path) -> None:
    """Units in another order, or another number of them, than was asked for; a folder that does not tell."""
    report = json.loads((campaign / "report.json").read_text())
    order = [row["number"] for row in report["units"][0]["rows"]]
    assert len(order) == 3
    for share, count in ((0.1, 1), (1 / 3, 1), (0.34, 2), (1.0, 3)):
        assert ranked_units(campaign, NET, share) == {"h": tuple(sorted(order[:count]))}
    rows = report["units"][0]["rows"]
    for measures, second in (([rows[1:2]], [0, 1, 2]), ([rows[1:2], rows[:1]], order)):
        report["units"] = [{"rows": found} for found in measures]
        (tmp_path / "cut.json").write_text(json.dumps(report))
        # Then by the next measure; those without a hit in any come last, by number.
        next_one = next(unit for unit in second if unit != order[1])
        assert ranked_units(tmp_path / "cut.json", NET, 0.6) == {"h": tuple(sorted((order[1], next_one)))}
    target = RtlTarget.of(harden="tmr", protect=str(campaign), protect_share=0.6)
    manifest = emitted(target, NET, tmp_path / "core").manifest
    assert manifest.details["arch"] == "parallel"
    assert manifest.details["engine"]["protected"] == {"h": sorted(order[:2])}
    # A campaign on this core has the units, not a report that may be gone.
    assert manifest.core.options["protect"] == f"h={','.join(map(str, sorted(order[:2])))}"
    emitted(RtlTarget.of(**manifest.core.options), NET, tmp_path / "again")
    assert (tmp_path / "again" / "core.v").read_bytes() == (tmp_path / "core" / "core.v").read_bytes()
    readme = (tmp_path / "core" / "README.md").read_text()
    assert f"units: h {', '.join(map(str, sorted(order[:2])))}." in readme
    assert "FAULTS" not in readme
    assert "keep_hierarchy" in (tmp_path / "core" / "core.v").read_text()


def test_a_report_that_says_nothing_is_refused(campaign: Path, tmp_path: Path) -> None:
    """Would break if units were chosen by another net's faults, by none, or a traceback told of a wrong file."""
    good = json.loads((campaign / "report.json").read_text())
    other = {**good, "campaign": {**good["campaign"], "ir_digest": "another"}}
    sums = {**good, "units": [{"rows": [{"site": "accumulator:w", "number": 1}]}]}
    found = {"no": "no JSON", "list": "is no report", "other": "of the net another", "sums": "none of a state"}
    for name, value in (("no", "{"), ("list", "[]"), ("other", json.dumps(other)), ("sums", json.dumps(sums))):
        (tmp_path / name).write_text(value)
        with pytest.raises(UsageError, match=found[name]) as error:
            refused(RtlTarget.of(harden="tmr", protect=str(tmp_path / name)), NET)
        assert error.value.diagnostics[0].hint
    with pytest.raises(UsageError, match="cannot read") as error:
        refused(RtlTarget.of(harden="tmr", protect=str(tmp_path)), NET)
    assert "eqfault report" in str(error.value)
    with pytest.raises(UsageError, match="by a sample"):
        refused(RtlTarget.of(harden="tmr", protect=str(campaign), protect_silent=0.5), NET)


def counted_net() -> IntNet:
    """A loop of three units that tells classes, so that upsets can corrupt silently."""
    read = Param("R", np.array([[1, 0, -1], [-1, 1, 0]]), "test")
    base = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[i // 3 for i in range(-90, 90)], first=-90, steps=4)
    readout = (ops.Linear(out="r", x="h", weight="R"),)
    outputs = (Output("o", "r", "classes", 1.0),)
    return with_formats(replace(base, params=(*base.params, read), readout=readout, outputs=outputs))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over every upset of a state, with its report."""
    folder = tmp_path_factory.mktemp("counted") / "every"
    plan = {"count": "exhaustive", "seed": 0, "margin": 0.01, "confidence": 0.95, "stop_at_margin": None, "notes": {}}
    given = {"x": np.array([[20, 0, -19], [50, -33, 1], [2, 3, 2]])}
    made = api.define(counted_net(), given, model="seu", options={"sites": "state"}, engine="golden", near=1, **plan)
    begin(made, folder, force=False)
    exhaust(folder)
    (folder / "report.json").write_text(json.dumps(document_of(folder, proved=0)))
    return folder


def test_every_fault_says_which_units_carry_what(every: Path, tmp_path: Path) -> None:
    """Units by another order than their exact counts, one more or fewer than carry the share, or ties by chance."""
    net, report = counted_net(), json.loads((every / "report.json").read_text())
    counts = np.array(report["sites"][0]["silent_map"]).sum(axis=1)
    assert counts.sum() == report["outcomes"]["sdc"] > 0
    first, second, _ = np.argsort(-counts, kind="stable").tolist()
    assert ranked_units(every, net, 1 / 3) == {"h": (first,)}
    assert ranked_units(every, net, 0.5) == {"h": tuple(sorted((first, second)))}
    core = Parallel(harden="tmr", protect=str(every), protect_silent=1.0).resolved(net, ())
    assert core.units == {"h": tuple(np.flatnonzero(counts).tolist())}
    assert core.protect_silent is None
    for silent_map, silent, units in (
        ([[1, 1], [0, 6], [2, 0]], 0.6, (1,)),
        ([[1, 1], [0, 6], [2, 0]], 0.61, (0, 1)),
        ([[1, 1], [0, 6], [2, 0]], 0.8, (0, 1)),
        ([[1, 1], [0, 6], [2, 0]], 1.0, (0, 1, 2)),
        ([[0, 0], [0, 6], [0, 0]], 1.0, (1,)),
    ):
        report["sites"][0]["silent_map"] = silent_map
        (tmp_path / "report.json").write_text(json.dumps(report))
        assert ranked_units(tmp_path, net, silent=silent) == {"h": units}


def test_every_fault_of_something_else_is_refused(every: Path, tmp_path: Path) -> None:
    """Would break if units were chosen by another net's counts, by a part of them, or where nothing is corrupted."""
    net, good = counted_net(), json.loads((every / "report.json").read_text())
    (site,) = good["sites"]
    for change, what in (
        ({"ir_digest": "another"}, "of the net another"),
        ({"finished": False, "faults": 3}, r"3 of [\d,]+ faults are there"),
        ({"sites": [{**site, "silent_map": [[0]] * site["units"]}]}, "ranks 0 units"),
        ({"sites": [{**site, "site": "weight:w"}]}, "none of a state"),
        ({"sites": [{}]}, "is no report"),
        ({"options": {"across": "neighbours"}}, "two words each"),
    ):
        (tmp_path / "report.json").write_text(json.dumps(good | change))
        with pytest.raises(UsageError, match=what) as error:
            refused(RtlTarget.of(harden="tmr", protect=str(tmp_path), protect_silent=0.5), net)
        assert error.value.diagnostics[0].hint


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"protect": "x"}, "no mechanism does it"),
        ({"protect": "x", "harden": "tmr", "arch": "serial"}, "the architecture serial has no protect"),
        ({"protect": "x", "harden": "tmr", "protect_share": 0.0}, "must be a finite number above 0 and of at most 1"),
        ({"harden": "tmr", "protect_share": 0.5}, "no campaign ranks the units"),
        ({"harden": "tmr", "protect": "h=1", "protect_share": 0.5}, "no campaign ranks the units"),
        ({"harden": "tmr", "protect": "h=1", "protect_silent": 0.5}, "no campaign ranks the units"),
        ({"protect": "x", "harden": "tmr", "protect_silent": 0.0}, "must be a finite number above 0 and of at most 1"),
        ({"protect": "x", "harden": "tmr", "protect_share": 0.5, "protect_silent": 0.5}, "one of the two shares"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], what: str) -> None:
    """A core without the protection that was asked for looks just like one that has it."""
    with pytest.raises(UsageError, match=what):
        RtlTarget.of(**options)


def test_what_the_engine_has_not_is_refused(tmp_path: Path) -> None:
    """Would break if a mechanism were left out silently, or a unit that is not there accepted."""
    with pytest.raises(UnsupportedError, match="the parallel engine has no watchdog"):
        emitted(RtlTarget.of(arch="parallel", harden="tmr,watchdog"), NET, tmp_path)
    with pytest.raises(UnsupportedError, match="units 3 of state h, the net has 3 of them"):
        ParallelEngine(NET, trace=False, harden=("tmr",), protect={"h": (1, 3)})
    with pytest.raises(UnsupportedError, match="add tmr to --harden"):
        ParallelEngine(NET, trace=False, protect={"h": (1,)})
