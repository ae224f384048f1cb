"""How values are written, on pages and on terminals alike. Imports nothing heavy: help and lists are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eqcompile.toolchain.typed_json import JsonObject

if TYPE_CHECKING:
    from .report.schema import Number

__all__ = ["labelled", "lines_of", "percent", "shown", "told", "told_once"]

_LARGE, _HUGE = 1e4, 1e12
"""Between them a number is written out, where four digits would want a power of ten."""
_GROUP = 6
"""Counters of a group that are told in brackets, at most."""
_LONG = 60
"""Characters beyond which a list is told by its length."""


def shown(value: object) -> str:
    """A value as text: numbers with commas and four digits at least, yes or no, lists and mappings in a line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if _LARGE <= abs(value) < _HUGE else f"{value:.4g}"
        case str():
            return value
        case Mapping():
            text = " ".join(f"{key}={shown(part)}" for key, part in value.items())
            return text if len(text) <= _LONG else f"({len(value)} entries)"
        case Sequence():
            parts = [shown(part) for part in value]
            text = (" " if any(isinstance(part, str) for part in value) else ", ").join(parts)
            return text if len(text) <= _LONG else f"({len(parts)} entries)"
        case _:
            return str(value)


def percent(value: float, digits: int | None = None) -> str:
    """A share as a percentage: 12%, 1.2%, 0.012%; with `digits` after the point, where those of a column are alike."""
    if digits is not None:
        return f"{value:.{digits}%}"
    hundredths = 100 * value
    return f"{hundredths:.0f}%" if hundredths >= 10 or hundredths == 0 else f"{hundredths:.2g}%"


def labelled(n: Number) -> str:
    """A number with its unit and its kind, as `12 samples [measured]`."""
    return f"{shown(n['value'])} {n['unit']} [{n['kind']}]"


def told(details: JsonObject) -> list[str]:
    """What people are shown of a runner's or a target's details: its own summary, else its counters with their kind."""
    if "summary" in details:
        return lines_of(details, "summary")
    groups = ((name, group) for name, group in details.items() if isinstance(group, Mapping) and "kind" in group)
    return [f"{name}: {_counters(group)} [{group['kind']}]" for name, group in groups]


def lines_of(document: JsonObject, key: str) -> list[str]:
    """The lines for people under `key`; none where there are none."""
    lines = document.get(key)
    return [str(line) for line in lines] if isinstance(lines, list | tuple) else []


def _counters(group: JsonObject) -> str:
    """Counters of a runner as a line of text, lists left out; a group of few numbers in brackets."""
    parts = []
    for name, value in group.items():
        if isinstance(value, Mapping):
            inner = _counters(value) if len(value) <= _GROUP else ""
            parts += [f"{name} ({inner})"] if inner else []
        elif name != "kind" and not isinstance(value, list):
            parts.append(f"{name} {shown(value)}")
    return ", ".join(parts)


def told_once(details: Mapping[str, JsonObject]) -> list[str]:
    """What is told of the details of several runners, by name: a line that is the same of some stands once."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, parts in details.items():
        names.setdefault(tuple(told(parts)), []).append(name)
    return [f"{', '.join(same)}: {line}" for lines, same in names.items() for line in lines]
