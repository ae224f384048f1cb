"""Synthesis and place-and-route: what is read of the tools' outputs, what is measured, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import saved, state, written
from strategies import small_net

from eqcompile.app.cli.main import main
from eqcompile.app.clocks import bench_inputs, count_clocks
from eqcompile.targets.rtl.synth import tools as synth_tools
from eqcompile.targets.rtl.synth.flow import (
    DoesNotFitError,
    placement_failure,
    synthesise,
    synthesise_artifact,
    usage_of,
)
from eqcompile.targets.rtl.synth.harness import CorePort, core_ports, harness
from eqcompile.targets.rtl.synth.memory import gathered
from eqcompile.targets.rtl.synth.parse import Timing, cell_counts, device_utilisation, timing_of
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.report import SynthReport
from eqcompile.targets.rtl.synth.tools import INSTALL, Deadline, SynthesisError, run_tool
from eqcompile.toolchain.artifact import Artifact, manifest_of, seal
from eqcompile.toolchain.diagnostics import MissingToolError, UsageError

# One worker builds what all tests here share.
pytestmark = pytest.mark.xdist_group("rtl_synth")

DATA = Path(__file__).parents[1] / "data" / "synth"
COUNTER = """\
module counter(input clk, input rst, input [7:0] step, output reg [15:0] q);
  always @(posedge clk) if (rst) q <= 0; else q <= q + step;
endmodule
"""
LIMIT_S = 300.0


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "counter.v"
    path.write_text(COUNTER, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net, compiled and synthesised in one command; the simulators are left to other tests."""
    work = tmp_path_factory.mktemp("synth")
    model = written(work, saved(state()))
    np.savez(work / "x.npz", x=np.random.default_rng(1).uniform(-1.0, 1.0, (20, 6)))
    argv = [str(model), "--family", "models.LoopedMLP", "--weights", "ternary", "--inputs", str(work / "x.npz")]
    argv += ["--state-bits", "4", "--input-bits", "4", "--assume"]
    argv += ["--target", "rtl", "--arch", "serial", "--lanes", "2", "-o", str(work / "out")]
    assert main([*argv, "--no-verify", "--synth", "up5k,xilinx", "--seeds", "1"]) == 0
    return work / "out"


