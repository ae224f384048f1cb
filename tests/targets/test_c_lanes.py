"""Columns that the C target adds in vector registers: the same bits as without them, and defects that vectors catch."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net, with_formats

from eqcompile.targets.c import lanes
from eqcompile.targets.c.layout import CType
from eqcompile.targets.c.target import CTarget
from eqcompile.toolchain.ir import IntNet, Param, ops
from eqcompile.toolchain.ir.ranges import Interval

WITHOUT = "-O2 -U__AVX512BW__ -U__AVX2__ -U__SSE2__ -U__ARM_NEON"
WAYS = ("-O2", "-O2 -U__AVX512BW__ -U__AVX2__", "-O1 -march=native", WITHOUT)
"""For the compiler's own processor, for its least, for the processor of this machine, and for one without registers."""


def wide_net(low: int, high: int, units: int = 128) -> IntNet:
    """Codes from `low` to `high`: a loop, and an input map whose sums are largest for inputs at an end."""
    draw = np.random.default_rng(units)
    weight, given = draw.integers(low, high, (units, units), endpoint=True), np.full((units, units), high)
    given[1::2] = draw.integers(low, high, (units // 2, units), endpoint=True)
    table = [int(np.clip(v // 64, -128, 127)) for v in range(-8192, 8192)]
    net = small_net(weight.tolist(), table=table, first=-8192, steps=5)
    drive = (ops.Linear(out="d", x="x", weight="V"),)
    step = tuple(replace(op, b="d") if isinstance(op, ops.Add) else op for op in net.step)
    params = (*net.params, Param("V", given, "test"))
    return with_formats(replace(net, params=params, drive=drive, step=step, formats={"h": net.formats["h"]}))


def passes(folder: Path, optimize: str) -> bool:
    """Whether the program gives golden's states: `make test`."""
    goal = ["make", "-s", "-B", "test", f"OPTIMIZE={optimize}"]
    return subprocess.run(goal, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.simulator
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_registers_of_every_width_give_the_same_bits(tmp_path: Path, bits: int) -> None:
    """A sum that leaves its lane, a plane at the wrong bits, or code that only one processor compiles."""
    per = 16 // bits
    net = wide_net(-1 if bits == 2 else -(1 << bits - 1), (1 << bits - 1) - 1, 32 * per)
    folder = emitted(CTarget(pack="2bit"), net, tmp_path / "c").folder
    text = (folder / "eq.c").read_text()
    assert "static void V_start_" in text
    assert "static void W_update_" in text
    assert [way for way in WAYS if not passes(folder, way)] == []


WORDS = {
    "a full list is dropped": ("add_all_16(acc, column, delta, count);\n                count = 0;", "count = 0;"),
    "the operand is not taken over": ("            seen[i] = x[i];\n", ""),
    "the offset of the codes stays": ("] - offset;", "];"),
    "a plane is read twice": ("(w >> 2) & 3u", "(w >> 0) & 3u"),
}
MUTANTS = {
    "the list overruns": ("count = 0;\n        }", "}"),
    "the operand is not taken over": ("            seen[i] = x[i];\n", ""),
    "the offset of the codes stays": (" - offset;", ";"),
    "a plane keeps its neighbours": ("(w >> 2) & mask", "(w >> 2)"),
    "sums are cut to bytes": ("(int16_t)sum0[k]", "(int8_t)sum0[k]"),
    "a run is passed over": ("== 0) {\n            continue;", "!= 1) {\n            continue;"),
}


@pytest.mark.simulator
def test_mutants_are_caught(tmp_path: Path) -> None:
    """Vectors that pass wrong lanes prove nothing about right ones."""
    folder = emitted(CTarget(pack="2bit"), wide_net(-1, 1, 320), tmp_path / "c").folder
    text = (folder / "eq.c").read_text()
    assert "eq_lanes" in text
    for way, mutants in (("-O1", MUTANTS), (WITHOUT, WORDS)):
        for name, (old, new) in mutants.items():
            assert old in text, name
            (folder / "eq.c").write_text(text.replace(old, new))
            assert not passes(folder, way), name
        (folder / "eq.c").write_text(text)
        assert passes(folder, way)


@pytest.mark.simulator
def test_a_list_that_is_too_long_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a list is what keeps a lane of 16 bits exact."""
    net = wide_net(-8, 7, 64)
    monkeypatch.setattr(lanes, "HALF", 1 << 20)
    assert not passes(emitted(CTarget(pack="2bit"), net, tmp_path / "c").folder, "-O1")


def test_what_lanes_hold() -> None:
    """Sums of 16 bits always; of 32 as many as their products let; none that a word does not hold on the way, or of an
    operand that is not made of runs."""
    found, byte, half = lanes.Lanes("w", 32, 2, 1), CType(8, False), CType(16, True)
    small, large, wide = (Interval(-n, n) for n in (30_000, 200_000, 2**31 - 1))
    delta = product = Interval(-255, 255)
    assert found.listed(small, delta, product, byte, 784) == 128
    assert found.listed(large, delta, product, byte, 784) == 128
    assert found.listed(large, delta, Interval(-300, 300), byte, 784) == 109
    assert found.listed(large, delta, Interval(-5000, 5000), byte, 784) == 0
    assert found.listed(large, delta, Interval(-5000, 5000), half, 784) == 6
    assert found.listed(small, delta, product, byte, 783) == found.listed(wide, delta, product, byte, 784) == 0
    assert found.listed(small, Interval(-65535, 65535), product, half, 784) == 0
    assert [lanes.Lanes("w", words, 2, 1).width for words in (8, 24, 48, 128)] == [8, 8, 16, 32]


@pytest.mark.simulator
def test_a_net_without_such_columns_has_no_registers(tmp_path: Path) -> None:
    """Code that a reviewer must read, and nothing calls; a dense kernel lists every entry, and has no other adder."""
    small = small_net([[1, -1], [0, 1]], table=[-1, 0, 1], first=-1, steps=2)
    assert "LANES" not in (emitted(CTarget(), small, tmp_path / "small").folder / "eq.c").read_text()
    dense = emitted(CTarget(kernel="dense"), wide_net(-1, 1, 64), tmp_path / "dense").folder
    assert "W_start_all_" in (dense / "eq.c").read_text()
    assert [way for way in WAYS if not passes(dense, way)] == []
