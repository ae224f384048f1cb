"""The Verilog of every engine as Yosys reads it: one clock, no latch, no register without an initial value, no cell of
a vendor outside the memory wrapper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtl_mutant_nets import Subject, subjects

from eqcompile.rtl.memory import SPRAM_MODEL
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool

# One worker builds what all tests here share.
pytestmark = [pytest.mark.simulator, pytest.mark.xdist_group("rtl_netlist")]

SCRIPT = """\
read_verilog -lib model.v
read_verilog {name}.v
hierarchy -check -top core
proc -norom
flatten
check -assert
opt_clean
memory_dff
memory_collect
opt_clean
write_json {name}.json
design -reset
"""
"""A register that a memory's read port alone drives becomes part of the memory, as in a block RAM."""

WRONG = {
    "latch": ("reg l; always @* if (rst) l = d; assign q = l;", "latch"),
    "no initial value": ("reg r; always @(posedge clk) r <= d; assign q = r;", "no initial value"),
    "half of an initial value": (
        "reg [1:0] r = 2'bx0; always @(posedge clk) r <= {d, d}; assign q = ^r;",
        "no initial value",
    ),
    "second clock": ("reg r = 0; always @(posedge d) r <= rst; assign q = r;", "clock"),
    "falling edge": ("reg r = 0; always @(negedge clk) r <= d; assign q = r;", "clock"),
    "asynchronous reset": (
        "reg r = 0; always @(posedge clk, posedge rst) if (rst) r <= 0; else r <= d; assign q = r;",
        "$adff",
    ),
    "memory of a second clock": (
        "reg m [1:0]; initial begin m[0] = 0; m[1] = 0; end always @(posedge d) m[rst] <= d; assign q = m[d];",
        "clock",
    ),
    "memory without contents": ("reg m [1:0]; always @(posedge clk) m[rst] <= d; assign q = m[d];", "no initial value"),
    "read port that waits": (
        """reg m [1:0]; initial begin m[0] = 0; m[1] = 0; end reg r; assign q = r;
        always @(posedge clk) begin m[rst] <= d; if (d) r <= m[d]; end""",
        "no initial value",
    ),
    "primitive": (
        "SB_SPRAM256KA ram(.ADDRESS(14'd0), .CLOCK(clk), .DATAOUT({q, rest})); wire [14:0] rest;",
        "SB_SPRAM256KA",
    ),
}
"""Bodies of a module, and what must be said of them."""


@cache
def cores() -> dict[str, Subject]:
    """One of each engine and of what changes its clocks: a step of one clock and of several, blocks that take turns."""
    serial, parallel, lattice = (subjects(arch) for arch in ("serial", "parallel", "lattice"))
    return {
        "serial": serial[0],
        "spram": Subject(serial[0].net, "serial", {"device": "up5k"}),
        "ahead": parallel[5],
        "several": parallel[4],
        "beats": parallel[0],
        "lattice": lattice[2],
    }


