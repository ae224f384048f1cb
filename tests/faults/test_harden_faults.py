"""Faults in hardened cores through the engine: what is reported, repaired, missed; and what a lost mechanism misses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import rtl_mutants
from amaranth import Const, Module
from fault_sessions import instrumented
from rtl_mutant import Mutant
from strategies import small_net

from eqcompile.rtl.harden.mechanisms import FLAGS
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.models.core import CoreModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.rtl.engine import RtlEngine, RtlSession
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import SimulatorError, UsageError

# One worker builds what all tests here share.
pytestmark = [pytest.mark.simulator, pytest.mark.xdist_group("harden_faults")]

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
INPUTS = {"x": np.array([[3, -7, 5], [100, 0, -128], [-3, 70, 50]])}
FOUND: dict[str, Any] = {"arch": "serial", "lanes": 2, "harden": "watchdog,safe-fsm,parity,residue"}
"""What tells."""
REPAIRED: dict[str, Any] = {"arch": "serial", "lanes": 2, "harden": "secded,tmr"}
"""What repairs."""


def opened(core: dict[str, Any]) -> RtlSession:
    return RtlEngine(instrumented("rtl", NET, core)).open(NET, INPUTS, near=1)


@pytest.fixture(scope="module")
def found() -> RtlSession:
    return opened(FOUND)


@pytest.fixture(scope="module")
def repaired() -> RtlSession:
    return opened(REPAIRED)


@contextmanager
def lost() -> Iterator[None]:
    """Each hook of a mechanism disconnected; what it belongs to is built all the same."""
    unknown = Mutant("encodings untold", "serial.hardening", 'alarms["safe-fsm"] = unknown', "pass")
    with rtl_mutants.mutated(unknown), ExitStack() as stack:
        from eqcompile.rtl.harden import codes, tmr, watchdog
        from eqcompile.rtl.serial import hardening

        def unrepaired(self: Any, m: Module, word: Any) -> Any:
            return codes.Checked(word[: self.width], word, Const(0, 1), Const(0, 1))

        for owner, name, instead in (
            (hardening, "_residues", lambda core: Const(0, 1)),
            (codes.Parity, "read", unrepaired),
            (codes.Secded, "read", unrepaired),
            (watchdog.Watchdog, "elaborate", lambda self, platform: Module()),
            (tmr, "majority", lambda a, b, c: a),
        ):
            stack.enter_context(mock.patch.object(owner, name, instead))
        yield


@pytest.fixture(scope="module")
def blind() -> RtlSession:
    with lost():
        return opened(FOUND)


@pytest.fixture(scope="module")
def bare() -> RtlSession:
    with lost():
        return opened(REPAIRED)


def core_flips(session: RtlSession, names: str, mask: int = 1, *, clocks: range = range(0, 110, 3)) -> FaultTable:
    """Flips of `mask` in each register and each word that a regular expression names, in these clocks, in turn of each
    sample."""
    texts = [
        f"{clock % 3}/a.0.0/core:{name}[{row}]^{mask:x}@{clock}"
        for name, cell in session.translator.cells.items()
        for row in range(cell.rows)
        for clock in clocks
        if re.fullmatch(names, name)
    ]
    assert texts, names
    return FaultTable.of([parse_fault(text) for text in texts])


def net_faults(session: RtlSession, sites: str, **options: Any) -> FaultTable:
    """All upsets of one bit that the core can be given."""
    kept = []
    for fault in SeuModel(sites=sites, **options).exhaustive(NET, INPUTS):
        try:
            session.translator.rows([fault])
        except UsageError:
            continue
        kept.append(fault)
    return FaultTable.of(kept)


def told(session: RtlSession, rows: Any) -> set[str]:
    """What is said of any of the faults, by name."""
    return {n for bit, n in enumerate(session.mechanisms) for flags in rows["flags"] if flags >> bit & 1}


def golden_of(table: FaultTable) -> Any:
    return GoldenEngine().open(NET, INPUTS, near=1).run(table)


def test_without_a_fault_they_are_golden_and_say_nothing(found: RtlSession, repaired: RtlSession) -> None:
    """A check that disagrees with a sound core, or a saboteur that disturbs it unasked."""
    want = golden.run(NET, INPUTS)
    for session in (found, repaired):
        got = session.undisturbed
        assert session.mechanisms == FLAGS
        assert all((got.states[n] == v).all() for n, v in want.states.items())
        assert all((got.outputs[n] == v).all() for n, v in want.outputs.items())
        assert not any(v.any() for v in (got.hung, got.aborted, got.flags, got.corrected))
        for wrong in ("hung", "aborted", "flags", "corrected"):
            said = replace(got, **{wrong: np.ones(len(got.hung), int)})
            with mock.patch.object(RtlSession, "injected", lambda self, rows, said=said: said):
                with pytest.raises(SimulatorError, match="without a fault"):
                    session._run_clean()


def test_every_part_of_a_hardened_core_can_be_upset(found: RtlSession, repaired: RtlSession) -> None:
    """A mechanism that is never upset looks better than it is: check bits, remainders, copies, the guard."""
    models = [CoreModel(clocks=9).on(session.core) for session in (found, repaired)]
    names = {s.target for model in models for s in model.population(NET, INPUTS).sites}
    assert names == {n for s in (found, repaired) for n, cell in s.translator.cells.items() if cell.kind != "rom"}
    assert {"engine.table.ram.words", "engine.applier.residues0.words", "engine.h_codes_0.ram.words"} < names
    assert {"guard.watchdog.count", "guard.flags", "engine.vote_copy_1.vote1_phase", "engine.entries_0.at"} < names
    plan = RtlTarget.of(arch="serial", lanes=2, trace=True, saboteurs=True).require_plan(NET)
    assert isinstance(plan, RtlPlan)
    plain = {s["name"]: s for s in plan.saboteur_sites()}
    cells = found.translator.cells
    assert cells["engine.entries_0.ram.words"].bits == plain["engine.entries_0.words"]["bits"] + 1
    # Room that the delivered core has not is no site.
    weights = json.loads((found.core / "core.json").read_text())["inject"]["weights"]
    assert cells["engine.entries_0.ram.words"].rows < weights["capacity"]


@pytest.mark.parametrize(
    "options", [{"sites": "state"}, {"sites": "accumulator"}, {"sites": "accumulator", "accumulators": "event"}]
)
def test_remainders_tell_of_states_and_sums(found: RtlSession, blind: RtlSession, options: dict[str, Any]) -> None:
    """Every upset of one bit of a code or a sum is found; where the check is cut, it goes golden's way unnoticed."""
    table = net_faults(found, **options)
    assert len(table) > 300
    rows = found.run(table)
    assert set(rows["outcome"].tolist()) == {Outcome.DETECTED}
    assert rows["aborted"].all()
    assert told(found, rows) == {"residue"}
    want = golden_of(table)
    np.testing.assert_array_equal(blind.run(table), want)
    assert Outcome.DETECTED not in want["outcome"]


