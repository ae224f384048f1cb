"""PLLs of ECP5 and iCE40 in Verilog, for simulators."""

from __future__ import annotations

__all__ = ["PLLS", "STEADY_PLLS"]

_ECP5 = """
module EHXPLLL #(
  parameter PLLRST_ENA = "", INTFB_WAKE = "", STDBY_ENABLE = "", DPHASE_SOURCE = "", OUTDIVIDER_MUXA = "",
  parameter CLKOP_ENABLE = "", FEEDBK_PATH = "",
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 1, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0
) (
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, PLLWAKESYNC, ENCLKOP,
  output CLKOP, LOCK
);
%s
endmodule
"""
_ICE40 = """
module %s #(
  parameter FEEDBACK_PATH = "", parameter [3:0] DIVR = 0, parameter [6:0] DIVF = 0, parameter [2:0] DIVQ = 0,
  parameter [2:0] FILTER_RANGE = 0
) (input %s, RESETB, BYPASS, output PLLOUTGLOBAL, LOCK);
%s
endmodule
"""
_STEADY = """  reg [9:0] count = 0;
  assign LOCK = &count;
  always @(posedge %(source)s) if (!LOCK) count <= count + 1;
  assign %(output)s = %(source)s;"""
# The period is measured, and the oscillator's made of it; a PLL whose settings are out of range never locks.
_REAL = """  real last = 0, period = 0;
  reg clock = 0, locked = 0;
  assign %(output)s = clock;
  assign LOCK = locked;
  always @(posedge %(source)s) begin
    period = $realtime - last;
    last = $realtime;
  end
  initial begin
    #2000;
    locked = 1000.0 / %(oscillator)s >= %(least)s && 1000.0 / %(oscillator)s <= %(most)s;
    forever #(%(half)s) clock = !clock;
  end"""


def _plls(template: str) -> str:
    ecp5 = {
        "source": "CLKI",
        "output": "CLKOP",
        "oscillator": "(period * CLKI_DIV / CLKFB_DIV / CLKOP_DIV)",
        "half": "period * CLKI_DIV / CLKFB_DIV / 2",
        "least": 400,
        "most": 800,
    }
    modules = [_ECP5 % (template % ecp5)]
    for kind, pin in (("SB_PLL40_CORE", "REFERENCECLK"), ("SB_PLL40_PAD", "PACKAGEPIN")):
        ice40 = {
            "source": pin,
            "output": "PLLOUTGLOBAL",
            "oscillator": "(period * (DIVR + 1) / (DIVF + 1))",
            "half": "period * (DIVR + 1) * (1 << DIVQ) / (DIVF + 1) / 2",
            "least": 533,
            "most": 1066,
        }
        modules.append(_ICE40 % (kind, pin, template % ice40))
    return "".join(modules)


STEADY_PLLS = _plls(_STEADY)
"""PLLs whose clock is their source, and which lock after a thousand clocks of it: for what runs on any clock."""
PLLS = "`timescale 1ns/1fs\n" + _plls(_REAL)
"""PLLs that make their frequency by the formulas of their data sheets."""
