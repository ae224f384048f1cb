"""Settings of the PLLs of iCE40 and ECP5, and their Verilog: another frequency for the core than the oscillator's.

    pll = pll_of("ice40", 12_000_000, 24.0, pad=True)
    pll.output_hz, pll.verilog("clock_pll")

The limits are those of `icepll` (Project IceStorm) and `ecppll` (Project Trellis), which the tests compare with. Among
the settings with the least error the one with the fastest phase detector is taken, which jitters least. Imports no HDL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["PLL", "Ecp5Pll", "Ice40Pll", "Pll", "pll_of"]

PLL = "clock_pll"
"""Name of the module: `clk_in`, `clk_out`, `locked`."""
TOLERANCE = 0.01
"""By how much the frequency may miss what is asked for; the UART tolerates 2 % in all."""
_MHZ = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Pll(ABC):
    """Abstract: settings of a PLL that is fed with `source_hz`. Frequencies in Hz, exact; limits as (least, most)."""

    source_limits: ClassVar[tuple[float, float]]
    detector_limits: ClassVar[tuple[float, float]]
    oscillator_limits: ClassVar[tuple[float, float]]
    output_limits: ClassVar[tuple[float, float]]

    source_hz: int

    @property
    @abstractmethod
    def detector_hz(self) -> Fraction:
        """Of the phase detector."""

    @property
    @abstractmethod
    def oscillator_hz(self) -> Fraction:
        """Of the voltage-controlled oscillator."""

    @property
    @abstractmethod
    def output_hz(self) -> Fraction:
        """What comes out."""

    @abstractmethod
    def verilog(self, name: str) -> str:
        """A module with the PLL: `clk_in`, `clk_out`, `locked`."""

    @property
    def valid(self) -> bool:
        """Whether every frequency is within its limits."""
        pairs = (
            (Fraction(self.source_hz), self.source_limits),
            (self.detector_hz, self.detector_limits),
            (self.oscillator_hz, self.oscillator_limits),
            (self.output_hz, self.output_limits),
        )
        return all(low * _MHZ <= hz <= high * _MHZ for hz, (low, high) in pairs)


@dataclass(frozen=True, kw_only=True)
class Ice40Pll(Pll):
    """The output is source * (divf + 1) / ((divr + 1) * 2^divq), with the feedback `SIMPLE`. `pad`: the source is the
    PLL's own pin, which no other logic may then read."""

    source_limits: ClassVar[tuple[float, float]] = (10, 133)
    detector_limits: ClassVar[tuple[float, float]] = (10, 133)
    oscillator_limits: ClassVar[tuple[float, float]] = (533, 1066)
    output_limits: ClassVar[tuple[float, float]] = (16, 275)

    divr: int
    divf: int
    divq: int
    pad: bool

    @property
    def detector_hz(self) -> Fraction:
        return Fraction(self.source_hz, self.divr + 1)

    @property
    def oscillator_hz(self) -> Fraction:
        return self.detector_hz * (self.divf + 1)

    @property
    def output_hz(self) -> Fraction:
        return self.oscillator_hz / (1 << self.divq)

    @property
    def filter_range(self) -> int:
        """The loop filter for the phase detector's frequency, as `icepll` has it."""
        limits_mhz = (17, 26, 44, 66, 101)
        return 1 + sum(self.detector_hz >= limit * _MHZ for limit in limits_mhz)

    def verilog(self, name: str) -> str:
        kind, pin = ("SB_PLL40_PAD", "PACKAGEPIN") if self.pad else ("SB_PLL40_CORE", "REFERENCECLK")
        return f"""\
// {_title(self)}
module {name} (
  input wire clk_in,
  output wire clk_out,
  output wire locked
);
  {kind} #(
    .FEEDBACK_PATH("SIMPLE"),
    .DIVR(4'd{self.divr}),
    .DIVF(7'd{self.divf}),
    .DIVQ(3'd{self.divq}),
    .FILTER_RANGE(3'd{self.filter_range})
  ) pll (
    .{pin}(clk_in),
    .PLLOUTGLOBAL(clk_out),
    .LOCK(locked),
    .RESETB(1'b1),
    .BYPASS(1'b0)
  );
endmodule
"""

    @classmethod
    def all_of(cls, source_hz: int, *, pad: bool) -> Iterator[Ice40Pll]:
        """Every setting whose phase detector is fast enough."""
        for divr in range(min(16, int(source_hz / (cls.detector_limits[0] * _MHZ)))):
            for divf in range(128):
                for divq in range(1, 7):
                    yield cls(source_hz=source_hz, divr=divr, divf=divf, divq=divq, pad=pad)


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll(Pll):
    """The output CLKOP is fed back: it is source * feedback / reference, and the oscillator `output` times that."""

    source_limits: ClassVar[tuple[float, float]] = (8, 400)
    detector_limits: ClassVar[tuple[float, float]] = (3.125, 400)
    oscillator_limits: ClassVar[tuple[float, float]] = (400, 800)
    output_limits: ClassVar[tuple[float, float]] = (10, 400)

    reference: int
    feedback: int
    output: int

    @property
    def detector_hz(self) -> Fraction:
        return Fraction(self.source_hz, self.reference)

    @property
    def oscillator_hz(self) -> Fraction:
        return self.output_hz * self.output

    @property
    def output_hz(self) -> Fraction:
        return self.detector_hz * self.feedback

    def verilog(self, name: str) -> str:
        source, output = self.source_hz / _MHZ, float(self.output_hz / _MHZ)
        return f"""\
// {_title(self)}
module {name} (
  input wire clk_in,
  output wire clk_out,
  output wire locked
);
  (* FREQUENCY_PIN_CLKI = "{source:g}" *)
  (* FREQUENCY_PIN_CLKOP = "{output:g}" *)
  (* ICP_CURRENT = "12" *) (* LPF_RESISTOR = "8" *) (* MFG_ENABLE_FILTEROPAMP = "1" *) (* MFG_GMCREF_SEL = "2" *)
  EHXPLLL #(
    .PLLRST_ENA("DISABLED"),
    .INTFB_WAKE("DISABLED"),
    .STDBY_ENABLE("DISABLED"),
    .DPHASE_SOURCE("DISABLED"),
    .OUTDIVIDER_MUXA("DIVA"),
    .CLKI_DIV({self.reference}),
    .CLKFB_DIV({self.feedback}),
    .CLKOP_ENABLE("ENABLED"),
    .CLKOP_DIV({self.output}),
    .CLKOP_CPHASE({self.output - 1}),
    .CLKOP_FPHASE(0),
    .FEEDBK_PATH("CLKOP")
  ) pll (
    .CLKI(clk_in),
    .CLKFB(clk_out),
    .CLKOP(clk_out),
    .LOCK(locked),
    .RST(1'b0),
    .STDBY(1'b0),
    .PHASESEL0(1'b0),
    .PHASESEL1(1'b0),
    .PHASEDIR(1'b1),
    .PHASESTEP(1'b1),
    .PHASELOADREG(1'b1),
    .PLLWAKESYNC(1'b0),
    .ENCLKOP(1'b0)
  );
endmodule
"""

    @classmethod
    def all_of(cls, source_hz: int) -> Iterator[Ecp5Pll]:
        """Every setting whose phase detector is fast enough and whose oscillator is within its limits."""
        low, high = (limit * _MHZ for limit in cls.oscillator_limits)
        for reference in range(1, min(128, int(source_hz / (cls.detector_limits[0] * _MHZ))) + 1):
            for feedback in range(1, 81):
                hz = source_hz * feedback / reference
                for output in range(max(1, int(low // hz)), min(128, int(high // hz)) + 1):
                    yield cls(source_hz=source_hz, reference=reference, feedback=feedback, output=output)


def _title(pll: Pll) -> str:
    hz = (Fraction(pll.source_hz), pll.output_hz, pll.detector_hz, pll.oscillator_hz)
    source, output, detector, oscillator = (f"{float(value / _MHZ):g} MHz" for value in hz)
    return f"{source} to {output}; phase detector {detector}, oscillator {oscillator}"


def pll_of(family: Literal["ecp5", "ice40"], source_hz: int, target_mhz: float, *, pad: bool = False) -> Pll:
    """The settings that come nearest to a frequency in MHz.

    Raises UsageError where the nearest one misses it by more than 1 %, with that one.
    """
    settings: Iterator[Pll] = Ecp5Pll.all_of(source_hz) if family == "ecp5" else Ice40Pll.all_of(source_hz, pad=pad)
    target_hz = Fraction(target_mhz) * _MHZ

    def order(pll: Pll) -> tuple[Fraction, Fraction, Fraction]:
        middle = Fraction(sum(pll.oscillator_limits)) * _MHZ / 2
        return abs(pll.output_hz - target_hz), -pll.detector_hz, abs(pll.oscillator_hz - middle)

    nearest = min((pll for pll in settings if pll.valid), key=order, default=None)
    if nearest is not None and abs(nearest.output_hz - target_hz) <= TOLERANCE * target_hz:
        return nearest
    kind = Ecp5Pll if family == "ecp5" else Ice40Pll
    low, high = kind.output_limits
    what = f"the PLL of an {family} makes no {target_mhz:g} MHz of {source_hz / _MHZ:g} MHz to within {TOLERANCE:.0%}"
    near = "" if nearest is None else f", the nearest is {float(nearest.output_hz / _MHZ):g} MHz"
    raise UsageError(Diagnostic("pll-frequency", what + near, "--clock", f"it makes {low:g} to {high:g} MHz"))
