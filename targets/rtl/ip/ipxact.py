"""`component.xml`: the core in IP-XACT (IEEE 1685-2014), with its bus interfaces and its registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from .interfaces import Bus, Interfaces, Pin, Vlnv

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.registers import Row

__all__ = ["ACCESS", "RANGE", "component_xml"]

SCHEMA = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
ACCESS = {"read": "read-only", "write": "write-only", "read, write": "read-write"}
"""IP-XACT's words, by those of `Row.access`."""
RANGE = 0x1000
"""Bytes of the registers' block: a page, which is the least that Linux maps."""
_FILES, _VIEW, _MAP = "verilog", "rtl", "registers"


def component_xml(
    vlnv: Vlnv, interfaces: Interfaces, rows: Sequence[Row], *, top: str, contents: Sequence[str], title: str
) -> str:
    """The component, whose Verilog lies in the folder above beside the files `contents` that it reads into memories;
    `title`: one line of plain text."""
    ElementTree.register_namespace("ipxact", SCHEMA)
    root = Element(_tag("component"))
    for key, value in (
        ("vendor", vlnv.vendor),
        ("library", vlnv.library),
        ("name", vlnv.name),
        ("version", vlnv.version),
    ):
        _text(root, key, value)
    buses = _sub(root, "busInterfaces")
    for bus in interfaces.buses:
        _bus(buses, bus)
    _memory(_sub(root, "memoryMaps"), rows)
    model = _sub(root, "model")
    view = _sub(_sub(model, "views"), "view")
    _text(view, "name", _VIEW)
    _text(view, "componentInstantiationRef", top)
    instantiation = _sub(_sub(model, "instantiations"), "componentInstantiation")
    _text(instantiation, "name", top)
    _text(instantiation, "language", "verilog")
    _text(instantiation, "moduleName", top)
    _text(_sub(instantiation, "fileSetRef"), "localName", _FILES)
    ports = _sub(model, "ports")
    for pin in interfaces.pins:
        _port(ports, pin)
    files = _sub(_sub(root, "fileSets"), "fileSet")
    _text(files, "name", _FILES)
    verilog = _sub(files, "file")
    _text(verilog, "name", f"../{top}.v")
    _text(verilog, "fileType", "verilogSource")
    for name in contents:
        memory = _sub(files, "file")
        _text(memory, "name", f"../{name}")
        SubElement(memory, _tag("fileType"), {"user": "memoryContents"}).text = "user"
    _text(root, "description", title)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _tag(name: str) -> str:
    return f"{{{SCHEMA}}}{name}"


def _sub(parent: Element, name: str) -> Element:
    return SubElement(parent, _tag(name))


def _text(parent: Element, name: str, text: str) -> None:
    _sub(parent, name).text = text


def _reference(parent: Element, name: str, vlnv: Vlnv) -> None:
    keys = {"vendor": vlnv.vendor, "library": vlnv.library, "name": vlnv.name, "version": vlnv.version}
    SubElement(parent, _tag(name), keys)


def _bus(parent: Element, bus: Bus) -> None:
    element = _sub(parent, "busInterface")
    _text(element, "name", bus.name)
    _reference(element, "busType", bus.kind)
    abstraction = _sub(_sub(element, "abstractionTypes"), "abstractionType")
    _reference(abstraction, "abstractionRef", bus.abstraction)
    maps = _sub(abstraction, "portMaps")
    for logical, physical in bus.pins.items():
        pair = _sub(maps, "portMap")
        _text(_sub(pair, "logicalPort"), "name", logical)
        _text(_sub(pair, "physicalPort"), "name", physical)
    mode = _sub(element, bus.mode)
    if bus.memory_map:
        SubElement(mode, _tag("memoryMapRef"), {"memoryMapRef": _MAP})
    if bus.parameters:
        parameters = _sub(element, "parameters")
        for name, value in bus.parameters.items():
            parameter = SubElement(parameters, _tag("parameter"), {"parameterId": f"{bus.name}.{name}"})
            _text(parameter, "name", name)
            _text(parameter, "value", value)


def _memory(parent: Element, rows: Sequence[Row]) -> None:
    memory = _sub(parent, "memoryMap")
    _text(memory, "name", _MAP)
    block = _sub(memory, "addressBlock")
    for key, value in (("name", _MAP), ("baseAddress", "0"), ("range", str(RANGE)), ("width", "32")):
        _text(block, key, value)
    _text(block, "usage", "register")
    for row in rows:
        register = _sub(block, "register")
        _text(register, "name", row.name)
        _text(register, "description", row.meaning)
        _text(register, "addressOffset", f"'h{row.address:02X}")
        _text(register, "size", "32")
        _text(register, "access", ACCESS[row.access])
        # The schema demands a field: the whole word.
        word = _sub(register, "field")
        for key, text in (("name", row.name), ("bitOffset", "0"), ("bitWidth", "32")):
            _text(word, key, text)
    _text(memory, "addressUnitBits", "8")


def _port(parent: Element, pin: Pin) -> None:
    port = _sub(parent, "port")
    _text(port, "name", pin.name)
    wire = _sub(port, "wire")
    _text(wire, "direction", pin.direction)
    if pin.width != 1:
        vector = _sub(_sub(wire, "vectors"), "vector")
        _text(vector, "left", str(pin.width - 1))
        _text(vector, "right", "0")
