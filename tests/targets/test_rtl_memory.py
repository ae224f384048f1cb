"""Weights in a memory outside, from the option to the artifact and its simulators."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conformance_nets import agree, example, simulated, skip_without_tools
from emitting import emitted, refused

from eqcompile.rtl.processor.options import Processor
from eqcompile.targets.rtl import engines
from eqcompile.targets.rtl.engines import choose
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.diagnostics import Diagnostic


def target(**options: object) -> RtlTarget:
    return RtlTarget.of(arch="processor", weights_in="external", **options)


@pytest.mark.slow
def test_the_weights_are_a_file_and_no_memory_of_the_core(tmp_path: Path) -> None:
    """A core that had both would take the block RAM that it was to save."""
    net, _ = example("plain")
    emitted(target(), net, tmp_path / "core")
    emitted(RtlTarget.of(arch="processor"), net, tmp_path / "block")
    core = json.loads((tmp_path / "core" / "core.json").read_text(encoding="utf-8"))
    held = (tmp_path / "core" / "weights.bin").read_bytes()
    assert core["memory"] == {"file": "weights.bin", "bits": 32, "bytes": len(held), "crc": zlib.crc32(held)}
    # Its file goes on with zeros to a power of two.
    block = (tmp_path / "block" / "weights.hex").read_text(encoding="utf-8").split()
    assert np.frombuffer(held, "<u4").tolist() == [int(w, 16) for w in block[: len(held) // 4]]
    assert not any(int(w, 16) for w in block[len(held) // 4 :])
    assert {"WEIGHTS_BASE", "WEIGHTS_CRC"} <= set(core["registers"])
    assert not (tmp_path / "core" / "weights.hex").exists()
    assert not (tmp_path / "block" / "weights.bin").exists()
    assert "memory" not in json.loads((tmp_path / "block" / "core.json").read_text(encoding="utf-8"))
    ip = (tmp_path / "core" / "ip" / "component.xml").read_text(encoding="utf-8")
    assert "m_axi_araddr" in ip
    assert "m_axi" in (tmp_path / "core" / "README.md").read_text(encoding="utf-8")


@pytest.mark.simulator
@pytest.mark.parametrize("simulator", ["verilator-native", "cocotb-icarus"])
def test_simulators_read_the_file_and_notice_another_word(tmp_path: Path, simulator: str) -> None:
    """A bench whose memory holds what it likes would prove nothing of the file."""
    net, inputs = example("plain")
    core = emitted(target(), net, tmp_path / "core")
    skip_without_tools(target())
    agree(net, inputs, simulated(simulator, core, inputs)).require()
    weights = tmp_path / "core" / "weights.bin"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert not agree(net, inputs, simulated(simulator, core, inputs)).ok


@pytest.mark.slow
def test_an_image_for_such_a_core_comes_with_its_memory(tmp_path: Path) -> None:
    """Words of weights in the image have no memory to go to."""
    net, _ = example("plain")
    (tmp_path / "a").mkdir()
    emitted(target(), net, tmp_path / "a" / "core")
    (tmp_path / "out").mkdir()
    emitted(RtlTarget.of(core=str(tmp_path / "a" / "core" / "core.json")), net, tmp_path / "out" / "image")
    image = tmp_path / "out" / "image"
    assert (image / "weights.bin").read_bytes() == (tmp_path / "a" / "core" / "weights.bin").read_bytes()
    assert "WEIGHTS_BASE" in (image / "README.md").read_text(encoding="utf-8")
    words = np.load(tmp_path / "a" / "core" / "weights.npz")["words"]
    assert np.array_equal(np.frombuffer((image / "image.bin").read_bytes(), "<u4"), words)


def test_what_no_block_ram_holds_goes_outside() -> None:
    """A net that is too large for every part was refused; one that is not must not need a memory."""
    net, _ = example("plain")
    assert choose(net, (Processor(),), ()).architecture == Processor()

    def short(bits: int, *_: object) -> list[Diagnostic]:
        return [Diagnostic("does-not-fit", "too large", "net")] if bits else []

    with mock.patch.object(engines, "memory_shortfalls", short):
        choice = choose(net, (Processor(),), ())
        assert choice.architecture == Processor(weights_in="external")
        assert choice.refusals == ()
        assert choice.reasons[-1] == "processor is taken with its weights in a memory outside (--weights-in external)"
        assert choose(net, (Processor(weights_in="block"),), ()).architecture == Processor(weights_in="block")


def test_what_no_bus_and_no_board_has_is_refused() -> None:
    """A beat of 2048 bits is none of AXI4; the top of a board has nothing behind the bus."""
    net, _ = example("plain")
    (fault,) = refused(target(lanes=1024), net)
    assert fault.code == "rtl-lanes"
    assert "a beat of 4096 bits, AXI4 has 1024" in fault.what
    (fault,) = refused(target(board="ulx3s"), net)
    assert "a board's top has none" in fault.what