def test_a_wrong_weight_is_told_or_repaired(
    found: RtlSession, blind: RtlSession, repaired: RtlSession, bare: RtlSession
) -> None:
    """A weight that is loaded wrong has right check bits: no code would see it, and coverage would look worse."""
    table = net_faults(found, "weight")
    assert len(table) > 50
    want = golden_of(table)
    # What no run reads, nobody may have read yet.
    read = want["outcome"] != Outcome.MASKED
    assert read.sum() > 10
    rows = found.run(table)
    assert set(rows["outcome"][read].tolist()) == {Outcome.DETECTED}
    assert rows["aborted"][read].all()
    assert told(found, rows) == {"weights"}
    rows = repaired.run(table)
    assert set(rows["outcome"].tolist()) == {Outcome.MASKED}
    assert (rows["corrected"][read] > 0).all()
    assert not told(repaired, rows)
    for session in (blind, bare):
        np.testing.assert_array_equal(session.run(table), want)


def test_two_bits_of_a_stored_word_are_told_by_the_code(repaired: RtlSession, bare: RtlSession) -> None:
    """SECDED repairs one and finds two; what it took for one would be stored wrong for good."""
    words = r"engine\.(entries_0|table)\.ram\.words"
    one, two = (core_flips(repaired, words, mask, clocks=range(0, 100, 20)) for mask in (1, 3))
    rows = repaired.run(one)
    assert set(rows["outcome"].tolist()) == {Outcome.MASKED}
    assert (rows["corrected"] > 0).mean() > 0.5
    rows = repaired.run(two)
    assert told(repaired, rows) == {"weights"}
    assert not set(rows["outcome"].tolist()) - {Outcome.DETECTED, Outcome.MASKED}
    # A word that only the scrubber reads is told of, and the run goes on.
    assert (rows["aborted"] & (rows["flags"] > 0)).any()
    assert (~rows["aborted"] & (rows["flags"] > 0)).any()
    for table in (one, two):
        rows = bare.run(table)
        assert not rows["corrected"].any()
        assert Outcome.DETECTED not in rows["outcome"]
        assert set(rows["outcome"].tolist()) > {Outcome.MASKED}


