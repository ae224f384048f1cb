"""What is installed of what a stranger may plug in: families, targets, simulators, fault models and engines, each
found by its entry point. Those of eqcompile register the same way."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .diagnostics import Diagnostic, MissingToolError, UsageError
from .interfaces import Simulator, Target

__all__ = ["find", "names", "simulators_of", "target_class", "targets"]

PREFIX = "eqcompile."


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    return {e.name: e for e in sorted(entry_points(group=PREFIX + group), key=lambda e: e.name)}


def names(group: str) -> tuple[str, ...]:
    """Registered names of a group (`"families"`, `"targets"`, `"simulators"`, ...), sorted; loads nothing."""
    return tuple(_group(group))


def find(group: str, name: str) -> Any:
    """Load one entry; UsageError names the nearest one if there is none."""
    found = _group(group).get(name)
    if found is None:
        near = difflib.get_close_matches(name, names(group), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        singular = "family" if group == "families" else group.rstrip("s")
        raise UsageError(
            Diagnostic(
                f"unknown-{singular}",
                f"there is no {singular} {name!r}",
                hint=f"{hint}known: {', '.join(names(group))}",
            )
        )
    try:
        return found.load()
    except ImportError as error:
        raise MissingToolError(
            Diagnostic("missing-tool", f"{name} needs a package that is not installed: {error}", found.value)
        ) from error


def target_class(name: str) -> type[Target]:
    """The target's dataclass; UsageError names the nearest known target."""
    found: type[Target] = find("targets", name)
    return found


def targets() -> dict[str, type[Target]]:
    """Every registered target, by name."""
    return {name: target_class(name) for name in names("targets")}


def simulators_of(target: str) -> dict[str, type[Simulator]]:
    """Every simulator that runs artifacts of `target`, by name."""
    loaded: dict[str, type[Simulator]] = {name: find("simulators", name) for name in names("simulators")}
    return {name: s for name, s in loaded.items() if s.target == target}
