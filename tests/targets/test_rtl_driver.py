"""What drives an emitted core: one register map in README, C and core.json; the Linux driver on a model of both."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from emitting import emitted
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import small_net

from eqcompile.rtl.registers import Register, rows
from eqcompile.targets.rtl.registers import c_header
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import IntNet

SOURCE = Path(__file__).parents[2] / "targets" / "rtl" / "templates" / "linux.py"


@cache
def net() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


@cache
def linux() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emitted_linux", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["serial", "hardened", "beats", "processor"])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("driver") / request.param
    options: dict[str, Any] = {
        "serial": {"arch": "serial"},
        "hardened": {"arch": "serial", "harden": "secded,watchdog"},
        "beats": {"arch": "parallel", "beat": 2, "result_beat": 2},
        "processor": {"arch": "processor"},
    }[request.param]
    folder.mkdir()
    emitted(RtlTarget.of(**options), net(), folder)
    return folder


@pytest.mark.slow
def test_one_register_map_for_readme_c_and_json(core: Path, tmp_path: Path) -> None:
    """Would break if a header were written by hand and one address drifted from the core's, or C did not compile."""
    registers = json.loads((core / "core.json").read_text(encoding="utf-8"))["registers"]
    text = (core / "driver" / "core_registers.h").read_text(encoding="utf-8")
    defined = {m[1]: int(m[2], 16) for m in re.finditer(r"#define CORE_(\w+) (0x\w\w)u", text)}
    listed = re.findall(r"^\| (0x\w+) \| (\w+) \|", (core / "README.md").read_text(encoding="utf-8"), re.M)
    assert defined == registers == {name: int(address, 16) for address, name in listed}
    assert all(Register[name] == address for name, address in registers.items())
    program = '#include <stdio.h>\n#include "core_registers.h"\nint main(void) { uint32_t words[64] = {0};\n'
    program += "core_write(words, CORE_STEPS, 7u);\n"
    program += 'printf("%u %u %u", words[3], core_read(words, CORE_STEPS), CORE_INPUT_CODES); return 0; }\n'
    (tmp_path / "main.c").write_text(program)
    build = [
        "gcc",
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        f"-I{core / 'driver'}",
        "main.c",
        "-o",
        "main",
    ]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True, text=True)
    assert done.stdout == f"7 7 {json.loads((core / 'core.json').read_text())['x']['count']}"


