"""A net on a board: the folder, the bitstream, and the whole top simulated through its UART pins against golden."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from plls import STEADY_PLLS
from rtl_uart import SimulatedLine, serial_port
from strategies import small_net

from eqcompile.quantization.lower import lower
from eqcompile.rtl.boards.clocks import BAUD, board_clock
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.rtl.boards.top import BoardTop
from eqcompile.rtl.memory import SPRAM_MODEL
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.targets.rtl.board.host import BoardLink
from eqcompile.targets.rtl.board.write import bitstream, vectors_of, write_board, write_sources
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.tools import SynthesisError
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.targets.rtl.vectors import bench_inputs
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Vectors
from eqcompile.toolchain.ir import IntNet

DIVISOR = 4
LIMIT_S = 300.0
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def net() -> IntNet:
    weight = [[0, 1, -1, 1], [-1, 0, 1, 0], [1, 0, 0, -1], [0, -1, 1, 0]]
    return small_net(weight, table=[code // 2 for code in range(-128, 128)], first=-128, steps=12)


def vectors(net: IntNet) -> Vectors:
    inputs = bench_inputs(net)
    return Vectors(inputs, run_golden(net, inputs))


def test_the_target_knows_every_board_and_its_part() -> None:
    """Would break if a board were added that the target does not offer, or built a core for another part."""
    assert {board.part for board in BOARDS.values()} <= PARTS.keys()
    literal, _ = get_args(get_type_hints(RtlTarget)["board"])
    assert set(get_args(literal)) == set(BOARDS)


def test_an_unknown_board_is_refused(net: IntNet, tmp_path: Path) -> None:
    """Would break if a mistyped board gave a KeyError."""
    with pytest.raises(UsageError, match="no board 'ulx4s'"):
        write_board(net, None, "ulx4s", tmp_path, vectors=vectors(net), arch="serial", words=None, timeout_s=1.0)


@pytest.mark.simulator
def test_the_folder_of_a_board_holds_a_bitstream_and_the_top_computes_the_net(net: IntNet, tmp_path: Path) -> None:
    """Would break if the bitstream were not made, or if what it is made of did not answer golden's codes."""
    engine = SerialEngine(net, trace=False, lanes=2)
    expected = vectors(net)
    details = write_board(
        net,
        engine,
        "icebreaker",
        tmp_path,
        vectors=expected,
        arch="serial",
        words=None,
        timeout_s=LIMIT_S,
        clock_mhz=24.0,
    )
    assert (tmp_path / details.bitstream).stat().st_size > 100_000
    # Of the PLL, whose clock was placed and is what the figure is of.
    assert details.clock_hz == 24_000_000 < 1e6 * details.fmax_mhz
    assert "24 MHz by a PLL from 12 MHz of the oscillator" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "iceprog board_top.bin" in (tmp_path / "README.md").read_text(encoding="utf-8")
    samples = json.loads((tmp_path / "vectors.json").read_text(encoding="utf-8"))
    assert samples == vectors_of(net, expected)
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
    assert [host.infer(codes)[1] for codes in samples["inputs"]] == samples["outputs"]
    compile((tmp_path / "host.py").read_text(encoding="utf-8"), "host.py", "exec")


@pytest.fixture(scope="module")
def digits() -> IntNet:
    """The trained ternary net of the examples."""
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        calibration = {"x": file["x"]}
    float_net = import_model(EXAMPLES / "checkpoints" / "digits_ternary.pt").net
    net: IntNet = lower(float_net, QuantizeOptions(), calibration=calibration).net
    return net


def on_board(
    net: IntNet, name: str, tmp_path: Path, *, wrong: Sequence[int] = (), clock_mhz: float | None = None
) -> subprocess.CompletedProcess[str]:
    """The host script of a board's folder, run on the board's top through a serial port of the operating system.

    `wrong`: samples whose expected first output is made wrong. The clock of a PLL is simulated as the pin's.
    """
    board, folder, build = BOARDS[name], tmp_path / "board", tmp_path / "build"
    folder.mkdir()
    build.mkdir()
    spram = board.part == "up5k"
    engine = SerialEngine(net, trace=False, family="up5k" if spram else "generic")
    words = engine.load_words(net) if spram else None
    write_sources(net, engine, name, folder, vectors=vectors(net), words=words, clock_mhz=clock_mhz)
    _, core_hz = board_clock(board, clock_mhz)
    path = folder / "vectors.json"
    samples = json.loads(path.read_text(encoding="utf-8"))
    for sample in wrong:
        samples["outputs"][sample][0] += 1
    path.write_text(json.dumps(samples), encoding="utf-8")
    models = [*([SPRAM_MODEL] if spram else []), *([] if core_hz == board.clock_hz else [STEADY_PLLS])]
    with serial_port(folder, build, core_hz // BAUD, models=models) as port:
        argv = [sys.executable, "host.py", port, "--timeout", "60", "-o", str(tmp_path / "out.json")]
        return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S)


@pytest.mark.simulator
@pytest.mark.parametrize("name", ["ecpix5", "icebreaker", "ulx3s"])
def test_the_host_script_runs_a_trained_net_on_the_whole_board(name: str, digits: IntNet, tmp_path: Path) -> None:
    """Would break if what the bitstream is made of, at its own rate, did not answer golden's codes to the script that
    users get: on the UP5K with weights that the script loads into memory that holds nothing at first."""
    done = on_board(digits, name, tmp_path)
    assert done.stdout == "8 samples run on the board, 0 differ from golden\n", done.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(found["ticks"]) == 8
    assert all(0 < ticks <= digits.schedule.steps for ticks in found["ticks"])


@pytest.mark.simulator
def test_a_board_on_a_pll_waits_for_it_and_answers(net: IntNet, tmp_path: Path) -> None:
    """Would break if the core ran before its clock is stable, or the UART kept the oscillator's rate: the PLL of this
    simulation locks after a thousand clocks."""
    done = on_board(net, "ulx3s", tmp_path, clock_mhz=40.0)
    assert done.stdout == "8 samples run on the board, 0 differ from golden\n", done.stderr


@pytest.mark.simulator
def test_the_host_script_notices_a_wrong_answer(net: IntNet, tmp_path: Path) -> None:
    """Would break if the script reported equality whatever the board answered."""
    done = on_board(net, "ulx3s", tmp_path, wrong=(2, 5))
    assert done.returncode == 1, done.stderr
    assert done.stdout == "8 samples run on the board, 2 differ from golden\n"


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
