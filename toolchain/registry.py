"""What a stranger may plug in, found by entry point; the parts of eqcompile itself register the same way.

Groups: `families`, `formats`, `targets`, `simulators`, `faults`, `engines`. A plug-in that cannot be loaded is reported
by `load_all` and refused by `find`; it never keeps another one from being used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Generic, TypeVar

from .diagnostics import Diagnostic, EqcompileError, MissingToolError, PluginError, UsageError

if TYPE_CHECKING:
    # `interfaces` imports NumPy, which a list of names must not wait for.
    from .interfaces import Simulator, Target

__all__ = [
    "Loaded",
    "Unavailable",
    "find",
    "find_class",
    "load_all",
    "load_classes",
    "names",
    "simulators_of",
    "target_class",
]

PREFIX = "eqcompile."
T = TypeVar("T")


@dataclass(frozen=True)
class Unavailable:
    """A plug-in that cannot be loaded: its name, its entry point as `module:object`, and why."""

    name: str
    entry_point: str
    reason: str


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """The entries of a group that can be loaded, by name, and those that cannot."""

    entries: Mapping[str, T]
    unavailable: tuple[Unavailable, ...]


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    return {e.name: e for e in sorted(entry_points(group=PREFIX + group), key=lambda e: e.name)}


def names(group: str) -> tuple[str, ...]:
    """Registered names of a group, sorted; loads nothing."""
    return tuple(_group(group))


def find(group: str, name: str, kind: type[T]) -> T:
    """Load the entry `name`, an instance of `kind`.

    Raises UsageError, naming the nearest entry, if there is none; MissingToolError if a package that it imports is
    absent; PluginError if it fails in another way or is no `kind`.
    """
    loaded = _load(group, name)
    if not isinstance(loaded, kind):
        raise _wrong_kind(group, name, f"an instance of {kind.__name__}, it is {loaded!r:.60}")
    return loaded


def find_class(group: str, name: str, base: type[T]) -> type[T]:
    """Load the entry `name`, a subclass of `base`. Raises as `find` does."""
    loaded = _load(group, name)
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise _wrong_kind(group, name, f"a subclass of {base.__name__}, it is {loaded!r:.60}")
    return loaded


def load_all(group: str, kind: type[T]) -> Loaded[T]:
    """Every entry of a group that is an instance of `kind`."""
    entries, unavailable = {}, []
    for name in names(group):
        try:
            entries[name] = find(group, name, kind)
        except EqcompileError as error:
            unavailable.append(_unavailable(group, name, error))
    return Loaded(entries, tuple(unavailable))


def load_classes(group: str, base: type[T]) -> Loaded[type[T]]:
    """Every entry of a group that is a subclass of `base`."""
    entries, unavailable = {}, []
    for name in names(group):
        try:
            entries[name] = find_class(group, name, base)
        except EqcompileError as error:
            unavailable.append(_unavailable(group, name, error))
    return Loaded(entries, tuple(unavailable))


def target_class(name: str) -> type[Target]:
    """The target's dataclass. Raises as `find` does."""
    from .interfaces import Target

    return find_class("targets", name, Target)


def simulators_of(target: str) -> dict[str, type[Simulator]]:
    """Every simulator that can be loaded and runs artifacts of `target`, by name."""
    from .interfaces import Simulator

    return {name: s for name, s in load_classes("simulators", Simulator).entries.items() if s.target == target}


def _load(group: str, name: str) -> object:
    entry = _group(group).get(name)
    if entry is None:
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
        loaded: object = entry.load()
    except ImportError as error:
        raise MissingToolError(
            Diagnostic("missing-tool", f"{name} needs a package that is not installed: {error}", entry.value)
        ) from error
    except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything while it is imported
        raise PluginError(
            Diagnostic(
                "plugin-broken",
                f"{name} failed to load: {type(error).__name__}: {error}",
                entry.value,
                f"repair or uninstall {_distribution(entry)}",
            )
        ) from error
    return loaded


def _wrong_kind(group: str, name: str, what: str) -> PluginError:
    entry = _group(group)[name]
    hint = f"repair or uninstall {_distribution(entry)}"
    return PluginError(Diagnostic("plugin-type", f"{name} of {PREFIX}{group} must be {what}", entry.value, hint))


def _distribution(entry: EntryPoint) -> str:
    return "the package that registers it" if entry.dist is None else entry.dist.name


def _unavailable(group: str, name: str, error: EqcompileError) -> Unavailable:
    return Unavailable(name, _group(group)[name].value, "; ".join(d.what for d in error.diagnostics))
