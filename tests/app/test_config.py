"""The integers of a net as a dictionary: handed back the same, changed others, and wrong entries told."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eqcompile as eq
from eqcompile.quantization.config import config_of, options_of
from eqcompile.toolchain.options import FLOAT_WEIGHTS, QuantizeOptions

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
NETS = ("digits_looped.pt", "digits_ternary.pt", "digits_lazy.pt")


@cache
def model(name: str) -> eq.Model:
    return eq.load(CHECKPOINTS / name)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[eq.Model, dict[str, Any]]:
    """A net, and its dictionary with other entries."""
    net = model(draw(st.sampled_from(NETS)))
    config: dict[str, Any] = json.loads(json.dumps(config_of(net.net, QuantizeOptions())))
    for name in config["weights"]:
        config["weights"][name] = draw(st.sampled_from(FLOAT_WEIGHTS))
    for entry in config["states"].values():
        entry["bits"] = draw(st.integers(4, 12))
        if "guard_bits" in entry:
            entry["guard_bits"] = draw(st.integers(0, 4))
    for entry in config["values"].values():
        entry["bits"] = draw(st.none() | st.integers(6, 12))
    config["inputs"] = {"bits": draw(st.integers(4, 10)), "range": draw(st.sampled_from(([-1.0, 1.0], [0.0, 2.0])))}
    config["per_row"], config["tolerance"] = draw(st.booleans()), draw(st.integers(0, 3))
    return net, config


@settings(deadline=None, max_examples=20)
@given(configurations())
@pytest.mark.slow
def test_a_configuration_handed_back_is_the_same(drawn: tuple[eq.Model, dict[str, Any]]) -> None:
    """An entry that is lost or read as another one changes bits that nobody asked for."""
    net, config = drawn
    first = eq.quantize(net, config=config)
    assert first.config() == config
    again = eq.quantize(net, config=json.loads(json.dumps(first.config())))
    assert again.net == first.net
    assert again.config() == config


def test_options_and_configuration_give_one_net() -> None:
    """The dictionary of a net would describe another net."""
    net = model("digits_lazy.pt")
    q = eq.quantize(net, weights="int5", state_bits=9, guard_bits=2, per_row=False, input_range=(0.0, 1.0))
    assert eq.quantize(net, config=q.config()).net.digest == q.net.digest


def test_an_entry_that_is_changed_changes_the_net() -> None:
    """An entry without effect is worse than none."""
    net = model("digits_looped.pt")
    config = eq.quantize(net).config()
    reference = eq.quantize(net, config=config).net.digest
    changes: tuple[tuple[str, Any], ...] = (
        ("weights", {"W_rec_weight": "int4"}),
        ("states", {"h": {"bits": 7}}),
        ("values", {"pre": {"bits": 12}}),
        ("inputs", {"bits": 6}),
        ("per_row", False),
        ("tolerance", 2),
    )
    for part, change in changes:
        base = config[part]
        changed = {**config, part: {**base, **change} if isinstance(base, dict) else change}
        assert eq.quantize(net, config=changed).net.digest != reference, part


def test_every_wrong_entry_is_told_in_one_run() -> None:
    """One run per mistake would be needed."""
    wrong = {
        "weights": {"W_rec_weight": "int9", "nothing": "int4"},
        "states": {"h": {"bits": 99, "width": 3, "guard_bits": 1.5}, "g": {"bits": 3}},
        "values": {"h": {"bits": 3}, "pre": 4},
        "inputs": {"bits": True, "range": [1]},
        "per_row": "yes",
        "keep_labels": "all",
        "rounding": "even",
    }
    with pytest.raises(eq.EqcompileError) as caught:
        options_of(model("digits_looped.pt").net, wrong)
    places = {(d.code, d.where) for d in caught.value.diagnostics}
    assert places >= {
        ("config-entry", "weights.W_rec_weight"),
        ("config-unknown", "states.h.width"),
        ("config-entry", "states.h.guard_bits"),
        ("config-unknown", "states.g"),
        ("config-unknown", "values.h"),
        ("config-entry", "values.pre"),
        ("config-entry", "inputs.range"),
        ("config-entry", "per_row"),
        ("config-entry", "keep_labels"),
        ("config-unknown", "rounding"),
        ("option-value", "states"),
        ("option-value", "input_bits"),
        ("unknown-weight", "--weights nothing=int4"),
    }
    with pytest.raises(eq.EqcompileError, match="config and weights together"):
        eq.quantize(model("digits_looped.pt"), config={}, weights="int4")