def test_a_lost_sequencer_is_told_and_does_not_hang(found: RtlSession, blind: RtlSession) -> None:
    """An encoding of no phase is found at once, a phase that waits for ever by the watchdog."""
    bits = range(found.translator.cells["engine.phase"].bits)
    table = FaultTable.of(f for bit in bits for f in core_flips(found, r"engine\.phase", 1 << bit))
    rows = found.run(table)
    assert {"safe-fsm", "watchdog"} <= told(found, rows)
    assert Outcome.HANG not in rows["outcome"]
    rows = blind.run(table)
    assert told(blind, rows) <= {"watchdog"}
    assert Outcome.HANG in rows["outcome"]


def test_votes_repair_silently(repaired: RtlSession, bare: RtlSession) -> None:
    """A copy that is upset must not be seen anywhere; of copies that nobody outvotes many are."""
    table = core_flips(repaired, r"(\w+\.)*vote_copy_0\.vote0_\w+(#\d+)?", clocks=range(5, 110, 20))
    assert len(table) > 200
    rows = repaired.run(table)
    assert set(rows["outcome"].tolist()) == {Outcome.MASKED}
    assert not rows["flags"].any()
    assert {Outcome.HANG, Outcome.OTHER} <= set(bare.run(table)["outcome"].tolist())


def test_a_run_that_was_aborted_leaves_nothing_behind(found: RtlSession) -> None:
    """Flags, half a frame, or a weight that is still wrong would be blamed on the next fault."""
    tables = [net_faults(found, "state"), net_faults(found, "weight"), core_flips(found, r"engine\.phase")]
    faults = [f for table in tables for f in list(table)[::7]]
    late = [parse_fault(f"{i % 3}/a.0.0/state:h[0]^1@6") for i in range(len(faults))]
    mixed = FaultTable.of(f for pair in zip(faults, late, strict=True) for f in pair)
    rows = found.run(mixed)
    backwards = np.arange(len(mixed))[::-1]
    np.testing.assert_array_equal(found.run(mixed.take(backwards)), rows[backwards])
    assert Outcome.DETECTED in rows["outcome"][::2]


def test_a_stuck_sum_is_refused(found: RtlSession) -> None:
    """Behind its check it would never be found; before it the core cannot be given it."""
    with pytest.raises(UsageError, match="of a sum that has a check one tick is disturbed"):
        found.translator.rows([parse_fault("0/a.0.0/value:w[0]|4@1-4")])
