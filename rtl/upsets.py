"""Saboteurs in every register and every memory of a core, whatever engine it has.

    D ──► ((D ^ flip) | one) & ~zero ──► register          in clocks with `inject_fire`, at site `inject_site`

A register takes what its logic says, disturbed: from the next clock on it reads as an upset of it would. A memory has
one more write port that does the same to its word `inject_unit`. The elaborated core is rewritten, so that no engine
knows of this and none has it unless asked. Registers inside memories, at their read ports, have none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from amaranth import Cat, Const, Mux, Signal, Value
from amaranth.hdl import Fragment, MemoryInstance

from .control import detached, fragments
from .interface import MASK_BITS
from .shell import Shell

__all__ = ["Sabotaged", "Site", "sabotage"]

PIECE_BITS = MASK_BITS - 1
"""Tables of upsets hold masks below 2**63."""
MASKS = ("flip", "one", "zero")
PORTS = {"fire": 1, "site": 16, "unit": 16, **dict.fromkeys(MASKS, MASK_BITS)}


@dataclass(frozen=True)
class Site:
    """`rows` words of `bits` bits, called by the path of their register or memory; of a word that is wider than
    `PIECE_BITS` each piece is a site, called by its lowest bit too. Of a memory that starts with contents the words
    count to the last one that holds something: what is behind is room that only the core with saboteurs has.

    `kind`: register; memory, which the core writes before it reads it; loaded, which starts with contents and is
    written through the load port; rom.
    """

    name: str
    kind: str
    bits: int
    rows: int = 1


@dataclass(frozen=True)
class Sabotaged:
    """A core to convert: its ports are those of the shell and of the injection; `inject_site` counts in `sites`."""

    fragment: Fragment
    ports: tuple[Value, ...]
    sites: tuple[Site, ...]


def sabotage(shell: Shell) -> Sabotaged:
    """The core with saboteurs. Elaborates the shell, which can be done once.

    Of several registers with one name in one module the second is called `NAME#2`.
    """
    members = list(shell.signature.members)
    own = [f"inject_{name}" for name in PORTS if f"inject_{name}" not in members]
    port = {name: getattr(shell, f"inject_{name}", None) for name in PORTS}
    port = {name: Signal(PORTS[name], name=f"inject_{name}") if s is None else s for name, s in port.items()}
    top = Fragment.get(shell, None)
    placed = _Placed(port)
    for path, fragment in list(fragments(top)):
        placed.registers(path, fragment)
        for memory, name, _ in list(fragment.subfragments):
            # Tables of words to disturb are no part of the core.
            if isinstance(memory, MemoryInstance) and not any(part.startswith("inject_") for part in path):
                placed.memory((*path, name or ("memory" if memory._write_ports else "rom")), fragment, memory)
    ports = [Value.cast(getattr(shell, name)) for name in members]
    added = [port[name.removeprefix("inject_")] for name in own]
    return Sabotaged(top, (*ports, *added), tuple(placed.sites))


class _Placed:
    """The sites so far; their logic is added to the fragment that holds the register or the memory."""

    def __init__(self, port: dict[str, Signal]) -> None:
        self.port = port
        self.sites: list[Site] = []
        self.count: Counter[str] = Counter()

    def registers(self, path: tuple[str, ...], fragment: Fragment) -> None:
        for register, coming in detached(fragment, "sync"):
            # What shows states to a bench, or disturbs words for it, is no part of the core.
            shows = register.name.startswith(("trace_", "inject_"))
            path_of = (*path, register.name.removeprefix("$"))
            following = coming if shows else self._site(path_of, "register", coming)[0]
            fragment.add_statements("sync", register.eq(following))

    def memory(self, path: tuple[str, ...], fragment: Fragment, memory: MemoryInstance) -> None:
        depth, width = memory._data.depth, len(memory._read_ports[0]._data)
        written, started = bool(memory._write_ports), any(memory._data.init)
        kind = ("loaded" if started else "memory") if written else "rom"
        row = self.port["unit"][: (depth - 1).bit_length()]
        stored = Signal(width, name="upset_held")
        memory.read_port(domain="comb", addr=row, data=stored, en=Const(1), transparent_for=())
        coming: Value = stored
        for port in memory._write_ports:
            coming = Mux(port._en.any() & (port._addr == row), port._data, coming)
        used = max((row + 1 for row, word in enumerate(memory._data.init) if word), default=depth)
        disturbed, here = self._site(path, kind, coming, used if kind == "loaded" else depth)
        data, enable = Signal(width, name="upset_data"), Signal(name="upset_enable")
        fragment.add_statements("comb", [data.eq(disturbed), enable.eq(here & (self.port["unit"] < depth))])
        memory.write_port(domain="sync", addr=row, data=data, en=enable)

    def _site(self, path: tuple[str, ...], kind: str, word: Value, rows: int = 1) -> tuple[Value, Value]:
        """The word disturbed, and whether a site in it is being disturbed."""
        name = ".".join(path)
        self.count[name] += 1
        name += f"#{self.count[name]}" if self.count[name] > 1 else ""
        pieces, hits = [], []
        for low in range(0, len(word), PIECE_BITS):
            piece = word[low : low + PIECE_BITS]
            hit = self.port["fire"] & (self.port["site"] == len(self.sites))
            flip, one, zero = (Mux(hit, self.port[mask][: len(piece)], 0) for mask in MASKS)
            pieces.append(((piece ^ flip) | one) & ~zero)
            hits.append(hit)
            label = name if len(word) <= PIECE_BITS else f"{name}.{low}"
            self.sites.append(Site(label, kind, len(piece), rows))
        return Cat(*pieces), Cat(*hits).any()
