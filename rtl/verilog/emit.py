"""Amaranth's hierarchy as one file of Verilog."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .memories import deepen
from .module import ModuleText
from .names import Names, port_kinds
from .rtlil import parse
from .simplify import simplify

if TYPE_CHECKING:
    # It is loaded with the first core, not with the command that lists architectures.
    from amaranth import Elaboratable, Value
    from amaranth.hdl import Fragment

    Design: TypeAlias = Elaboratable | Fragment

__all__ = ["BlockMemory", "Verilog", "convert", "emit_verilog"]

_PLACE = re.compile(r"@(\d+)@")


@dataclass(frozen=True)
class BlockMemory:
    """A memory that asks for block RAM: `depth` words of `width` bits in the module at the path `name`."""

    name: str
    width: int
    depth: int


@dataclass(frozen=True)
class Verilog:
    """A design as text, its block memories, and how often it has each primitive of a vendor."""

    text: str
    memories: tuple[BlockMemory, ...]
    primitives: Mapping[str, int]


def emit_verilog(design: Design, *, name: str = "top", ports: Sequence[Value] | None = None) -> str:
    """The text of `convert` alone."""
    return convert(design, name=name, ports=ports).text


def convert(
    design: Design,
    *,
    name: str = "top",
    ports: Sequence[Value] | None = None,
    header: str = "",
    elaborated: Callable[[], None] = lambda: None,
    platform: object = None,
) -> Verilog:
    """Verilog of an elaboratable or a fragment: the top module, `name`, comes first, modules that are equal are one.

    The text means the same as Verilog-2005 and as SystemVerilog-2017. `ports`: as in `amaranth.back.rtlil.convert`, for
    what has no signature. `header`: lines of a comment in front. `elaborated` is called when Amaranth is done, which
    takes most of the time. `platform`: what components are elaborated for.
    """
    from amaranth.back import rtlil

    intermediate = rtlil.convert(design, name=name, ports=ports, platform=platform, emit_src=False)
    elaborated()
    modules = parse(intermediate)
    for module in modules:
        deepen(module)
    simplify(modules)
    kinds = port_kinds(modules)
    children: dict[str, ModuleText] = {}
    numbers: dict[str, int] = {}
    called: dict[str, str] = {}
    members: dict[int, list[str]] = {}
    # Amaranth lists a module before those in it. A number stands for a name until it is known who shares it.
    for module in reversed(modules):
        text = children[module.name] = ModuleText(module, kinds, children)
        number = numbers.setdefault("\n".join(text.lines(called)), len(numbers))
        called[module.name] = f"@{number}@"
        members.setdefault(number, []).insert(0, module.name)
    names, chosen = Names(), dict[int, str]()
    for number in reversed(members):
        chosen[number] = names.unique(name if number == len(numbers) - 1 else _shared(members[number]))
    texts = []
    for body, number in reversed(numbers.items()):
        paths = [member.partition(".")[2] for member in members[number]]
        about = textwrap.wrap(", ".join(paths), 110, break_long_words=False) if paths != [""] else []
        head = "".join(f"// {line}\n" for line in about) + f"module {chosen[number]}"
        texts.append(_PLACE.sub(lambda place: chosen[int(place[1])], head + body) + "\n")
    comment = "".join(f"// {line}".rstrip() + "\n" for line in header.splitlines())
    blocks = [
        BlockMemory(module.name, memory.width, memory.depth)
        for module in modules
        for memory in module.memories.values()
        if '"block"' in (memory.attributes.get("ram_style"), memory.attributes.get("rom_style"))
    ]
    kinds_of = Counter(cell.module for module in modules for cell in module.cells if cell.kind.startswith("\\"))
    primitives = {kind: count for kind, count in kinds_of.items() if kind not in children}
    return Verilog("\n".join([comment] * bool(comment) + texts), tuple(blocks), primitives)


def _shared(members: list[str]) -> str:
    """A name for the module of several instances: the words of the first one's path that are in all."""
    if len(members) == 1:
        return members[0]
    words = [re.findall(r"[A-Za-z]+", member) for member in members]
    return "_".join(word for word in words[0] if all(word in other for other in words))
