"""What must not be lowered, and how the user is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from quantize_nets import loop, net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.diagnostics import UnsupportedError, UsageError
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Format, State, ops

Array = NDArray[Any]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (QuantizeOptions(state_bits=1), ["option-value", "state_bits is 1, must be a whole number from 2 to 16"]),
        (QuantizeOptions(state_bits=17), ["option-value", "state_bits is 17, must be a whole number from 2 to 16"]),
        (QuantizeOptions(input_bits=0), ["option-value", "input_bits is 0"]),
        (QuantizeOptions(weights="int9"), ["option-weights", "'int9'", "one of ternary, int2, int3"]),
        (QuantizeOptions(input_range=(1.0, 1.0)), ["option-range", "1.0 to 1.0"]),
        (QuantizeOptions(tolerance=-1), ["option-value", "-1"]),
        (QuantizeOptions(state_bits=99, weights="float"), ["state_bits is 99", "'float'"]),
    ],
)
def test_options_out_of_range_are_named(options: QuantizeOptions, words: list[str]) -> None:
    """Every wrong option is reported with its value and what would be right, all in one run."""
    made = loop(np.random.default_rng(0)).net
    with pytest.raises(UsageError) as caught:
        lower(made, options, calibration=None)
    for word in words:
        assert word in str(caught.value)


def test_every_unsupported_node_is_named() -> None:
    """One run names each node without an integer form, its block and its tensors."""
    made = net(
        {"gain": np.ones((4, 4)), "more": np.ones((3, 4, 4))},
        x=(4,),
        states=[State("h", (4,), "h"), State("g", (4, 4), "grown")],
        step=[ops.Mul(out="grown", a="h", b="gain"), ops.Mul(out="cubed", a="more", b="grown")],
        output="h",
    )
    with pytest.raises(UnsupportedError) as caught:
        lower(made, QuantizeOptions(), calibration=None)
    assert [(d.code, d.where) for d in caught.value.diagnostics] == [
        ("unsupported-op", "test.Net: step.grown, seed:gain"),
        ("unsupported-op", "test.Net: step.cubed, seed:more"),
    ]


def test_calibration_faults_are_named() -> None:
    """Calibration data of the wrong name, shape or content must not set a scale."""
    made = loop(np.random.default_rng(0)).net
    cases: dict[str, dict[str, Array]] = {
        "input-missing": {},
        "input-unknown": {"x": np.zeros((2, 5)), "y": np.zeros(3)},
        "input-shape": {"x": np.zeros((2, 6))},
        "input-not-finite": {"x": np.full((2, 5), np.nan)},
    }
    for code, data in cases.items():
        with pytest.raises(UsageError, match=code):
            lower(made, QuantizeOptions(), calibration=data)
    with pytest.raises(UsageError, match=r"no such value(.|\n)*range-value"):
        lower(made, QuantizeOptions(), calibration=None, ranges={"q": (0.0, 1.0), "x": (1.0, 0.0)})


def test_given_ranges_win_over_calibration() -> None:
    """A range that the user states sets the input codes, whatever the data says."""
    made = loop(np.random.default_rng(0)).net
    lowered = lower(made, QuantizeOptions(), calibration={"x": np.zeros((1, 5))}, ranges={"x": (0.0, 2.0)})
    encoding = lowered.net.inputs[0].encoding
    assert encoding is not None
    assert encoding.format == Format(8, False)
    assert encoding.scale * 255 >= 2.0
    assert lowered.assumed == ()


def test_values_too_wide_for_a_word_are_refused() -> None:
    """A bias of absurd size is a diagnostic, not an overflow in the cast to integers."""
    made = loop(np.random.default_rng(0)).net
    huge = replace(made, params=tuple(replace(p, value=p.value * 1e30) if p.name == "b" else p for p in made.params))
    with pytest.raises(UnsupportedError, match="too-wide"):
        lower(huge, QuantizeOptions(), calibration=None)
