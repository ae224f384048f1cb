"""Options that are made from data: fields of a dataclass, and `--set name=value`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import plain_type

from ..numbers import DURATIONS, duration, number

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from eqcompile.toolchain.interfaces import Target

__all__ = [
    "Faults",
    "add_field_options",
    "add_target_options",
    "build",
    "build_target",
    "field_options",
    "parse_settings",
]

_PREFIX = "option of "
_SETTING = r"[^\W\d]\w*"
_TENSOR = r"[\w.]*\w"
T = TypeVar("T", bound="DataclassInstance")


class Faults(list[Diagnostic]):
    """What is wrong with a command line, gathered so that one run tells all of it."""

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep the diagnostics of a UsageError; what was to be computed is not there then."""
        try:
            yield
        except UsageError as error:
            self.extend(error.diagnostics)

    def require(self) -> None:
        """Raise UsageError with all faults, if there are any."""
        if self:
            raise UsageError(self)


def parse_settings(items: Sequence[str], flag: str = "--set") -> dict[str, str]:
    """`["steps=20", "symmetric=true"]` as names and texts; the family knows their types. Names of tensors have dots in
    them, and so have the texts.

    Raises UsageError for an item without `=` or a name given twice.
    """
    pattern, example = (_TENSOR, "fc_rec=W_rec") if flag == "--map" else (_SETTING, "alpha=0.5")
    settings: dict[str, str] = {}
    faults = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not re.fullmatch(pattern, name) or (flag == "--map" and not re.fullmatch(_TENSOR, text)):
            faults.append(Diagnostic("bad-setting", f"{item!r} is not name=value", flag, f"as in {flag} {example}"))
        elif name in settings:
            faults.append(Diagnostic("setting-twice", f"{name} is {settings[name]!r} and {text!r}", flag))
        else:
            settings[name] = text
    if faults:
        raise UsageError(faults)
    return settings


def add_target_options(parser: argparse.ArgumentParser, target: type[Target], argv: Sequence[str] = ()) -> None:
    """The options of a target, and of the plug-ins that its options name in `argv`, of all where they name none."""
    add_field_options(parser, target, f"options of target {target.name} ({target.summary})")
    for f, plugin in _plugins(target, argv):
        add_field_options(parser, plugin, f"options of --{f.name} {plugin.name} ({plugin.summary})", shared=True)


def _plugins(target: type[Target], argv: Sequence[str]) -> Iterator[tuple[Field[Any], Any]]:
    """The fields of a target that hold plug-ins, with each plug-in that may be meant."""
    from eqcompile.toolchain import registry

    for f in fields(target):
        if "plugins" not in f.metadata:
            continue
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument(f"--{f.name}", dest="name", nargs="?")
        name, group = first.parse_known_args(argv)[0].name, f.metadata["plugins"]
        if name in registry.names(group):
            yield f, registry.find_class(group, name, object)
        else:
            for plugin in registry.load_classes(group, object).entries.values():
                yield f, plugin


def add_field_options(
    parser: argparse.ArgumentParser,
    options: type[DataclassInstance],
    title: str | None,
    *,
    skip: Collection[str] = (),
    shared: bool = False,
) -> argparse._ArgumentGroup:
    """A group of options, one for each field of a dataclass but those of `skip`: `chip: Literal["a", "b"]` becomes
    `--chip {a,b}`. Returns the group.

    The field's metadata may hold what `toolchain.options.option` takes; a field that may be None has no default to
    show. `shared`: options that the parser has already are listed as such, else they are a mistake.
    """
    known = parser._option_string_actions if shared else {}
    flags = {f.name: f.metadata.get("flag", "--" + f.name.replace("_", "-")) for f in fields(options)}
    others = ", ".join(flag for flag in flags.values() if flag in known)
    group = parser.add_argument_group(title, f"also {others}, as above" if others else None)
    hints = get_type_hints(options)
    for f in fields(options):
        flag = flags[f.name]
        if f.name in skip or flag in known:
            continue
        hint, switches_off = plain_type(hints[f.name]), f.default is True and "flag" in f.metadata
        metavar, bounds = f.metadata.get("metavar", f.name.upper()), f.metadata.get("bounds")
        times = f" ({DURATIONS})" if f.metadata.get("unit") == "s" and f.default is None else ""
        text = f"{f.metadata.get('help', '')}{times}{'' if switches_off else _default(f)}".replace("%", "%%").strip()
        common: dict[str, Any] = {"dest": _dest(options, f.name), "default": argparse.SUPPRESS, "help": text}
        repeated = get_origin(hint) is Mapping or get_args(hint)[1:] == (...,)
        if "plugins" in f.metadata:
            group.add_argument(flag, metavar=metavar, **common)
        elif switches_off:
            group.add_argument(flag, action="store_false", **common)
        elif hint is bool and f.default is False:
            group.add_argument(flag, action="store_true", **common)
        elif hint is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif get_origin(hint) is Literal:
            group.add_argument(flag, choices=get_args(hint), type=type(get_args(hint)[0]), **common)
        elif repeated:
            part = Path if get_args(hint)[0] is Path else str
            group.add_argument(flag, action="append", type=part, metavar=metavar, **common)
        elif get_origin(hint) is tuple:
            parts = get_args(hint)
            group.add_argument(flag, type=number(parts[0]), nargs=len(parts), metavar=tuple(metavar.split()), **common)
        elif f.metadata.get("unit") == "s":
            group.add_argument(flag, type=duration, metavar=metavar, **common)
        elif hint in (int, float):
            group.add_argument(flag, type=number(hint, bounds), metavar=metavar, **common)
        elif get_origin(hint) is UnionType or get_origin(hint) is Union:
            kind, words = get_args(hint)
            group.add_argument(flag, type=number(kind, bounds, get_args(words)), metavar=metavar, **common)
        else:
            group.add_argument(flag, type=Path if hint is Path else str, metavar=metavar, **common)
    return group


def _default(f: Field[Any]) -> str:
    if "plugins" in f.metadata or f.default in (MISSING, None, "", ()) or f.default is False:
        return ""
    value = " ".join(f"{part:g}" for part in f.default) if isinstance(f.default, tuple) else f.default
    shown = f"{value:g}" if isinstance(value, float) else value
    return f" (default {shown}{' ' + f.metadata['unit'] if 'unit' in f.metadata else ''})"


def _dest(options: type[DataclassInstance], name: str) -> str:
    return f"{_PREFIX}{options.__name__}.{name}"


def build_target(target: type[Target], namespace: argparse.Namespace) -> Target:
    """The target with the options of the command line, those of plug-ins among them.

    Raises UsageError with every option whose value means nothing.
    """
    options = field_options(namespace, target)
    for _, plugin in _plugins(target, ()):
        options |= field_options(namespace, plugin)
    return target.of(**options)


def field_options(namespace: argparse.Namespace, options: type[DataclassInstance]) -> dict[str, Any]:
    """The fields of `options` that the command line sets, by name. Raises UsageError for settings that are none."""
    values = {f.name: vars(namespace).get(_dest(options, f.name), MISSING) for f in fields(options)}
    hints = get_type_hints(options)
    flags = {f.name: f.metadata.get("flag", f"--{f.name}") for f in fields(options)}
    return {
        name: parse_settings(value, flags[name])
        if get_origin(hints[name]) is Mapping
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in values.items()
        if value is not MISSING
    }


def build(options: type[T], namespace: argparse.Namespace) -> T:
    """`options` as the command line sets them, all else by default."""
    return options(**field_options(namespace, options))
