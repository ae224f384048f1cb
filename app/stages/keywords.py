"""Keywords of a call as a dataclass of options, as the command line makes it of its words."""

from __future__ import annotations

import difflib
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import option_faults, plain_type

from ..numbers import duration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["in_seconds", "keyword_groups", "keyword_options"]

T = TypeVar("T", bound="DataclassInstance")


def keyword_options(kind: type[T], keywords: Mapping[str, Any], where: str) -> T:
    """`kind` with the fields that `keywords` name, all else by default.

    Raises UsageError with every keyword that is no field, naming the nearest one, and every value out of its bounds.
    """
    names = [f.name for f in fields(kind)]
    keywords, faults = in_seconds([kind], keywords)
    faults += unknown_keywords([name for name in keywords if name not in names], names, where)
    hints = get_type_hints(kind)
    fit = {}
    for name, value in keywords.items():
        if name in names and plain_type(hints[name]) is str and not (isinstance(value, str) or value is None):
            faults.append(Diagnostic("option-value", f"{name} is {value!r}, must be a text", name))
        elif name in names:
            fit[name] = value
    try:
        options = kind(**fit)
        faults += option_faults(options)
    except UsageError as error:
        faults += error.diagnostics
    if faults:
        raise UsageError(faults)
    return options


def keyword_groups(kinds: Sequence[type[DataclassInstance]], keywords: Mapping[str, Any], where: str) -> list[Any]:
    """An instance of each of `kinds`, with the fields that `keywords` name; a name that several have goes to all.

    Raises UsageError as `keyword_options`, with all that is wrong with all of them.
    """
    known = {f.name for kind in kinds for f in fields(kind)}
    keywords, faults = in_seconds(kinds, keywords)
    faults += unknown_keywords([name for name in keywords if name not in known], sorted(known), where)
    made = []
    for kind in kinds:
        own = {f.name for f in fields(kind)}
        try:
            made.append(keyword_options(kind, {k: v for k, v in keywords.items() if k in own}, where))
        except UsageError as error:
            faults += error.diagnostics
    if faults:
        raise UsageError(faults)
    return made


def in_seconds(
    kinds: Sequence[type[DataclassInstance]], keywords: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The keywords with times under the names of their fields and in seconds, and what is wrong with them. A time may
    be given as on the command line too: `mission="5y"` for `mission_s=157788000.0`."""
    found, faults = dict(keywords), []
    known = {f.name for kind in kinds for f in fields(kind)}
    for f in (f for kind in kinds for f in fields(kind) if f.metadata.get("unit") == "s"):
        word = (f.metadata.get("flag") or f"--{f.name}").removeprefix("--").replace("-", "_")
        if word in found and word not in known:
            if f.name in found:
                faults.append(Diagnostic("option-value", f"{word} and {f.name} are the same, both are given", word))
            found[f.name] = found.pop(word)
        if isinstance(found.get(f.name), str):
            try:
                found[f.name] = duration(found[f.name])
            except ArgumentTypeError as error:
                faults.append(Diagnostic("option-value", f"{word}: {error}", word))
                del found[f.name]
    return found, faults


def unknown_keywords(unknown: Sequence[str], known: Sequence[str], where: str) -> list[Diagnostic]:
    """A diagnostic for each keyword that there is not, with the nearest one."""
    faults = []
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        faults.append(Diagnostic("unknown-keyword", f"there is no keyword {name!r}", where, hint))
    return faults
