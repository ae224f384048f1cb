"""The bench notices mutants of the core: a few here, all of them by `python tests/support/rtl_mutants.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import rtl_mutants
from rtl_mutant_table import MUTANTS

# One worker builds what all tests here share.
pytestmark = pytest.mark.xdist_group("rtl_mutants")

HERE = (
    "output zero-extended",
    "no rounding",
    "column address off by one",
    "signs exchanged",
    "weights loaded while busy",
)
"""One of the shell, the datapath, the serial engine, ternary weights and the weight load."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The benches of the unchanged core, which pass: the first one of them in test_verilog.py."""
    made = rtl_mutants.benches(tmp_path_factory.mktemp("mutants"), ["serial"])
    assert [rtl_mutants.passes(bench) for bench in made["serial"][1:]] == [(True, "")] * (len(made["serial"]) - 1)
    return made


@pytest.mark.simulator
@pytest.mark.parametrize("name", HERE)
def test_a_mutant_is_noticed(name: str, whole: dict[str, list[Path]]) -> None:
    """A bench that passes a wrong core proves nothing about a right one."""
    (mutant,) = [m for m in MUTANTS if m.name == name]
    found = rtl_mutants.judged(mutant, whole)
    assert not found.same
    assert found.by not in ("", "elaboration")


def test_every_mutation_changes_a_line_that_is_there() -> None:
    """A mutation of a line that was since rewritten would be counted and never made."""
    assert len(MUTANTS) >= 40
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.old != mutant.new
        with rtl_mutants.mutated(mutant):
            pass


def test_the_written_table_is_of_these_mutants() -> None:
    """A table of other mutants, or of some, or with counts that its rows do not give, says nothing about the bench."""
    rows = rtl_mutants.written()
    assert list(rows) == [m.name for m in MUTANTS]
    assert not {n: v for n, v in rows.items() if v.startswith((rtl_mutants.SURVIVES, rtl_mutants.NOT_RUN))}
    assert rtl_mutants.table(rows) == rtl_mutants.TABLE.read_text(encoding="utf-8")
    equivalent = {m.name: f"equivalent: {m.equivalent}" for m in MUTANTS if m.equivalent}
    assert {name: v for name, v in rows.items() if v.startswith("equivalent")} == equivalent


def test_the_results_count_what_the_table_does() -> None:
    """A count typed by hand stays when the mutants change."""
    text = (rtl_mutants.TABLE.parents[2] / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert rtl_mutants.summary(rtl_mutants.written()) in " ".join(text.split())


def test_a_line_that_no_core_has_counts_as_not_noticed() -> None:
    """A mutation that changes nothing would pass for one that is noticed, or for an equivalent one."""
    plain = next(m for m in MUTANTS if not m.equivalent)
    claimed = next(m for m in MUTANTS if m.equivalent and not m.same)
    identical = next(m for m in MUTANTS if m.same)
    found = [rtl_mutants.Verdict(m, "", same, 0.0) for m in (plain, claimed, identical) for same in (True, False)]
    assert [v.survives for v in found] == [True, True, True, False, False, False]
    assert {v.text for v in found if v.same and v.survives} == {"SURVIVES: not in the core"}


def test_a_mutation_ends_with_its_block() -> None:
    """A mutated module left behind would make every later test judge a wrong core."""
    from eqcompile.rtl import shell

    with rtl_mutants.mutated(MUTANTS[0]):
        from eqcompile.rtl.shell import Shell

        assert Shell is not shell.Shell
    from eqcompile.rtl.shell import Shell as after

    assert after is shell.Shell
