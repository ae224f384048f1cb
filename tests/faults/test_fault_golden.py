"""The golden engine: known numbers, and golden's own bits where nothing is disturbed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from strategies import random_inputs, random_net, small_net

from eqcompile.sim.faults.engine import Outcome, Session
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.table import Fault, FaultTable, parse_fault
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import Format, IntNet, Output

IDENTITY = list(range(-128, 128))


def loop(**changes: object) -> IntNet:
    """`h <- h + x` in one unit, five steps: with x = 1 the codes 1, 2, 3, 4, 5."""
    net = small_net([[1]], table=IDENTITY, first=-128, steps=5)
    return replace(net, **changes) if changes else net


def session(net: IntNet, x: int = 1) -> Session:
    return GoldenEngine().open(net, {"x": np.array([[x]])}, near=1)


def codes(upsets: str, net: IntNet | None = None, x: int = 1) -> list[int]:
    return session(net or loop(), x).trace(parse_fault(f"0/any.0.0/{upsets}"))["h"].ravel().tolist()


@pytest.mark.parametrize(
    ("upsets", "want"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("state:h[0]^8@2", [1, 2, 11, 12, 13]),
        ("state:h[0]^80@4", [1, 2, 3, 4, -123]),
        ("state:h[0]+7@5", [1, 2, 3, 4, 5]),
        ("state:h[0]|10@1-3", [1, 18, 19, 20, 21]),
        ("state:h[0]~ff@0-5", [1, 1, 1, 1, 1]),
        ("value:w[0]^4@1", [1, 6, 7, 8, 9]),
        ("value:w[0]^4@1!", [1, 6, 7, 8, 9]),
        ("value:w[0]^4@1-2!", [1, 6, 11, 12, 13]),
        ("value:w[0]+4@1-4!", [1, 6, 11, 16, 21]),
        ("value:y[0]^2@4", [1, 2, 3, 4, 7]),
        ("param:W[0]^1@3-4", [1, 2, 3, 1, 1]),
        ("param:T[130]^40@1", [1, 66, 67, 68, 69]),
        ("state:h[0]^1@1;state:h[0]+1@1", [1, 2, 3, 4, 5]),
    ],
)
def test_known_numbers(upsets: str, want: list[int]) -> None:
    """What each kind of upset does, tick by tick, by hand: a shift by one tick or a lost window would show."""
    assert codes(upsets) == want


@pytest.mark.parametrize(
    ("upsets", "want"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("state:h[0]^80@4", [1, 2, 3, 4, 133]),
        ("state:h[0]|80@1-3", [1, 130, 131, 132, 133]),
        ("state:h[0]|f0@1", [1, 242, 243, 244, 245]),
        ("value:y[0]^80@4", [1, 2, 3, 4, 133]),
    ],
)
def test_a_state_without_a_sign_has_no_negative_upset(upsets: str, want: list[int]) -> None:
    """Its highest bit is worth 128, not -128, by hand."""
    net = small_net([[1]], table=list(range(256)), first=0, steps=5, state=Format(8, False))
    assert codes(upsets, net) == want


def test_a_disturbed_value_wraps_at_its_format() -> None:
    """The sum of h = 127 and x = 1 has 9 bits and the table saturates; a disturbed sum is cut to its width."""
    assert str(loop().formats["a"]) == "i9"
    assert codes("state:h[0]+127@1", x=100) == [100, 127, 127, 127, 127]
    assert codes("value:a[0]+200@1", x=100) == [100, -112, -12, 88, 127]


@pytest.mark.parametrize(
    ("upsets", "want"),
    [
        ("", (Outcome.MASKED, 0, 0, 0, 0, False)),
        ("state:h[0]+3@5", (Outcome.NEAR, 0, 0, 0, 0, True)),
        ("state:h[0]^8@2", (Outcome.UNSETTLED, -1, 8, 8, 1, True)),
        ("value:y[0]^4@0;value:y[0]-4@1", (Outcome.HEALED, 1, 4, 0, 0, False)),
        ("value:y[0]^2@4", (Outcome.UNSETTLED, -1, 2, 2, 1, True)),
        ("value:y[0]+1@4", (Outcome.NEAR, -1, 1, 1, 1, True)),
    ],
)
def test_known_results(upsets: str, want: tuple[Outcome, int, int, int, int, bool]) -> None:
    """Columns of the result follow from the codes that ticks latch; an upset after the last shows in the readout."""
    row = session(loop()).run(FaultTable.of([parse_fault(f"0/any.0.0/{upsets}")]))[0]
    # What hardware reports comes last: golden has none.
    assert (Outcome(row["outcome"]), *row.tolist()[2:]) == (*want, False, 0, 0)
    assert row["label"] == -1


def test_a_changed_label_is_silent_corruption() -> None:
    """Labels are the largest of a classes output, ties to the lowest index, before and after."""
    net = small_net([[1, 0], [0, 1]], table=IDENTITY, first=-128, steps=2)
    net = replace(net, outputs=(Output("o", "h", "classes", 1.0),))
    opened = GoldenEngine().open(net, {"x": np.array([[3, 3]])}, near=0)
    table = FaultTable.of([parse_fault("0/a.0.0/state:h[1]+1@2"), parse_fault("0/a.0.0/state:h[0]+1@2")])
    rows = opened.run(table)
    assert rows["label"].tolist() == [1, 0]
    assert rows["outcome"].tolist() == [Outcome.SDC, Outcome.NEAR]


@pytest.mark.parametrize("seed", range(30))
def test_without_upsets_it_is_golden(seed: int) -> None:
    """The hook must not change what golden computes, frames and repeats included."""
    rng = random.Random(seed)
    net = random_net(rng)
    inputs = random_inputs(net, rng, batch=2)
    exact = replace(net, schedule=replace(net.schedule, tolerance=0))
    want = golden.run(exact, inputs)
    opened = GoldenEngine().open(net, inputs, near=0)
    for sample in range(2):
        found = opened.trace(Fault(sample, "none", -1, -1, ()))
        for name, states in found.items():
            np.testing.assert_array_equal(states, want.states[name][:, sample])
            np.testing.assert_array_equal(states, opened.clean(sample)[name])
    rows = opened.run(FaultTable.of(Fault(s, "none", -1, -1, ()) for s in range(2)))
    assert rows["outcome"].tolist() == [Outcome.MASKED] * 2


@pytest.mark.parametrize(
    ("upsets", "code"),
    [
        ("state:g[0]^1@0", "fault-word"),
        ("value:h[0]^1@0", "fault-word"),
        ("state:h[1]^1@0", "fault-range"),
        ("state:h[0]^1@6", "fault-range"),
        ("state:h[0]^100@0", "fault-bit"),
        ("state:h[0]^1@0!", "fault-held"),
    ],
)
def test_what_the_net_does_not_have_is_refused(upsets: str, code: str) -> None:
    """A fault that names no word must not run as another, nor as none."""
    with pytest.raises(UsageError) as caught:
        session(loop()).run(FaultTable.of([parse_fault(f"0/a.0.0/{upsets}")]))
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_a_sample_that_is_no_input_is_refused() -> None:
    """Both numbers, so that the caller sees which of them is wrong."""
    with pytest.raises(UsageError, match="sample 1, there are 0 to 0"):
        session(loop()).run(FaultTable.of([parse_fault("1/a.0.0/state:h[0]^1@0")]))
