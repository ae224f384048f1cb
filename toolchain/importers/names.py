"""Names of one's own: tensors of a file under the names that a family reads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace

from ..arrays import Array
from ..diagnostics import Diagnostic, UsageError
from .family import Family, Reading, normalise
from .files.format import LoadedFile

__all__ = ["demand_known", "renamed"]

_SHOWN = 24


def renamed(file: LoadedFile, names: Mapping[str, str]) -> LoadedFile:
    """The file with its tensors under other names. Each of `names` is a whole key of the file or the parts before a dot
    that several keys share (`fc_rec` for `fc_rec.weight` and `fc_rec.bias`), with what stands in its place; the longest
    that fits a key holds for it. All are taken at once, so that two names can be exchanged.

    Raises UsageError with every name that no tensor has (code `map-unused`) and every name that two tensors would have
    (`map-twice`).
    """
    unused, faults = dict.fromkeys(names), []
    arrays: dict[str, Array] = {}
    origin: dict[str, str] = {}
    for key, array in file.arrays.items():
        old = max((n for n in names if key == n or key.startswith(f"{n}.")), key=len, default=None)
        new = key if old is None else names[old] + key[len(old) :]
        if old is not None:
            unused.pop(old, None)
        if new in arrays:
            what = f"{origin[new]} and {key} would both be called {new}"
            faults.append(Diagnostic("map-twice", what, file.label, "map each to a name of its own"))
        arrays[new], origin[new] = array, key
    for name in unused:
        near = difflib.get_close_matches(name, _heads(file.arrays), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        what = f"no tensor of the file is called {name[:80]!r}, which --map gives the name {names[name][:80]!r}"
        faults.append(Diagnostic("map-unused", what, file.label, f"{hint}the file holds {_listed(file.arrays)}"))
    if faults:
        raise UsageError(faults)
    return replace(file, arrays=arrays)


def demand_known(names: Mapping[str, str], family: Family, reading: Reading, label: str) -> None:
    """UsageError with every name that a file's tensors were given and that the family does not read. A reading that
    ended early says little of names, and the tensors that it lacks are reported anyway."""
    if not reading.complete:
        return
    expected = [*sorted(reading.read), *reading.missing]
    faults = []
    for old, new in names.items():
        strange = [key for key in reading.unexpected if key == new or key.startswith(f"{new}.")]
        if strange:
            near = difflib.get_close_matches(new, _heads(expected), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            what = f"--map {old}={new}: {family.key} has no tensor {', '.join(strange)}"
            hint += f"{family.key} reads {_listed(expected)}; the file holds {_listed(reading.unexpected)} besides"
            faults.append(Diagnostic("map-unknown", what, label, hint))
    if faults:
        raise UsageError(faults)


def _heads(keys: Mapping[str, Array] | list[str]) -> list[str]:
    """What can be mapped: each key, and what stands before each of its dots."""
    heads: dict[str, None] = {}
    for key in keys:
        parts = (normalise(key) or key).split(".")
        heads |= dict.fromkeys([key, *(".".join(parts[:count]) for count in range(1, len(parts)))])
    return list(heads)


def _listed(keys: Mapping[str, Array] | list[str] | tuple[str, ...]) -> str:
    shown = [key[:80] for key in keys][:_SHOWN]
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(shown) or 'nothing'}{more}"
