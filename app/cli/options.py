"""Options that are made from data: fields of a dataclass, and `--set name=value`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import plain_type

from .numbers import number

if TYPE_CHECKING:
    from eqcompile.toolchain.interfaces import Target

__all__ = ["add_field_options", "add_target_options", "build_target", "field_options", "parse_settings"]

_PREFIX = "option of "
T = TypeVar("T")


def parse_settings(items: Sequence[str]) -> dict[str, str]:
    """`["steps=20", "symmetric=true"]` as names and texts; the family knows their types.

    Raises UsageError for an item without `=` or a name given twice.
    """
    settings: dict[str, str] = {}
    faults = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            faults.append(Diagnostic("bad-setting", f"{item!r} is not name=value", "--set", "as in --set alpha=0.5"))
        elif name in settings:
            faults.append(Diagnostic("setting-twice", f"{name} is {settings[name]!r} and {text!r}", "--set"))
        else:
            settings[name] = text
    if faults:
        raise UsageError(faults)
    return settings


def add_target_options(parser: argparse.ArgumentParser, target: type[Target]) -> None:
    """The options of a target."""
    add_field_options(parser, target, f"options of target {target.name} ({target.summary})")


def add_field_options(
    parser: argparse.ArgumentParser, options: type[Any], title: str, *, skip: Collection[str] = ()
) -> Any:
    """A group of options, one for each field of a dataclass but those of `skip`: `chip: Literal["a", "b"]` becomes
    `--chip {a,b}`. Returns the group.

    The field's metadata may hold `help`, `metavar`, `bounds` and `flag` (see `toolchain.options.option`); a field that
    may be None has no default to show.
    """
    group = parser.add_argument_group(title)
    hints = get_type_hints(options)
    for f in fields(options):
        if f.name in skip:
            continue
        hint, switches_off = plain_type(hints[f.name]), f.default is True and "flag" in f.metadata
        flag = f.metadata.get("flag", "--" + f.name.replace("_", "-"))
        metavar, bounds = f.metadata.get("metavar", f.name.upper()), f.metadata.get("bounds")
        default = "" if f.default in (MISSING, None) or switches_off else f" (default {_shown(f.default)})"
        text = f"{f.metadata.get('help', '')}{default}".replace("%", "%%").strip()
        common: dict[str, Any] = {"dest": _dest(options, f.name), "default": argparse.SUPPRESS, "help": text}
        if switches_off:
            group.add_argument(flag, action="store_false", **common)
        elif hint is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif get_origin(hint) is Literal:
            group.add_argument(flag, choices=get_args(hint), type=type(get_args(hint)[0]), **common)
        elif get_origin(hint) is tuple:
            parts = get_args(hint)
            group.add_argument(flag, type=number(parts[0]), nargs=len(parts), metavar=tuple(metavar.split()), **common)
        elif hint in (int, float):
            group.add_argument(flag, type=number(hint, bounds), metavar=metavar, **common)
        else:
            group.add_argument(flag, metavar=metavar, **common)
    return group


def _shown(default: Any) -> str:
    return " ".join(f"{part:g}" for part in default) if isinstance(default, tuple) else str(default)


def _dest(options: type[Any], name: str) -> str:
    return f"{_PREFIX}{options.__name__}.{name}"


def build_target(target: type[Target], namespace: argparse.Namespace) -> Target:
    """The target with the options of the command line."""
    return target(**field_options(namespace, target))


def field_options(namespace: argparse.Namespace, options: type[Any]) -> dict[str, Any]:
    """The fields of `options` that the command line sets, by name."""
    prefix = _dest(options, "")
    values = {k.removeprefix(prefix): v for k, v in vars(namespace).items() if k.startswith(prefix)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
