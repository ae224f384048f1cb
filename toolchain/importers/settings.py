"""Settings of a family: from the user, else the file, else the source code's default, which is then an assumption."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..diagnostics import Diagnostic, UsageError
from ..interfaces import Assumption
from .family import Configurable, Setting, SettingValue

__all__ = ["Resolved", "resolve", "tentative"]

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""Numbers as people type them; JSON wants a digit on both sides of the point and no plus."""


@dataclass(frozen=True)
class Resolved:
    """Every declared setting in `values`: those that the user or the file states in `given`, the rest `assumed`."""

    values: Mapping[str, SettingValue]
    given: Mapping[str, SettingValue]
    assumed: tuple[Assumption, ...]

    def warnings(self, family: Configurable) -> tuple[str, ...]:
        """One sentence if settings are assumed that change what the net computes."""
        silent = {s.name for s in family.settings if s.changes == "nothing"}
        shown = [f"{a.name} = {a.value}" for a in self.assumed if a.name not in silent]
        if not shown:
            return ()
        what = "is a default" if len(shown) == 1 else "are defaults"
        text = f"{', '.join(shown)} {what} of {family.key} that the file does not state; another value is another net"
        return (f"{text}: state what it was trained with by --set",)


def resolve(
    family: Configurable,
    *,
    user: Mapping[str, object],
    config: Mapping[str, object],
    stated: Mapping[str, object],
    label: str,
    assume: bool = True,
) -> Resolved:
    """Merge `user` (strings are parsed) over `config` over what the file states (`stated`), then defaults.

    Raises UsageError with every unknown name, every value of a wrong type, every setting that has no default and was
    not given, and, without `assume`, every default that makes another net than another value would.
    """
    declared = {s.name: s for s in family.settings}
    faults: list[Diagnostic] = []
    given: dict[str, SettingValue] = {}
    for origin, source in ((label, stated), ("the config file", config), ("--set", user)):
        for name, value in source.items():
            if name not in declared:
                faults.append(_unknown(name, family, origin))
                continue
            try:
                given[name] = _typed(value, declared[name].default, parse=origin == "--set")
            except ValueError as error:
                faults.append(Diagnostic("setting-type", f"{name} is {_shown(value)}, must be {error}", origin))
    missing = [s for s in family.settings if s.default is None and s.name not in given]
    # A value of a wrong type is reported as such, not as missing too.
    missing = [s for s in missing if not any(s.name in source for source in (stated, config, user))]
    if missing:
        faults.append(_missing(missing, family, label))
    open_ones = [s for s in family.settings if s.default is not None and s.name not in given]
    telling = [s for s in open_ones if s.changes in ("dynamics", "weights")]
    if telling and not assume:
        faults.append(_unconfirmed(telling, family, label))
    if faults:
        raise UsageError(faults)
    ordered = {s.name: given[s.name] for s in family.settings if s.name in given}
    defaults = {s.name: s.default for s in open_ones if s.default is not None}
    assumed = tuple(Assumption(name, value, f"default of {family.key}") for name, value in defaults.items())
    return Resolved(ordered | defaults, ordered, assumed)


def tentative(family: Configurable, stated: Mapping[str, object]) -> dict[str, SettingValue]:
    """A value for every setting before any is checked: what is `stated` if it is of the right type, else the default,
    and its example where there is none."""
    values: dict[str, SettingValue] = {}
    for setting in family.settings:
        values[setting.name] = setting.example if setting.default is None else setting.default
        with suppress(ValueError):
            if setting.name in stated:
                values[setting.name] = _typed(stated[setting.name], setting.default, parse=True)
    return values


def _unknown(name: str, family: Configurable, origin: str) -> Diagnostic:
    names = [s.name for s in family.settings]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(names) or "none"
    return Diagnostic(
        "unknown-setting", f"{family.key} has no setting {name[:80]!r}", origin, f"{hint}settings: {known}"
    )


def _missing(missing: list[Setting], family: Configurable, label: str) -> Diagnostic:
    what = f"{family.key} needs {', '.join(s.name for s in missing)}, which the file does not hold and nothing implies"
    words = " ".join(f"--set {s.name}={_word(s.example)}" for s in missing)
    return Diagnostic("missing-setting", what, label, f"add for example {words}  ({_meanings(missing)})")


def _unconfirmed(settings: list[Setting], family: Configurable, label: str) -> Diagnostic:
    shown = " and ".join(f"{s.name} = {s.default}" for s in settings)
    what = f"the file does not state {', '.join(s.name for s in settings)}; another value than {shown} is another net"
    words = " ".join(f"--set {s.name}={_word(s.default)}" for s in settings)
    hint = f"state what it was trained with: {words}  ({_meanings(settings)}); --assume takes these, the defaults of "
    return Diagnostic("setting-assumed", what, label, f"{hint}{family.key}")


def _meanings(settings: list[Setting]) -> str:
    return "; ".join(f"{s.name}: {s.doc}" for s in settings)


def _word(value: SettingValue | None) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, tuple):
        return ",".join(_word(entry) for entry in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(value: object, default: SettingValue | None, *, parse: bool) -> SettingValue:
    """`value` as the type of `default`; ValueError says what it must be."""
    if isinstance(value, np.generic):
        value = value.item()
    if parse and isinstance(value, str):
        value = _parsed(value, default)
    match default:
        case bool():
            good, want = isinstance(value, bool), "true or false"
        case int():
            good, want = isinstance(value, int) and not isinstance(value, bool), "an integer"
        case float():
            good, want = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        case str():
            good, want = isinstance(value, str), "a word"
        case tuple() | list():
            good, want = isinstance(value, (tuple, list)), "a list"
        case _:
            good, want = isinstance(value, (bool, int, float, str)), "a number, a word, true or false"
    if isinstance(value, int) and value.bit_length() > 63:
        raise ValueError(f"{want} of at most 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{want} and finite")
    value = tuple(value) if isinstance(value, list) else value
    if not good or not isinstance(value, (bool, int, float, str, tuple)):
        raise ValueError(want)
    return float(value) if isinstance(default, float) and isinstance(value, int) else value


def _parsed(text: str, default: SettingValue | None) -> object:
    """A command-line value: a JSON value, several separated by commas for a list, or a word."""
    if isinstance(default, str):
        return text
    if isinstance(default, (tuple, list)) and not text.lstrip().startswith("["):
        text = f"[{text}]"
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except (ValueError, RecursionError):
        return float(text) if _DECIMAL.fullmatch(text) else text


def _shown(value: object) -> str:
    """A value of unknown origin, short; containers by type alone, for they may nest without end."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int) and value.bit_length() > 63:
        return f"an integer of {value.bit_length()} bits"
    return repr(value) if isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"