def test_every_register_of_the_hardware_has_a_row() -> None:
    """Would break if a register were added to the shell and to no document."""
    some = {"loads": True, "image": True, "frames": True, "readback": True, "external": True}
    whole = rows(identity=1, steps=2, tolerance=3, flags=("a", "b"), **some)
    assert [(row.name, row.address) for row in whole] == [(r.name, int(r)) for r in Register]
    assert "bit 1: b" in whole[Register.FAULTS // 4].meaning
    bare = rows(identity=1, steps=2, tolerance=3, loads=False, image=False, flags=None)
    assert {r.name for r in whole} - {r.name for r in bare} == {
        *("LOAD_ADDRESS", "LOAD_DATA", "FAULTS", "CORRECTED", "DETECTED", "IMAGE", "IMAGE_CRC", "FRAMES"),
        *("READ_MEMORY", "READ_ADDRESS", "READ_DATA", "WEIGHTS_BASE", "WEIGHTS_CRC"),
    }
    assert "{" not in c_header(bare, {}, "x").split("static inline")[0]


class Model:
    """Registers, and a DMA engine whose other end computes the net by golden."""

    def __init__(self, folder: Path) -> None:
        self.description = json.loads((folder / "core.json").read_text(encoding="utf-8"))
        self.words = dict.fromkeys(self.description["registers"].values(), 0)
        self.words[Register.ID] = self.description["id"]
        self.polls = 2
        self.loaded: list[int] = []
        self.sendchannel = self.recvchannel = self
        self.answer: NDArray[np.uint8] | None = None

    def read(self, offset: int) -> int:
        if offset == Register.STATUS and self.polls:
            self.polls -= 1
            return 1
        return int(self.words[offset])

    def write(self, offset: int, value: int) -> None:
        assert offset in self.words
        if offset == Register.LOAD_DATA:
            self.loaded.append(value)
        self.words[offset] = value

    def transfer(self, buffer: NDArray[np.uint8]) -> None:
        if self.answer is None:
            self.answer = buffer
            return
        x, y = self.description["x"], self.description["y"]
        codes = linux().unpack(buffer, x)
        result = run(net(), {"x": codes.reshape(1, -1)})
        self.answer[:] = linux().pack(np.asarray(result.outputs[net().outputs[0].name])[0].reshape(-1), y)
        self.words[Register.MADE] = int(result.steps[0])
        self.answer = None

    def wait(self) -> None:
        self.polls = 2


def driver(folder: Path) -> tuple[Any, Model]:
    model = Model(folder)
    return linux().Core.pynq(model, folder), model


def test_the_driver_computes_what_golden_computes(core: Path) -> None:
    """Would break if codes were packed in another order or width, negative ones not extended, or beats not filled."""
    device, model = driver(core)
    samples = np.random.default_rng(1).integers(-6, 7, (9, 3))
    results, ticks = device.run(model, samples, allocate=np.zeros)
    expected = run(net(), {"x": samples})
    assert (results == np.asarray(expected.outputs[net().outputs[0].name]).reshape(9, -1)).all()
    assert (ticks == expected.steps).all()
    device.configure(steps=9, tolerance=2)
    assert (model.words[Register.STEPS], model.words[Register.TOLERANCE]) == (9, 2)


class Sequences:
    """Registers, and a DMA engine whose other end gives the sum of every frame, or of the last one."""

    def __init__(self, kind: str) -> None:
        port = {"count": 2, "beat": 1, "bytes": 2, "signed": True}
        registers = {"ID": Register.ID, "STATUS": Register.STATUS, "MADE": Register.MADE, "FRAMES": Register.FRAMES}
        self.description = {"id": 5, "registers": registers, "x": port, "y": {**port, "count": 1}, "sequence": kind}
        self.words = {Register.ID: 5, Register.STATUS: 0, Register.MADE: 0, Register.FRAMES: 1}
        self.taken, self.answers = 0, list[NDArray[np.uint8]]()
        self.sendchannel, self.recvchannel = self, self

    def read(self, offset: int) -> int:
        return self.words[Register(offset)]

    def write(self, offset: int, value: int) -> None:
        self.words[Register(offset)] = value

    def transfer(self, buffer: NDArray[np.uint8]) -> None:
        if len(buffer) == 2:
            self.answers.append(buffer)
            return
        self.taken += 1
        self.words[Register.MADE] = 3 * ((self.taken - 1) % self.words[Register.FRAMES] + 1)
        if self.description["sequence"] == "every" or self.taken % self.words[Register.FRAMES] == 0:
            total = linux().unpack(buffer, self.description["x"]).sum(keepdims=True)
            self.answers.pop()[:] = linux().pack(total, self.description["y"])

    def wait(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["every", "last"])
def test_the_driver_sends_sequences_frame_by_frame(kind: str) -> None:
    """Would break if FRAMES were not written, or a result were asked for after a frame that gives none."""
    model = Sequences(kind)
    samples = np.random.default_rng(2).integers(-99, 99, (4, 3, 2))
    results, ticks = linux().Core(model, model.description).run(model, samples, allocate=np.zeros)
    sums = samples.sum(axis=2, keepdims=True)
    assert (results == (sums if kind == "every" else sums[:, -1])).all()
    assert ticks.tolist() == [9] * 4
    assert not model.answers
    with pytest.raises(ValueError, match=r"must be \[batch, frames, 2\]"):
        linux().Core(model, model.description).run(model, samples[0], allocate=np.zeros)


def test_wrong_hardware_is_refused(core: Path) -> None:
    """Would break if a driver talked to another core, waited for ever, or loaded weights that are constants."""
    model = Model(core)
    model.words[Register.ID] = 0xDEAD
    with pytest.raises(linux().CoreError, match="0x0000DEAD"):
        linux().Core.pynq(model, core)
    device, model = driver(core)
    with pytest.raises(ValueError, match=r"must be \[batch, 3\]"):
        device.run(model, np.zeros((2, 4)), allocate=np.zeros)
    device.timeout_s = 0.0
    model.wait = lambda: setattr(model, "polls", 10**6)  # type: ignore[method-assign]
    with pytest.raises(linux().CoreError, match="still busy"):
        device.run(model, np.zeros((1, 3)), allocate=np.zeros)
    if "LOAD_DATA" in device.registers:
        model.words[Register.IMAGE] = 1
        device.load([3, 4])
        assert model.loaded == [3, 4]
        for status, words in ((0x301, "for another core"), (2, "ends too early"), (0x500, "are damaged")):
            model.words[Register.IMAGE] = status
            if "IMAGE" in device.registers:
                with pytest.raises(linux().CoreError, match=words):
                    device.load([3, 4])
    else:
        with pytest.raises(linux().CoreError, match="constants"):
            device.load([3])


def test_registers_of_a_device_file(core: Path, tmp_path: Path) -> None:
    """Would break if addresses were taken as word numbers, or writes stayed in a copy."""
    description = json.loads((core / "core.json").read_text(encoding="utf-8"))
    words = np.zeros(1024, np.uint32)
    words[0] = description["id"]
    path = tmp_path / "uio0"
    path.write_bytes(words.tobytes())
    device = linux().Core.open(path, core)
    device.configure(steps=5)
    assert np.frombuffer(path.read_bytes(), np.uint32)[Register.STEPS // 4] == 5


@given(st.data(), st.integers(1, 9), st.integers(1, 4), st.sampled_from([1, 2, 4, 8]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_packed_is_unpacked(data: Any, count: int, beat: int, size: int, signed: bool) -> None:
    """Would break if a width, a sign or the padding of the last beat were wrong."""
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << min(63, 8 * size)) - 1)
    codes = np.array(data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count)), np.int64)
    port = {"count": count, "beat": beat, "bytes": size, "signed": signed}
    frame = linux().pack(codes, port)
    assert len(frame) == -(-count // beat) * beat * size
    assert (linux().unpack(frame, port) == codes).all()
    plain = b"".join(int(c).to_bytes(size, "little", signed=signed) for c in codes)
    assert frame.tobytes() == plain.ljust(len(frame), b"\0")
