"""The emitted folder by itself, and the simulators that run it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from emitting import emitted, unchecked
from strategies import small_net

from eqcompile.sim.simulators import IcarusSimulator, NativeSimulator, VerilatorSimulator
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import process
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import MissingToolError, SimulatorError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import Simulator
from eqcompile.toolchain.ir import IntNet

TIMEOUT_S = 240.0
pytestmark = pytest.mark.simulator


@cache
def plain() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


@pytest.fixture(scope="module", params=["serial", "up5k", "parallel", "beats"])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a core = one") / request.param  # what make cannot quote
    folder.mkdir()
    device = "up5k" if request.param == "up5k" else None
    arch = {"up5k": "serial", "beats": "parallel"}.get(request.param, request.param)
    beats = {"beat": 2, "result_beat": 3} if request.param == "beats" else {}
    emitted(RtlTarget.of(arch=arch, device=device, trace=arch == "parallel", **beats), plain(), folder)
    return folder


def bench(core: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The folder's own bench, in an environment in which `import eqcompile` fails."""
    hidden = tmp_path / "hidden" / "eqcompile"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(hidden.parent)}
    argv = [sys.executable, "-B", "bench/run.py", "--build", str(tmp_path / "build"), *arguments]
    return subprocess.run(argv, cwd=core, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def lz4() -> bool:
    """Whether the compiler finds what Verilator's writer of waves includes."""
    argv = ["g++", "-fsyntax-only", "-x", "c++", "-include", "lz4.h", os.devnull]
    return shutil.which("g++") is not None and subprocess.run(argv, capture_output=True, check=False).returncode == 0


def unpacked(block: bytes) -> bytes:
    """What a block of LZ4 holds: sequences of literals and of bytes that stand further up."""
    out, at = bytearray(), 0

    def length(first: int) -> int:
        nonlocal at
        total = first
        while first == 15:
            total += block[at]
            at += 1
            if block[at - 1] < 255:
                break
        return total

    while at < len(block):
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at < len(block):
            back = int.from_bytes(block[at : at + 2], "little")
            at += 2
            for _ in range(length(token & 15) + 4):
                out.append(out[-back])
    return bytes(out)


def names_of(path: Path) -> bytes:
    """The names of scopes and signals in an FST file: what is in its block of type 4 (gzip) or 6 (LZ4)."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        end = at + 1 + int.from_bytes(content[at + 1 : at + 9], "big")
        if content[at] == 4:
            return gzip.decompress(content[at + 17 : end])
        if content[at] == 6:
            return unpacked(content[at + 17 : end])
        at = end
    raise AssertionError("no block of names")


def test_the_bench_passes_where_eqcompile_is_not_installed(core: Path, tmp_path: Path) -> None:
    """The folder is given to people who have nothing but it."""
    done = bench(core, tmp_path, "--sim", "icarus")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TESTS=15 PASS=15 FAIL=0" in done.stdout + done.stderr


def test_the_bench_fails_on_a_wrong_vector(core: Path, tmp_path: Path) -> None:
    """One wrong code of one state after one tick must end the bench with a failure that names it."""
    copy = tmp_path / "copy"
    shutil.copytree(core, copy)
    path = copy / "vectors" / "vectors.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["state.h"][1, 4, 2] += 1
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    report, waves = tmp_path / "r.xml", tmp_path / "core.fst"
    files = ["--junit", str(report), "--waves", str(waves)]
    done = bench(copy, tmp_path, "--sim", "icarus", "--quiet", "--test", "back_to_back", *files)
    assert done.returncode == 1
    assert "state h[2] of sample 4 after tick 1: expected" in done.stderr
    (case,) = ElementTree.parse(report).getroot().iter("testcase")
    assert (case.get("name"), case.find("failure") is not None) == ("back_to_back", True)
    # An FST file begins with a header block: type 0, length 329, big-endian.
    assert waves.read_bytes()[:9] == bytes(1) + (329).to_bytes(8, "big")
    assert b"trace_end" in names_of(waves)


@pytest.mark.parametrize("core", ["serial"], indirect=True)
def test_waves_of_verilator_are_refused_at_once_without_their_headers(
    core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing header was found by the compiler, after a minute, in words that name no package."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "g++").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tools / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tools), os.environ["PATH"]]))
    done = bench(core, tmp_path, "--sim", "verilator", "--waves", str(tmp_path / "core.fst"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "apt-get install liblz4-dev zlib1g-dev" in done.stderr
    assert not list((tmp_path / "build").glob("*.v"))


@pytest.mark.skipif(not lz4(), reason="no headers of lz4: apt-get install liblz4-dev")
@pytest.mark.parametrize("core", ["serial"], indirect=True)
def test_verilator_writes_every_signal(core: Path, tmp_path: Path) -> None:
    """The fast simulator was the one without waves. The writer closes its file: blocks fill it to its last byte."""
    waves = tmp_path / "core.fst"
    options = ["--sim", "verilator", "--quiet", "--test", "back_to_back", "--waves", str(waves)]
    done = bench(core, tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    content = waves.read_bytes()
    assert content[:9] == bytes(1) + (329).to_bytes(8, "big")
    start, end = (int.from_bytes(content[at : at + 8], "big") for at in (9, 17))
    assert (start, end > 1000) == (0, True)
    assert b"trace_end" in names_of(waves)


@pytest.mark.parametrize("simulator", [VerilatorSimulator, NativeSimulator])
def test_a_simulator_agrees_with_golden(simulator: type[Simulator], core: Path) -> None:
    """Every state of every tick of many samples, not of the vectors alone."""
    inputs = {"x": np.random.default_rng(3).integers(-6, 7, (100, 3))}
    got = simulator().run(unchecked(core), inputs, trace=True, timeout_s=TIMEOUT_S)
    compare(run(plain(), inputs), got).require()
    assert got.details["cycles"] > 100 * 3


@pytest.mark.parametrize("core", ["serial"], indirect=True)
@pytest.mark.parametrize("simulator", [IcarusSimulator, VerilatorSimulator, NativeSimulator])
def test_a_simulator_tells_how_far_it_is(
    simulator: type[Simulator], core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar that stands at nothing until the end tells nobody whether to wait."""
    # On an idle machine the native program ends within the second after which it would be asked.
    monkeypatch.setattr(process, "_WATCH_S", 0.01)
    inputs = {"x": np.random.default_rng(3).integers(-6, 7, (20000 if simulator is NativeSimulator else 400, 3))}
    samples = len(inputs["x"])
    told: list[tuple[int, int]] = []
    tell = lambda done, total: told.append((done, total))  # noqa: E731
    simulator().run(unchecked(core), inputs, trace=False, timeout_s=TIMEOUT_S, progress=tell)
    running = [done for done, total in told if total]
    assert {total for _, total in told} <= {0, samples}
    assert running == sorted(running)
    assert any(0 < done < samples for done in running), told
    if simulator.compiler:
        assert told[0] == (0, 0)


def test_the_clocks_of_a_sample_are_counted_alone(core: Path) -> None:
    """A latency that holds the wait for the sample before would be the throughput under another name."""
    inputs = {"x": np.array([[0, 0, 0], [5, -3, 1], [0, 0, 0], [0, 0, 0]])}
    details = NativeSimulator(clocks=True).run(unchecked(core), inputs, trace=False, timeout_s=TIMEOUT_S).details
    latency, relaxing = details["latency"], details["relaxing"]
    assert latency[0] == latency[2] == latency[3]
    assert latency[1] >= latency[0]
    assert all(0 < r < a for r, a in zip(relaxing, latency, strict=True))
    assert details["cycles"] <= sum(latency) + 4 * len(latency)


@pytest.mark.parametrize("simulator", [IcarusSimulator, NativeSimulator])
def test_a_core_runs_without_a_trace(simulator: type[Simulator], core: Path) -> None:
    """Outputs and step counts do not depend on whether anybody watches."""
    inputs = {"x": np.array([[1, 0, -1], [5, -3, 0]])}
    got = simulator().run(unchecked(core), inputs, trace=False, timeout_s=TIMEOUT_S)
    assert dict(got.states) == {}
    compare(run(plain(), inputs), got, states=False).require()


@pytest.mark.parametrize("simulator", [IcarusSimulator, NativeSimulator])
def test_a_core_that_does_not_build_is_an_error(simulator: type[Simulator], core: Path, tmp_path: Path) -> None:
    """The tool's own words are what helps its user."""
    copy = tmp_path / "copy"
    shutil.copytree(core, copy)
    for path in (copy / "core.v", copy / "bench" / "traced.v"):
        path.write_text("module core(; endmodule\n", encoding="utf-8")
    with pytest.raises(SimulatorError, match="(?i)syntax error"):
        simulator().run(unchecked(copy), {"x": np.zeros((1, 3), np.int64)}, trace=True, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("simulator", [IcarusSimulator, VerilatorSimulator, NativeSimulator])
def test_a_missing_tool_is_named_with_its_command(
    simulator: type[Simulator], core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its tool a simulator is a listed state, not a traceback."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match="apt-get install"):
        simulator().run(unchecked(core), {"x": np.zeros((1, 3), np.int64)}, trace=True, timeout_s=TIMEOUT_S)
