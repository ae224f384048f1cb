"""The bench notices mutants of the core: a few here, all of them by `python tests/rtl_mutants.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import rtl_mutants
from rtl_mutant_table import MUTANTS

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
    """The benches of the unchanged core, which pass."""
    made = rtl_mutants.benches(tmp_path_factory.mktemp("mutants"), ["serial"])
    assert [rtl_mutants.passes(bench) for bench in made["serial"]] == [(True, "")] * len(made["serial"])
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
    """A table of other mutants, or of some, says nothing about the bench."""
    rows = rtl_mutants.written()
    assert list(rows) == [m.name for m in MUTANTS]
    assert not [name for name, verdict in rows.items() if "SURVIVES" in verdict]
    equivalent = {m.name: f"equivalent: {m.equivalent}" for m in MUTANTS if m.equivalent}
    assert {name: v for name, v in rows.items() if v.startswith("equivalent")} == equivalent


def test_a_mutation_ends_with_its_block() -> None:
    """A mutated module left behind would make every later test judge a wrong core."""
    from eqcompile.rtl import shell

    with rtl_mutants.mutated(MUTANTS[0]):
        from eqcompile.rtl.shell import Shell

        assert Shell is not shell.Shell
    from eqcompile.rtl.shell import Shell as after

    assert after is shell.Shell
