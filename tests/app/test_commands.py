"""One program: its table of commands, their short names, and what a slip of the finger is answered."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from eqcompile.app.cli.commands import COMMANDS
from eqcompile.app.cli.console import RENAMED, Parser
from eqcompile.app.cli.main import main
from eqcompile.toolchain.diagnostics import UsageError


@pytest.mark.parametrize("name", [c.name for c in COMMANDS])
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`help NAME` and `NAME --help` are the same page, and every page lists the exit codes."""
    assert main(["help", name]) == 0
    page = capsys.readouterr().out
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out == page
    assert "exit codes:" in page


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("run", "DIR|MODEL, -i/--input, -o/--output"),
        ("tune", "MODEL, --data, -o/--output"),
        ("search", "MODEL, --inputs, -o/--output"),
        ("synth", "DIR, --part"),
        ("inspect", "MODEL"),
        ("verify", "DIR"),
        ("certify", "DIR|NET"),
        ("new", "kind, NAME"),
    ],
)
def test_a_command_asks_for_all_that_it_needs_at_once(
    name: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if an hour of training ended without a file, because no `-o` was asked for."""
    assert main([name]) == 2
    assert f"the following arguments are required: {missing}\n" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is missing in the overview would never be tried."""
    assert main(["help"]) == 0
    page = capsys.readouterr().out
    for command in COMMANDS:
        assert f"eqcompile {command.name}" in page
        assert command.summary in page


def test_a_short_name_is_an_installed_program() -> None:
    """The overview must not promise a program that pip does not install."""
    programs = {e.name for e in entry_points(group="console_scripts") if e.value.startswith("eqcompile.")}
    assert programs == {"eqcompile", *(c.short for c in COMMANDS if c.short)}


def test_python_m_and_version() -> None:
    """`python -m eqcompile` is the program where the script is not on the path."""
    argv = [sys.executable, "-m", "eqcompile", "--version", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["eqcompile"] == version("eqcompile")


@pytest.mark.parametrize(
    ("argv", "code", "hint"),
    [
        (["inspct", "M"], "unknown-command", "did you mean eqcompile inspect?"),
        (["fault", "rnu"], "unknown-command", "did you mean eqfault run?"),
        (["m.pt", "-o", "out"], "usage", "one of c, hls4ml, loihi, nir, numpy, onnx, rtl"),
    ],
)
def test_a_slip_is_answered_with_the_next_step(
    argv: list[str], code: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspct M` was answered "there is no argument M", a missing target with no list of them."""
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error[{code}]")
    assert hint in error


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_option_is_refused_with_the_new_one(old: str, new: str) -> None:
    """A script of last month must say what to change, whether it wrote `--old 3` or `--old=3`."""
    parser = Parser(prog="p", description="", examples="")
    parser.add_argument(new)
    for argv in ([old, "3"], [f"{old}=3"]):
        with pytest.raises(UsageError, match=f"use {new}"):
            parser.parse_all(argv)
    parser.add_argument(old)
    assert vars(parser.parse_all([old, "3"]))[old.strip("-").replace("-", "_")] == "3"