@pytest.fixture(scope="module")
def netlists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The top module of every core and of every wrong one, by name, all through one Yosys."""
    folder = tmp_path_factory.mktemp("netlists")
    texts = {
        name: emit_verilog(shell_of(s.net, s.architecture, trace=False), name="core") for name, s in cores().items()
    }
    texts |= {n: f"module core(input clk, rst, d, output q); {body} endmodule\n" for n, (body, _) in WRONG.items()}
    ports, _, _ = SPRAM_MODEL.partition(");")
    (folder / "model.v").write_text(f"{ports}); endmodule\n", encoding="utf-8")
    names = {name: name.replace(" ", "_") for name in texts}
    for name, text in texts.items():
        (folder / f"{names[name]}.v").write_text(text, encoding="utf-8")
    (folder / "all.ys").write_text("".join(SCRIPT.format(name=n) for n in names.values()), encoding="utf-8")
    status, log = run_tool("yosys", ["-q", "all.ys"], cwd=folder, deadline=Deadline.after(300.0))
    assert status == 0, log
    found = {}
    for name, file in names.items():
        raw = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
        found[name] = raw["modules"]["core"]
    return found


def faults(module: Mapping[str, Any]) -> Iterator[str]:
    """What is not as promised in a flat module."""
    initial = {}
    for net in module["netnames"].values():
        text = net["attributes"].get("init", "")
        initial.update(zip(net["bits"], reversed(text), strict=False))
    (clock,) = module["ports"]["clk"]["bits"]
    for name, cell in module["cells"].items():
        kind, to, given = cell["type"], cell["connections"], cell["parameters"]
        if not kind.startswith("$"):
            yield f"{name} is a {kind}"
        elif "latch" in kind or kind == "$sr":
            yield f"{name} is a latch"
        elif kind == "$mem_v2":
            yield from _memory_faults(name, to, given, clock)
        elif "ff" in kind:
            if kind not in ("$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"):
                yield f"{name} is a {kind}"
            if to.get("CLK") != [clock] or not int(given["CLK_POLARITY"], 2):
                yield f"{name} has another clock"
            if not all(initial.get(bit, "x") in "01" for bit in to["Q"]):
                yield f"{name} has no initial value"


def _memory_faults(name: str, to: Mapping[str, Any], given: Mapping[str, str], clock: int) -> Iterator[str]:
    """A read port with a register of its own takes a word in every clock: it is defined from the first one on."""
    width = int(given["WIDTH"], 2)
    for side in ("RD", "WR"):
        enable, polarity = (given[f"{side}_{p}"][::-1] for p in ("CLK_ENABLE", "CLK_POLARITY"))
        for port, bit in enumerate(to[f"{side}_CLK"]):
            clocked = enable[port] == "1"
            if clocked and (bit != clock or polarity[port] != "1"):
                yield f"{name} has another clock"
            if side == "WR" and not clocked:
                yield f"{name} is a latch"
            if side == "RD" and clocked and to["RD_EN"][port] != "1":
                value = given["RD_INIT_VALUE"][::-1][port * width : (port + 1) * width]
                if "x" in value:
                    yield f"{name} has no initial value"
    if "x" in given["INIT"]:
        yield f"{name} has no initial value"


@pytest.mark.parametrize("name", cores())
def test_a_core_has_one_clock_and_no_undefined_register(name: str, netlists: dict[str, Any]) -> None:
    """A latch, a register that starts undefined, a second clock: each works in a simulator and fails in some FPGA."""
    module = netlists[name]
    found = list(faults(module))
    if name == "spram":
        assert found
        assert all(f.endswith(" is a SB_SPRAM256KA") for f in found)
    else:
        assert found == []
    assert sum("ff" in cell["type"] for cell in module["cells"].values()) > 50
    assert any(cell["type"] == "$mem_v2" for cell in module["cells"].values())


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_as_promised_is_found(name: str, netlists: dict[str, Any]) -> None:
    """A check that passes a latch proves nothing about cores without one."""
    found = list(faults(netlists[name]))
    assert found
    assert all(WRONG[name][1] in f for f in found), found


LATE = "output tready, input tvalid, input clk, input rst, output reg q"
WAITING = {
    "assign tready = tvalid & q; always @(posedge clk) q <= rst; initial q = 0;": True,
    "reg [1:0] seen = 0; always @(posedge clk) seen <= {seen[0], tvalid}; assign tready = seen[1] & rst;"
    " initial q = 0; always @(posedge clk) q <= rst & tvalid;": False,
}


def reached(module: Mapping[str, Any], sources: str, sinks: str) -> set[tuple[str, str]]:
    """Inputs whose name ends in `sources`, each with an output whose name ends in `sinks` and that depends on it in the
    same clock."""
    onward: dict[Any, set[Any]] = {}
    for cell in module["cells"].values():
        if "ff" in cell["type"]:
            continue
        ways, to = cell["port_directions"].items(), cell["connections"]
        ends = {bit for port, way in ways if way == "output" for bit in to[port]}
        if cell["type"] == "$mem_v2" and "0" not in cell["parameters"]["RD_CLK_ENABLE"]:
            continue
        for port, way in ways:
            for bit in to[port] if way == "input" else ():
                onward.setdefault(bit, set()).update(ends)
    found = set()
    for name, port in module["ports"].items():
        if port["direction"] == "input" and name.endswith(sources):
            seen, open_ends = set(port["bits"]), list(port["bits"])
            while open_ends:
                for bit in onward.get(open_ends.pop(), set()) - seen:
                    seen.add(bit)
                    open_ends.append(bit)
            outputs = ((n, p) for n, p in module["ports"].items() if p["direction"] == "output" and n.endswith(sinks))
            found |= {(name, n) for n, p in outputs if seen & set(p["bits"])}
    return found


@pytest.mark.parametrize("name", cores())
def test_no_ready_waits_for_a_valid_of_the_same_clock(name: str, netlists: dict[str, Any]) -> None:
    """AXI forbids it: two such sides together are a loop; nor may an offer depend on whether it is taken."""
    module = netlists[name]
    assert reached(module, "valid", "ready") == set()
    assert reached(module, "ready", "valid") == set()


@pytest.mark.parametrize("body", WAITING)
def test_a_ready_that_waits_is_found(body: str, tmp_path: Path) -> None:
    """A path through gates counts, one through a register does not."""
    (tmp_path / "late.v").write_text(f"module core({LATE}); {body} endmodule\n", encoding="utf-8")
    (tmp_path / "all.ys").write_text(SCRIPT.format(name="late").replace("read_verilog -lib model.v\n", ""))
    status, log = run_tool("yosys", ["-q", "all.ys"], cwd=tmp_path, deadline=Deadline.after(60.0))
    assert status == 0, log
    module = json.loads((tmp_path / "late.json").read_text(encoding="utf-8"))["modules"]["core"]
    assert bool(reached(module, "valid", "ready")) == WAITING[body]
