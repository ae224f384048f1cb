"""Faults in cores of the processor through the engine: program words and bank words, with hardening and without."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from emitting import refused
from fault_sessions import instrumented
from strategies import small_net

from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.rtl.engine import RtlEngine, RtlSession
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import Schedule

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
INPUTS = {"x": np.array([[3, -7, 5], [100, 0, -128], [-3, 70, 50]])}
HARDEN = "secded,tmr,watchdog"
MEMORIES = r"engine\.logic\.(program|weights|columns|table_0)\.(ram\.)?words(\.\d+)?"
CODED, CHECKED = MEMORIES.replace("|columns|table_0", ""), MEMORIES.replace("program|weights|", "")
"""Under SECDED, and under parity."""


def opened(**options: Any) -> RtlSession:
    return RtlEngine(instrumented("rtl", NET, {"arch": "processor", **options})).open(NET, INPUTS, near=1)


def flips(session: RtlSession, names: str, mask: int, clocks: range) -> FaultTable:
    """Flips of `mask` in each word that a regular expression names, in these clocks, in turn of each sample."""
    texts = [
        f"{clock % 3}/a.0.0/core:{name}[{row}]^{mask:x}@{clock}"
        for name, cell in session.translator.cells.items()
        for row in range(cell.rows)
        for clock in clocks
        if re.fullmatch(names, name)
    ]
    assert texts, names
    return FaultTable.of([parse_fault(text) for text in texts])


@pytest.mark.simulator
def test_program_words_are_sites_and_hardening_repairs_them() -> None:
    """A campaign that cannot reach the program reports a core that never fails; one bit there is repaired, two give
    no result, and no upset of the sequencer hangs."""
    bare, hard = opened(), opened(harden=HARDEN)
    rows = bare.run(flips(bare, MEMORIES, 1, range(10, 160, 40)))
    assert {*rows["outcome"].tolist()} > {Outcome.MASKED}
    rows = hard.run(flips(hard, CODED, 1, range(10, 160, 40)))
    assert {*rows["outcome"].tolist()} == {Outcome.MASKED}
    assert (rows["corrected"] > 0).any()
    for names, mask in ((CODED, 3), (CHECKED, 1)):
        rows = hard.run(flips(hard, names, mask, range(10, 160, 40)))
        assert {*rows["outcome"].tolist()} == {Outcome.MASKED, Outcome.DETECTED}, names
    sequencer = flips(hard, r"(\w+\.)*vote_copy_1\.vote1_(pc|record|sequencer_state)", 1, range(5, 160, 10))
    assert {*hard.run(sequencer)["outcome"].tolist()} == {Outcome.MASKED}
    # What golden's codes depend on without votes.
    names = r"engine\.logic\.(pc|record|sequencer_state)(\.0)?"
    lost = [bare.run(flips(bare, names, mask, range(5, 160, 10)))["outcome"] for mask in (1, 2, 4)]
    assert Outcome.HANG in np.concatenate(lost)
    # Words of the net that lie in an image have no saboteur of their own.
    weight = next(iter(SeuModel(sites="weight").exhaustive(NET, INPUTS)))
    with pytest.raises(UsageError, match="lies in memories of a processor"):
        bare.run(FaultTable.of([weight]))


def test_campaigns_of_sequences_are_refused() -> None:
    """Clocks of a fault count from the first beat of a sample, which has one frame."""
    framed = replace(NET, schedule=Schedule(5, frames=True))
    (fault,) = refused(RtlTarget.of(arch="processor", saboteurs=True), framed)
    assert fault.code == "rtl-saboteurs"
