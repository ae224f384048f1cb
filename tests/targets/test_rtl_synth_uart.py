"""The UART front end of a board, driven bit by bit through its pins."""

from __future__ import annotations

import re
from typing import Any

import pytest
from amaranth import Cat, Module
from rtl_uart import SimulatedLine, ToyEngine, X, Y, toy_outputs

from eqcompile.rtl.boards.clocks import divisor_of
from eqcompile.rtl.boards.link import Link
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.rtl.boards.top import BoardTop, board_verilog
from eqcompile.rtl.boards.uart import Receiver
from eqcompile.targets.rtl.board.host import BoardLink, LinkError
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import Schedule

IDENTITY = 0x1234ABCD
DIVISOR = 4
SCHEDULE = Schedule(steps=7, tolerance=2)
DESCRIPTION = {
    "identity": IDENTITY,
    "x": {"bytes": X.bytes, "count": X.count, "lo": X.format.lo, "hi": X.format.hi},
    "y": {"bytes": Y.bytes, "count": Y.count, "lo": Y.format.lo, "hi": Y.format.hi},
}


def board(**line: Any) -> tuple[BoardLink, SimulatedLine]:
    link = Link(ToyEngine(slow=300), divisor=DIVISOR, identity=IDENTITY, schedule=SCHEDULE)
    simulated = SimulatedLine(link, divisor=DIVISOR, **line)
    return BoardLink(simulated, DESCRIPTION), simulated


def test_samples_weights_and_schedule_make_the_round_trip() -> None:
    """Would break if a byte, a code's sign, the order of codes, ticks, weights or the schedule got lost on the way,
    or if an engine slower than the line lost input."""
    host, _ = board()
    host.reset()
    assert host.infer([1, -2, 100]) == (7, toy_outputs([1, -2, 100], [0, 0], 7, 2))
    host.load(0, [11, 300])
    assert host.infer([-128, -128, -128]) == (7, toy_outputs([-128] * 3, [11, 300], 7, 2))
    host.load(1, [5])
    host.configure(500, 0)
    assert host.infer([127, 127, 127]) == (500, toy_outputs([127] * 3, [11, 5], 500, 0))
    host.load(0, [])
    assert host.infer([0, 0, 0]) == (500, toy_outputs([0] * 3, [11, 5], 500, 0))


def test_a_break_brings_a_lost_board_back() -> None:
    """Would break if a host that died in mid-sample left the board waiting for the rest of the sample forever."""
    host, line = board()
    host.reset()
    host.load(0, [1, 2])
    host.configure(9, 9)
    line.write(b"S\x05\x06")
    line.idle(100)
    host.reset()
    # The weights stay, the schedule is the net's again, nothing of the half sample is left.
    assert host.infer([3, 4, 5]) == (7, toy_outputs([3, 4, 5], [1, 2], 7, 2))


def test_an_unknown_request_is_answered_and_forgotten() -> None:
    """Would break if a wrong byte hung the board or was taken for a request."""
    host, line = board()
    line.write(b"?")
    assert line.read(1) == b"E"
    line.write(b"?")
    with pytest.raises(LinkError, match="does not know"):
        host.configure(1, 0)
    host.reset()
    assert host.infer([1, 1, 1])[0] == 7


def test_a_glitch_is_no_byte() -> None:
    """Would break if a spike shorter than half a bit were taken for a start bit."""
    host, line = board()
    line.levels += [0, *[1] * 60]
    host.reset()
    assert host.infer([1, 2, 3])[1] == toy_outputs([1, 2, 3], [0, 0], 7, 2)


def test_another_core_is_refused() -> None:
    """Would break if a host took the answers of another net's bitstream."""
    host, _ = board()
    host.identity = 1
    with pytest.raises(LinkError, match="carries core 1234abcd"):
        host.reset()


def test_the_highest_bit_first_is_caught() -> None:
    """Would break if the round trip above could not fail: a line that sends the highest bit first must be noticed."""
    host, _ = board(sent=lambda byte: [0, *((byte >> (7 - i)) & 1 for i in range(8)), 1])
    with pytest.raises(LinkError):
        host.reset()


class ReversedReceiver(Receiver):
    """A mutant that reads the highest bit first."""

    def elaborate(self, platform: object) -> Module:
        outer = Module()
        outer.submodules.inner = inner = Receiver(self.divisor)
        outer.d.comb += [
            inner.rx.eq(self.rx),
            self.data.eq(Cat(*reversed(list(inner.data)))),
            self.valid.eq(inner.valid),
            self.lost.eq(inner.lost),
        ]
        return outer


def test_a_receiver_with_the_wrong_bit_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the simulated line shared its bit order with the receiver instead of the definition of 8N1."""
    monkeypatch.setattr("eqcompile.rtl.boards.link.Receiver", ReversedReceiver)
    host, _ = board()
    with pytest.raises(LinkError):
        host.reset()


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_the_whole_top_of_a_board_answers_through_its_pins(name: str) -> None:
    """Would break if a board's top did not pass its clock or its pins on."""
    chosen = BOARDS[name]
    baud = chosen.clock_hz // DIVISOR
    top = BoardTop(ToyEngine(), chosen, baud=baud, identity=IDENTITY, schedule=SCHEDULE)
    host = BoardLink(SimulatedLine(top, divisor=DIVISOR), DESCRIPTION)
    host.reset()
    assert host.infer([4, 5, -6]) == (7, toy_outputs([4, 5, -6], [0, 0], 7, 2))


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_port_of_a_board_has_a_pin_and_every_pin_a_port(name: str) -> None:
    """Would break if a pin file named a pin that the top does not have, or forgot one: the placer then picks any."""
    chosen = BOARDS[name]
    top = BoardTop(ToyEngine(), chosen, baud=1_000_000, identity=0, schedule=SCHEDULE)
    lines = [line.split() for line in chosen.constraints.splitlines()]
    pins = {w[2].strip('"') for w in lines if w[:2] == ["LOCATE", "COMP"]} | {w[-2] for w in lines if w[0] == "set_io"}
    assert pins == set(top.signature.members)
    text = board_verilog(top)
    ports = text[text.index("module board_top (") : text.index(");", text.index("module board_top ("))]
    assert pins == set(re.findall(r"(?:input|output) wire (\w+)", ports))


def test_a_rate_that_the_clock_cannot_make_is_refused() -> None:
    """Would break if a board were built whose bits drift out of their frame."""
    assert divisor_of(12_000_000, 1_000_000) == 12
    assert divisor_of(25_000_000, 115_200) == 217
    with pytest.raises(UsageError, match=r"7000000 baud is 1\.71 clocks"):
        divisor_of(12_000_000, 7_000_000)
    with pytest.raises(UsageError, match=r"2300000 baud is 5\.22 clocks"):
        divisor_of(12_000_000, 2_300_000)
