"""Options that are made from data: a target's dataclass fields, and `--set name=value`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.interfaces import Target

__all__ = ["add_field_options", "add_target_options", "build_target", "field_options", "parse_settings"]

_PREFIX = "field_option_"


def parse_settings(items: Sequence[str]) -> dict[str, str]:
    """`["steps=20", "symmetric=true"]` as names and texts; the family knows their types.

    Raises UsageError for an item without `=` or a name given twice.
    """
    found: dict[str, str] = {}
    faults = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            faults.append(Diagnostic("bad-setting", f"{item!r} is not name=value", "--set", "as in --set alpha=0.5"))
        elif name in found:
            faults.append(Diagnostic("setting-twice", f"{name} is given as {found[name]!r} and as {text!r}", "--set"))
        else:
            found[name] = text
    if faults:
        raise UsageError(faults)
    return found


def add_target_options(parser: argparse.ArgumentParser, target: type[Target]) -> None:
    """The options of a target."""
    add_field_options(parser, target, f"options of target {target.name} ({target.summary})")


def add_field_options(parser: argparse.ArgumentParser, plugin: type[Any], title: str) -> None:
    """One option for each field of a plug-in's dataclass: `chip: Literal["a", "b"]` becomes `--chip {a,b}`.

    The field's metadata may hold `help` and `metavar`; a field that may be None has no default to show.
    """
    group = parser.add_argument_group(title)
    hints = get_type_hints(plugin)
    for f in fields(plugin):
        flag, hint = "--" + f.name.replace("_", "-"), _without_none(hints[f.name])
        default = "" if f.default in (MISSING, None) else f" (default {f.default})"
        text = f"{f.metadata.get('help', '')}{default}".replace("%", "%%")
        common: dict[str, Any] = {"dest": _PREFIX + f.name, "default": argparse.SUPPRESS, "help": text}
        if hint is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif get_origin(hint) is Literal:
            group.add_argument(flag, choices=get_args(hint), type=type(get_args(hint)[0]), **common)
        else:
            kind = hint if hint in (int, float, str) else str
            group.add_argument(flag, type=kind, metavar=f.metadata.get("metavar", f.name.upper()), **common)


def _without_none(hint: Any) -> Any:
    """`T` of `T | None`, which is how an option without a default is typed."""
    left = [t for t in get_args(hint) if t is not type(None)]
    return left[0] if get_origin(hint) in (Union, UnionType) and len(left) == 1 else hint


def build_target(target: type[Target], namespace: argparse.Namespace) -> Target:
    """The target with the options given on the command line."""
    return target(**field_options(namespace))


def field_options(namespace: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_field_options` that were given, by field."""
    return {k.removeprefix(_PREFIX): v for k, v in vars(namespace).items() if k.startswith(_PREFIX)}
