"""Options come from fields: what the help shows, the command line takes and a call is checked for, is written once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from eqcompile.app.cli.console import Parser
from eqcompile.app.cli.options import add_field_options, field_options
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.options import Bounds, QuantizeOptions, TuneOptions, option_faults


def parsed(options: type[Any], argv: list[str]) -> dict[str, Any]:
    parser = Parser(prog="p", description="", examples="")
    skip = [f.name for f in fields(options) if not f.metadata]
    add_field_options(parser, options, "options", skip=skip)
    return field_options(parser.parse_all(argv), options)


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        ([], {}),
        (["--per-tensor"], {"per_row": False}),
        (["--state-bits", "4", "--tolerance", "0"], {"state_bits": 4, "tolerance": 0}),
        (["--input-range", "-2", "0.5"], {"input_range": (-2.0, 0.5)}),
        (["--max-lipschitz", "95%"], {"max_lipschitz": 0.95}),
    ],
)
def test_an_option_sets_its_field(argv: list[str], values: dict[str, Any]) -> None:
    """Only what the user wrote is set; all else keeps the default of the dataclass, the only place that has one."""
    assert parsed(QuantizeOptions, argv) == values
    assert option_faults(QuantizeOptions(**values)) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "must be a whole number of at least 1"),
        ("epochs", 2.5, "must be a whole number of at least 1"),
        ("epochs", True, "must be a whole number of at least 1"),
        ("lr", 0.0, "must be a finite number above 0"),
        ("lr", float("inf"), "must be a finite number above 0"),
        ("hold_out", 1.0, "must be a finite number of at least 0 and below 1"),
        ("distill", 1.5, "must be a finite number from 0 to 1"),
        ("noise", -0.1, "must be a finite number of at least 0"),
        ("noise", float("nan"), "must be a finite number of at least 0"),
        ("ticks", 0, "must be a whole number of at least 1"),
    ],
)
def test_the_command_line_and_the_check_refuse_the_same(name: str, value: Any, message: str) -> None:
    """The ranges were written in the command line and again in the checks, and differed."""
    (fault,) = option_faults(TuneOptions(quantize=QuantizeOptions(), **{name: value}))
    assert fault.code == "option-value"
    assert fault.what == f"{name} is {value!r}, {message}"
    with pytest.raises(UsageError, match=message.removeprefix("must be ")):
        parsed(TuneOptions, [f"--{name.replace('_', '-')}", str(value)])


def test_the_ends_of_bounds() -> None:
    """An open end is outside, a closed one inside."""
    half_open = Bounds(0, 1, below=True)
    assert [x in half_open for x in (-0.1, 0.0, 0.5, 1.0)] == [False, True, True, False]
    assert [x in Bounds(0, above=True) for x in (0.0, 1e-300, float("inf"))] == [False, True, False]
    assert [str(b) for b in (Bounds(), Bounds(2, 16), Bounds(0, 1, above=True, below=True))] == [
        "",
        "from 2 to 16",
        "between 0 and 1",
    ]
