"""Widths of single states and values, guard bits of single states, and states without a sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from quantize_nets import net, state_errors

from eqcompile.app.cli.console import Parser
from eqcompile.app.cli.widths import add_integers, integers_of
from eqcompile.app.width_words import width_words
from eqcompile.quantization.hoist import hoist
from eqcompile.quantization.lower import lower
from eqcompile.quantization.precision import averages, named_values
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet, State, ops
from eqcompile.toolchain.ir.ops import Op

X = {"x": np.random.default_rng(0).uniform(-1.0, 1.0, (64, 3))}


def pair(kind: str = "tanh", *, damped: bool = True) -> EqNet:
    """Two states: `g` follows the input, slowly; `h` reads it. `pre` is summed for the table `h_new`."""
    weights = np.random.default_rng(1)
    step: list[Op] = [
        ops.Activation(out="g_new", x="drive", kind="tanh"),
        ops.Damp(out="g_next", old="g", new="g_new", alpha=0.1 if damped else 1.0),
        ops.Linear(out="from_g", x="g", weight="V"),
        ops.Linear(out="from_h", x="h", weight="W"),
        ops.Add(out="pre", a="from_g", b="from_h"),
        ops.Activation(out="h_new", x="pre", kind=kind),
    ]
    return net(
        {n: weights.normal(size=(3, 3)) / 3 for n in "AVW"},
        x=(3,),
        states=[State("g", (3,), "g_next"), State("h", (3,), "h_new")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=step,
        output="h",
        steps=40,
    )


def lowered(made: EqNet, **options: Any) -> IntNet:
    return lower(made, QuantizeOptions(**options), calibration=X).net


def bits(made: IntNet) -> dict[str, str]:
    return {s.name: str(made.formats[s.name]) for s in made.states}


def test_a_state_has_its_own_width() -> None:
    """The wider state and all that flows into it are finer; the other state, its table and its sums stay as they were.
    A width that reached the register alone would store eight bits in twelve."""
    made = pair(damped=False)
    plain, wide = lowered(made), lowered(made, states={"h": 12})
    assert (bits(plain), bits(wide)) == ({"g": "i8", "h": "i8"}, {"g": "i8", "h": "i12"})
    errors = [state_errors(n, made, X) for n in (plain, wide)]
    assert errors[1]["h"].max() < errors[0]["h"].max() / 2
    assert np.array_equal(errors[1]["g"], errors[0]["g"])
    tables = {op.out: op for op in wide.step if isinstance(op, ops.Lookup)}
    assert np.abs(wide.param(tables["h_new"].table)).max() > 1 << 10
    assert np.array_equal(wide.param(tables["g_new"].table), plain.param(tables["g_new"].table))


def test_equal_widths_by_name_are_the_common_width() -> None:
    """Two spellings of one request give one net."""
    made = pair()
    assert lowered(made, state_bits=11, input_bits=8) == lowered(made, states={"g": 11, "h": 11}, state_bits=11)
    named = lowered(made, states={"g": 11, "h": 11})
    assert bits(named) == {"g": "i11", "h": "i11"}


def test_a_value_has_its_own_bits() -> None:
    """What a table reads may be coarser than what it gives: fewer entries, the same register."""
    made = pair()
    plain, coarse = lowered(made), lowered(made, states={"pre": 5})
    assert bits(coarse) == bits(plain)
    sizes = [
        len(n.param(op.table))
        for n in (plain, coarse)
        for op in n.step
        if isinstance(op, ops.Lookup) and op.out == "h_new"
    ]
    assert sizes[1] <= sizes[0] / 4
    rows = {r["name"]: r for r in lower(made, QuantizeOptions(states={"pre": 5}), calibration=X).choices}
    assert rows["pre"] == {"what": "value", "name": "pre", "bits": 5, "sums_frac": 6}


def test_guard_bits_of_one_state() -> None:
    """By name, by number for all, and 0 for one that is to have none; the report says which state has how many."""
    made = pair()
    assert lowered(made, guards={"g": 2}) == lowered(made, guard_bits=2)
    assert lowered(made, guard_bits=2, guards={"g": 0}) == lowered(made)
    rows = lower(made, QuantizeOptions(guards={"g": 3}), calibration=X).choices
    assert {r["name"]: r.get("guard_bits") for r in rows if r["what"] == "state"} == {"g": 3, "h": None}


def test_more_guard_bits_than_sums_have_reach_an_euler_step() -> None:
    """A sum that is set from a state with guard bits must not be coarser than the state."""
    made = net(
        {"A": np.eye(3), "k": np.full(3, 0.05)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Activation(out="new", x="drive", kind="tanh"),
            ops.Sub(out="gap", a="new", b="h"),
            ops.Scale(out="part", x="gap", factor=0.05),
            ops.Add(out="next", a="h", b="part"),
        ],
        output="h",
        steps=120,
    )
    errors = [state_errors(lowered(made, guard_bits=g), made, X)["h"][-1].max() for g in (0, 2, 4)]
    assert errors[2] < errors[1] / 2 < errors[0] / 4


def test_all_unknown_names_are_said_at_once() -> None:
    """Names of states, of slow states and of weights, and a width out of range, in one error."""
    options = QuantizeOptions(states={"k": 9, "h": 99}, guards={"h": 2, "q": 1}, widths={"Z": "int4"})
    with pytest.raises(UsageError) as caught:
        lower(pair(), options, calibration=X)
    told = [f"{d.what}; {d.hint}" for d in caught.value.diagnostics]
    assert told == [
        "states of h is 99, must be a whole number from 2 to 16; ",
        "'Z' stands for no weight of this net; its weights: A, V, W",
        (
            "'k' is no state of this net, and no value that has a width of its own; "
            "its states: g, h; its values: drive, g_new, pre, h_new"
        ),
        "'h' is no state that averages; states that average: g",
        "'q' is no state of this net; states that average: g",
    ]
    hoisted, _ = hoist(pair())
    assert named_values(hoisted) == ("drive", "g_new", "pre", "h_new")
    assert set(averages(hoisted)) == {"g"}


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_a_state_between_0_and_1_has_no_sign(kind: str) -> None:
    """All bits of a state that is proved to lie in [0, 1] are fraction: half the step in the same register. A state
    that may be negative keeps its sign."""
    made = pair(kind)
    plain = lowered(made)
    state = next(s for s in plain.states if s.name == "h")
    assert (str(plain.formats["h"]), state.frac) == (("u8", 8) if kind == "sigmoid" else ("i8", 7))
    [table] = [op for op in plain.step if isinstance(op, ops.Lookup) and op.out == "h_new"]
    lo, hi = int(plain.param(table.table).min()), int(plain.param(table.table).max())
    assert (0 <= lo and 240 < hi <= 255) if kind == "sigmoid" else (lo < 0 and hi <= 127)


def test_a_damped_state_between_0_and_1_has_no_sign() -> None:
    """The average of values in [0, 1] lies there; its guard bits are fraction, too."""
    made = net(
        {"A": np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Activation(out="new", x="drive", kind="sigmoid"),
            ops.Damp(out="next", old="h", new="new", alpha=0.25),
        ],
        output="h",
        steps=30,
    )
    assert bits(lowered(made)) == {"h": "u8"}
    assert bits(lowered(made, guard_bits=2, states={"h": 6})) == {"h": "u8"}
    errors = [state_errors(lowered(made, guard_bits=g), made, X)["h"][-1].max() for g in (0, 2)]
    assert errors[1] < errors[0]


def test_a_calibrated_range_takes_no_sign_away() -> None:
    """That no negative number was seen proves nothing: such a state keeps its sign."""
    made = net(
        {"A": np.full((3, 3), 0.1)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[ops.Scale(out="kept", x="h", factor=1.0), ops.Add(out="next", a="kept", b="drive")],
        output="h",
        steps=3,
    )
    seen = {"x": np.random.default_rng(0).uniform(0.1, 0.2, (16, 3))}
    assert lower(made, QuantizeOptions(), calibration=seen).net.formats["h"].signed


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["--states", "h0=12,h1=10"], {"states": {"h0": 12, "h1": 10}}),
        (
            ["--states", "h0=12", "--states", "h1=10", "--state-bits", "6"],
            {"states": {"h0": 12, "h1": 10}, "state_bits": 6},
        ),
        (["--guard-bits", "2"], {"guard_bits": 2}),
        (["--guard-bits", "2,h0=0"], {"guard_bits": 2, "guards": {"h0": 0}}),
        (["--guard-bits", "h0=1"], {"guards": {"h0": 1}}),
        (["--weights", "int4", "--weights", "W=int2"], {"weights": "int4", "widths": {"W": "int2"}}),
    ],
)
def test_the_command_line_names_states(argv: list[str], options: Mapping[str, Any]) -> None:
    """What is written is asked for, and the words that are printed for a net ask for it again."""
    parser = Parser(prog="p", description="", examples="")
    add_integers(parser, "integers", weights_default="int8")
    asked = integers_of(parser.parse_all(argv))
    assert asked == QuantizeOptions(**options)
    words = width_words(asked.states, asked.guard_bits, asked.guards)
    again = integers_of(parser.parse_all(words))
    assert (again.states, again.guard_bits, again.guards) == (asked.states, asked.guard_bits, asked.guards)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--states", "12"], "--state-bits N is for all states"),
        (["--states", "h0=1"], "a whole number from 2 to 16"),
        (["--states", "h0=12,,h1=9"], "NAME=N"),
        (["--guard-bits", "=2"], r"\[STATE=\]N"),
        (["--guard-bits", "5"], "a whole number from 0 to 4"),
        (["--states", "h0=9,h0=8"], "--states is given twice for h0"),
    ],
)
def test_the_command_line_refuses(argv: list[str], message: str) -> None:
    """A width that is read as another, or not at all, would pass for chosen."""
    parser = Parser(prog="p", description="", examples="")
    add_integers(parser, "integers", weights_default=None)
    with pytest.raises(UsageError, match=message):
        integers_of(parser.parse_all(argv))
