"""The parts that designs are synthesised for, as `parts.toml` has them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.typed_json import decode_as

__all__ = ["PARTS", "Family", "Part", "Resource", "part_named"]


@dataclass(frozen=True)
class Resource:
    """One kind of thing that a part has. `cell`: nextpnr's name of it; `cells`: Yosys' names, and how many of nextpnr's
    cells each takes."""

    key: str
    label: str
    cell: str
    cells: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Parts with the same cells and tools. `synth`: Yosys' command; `place`: the placer's arguments without a board;
    `pins` and `placed`: its options for constraints and result; `bitstream`: suffix of the file; `block_ram`: widths
    and depths that one block RAM can have. Without `placer` there is synthesis alone."""

    synth: str
    placer: str = ""
    packer: str = ""
    place: tuple[str, ...] = ()
    pins: str = ""
    placed: str = ""
    bitstream: str = ""
    block_ram: tuple[tuple[int, ...], ...] = ()
    resources: tuple[Resource, ...] = ()

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that synthesis for a part of the family runs."""
        return ("yosys", self.placer) if self.placer else ("yosys",)


@dataclass(frozen=True, kw_only=True)
class _Row:
    device: str
    family: str
    arguments: tuple[str, ...] = ()
    freq_mhz: int = 0
    has: Mapping[str, int] = field(default_factory=dict)
    larger: str | None = None


@dataclass(frozen=True)
class _Tables:
    families: Mapping[str, Family]
    parts: Mapping[str, _Row]


@dataclass(frozen=True)
class Part:
    """A device. `arguments`: of the placer; `freq_mhz`: asked of it; `has`: how much of each resource, by key, empty if
    nobody counts it; `larger`: the name of the next larger part that is known."""

    name: str
    device: str
    family: Family
    arguments: tuple[str, ...]
    freq_mhz: int
    has: Mapping[str, int]
    larger: str | None


def _parts() -> dict[str, Part]:
    text = files(__package__).joinpath("parts.toml").read_text(encoding="utf-8")
    tables = decode_as(_Tables, tomllib.loads(text), "parts.toml")
    return {
        name: Part(name, r.device, tables.families[r.family], r.arguments, r.freq_mhz, r.has, r.larger)
        for name, r in tables.parts.items()
    }


PARTS = _parts()
"""Every part by name."""


def part_named(name: str) -> Part:
    """The part of that name; UsageError lists the known ones."""
    if name not in PARTS:
        raise UsageError(
            Diagnostic("unknown-part", f"there is no part {name!r}", "--part", f"known: {', '.join(PARTS)}")
        )
    return PARTS[name]
