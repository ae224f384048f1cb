"""A net on a board: the folder, the bitstream, and the whole top simulated through its UART pins against golden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rtl_uart import SimulatedLine
from strategies import small_net

from eqcompile.rtl.boards import BOARDS, BoardTop
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.targets.rtl.boards import BOARD_NAMES, bitstream, vectors_of, write_board
from eqcompile.targets.rtl.boards_host import BoardLink
from eqcompile.targets.rtl.synth_parts import PARTS
from eqcompile.targets.rtl.synth_tools import SynthesisError
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet

DIVISOR = 4
LIMIT_S = 300.0


@pytest.fixture(scope="module")
def net() -> IntNet:
    weight = [[0, 1, -1, 1], [-1, 0, 1, 0], [1, 0, 0, -1], [0, -1, 1, 0]]
    return small_net(weight, table=[code // 2 for code in range(-128, 128)], first=-128, steps=12)


def test_the_names_are_those_of_the_boards() -> None:
    """Would break if a board were added that the target does not offer."""
    assert set(BOARD_NAMES) == set(BOARDS)


def test_an_unknown_board_is_refused(net: IntNet, tmp_path: Path) -> None:
    """Would break if a mistyped board gave a KeyError."""
    with pytest.raises(UsageError, match="no board 'ulx4s'"):
        write_board(net, None, "ulx4s", tmp_path, arch="serial", words=None, timeout_s=1.0)


@pytest.mark.simulator
def test_the_folder_of_a_board_holds_a_bitstream_and_the_top_computes_the_net(net: IntNet, tmp_path: Path) -> None:
    """Would break if the bitstream were not made, or if what it is made of did not answer golden's codes."""
    engine = SerialEngine(net, trace=False, lanes=2)
    details = write_board(net, engine, "icebreaker", tmp_path, arch="serial", words=None, timeout_s=LIMIT_S)
    assert (tmp_path / details["bitstream"]).stat().st_size > 100_000
    assert details["fmax_mhz"] > 12.0
    assert "iceprog board_top.bin" in (tmp_path / "README.md").read_text(encoding="utf-8")
    vectors = json.loads((tmp_path / "vectors.json").read_text(encoding="utf-8"))
    assert vectors == vectors_of(net)
    description = json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))
    board = BOARDS["icebreaker"]
    top = BoardTop(
        SerialEngine(net, trace=False, lanes=2),
        board,
        baud=board.clock_hz // DIVISOR,
        identity=description["identity"],
        schedule=net.schedule,
    )
    host = BoardLink(SimulatedLine(top, divisor=DIVISOR), description)
    host.reset()
    assert [host.infer(codes)[1] for codes in vectors["inputs"]] == vectors["outputs"]
    compile((tmp_path / "host.py").read_text(encoding="utf-8"), "host.py", "exec")


@pytest.mark.simulator
def test_a_design_slower_than_the_clock_is_refused(tmp_path: Path) -> None:
    """Would break if a bitstream were handed out that misses its timing: two products at 100 MHz."""
    (tmp_path / "slow.v").write_text(
        "module slow(input clk, input d, output reg q); reg [31:0] a; reg [31:0] p;\n"
        "always @(posedge clk) begin a <= {a[30:0], d}; p <= a * a * p + a; q <= ^p; end endmodule\n",
        encoding="utf-8",
    )
    (tmp_path / "slow.pcf").write_text("set_io clk 35\nset_io d 6\nset_io q 9\n", encoding="utf-8")
    with pytest.raises(SynthesisError, match=r"reaches \d+\.\d MHz, the board's clock is 100 MHz"):
        bitstream(tmp_path, "slow", PARTS["up5k"], "slow.pcf", clock_hz=100_000_000, timeout_s=LIMIT_S)
    assert not (tmp_path / "slow.bin").exists()