def text(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def test_cells_of_one_module_are_read() -> None:
    """Would break if the harness's cells were counted as the core's."""
    assert cell_counts(text("ecp5_stat.json"), "core")["LUT4"] == 145
    assert cell_counts(text("ecp5_stat.json"), "harness") == {"LUT4": 47, "TRELLIS_FF": 114, "core": 1}


@pytest.mark.parametrize(
    ("cell", "counted", "harness_cells", "own"),
    [
        ("TRELLIS_COMB", 100, {"LUT4": 3, "CCU2C": 5, "TRELLIS_DPR16X4": 2}, 100 - 3 - 2 * 5 - 4 * 2),
        ("TRELLIS_FF", 50, {"TRELLIS_FF": 7}, 43),
        ("DP16KD", 9, {"DP16KD": 1, "PDPW16KD": 2}, 6),
        ("MULT18X18D", 4, {"MULT18X18D": 1}, 3),
    ],
)
def test_the_cells_of_the_harness_are_taken_off(
    cell: str, counted: int, harness_cells: dict[str, int], own: int
) -> None:
    """Would break if a cell of the harness counted as more, or fewer, of the core's."""
    (usage,) = usage_of(PARTS["ecp5-25k"], {cell: (counted, 1000)}, harness_cells)
    assert (usage.core, usage.needed) == (own, counted)


def test_the_range_of_frequencies_is_kept() -> None:
    """Would break if the JSON of a synthesis lost the spread of its seeds."""
    report = SynthReport("core", "ecp5-25k", "25k", "placed", (), 70, {}, {}, ("Yosys 9",))
    assert report.to_json()["fmax_range_mhz"] is None
    seeds = {seed: Timing(fmax, 1.0, 2.0, "a", "b") for seed, fmax in enumerate((85.0, 81.5, 90.0))}
    assert replace(report, seeds=seeds).to_json()["fmax_range_mhz"] == [81.5, 90.0]


def test_frequency_and_slowest_path_are_read() -> None:
    """Would break if a path from or to a pin were taken for the slowest, or routing counted as logic."""
    timing = timing_of(text("ecp5_report.json"), "clk")
    assert timing.fmax_mhz == pytest.approx(82.953, abs=1e-3)
    path = json.loads(text("ecp5_report.json"))["critical_paths"][0]["path"]
    total = sum(s["delay"] for s in path)
    assert timing.logic_ns + timing.routing_ns == pytest.approx(total)
    assert timing.routing_ns == pytest.approx(sum(s["delay"] for s in path if s["type"] == "routing"))
    assert (timing.start, timing.end) == ("u.mem.0.0", "u.y_TRELLIS_FF_Q_2")


@pytest.mark.parametrize("report", ["", "{}", '{"fmax": {}, "critical_paths": []}', "[1]"])
def test_an_unreadable_report_is_said(report: str) -> None:
    """Would break if a tool that changed its report led to a traceback or to a wrong frequency."""
    with pytest.raises(SynthesisError, match="cannot read what nextpnr wrote"):
        timing_of(report, "clk")


def test_what_does_not_fit_is_said_with_both_numbers_and_a_way_out() -> None:
    """Would break if a design too large for the part gave nextpnr's `no BELs remaining` alone."""
    part = PARTS["up5k"]
    log = text("up5k_too_large.log")
    error = placement_failure(part, "big", usage_of(part, device_utilisation(log), {"SB_DFF": 33, "SB_LUT4": 8}), log)
    assert isinstance(error, DoesNotFitError)
    (fault,) = error.diagnostics
    assert fault.what.startswith("block RAMs (4 kbit): 80 needed (80 by the core, 0 by the harness), 30 available")
    assert fault.hint.startswith(
        "--device up5k puts the weights of a serial core into single-port RAM; fewer weight bits"
    )
    assert "ecp5-25k" in fault.hint
    lut = next(u for u in error.usage if u.key == "lut")
    assert (lut.core, lut.harness, lut.needed) == (266 - 33, 33, 266)


@pytest.mark.parametrize(
    ("part", "used", "hint"),
    [
        ("ecp5-25k", 30_000, "or part ecp5-85k, which has 83640"),
        ("ecp5-25k", 90_000, "ecp5-85k has 83640, which is too few as well"),
        ("up5k", 6_000, "or part ecp5-25k, which has 24288"),
        ("ecp5-85k", 90_000, "with fewer --lanes if it is that already"),
    ],
)
def test_a_larger_part_is_promised_only_if_it_is_large_enough(part: str, used: int, hint: str) -> None:
    """Would break if the hint sent the user to a part that is too small as well."""
    chosen = PARTS[part]
    lut = chosen.family.resources[0]
    usage = usage_of(chosen, {lut.cell: (used, 5_000)}, {})
    error = placement_failure(chosen, "core", usage, "")
    assert isinstance(error, DoesNotFitError)
    assert error.diagnostics[0].hint.endswith(hint) or error.diagnostics[0].hint.endswith(f"({hint})")


def test_a_failure_of_another_kind_is_not_called_a_misfit() -> None:
    """Would break if every failure of the placer were reported as a lack of resources."""
    error = placement_failure(PARTS["up5k"], "core", (), "Info: x\nERROR: Failed to route\n")
    assert isinstance(error, SynthesisError)
    assert "Failed to route" in str(error)


def test_the_harness_reaches_every_bit() -> None:
    """Would break if a port were left open: Yosys would then remove what it feeds, and the figures would lie."""
    ports = [CorePort("ck", "input", 1), CorePort("a", "input", 3), CorePort("b", "output", 2)]
    made = harness("core", [*ports, CorePort("c.d", "input", 1), CorePort("e", "output", 4)], "ck")
    assert r"\core core(.\ck (clk), .\a (i[2:0]), .\c.d (i[3:3]), .\b (w[1:0]), .\e (w[5:2]));" in made
    assert "reg [3:0] i;" in made
    assert "reg [5:0] o;" in made


@pytest.mark.parametrize(
    ("ports", "what"),
    [
        ([CorePort("clk", "input", 2), CorePort("y", "output", 1)], "has no one-bit input 'clk'"),
        ([CorePort("clk", "input", 1)], "has no output"),
    ],
)
def test_a_core_that_cannot_be_measured_is_refused(ports: Sequence[CorePort], what: str) -> None:
    """Would break if a core without a clock or an output gave figures of nothing."""
    with pytest.raises(UsageError, match=what):
        harness("core", list(ports), "clk")


def test_an_inout_port_is_refused() -> None:
    """Would break if a port that the harness cannot drive were left open."""
    netlist = {"modules": {"core": {"ports": {"pad": {"direction": "inout", "bits": [2]}}}}}
    with pytest.raises(UsageError, match="port pad is inout"):
        core_ports(netlist, "core")


MEMORY = """\
module m(clk);
  reg [8:0] \\words$1  [3:0];
  initial begin
    \\words$1 [0] = 9'h0a1;
    \\words$1 [1] = 9'h1ff;
    \\words$1 [2] = 9'h000;
    \\words$1 [3] = 9'h123;
  end
  reg [1:0] plain [1:0];
  initial begin
    plain[1] = 2'h1;
    plain[0] = 2'h2;
  end
endmodule
"""


def test_memory_contents_move_into_files_unchanged() -> None:
    """Would break if a word got lost, or words out of order were written as if they were in order."""
    text, files = gathered(MEMORY)
    assert files == {"memory_0.hex": "0a1\n1ff\n000\n123\n"}
    assert '  initial $readmemh("memory_0.hex", \\words$1 , 0, 3);\n' in text
    assert "    plain[1] = 2'h1;\n" in text
    assert "words$1 [0]" not in text


def test_bad_arguments_are_refused_before_any_tool_runs(tmp_path: Path) -> None:
    """Would break if a mistake in an argument cost a minute of synthesis, or showed one fault of several."""
    with pytest.raises(UsageError, match="no part 'ecp6'"):
        synthesise(tmp_path / "x.v", "core", "ecp6", seeds=(1,), timeout_s=1.0)
    with pytest.raises(UsageError) as caught:
        synthesise(tmp_path / "x.v", "co re", "up5k", seeds=(), timeout_s=1.0)
    assert [d.code for d in caught.value.diagnostics] == ["no-seeds", "no-verilog", "no-top"]


def test_a_missing_tool_is_explained(monkeypatch: pytest.MonkeyPatch, counter: Path) -> None:
    """Would break if an absent tool gave an import error instead of its install command."""
    monkeypatch.setitem(synth_tools.TOOLS, "nextpnr-ice40", ("yowasp_nextpnr_absent", "run"))
    with pytest.raises(MissingToolError) as caught:
        synthesise(counter, "counter", "up5k", seeds=(1,), timeout_s=1.0)
    assert "yowasp-nextpnr-absent" in str(caught.value)
    assert INSTALL in str(caught.value)


def test_a_tool_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a hung tool hung the program."""
    program = tmp_path / "time_waster.py"
    program.write_text("import time\n\ndef run(argv):\n    time.sleep(60)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(synth_tools.TOOLS, "sleeper", ("time_waster", "run"))
    with pytest.raises(SynthesisError, match="limit of 0.5 s"):
        run_tool("sleeper", [], cwd=tmp_path, deadline=Deadline.after(0.5))


@pytest.mark.simulator
@pytest.mark.parametrize("part", ["ecp5-25k", "up5k"])
def test_a_counter_is_placed_and_routed(counter: Path, part: str) -> None:
    """Would break if the flow did not run, or counted the harness: a 16-bit counter has 16 flip-flops."""
    stages: list[str] = []
    report = synthesise(
        counter, "counter", part, seeds=(1, 2), timeout_s=LIMIT_S, progress=lambda stage, *_: stages.append(stage)
    )
    assert report.flip_flops == 16
    assert 8 <= report.core("lut") <= 40
    assert report.core("bram") == report.core("dsp") == 0
    assert report.usage[0].harness == {"ecp5-25k": 16, "up5k": 25}[part]
    assert report.fmax_mhz is not None
    assert report.fmax_range_mhz is not None
    assert report.fmax_range_mhz[0] <= report.fmax_mhz <= report.fmax_range_mhz[1]
    assert report.fmax_mhz > 50.0
    assert stages[0] == "mapping"
    assert "estimated by place and route" in report.text()
    assert json.loads(json.dumps(report.to_json()))["seeds"][1]["seed"] == 2


@pytest.mark.simulator
def test_xilinx_gives_cell_counts_and_says_that_it_is_synthesis_only(counter: Path) -> None:
    """Would break if cell counts were sold as place and route."""
    report = synthesise(counter, "counter", "xilinx", seeds=(1,), timeout_s=LIMIT_S)
    assert report.kind == "synthesis only, no place and route"
    assert report.fmax_mhz is None
    assert report.cells["FDRE"] == report.flip_flops == 16
    assert "CARRY4" in report.text()


@pytest.mark.simulator
def test_a_kept_netlist_is_taken_while_its_sources_are_the_same(counter: Path, tmp_path: Path) -> None:
    """Would break if a changed design got the figures of the one before."""
    kept = tmp_path / "kept"
    kept.mkdir()

    def made() -> tuple[int, list[str]]:
        stages: list[str] = []
        report = synthesise(
            counter,
            "counter",
            "xilinx",
            seeds=(),
            timeout_s=LIMIT_S,
            kept=kept,
            progress=lambda s, *_: stages.append(s),
        )
        return report.flip_flops, sorted(set(stages))

    assert made() == (16, ["mapping"])
    assert made() == (16, [])
    counter.write_text(COUNTER.replace("[15:0]", "[11:0]"), encoding="utf-8")
    assert made() == (12, ["mapping"])


@pytest.mark.simulator
def test_an_unknown_top_names_the_modules_there_are(counter: Path) -> None:
    """Would break if a mistyped top gave a message of Yosys."""
    with pytest.raises(UsageError, match="no module 'core', found counter"):
        synthesise(counter, "core", "up5k", seeds=(1,), timeout_s=LIMIT_S)


@pytest.mark.simulator
def test_verilog_that_is_none_is_reported(tmp_path: Path) -> None:
    """Would break if a syntax error were swallowed."""
    bad = tmp_path / "bad.v"
    bad.write_text("module core(input clk; endmodule", encoding="utf-8")
    with pytest.raises(SynthesisError, match="yosys: .*syntax error"):
        synthesise(bad, "core", "up5k", seeds=(1,), timeout_s=LIMIT_S)


@pytest.mark.simulator
def test_an_artifact_is_synthesised_while_it_is_made_and_afterwards(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if `--synth` and `eqcompile synth` said different things, or counted clocks of other samples."""
    made = json.loads((artifact / "synth.json").read_text(encoding="utf-8"))["parts"]
    manifest = Artifact.open(artifact).manifest
    assert [p["part"] for p in made] == ["up5k", "xilinx"]
    assert manifest.details["synthesis"] == made
    assert {"synth.json", "core.v"} <= set(manifest.files)
    argv = [
        "synth",
        str(artifact),
        "--part",
        "up5k",
        "--seeds",
        "1",
        "--inputs",
        str(artifact.with_name("x.npz")),
        "--json",
    ]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == made[0]
    assert made[0]["clocks"]["kind"] == "simulated"
    assert made[0]["clocks"]["samples"] == 20
    median, mhz = made[0]["clocks"]["latency"]["median"], made[0]["fmax_mhz"]
    assert made[0]["times"]["latency_us"]["median"] == pytest.approx(median / mhz)
    assert made[1]["fmax_mhz"] is made[1]["times"] is None
    shown = "\n".join(manifest.summary)
    assert "synthesis only, no place and route" in shown
    assert f"latency: {median / mhz:.2f} us median" in shown


@pytest.mark.simulator
def test_without_a_simulator_the_figures_say_so(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if an absent Verilator cost the figures of synthesis, or left the times out without a word."""
    monkeypatch.setenv("PATH", "")
    opened = Artifact.open(artifact)
    clocks = count_clocks(opened, bench_inputs(opened), timeout_s=LIMIT_S)
    report = synthesise_artifact(opened, "xilinx", seeds=(), timeout_s=LIMIT_S, clocks=clocks)
    assert report.clocks is None
    assert "clocks not simulated: g++ is not installed; apt-get install g++" in report.text()


@pytest.mark.slow
def test_an_interrupt_in_synthesis_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if half an artifact, without its figures, were left where the user would take it for whole."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eqcompile.app.compile.count_clocks", lambda *a, **k: None)
    monkeypatch.setattr("eqcompile.targets.rtl.finish.synthesise", interrupted)
    model = written(tmp_path, saved(state()))
    argv = [str(model), "--family", "models.LoopedMLP", "--target", "rtl", "-o", str(tmp_path / "out")]
    assert main([*argv, "--assume", "--no-verify", "--synth", "xilinx"]) == 130
    # Progress may stand above it where the machine is slow.
    assert capsys.readouterr().err.splitlines()[-1].startswith("error[interrupted]")
    assert [p.name for p in tmp_path.iterdir()] == [model.name]


def test_only_a_whole_artifact_of_rtl_is_synthesised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if `eqcompile synth` took another target's folder, or one without a core."""
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=1)
    seal(tmp_path, net, manifest_of(net, target="rtl", options={}, details={}))
    assert main(["synth", str(tmp_path), "--part", "virtex"]) == 2
    assert "known: ecp5-25k" in capsys.readouterr().err
    assert main(["synth", str(tmp_path), "--part", "up5k"]) == 6
    assert "core.v" in capsys.readouterr().err
    seal(tmp_path, net, manifest_of(net, target="numpy", options={}, details={}))
    assert main(["synth", str(tmp_path), "--part", "up5k"]) == 6
    assert "only rtl is synthesised" in capsys.readouterr().err


def test_the_command_knows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a part were added that the help does not name."""
    assert main(["synth", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PARTS)
