"""The table of faults: an id is the fault, a row is the fault."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset, parse_fault
from eqcompile.toolchain.diagnostics import UsageError

WORDS = st.integers(0, 2**32 - 1)


@st.composite
def upsets(draw: st.DrawFn) -> Upset:
    first = draw(st.integers(0, 40))
    bits = {key: draw(WORDS) for key in ("flip", "one", "zero")}
    add = draw(st.integers(-1000, 1000))
    if not any(bits.values()) and not add:
        bits["flip"] = 1
    return Upset(
        place=draw(st.sampled_from(Place)),
        name=draw(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True)),
        index=draw(st.integers(0, 2**31 - 1)),
        first=first,
        last=first + draw(st.integers(0, 40)),
        add=add,
        held=draw(st.booleans()),
        **bits,
    )


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    return Fault(
        sample=draw(st.integers(0, 10_000)),
        site=draw(st.from_regex(r"[a-z][a-z:._]{0,12}", fullmatch=True)),
        unit=draw(st.integers(-1, 500)),
        bit=draw(st.integers(-1, 31)),
        upsets=tuple(draw(st.lists(upsets(), min_size=1, max_size=3))),
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(faults())
def test_an_id_is_read_back_as_the_same_fault(fault: Fault) -> None:
    """One id replays identically on every engine: nothing of the fault is lost in its text."""
    assert parse_fault(str(fault)) == fault


@settings(max_examples=40, deadline=None)
@given(st.lists(faults(), max_size=5))
def test_rows_are_the_faults_they_were_made_of(held: list[Fault]) -> None:
    """Columns are the same faults, and a selection of rows takes the upsets of these rows alone."""
    table = FaultTable.of(held)
    assert list(table) == held
    order = np.array(sorted(range(len(held)), key=lambda i: (i * 7) % 5), np.intp)
    taken = table.take(order)
    assert list(taken) == [held[i] for i in order]
    assert len(taken.upsets) == sum(len(f.upsets) for f in held)


@pytest.mark.parametrize(
    "text", ["", "1/h", "1/h.0.0/state:h[0]@3x", "1/h.0.0/state:h[0]^4@5;what", "1/h.0.0/state:h[0]@5", "x"]
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    """A mistyped id must not run as another fault, or as none."""
    with pytest.raises(UsageError):
        parse_fault(text)
