"""What a synthesis reports: shares of the part, and whether a clock is met; and the table of parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from checkpoint_files import saved, state, written
from strategies import small_net

from eqcompile.app.cli.main import main
from eqcompile.targets.rtl.finish import clock_note
from eqcompile.targets.rtl.synth.parse import Timing
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.report import SynthReport, Usage
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.artifact import manifest_of, seal

USAGE = (Usage("lut", "LUT4", 1215, 85, 24288), Usage("dsp", "multipliers", 0, 0, 0))


def placed(clock_mhz: float | None, rates: Sequence[float] = (85.0, 81.5, 90.0)) -> SynthReport:
    seeds = {seed: Timing(fmax, 1.0, 2.0, "a", "b") for seed, fmax in enumerate(rates)}
    return SynthReport("core", "ecp5-25k", "25k", "placed", USAGE, 70, {}, seeds, ("Yosys 9",), clock_mhz)


def test_cells_are_shares_of_the_part() -> None:
    """A count of cells alone does not say whether the part is full."""
    assert "LUT4: 1215 of 24288, 5.0 % (harness: 85 more)" in placed(None).text()
    document = placed(None).to_json()
    assert [u["percent"] for u in document["usage"]] == [5.0, 0.0]  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("rates", "median"), [((90.0, 80.0), 80.0), ((85.0, 81.5, 90.0), 85.0), ((70.0,), 70.0), ((), None)]
)
def test_the_timing_that_missed_a_clock_is_below_it(rates: Sequence[float], median: float | None) -> None:
    """With two seeds the median lies between them: the faster one would be said to miss a clock that it reaches."""
    timing = placed(85.5, rates).median_timing
    assert (None if timing is None else timing.fmax_mhz) == median


@pytest.mark.parametrize(
    ("clock", "meets", "line"),
    [
        (None, None, ""),
        (85.0, True, "clock: 85 MHz is met by the median, and by 2 of 3 seeds"),
        (85.1, False, "clock: 85.1 MHz is MISSED by the median, and by 1 of 3 seeds"),
        (200.0, False, "clock: 200 MHz is MISSED by the median, and by 0 of 3 seeds"),
    ],
)
def test_a_clock_is_met_or_missed(
    clock: float | None,
    meets: bool | None,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script that asks for a frequency must not read a report to know whether it was reached."""
    report = placed(clock)
    assert report.meets_clock is meets
    assert report.to_json()["meets_clock"] is meets
    assert line in report.text()
    for name in ("require_rtl", "bench_inputs", "count_clocks"):
        monkeypatch.setattr(f"eqcompile.app.stages.tools.{name}", lambda *a, **k: None)
    monkeypatch.setattr("eqcompile.app.stages.tools.synthesise_artifact", lambda *a, **k: placed(k["clock_mhz"]))
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=1)
    seal(tmp_path, net, manifest_of(net, target="rtl", options={}, details={}))
    argv = ["synth", str(tmp_path), "--part", "ecp5-25k", *([] if clock is None else ["--clock", str(clock)])]
    assert main(argv) == (9 if meets is False else 0)
    assert line in capsys.readouterr().out


@pytest.mark.slow
def test_a_core_that_misses_its_clock_is_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a compilation with a clock ended well on a core that does not run at it."""
    monkeypatch.setattr("eqcompile.app.compile.count_clocks", lambda *a, **k: None)
    monkeypatch.setattr("eqcompile.targets.rtl.finish.synthesise", lambda *a, **k: placed(k["clock_mhz"]))
    model = written(tmp_path, saved(state()))
    argv = [str(model), "--family", "models.LoopedMLP", "--target", "rtl", "-o", str(tmp_path / "out"), "--no-verify"]
    argv += ["--assume"]
    assert main([*argv, "--synth", "ecp5-25k", "--clock", "86"]) == 8
    assert "the design reaches 85.0 MHz, --clock for ecp5-25k is 86 MHz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*argv, "--synth", "ecp5-25k", "--clock", "85"]) == 0
    assert json.loads((tmp_path / "out" / "synth.json").read_text())["parts"][0]["meets_clock"] is True


def test_a_clock_of_a_part_without_frequencies_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Would break if a clock were asked for that nothing can judge."""
    assert main(["m.pt", "--target", "rtl", "-o", str(tmp_path / "o"), "--synth", "xilinx", "--clock", "9"]) == 2
    assert "tells no frequency" in capsys.readouterr().err


def test_a_clock_that_nothing_checks_is_said_to_be_unchecked() -> None:
    """Would break if a frequency in the constraints looked like one that was reached."""
    (note,) = clock_note(RtlTarget.of(arch="serial", clock=9.0).requests)
    assert "clock 9 MHz: in ip/core_ooc.xdc; nothing was placed to check it" in note
    assert clock_note(RtlTarget.of(arch="serial", clock=9.0, synth="up5k").requests) == ()
    assert clock_note(RtlTarget.of(arch="serial", clock=24.0, board="icebreaker").requests) == ()


def test_every_part_has_what_its_family_counts() -> None:
    """Would break if a number of the table stood for a resource that nobody has, or named a part that is not there."""
    for part in PARTS.values():
        assert part.has.keys() <= {r.key for r in part.family.resources}
        assert part.larger is None or part.larger in PARTS
        assert bool(part.family.placer) == bool(part.has) == bool(part.freq_mhz)
