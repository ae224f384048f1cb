"""Options come from fields: what the help shows, the command line takes and a call is checked for, is written once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from eqcompile.app.cli.console import Parser
from eqcompile.app.cli.main import main
from eqcompile.app.cli.options import add_field_options, add_target_options, build_target, field_options
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.processor.options import Processor
from eqcompile.rtl.serial.options import Serial
from eqcompile.targets.hls4ml.target import Hls4mlTarget
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.options import Bounds, QuantizeOptions, TuneOptions, option, option_faults


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


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """A field of each kind that the command line knows."""

    words: tuple[str, ...] | None = option(None, flag="--word", metavar="W", help="a word")
    settings: Mapping[str, object] = option({}, flag="--set", metavar="K=V", help="a setting")
    file: Path | None = option(None, metavar="FILE", help="a file")
    limit_s: float = option(2.5, flag="--limit", metavar="S", unit="s", bounds=Bounds(0, above=True), help="a limit")
    quick: bool = option(False, help="not slow")
    code: str = option("x1", pattern="x[0-9]", help="as in x7")


def test_every_kind_of_field_is_an_option() -> None:
    """Would break if a command had to write its own parser for a list, a mapping or a path."""
    argv = ["--word", "a", "--word", "b", "--set", "k=v", "--file", "f", "--limit", "3", "--quick", "--code", "x2"]
    assert Kinds(**parsed(Kinds, argv)) == Kinds(
        words=("a", "b"), settings={"k": "v"}, file=Path("f"), limit_s=3.0, quick=True, code="x2"
    )
    assert Kinds(**parsed(Kinds, [])) == Kinds()


def test_the_help_shows_default_and_unit() -> None:
    """A limit without its unit is a guess."""
    parser = Parser(prog="p", description="", examples="")
    add_field_options(parser, Kinds, "options")
    text = " ".join(parser.format_help().split())
    assert "--limit S a limit (default 2.5 s)" in text
    assert "--quick not slow" in text
    assert "--code CODE" not in text
    assert "as in x7 (default x1)" in text


def test_a_text_outside_of_its_pattern_or_choices_is_refused() -> None:
    """A part that no tool knows was found after minutes of work."""
    assert [d.where for d in option_faults(Kinds(code="y1"))] == ["code"]
    assert option_faults(Kinds(code="x7")) == []
    for part in ("foo", "xc7z020clg400"):
        with pytest.raises(UsageError, match="part is"):
            Hls4mlTarget(part=part)
    with pytest.raises(UsageError, match="must be one of Vitis, Vivado") as caught:
        Hls4mlTarget(backend="HLS", reuse=0, unroll=-1)  # type: ignore[arg-type]
    assert [d.where for d in caught.value.diagnostics] == ["backend", "reuse", "unroll"]


def failure(argv: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main([*argv, "--json"]) == 2
    errors: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["error"]
    return errors


def test_all_faults_of_a_command_line_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with five mistakes must not start the command five times."""
    monkeypatch.chdir(tmp_path)
    argv = ["m.pt", "--target", "rtl", "--seeds", "none", "--timeout", "0", "--synth", "ecp6", "--arch", "systolic"]
    argv += ["--set", "alpha", "--simulator", "modelsim", "--statebits", "4"]
    whats = " ".join(e["what"] for e in failure(argv, capsys))
    for part in ("--seeds: 'none'", "--timeout: '0'", "part 'ecp6'", "architecture 'systolic'", "'alpha' is not name"):
        assert part in whats
    for part in ("-o DIR is missing", "simulator 'modelsim'", "no option '--statebits'"):
        assert part in whats
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arch", ["serial", "parallel", "lattice", "processor"])
def test_an_architecture_s_options_are_those_of_its_dataclass(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if an option of an engine had to be written a second time for the command line."""
    from eqcompile.targets.rtl.engines import architectures

    assert main(["--target", "rtl", "--arch", arch, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"options of --arch {arch}" in text
    for name, kind in architectures().items():
        for f in fields(kind):
            flag = f"  --{f.name.replace('_', '-')} "
            shared = f.name in architectures()[arch].option_names()
            assert (flag in text) == shared, (name, f.name)
    assert main(["--target", "rtl", "--help"]) == 0
    every = capsys.readouterr().out
    assert all(f"options of --arch {name}" in every for name in architectures())
    assert "also --lanes, --harden, as above" in every


def test_options_of_an_architecture_reach_the_target() -> None:
    """An option that the help shows and nobody reads gives another core than was asked for."""
    parser = Parser(prog="p", description="", examples="")
    argv = ["--arch", "serial", "--lanes", "8", "--seeds", "2"]
    add_target_options(parser, RtlTarget, argv)
    assert build_target(RtlTarget, parser.parse_all(argv)) == RtlTarget(arch=(Serial(lanes=8),), seeds=2)
    parser = Parser(prog="p", description="", examples="")
    add_target_options(parser, RtlTarget, ["--harden", "tmr"])
    several = build_target(RtlTarget, parser.parse_all(["--harden", "tmr"]))
    assert several == RtlTarget(arch=(Parallel(harden="tmr"), Processor(harden="tmr"), Serial(harden="tmr")))
    assert RtlTarget.of(**several.options) == several
