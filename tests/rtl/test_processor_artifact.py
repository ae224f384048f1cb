"""The artifact of the processor: what its memories start with stands in files, and its simulators read them."""

from __future__ import annotations

import dataclasses
import random
import re
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
from conformance_nets import agree, example, simulated, skip_without_tools
from emitting import emitted
from strategies import random_inputs, random_net

from eqcompile.rtl.memory import ContentFiles, Ram
from eqcompile.rtl.processor.compiler import compile_net
from eqcompile.rtl.processor.costs import costs, listing
from eqcompile.rtl.processor.isa import Apply, Vector
from eqcompile.rtl.verilog.emit import convert
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.ir import IntNet, Param


def turned(net: IntNet) -> IntNet:
    """The net with the columns of its weights in another order: another net, of the same size."""
    maps = {op.weight for op in net.all_ops() if op.mnemonic == "linear"}  # type: ignore[union-attr]
    params = [Param(p.name, np.roll(p.value, 1, axis=1), p.source) if p.name in maps else p for p in net.params]
    return dataclasses.replace(net, params=tuple(params))


def artifact(net: IntNet, folder: Path) -> Artifact:
    return emitted(RtlTarget.of(arch="processor"), net, folder)


def code_of(folder: Path) -> list[str]:
    """Lines of the core without comments."""
    return [line for line in (folder / "core.v").read_text(encoding="utf-8").splitlines() if line[:2] != "//"]


@pytest.mark.slow
def test_another_net_is_other_files_beside_the_same_verilog(tmp_path: Path) -> None:
    """Weights that stand in the Verilog make it grow with the net, and every change a synthesis."""
    net, _ = example("plain")
    for folder, one in (("a", net), ("b", turned(net))):
        artifact(one, tmp_path / folder)
    one, two = code_of(tmp_path / "a"), code_of(tmp_path / "b")
    assert len(one) == len(two)
    # The CRC of the image that it starts with.
    assert {a.split()[0] for a, b in zip(one, two, strict=True) if a != b} == {"image_crc"}
    files = {p.name for p in (tmp_path / "a").glob("*.hex")}
    assert {"weights.hex", "program.hex", "columns.hex"} <= files
    changed = {f for f in files if (tmp_path / "a" / f).read_bytes() != (tmp_path / "b" / f).read_bytes()}
    assert changed == {"weights.hex"}


@pytest.mark.slow
def test_no_wire_is_a_function_of_itself(tmp_path: Path) -> None:
    """Bits of one signal that follow from each other are a loop to Icarus, which came to rest in it wrongly."""
    net, _ = example("roots")
    artifact(net, tmp_path / "core")
    code = "\n".join(code_of(tmp_path / "core"))
    functions = re.findall(r"assign (\w+) = \w+_of\(([^;]*)\);", code)
    assert functions
    assert [name for name, operands in functions if name in re.split(r"\W+", operands)] == []


@pytest.mark.simulator
def test_simulators_run_the_files_and_notice_another_word(tmp_path: Path) -> None:
    """A core whose simulator finds no file holds zeros; one whose words nobody compares may hold anything."""
    net, inputs = example("plain")
    core = artifact(net, tmp_path / "core")
    skip_without_tools(RtlTarget.of(arch="processor"))
    agree(net, inputs, simulated("cocotb-icarus", core, inputs)).require()
    weights = tmp_path / "core" / "weights.hex"
    lines = weights.read_text(encoding="utf-8").splitlines()
    lines[0] = "".join(f"{15 - int(digit, 16):x}" if k else digit for k, digit in enumerate(lines[0]))
    weights.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert not agree(net, inputs, simulated("cocotb-icarus", core, inputs)).ok


@pytest.mark.simulator
@pytest.mark.parametrize("seed", [4, 11, 15])
def test_tokens_and_frames_go_through_the_buses(seed: int, tmp_path: Path) -> None:
    """A token that is read as a signed number, a sequence that ends a frame early or late, results of frames that run
    together: every state of every tick of every frame differs then, in the emitted bench or here."""
    rng = random.Random(seed)
    net = random_net(rng)
    kinds = {11: ("index", False, "last"), 15: ("number", True, "every"), 4: ("number", True, "last")}
    assert (net.inputs[0].kind, net.schedule.frames, net.schedule.emit) == kinds[seed]
    skip_without_tools(RtlTarget.of(arch="processor"))
    inputs = random_inputs(net, rng, batch=3)
    core = emitted(RtlTarget.of(arch="processor", readback=seed == 11), net, tmp_path / "core")
    agree(net, inputs, simulated("verilator-native", core, inputs)).require()
    argv = [sys.executable, "-B", "bench/run.py", "--sim", "icarus", "--build", str(tmp_path / "build"), "--quiet"]
    done = subprocess.run(argv, cwd=core.folder, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("15 tests, 0 failed\n"), done.stdout + done.stderr


def test_two_memories_never_share_a_file_with_different_words() -> None:
    """The second one would start with the words of the first."""
    files = ContentFiles()
    text = convert(Ram(width=12, depth=3, init=[1, 0xABC], file="words"), name="a", platform=files).text
    assert files.texts == {"words.hex": "001\nabc\n000\n000\n"}
    assert '$readmemh("words.hex", words);' in text
    assert "abc" not in text
    convert(Ram(width=12, depth=3, init=[1, 0xABC], file="words"), name="b", platform=files)
    with pytest.raises(ValueError, match=r"different words go to the file words\.hex"):
        convert(Ram(width=12, depth=3, init=[2], file="words"), name="c", platform=files)


@pytest.mark.parametrize(("width", "parts", "init"), [(12, 1, []), (600, 2, []), (12, 1, [5, 0, 7])])
def test_words_that_amaranth_is_not_told_of_are_in_the_text(width: int, parts: int, init: list[int]) -> None:
    """Zeros are left out where they take minutes; a memory that lost them would start with X."""

    def text(platform: object) -> str:
        return convert(Ram(width=width, depth=5, init=init, parts=parts, holds=True), name="a", platform=platform).text

    assert text(ContentFiles()) == text(None)
    assert text(None).count("words[") >= 2


@pytest.mark.parametrize("width", [1, 2])
def test_the_listing_says_what_each_instruction_reads_and_costs(width: int) -> None:
    """A listing whose clocks are not those of the core sends whoever sizes it the wrong way."""
    program = compile_net(example("plain")[0], width=width)
    head, *_ = lines = listing(program).splitlines()
    assert head.startswith(f"; {len(program.instructions)} instructions of ")
    body = [line for line in lines if line[0] != ";"]
    assert len(body) == len(program.instructions)
    for line, i, cost in zip(body, program.instructions, costs(program), strict=True):
        assert "; bytes " in line
        if isinstance(i, Vector):
            assert cost.clocks == (-(-i.counts[-1] // (width if i.wide else 1)) * prod(i.counts[:-1]),) * 2
        if isinstance(i, Apply):
            assert "an event" in line
    assert any("h = " in line and "b0: " in line for line in body)
    assert sum(c.stored for c in costs(program)) > 0
