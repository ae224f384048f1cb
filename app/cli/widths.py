"""Options for single tensors, states and values: `--weights [TENSOR=]KIND`, `--states NAME=N`, `--guard-bits
[STATE=]N`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import FLOAT_WEIGHTS, QuantizeOptions

from ..numbers import number
from .options import Faults, add_field_options, field_options

__all__ = ["NO_WIDTHS", "add_integers", "integers_of", "weights"]

NO_WIDTHS = ("input_range", "tolerance", "dither", "max_lipschitz")
"""Fields of QuantizeOptions that are no options of a command which only chooses or trains widths."""

_OWN = ("weights", "widths", "states", "guard_bits", "guards")
_METADATA = {f.name: f.metadata for f in fields(QuantizeOptions)}

Named = Sequence[tuple[str, Any]]
"""A name, empty where the value stands for all, and its value."""


def add_integers(
    parser: argparse.ArgumentParser, title: str, *, weights_default: str | None, skip: Collection[str] = ()
) -> argparse._ArgumentGroup:
    """The options of QuantizeOptions but those of `skip`; without a default kind of weights no option for them. Returns
    the group. `integers_of` reads them."""
    group = add_field_options(parser, QuantizeOptions, title, skip=(*_OWN, *skip))
    if weights_default is not None:
        _add_weights(group, default=weights_default)
    group.add_argument(
        "--states",
        action="append",
        default=[],
        type=_numbers("states", every=False),
        metavar="NAME=N,...",
        help=f"{_METADATA['states']['help']} (may be given again; all others: --state-bits)",
    )
    group.add_argument(
        "--guard-bits",
        action="append",
        default=[],
        type=_numbers("guards", every=True),
        metavar="[STATE=]N,...",
        help=f"{_METADATA['guard_bits']['help']} (default {QuantizeOptions.guard_bits}); with STATE= of that state "
        "alone (may be given again)",
    )
    return group


def integers_of(namespace: argparse.Namespace, **defaults: Any) -> QuantizeOptions:
    """The options of a command line; `defaults` where it is silent. Raises UsageError with every name that two options
    speak of."""
    faults = Faults()
    values: dict[str, Any] = {}
    with faults.gathering():
        values |= _fields(getattr(namespace, "weights", ()), "weights", "widths", "--weights", "tensors")
    for option, every, single in (("states", "state_bits", "states"), ("guard_bits", "guard_bits", "guards")):
        named = [entry for group in getattr(namespace, option) for entry in group]
        with faults.gathering():
            values |= _fields(named, every, single, f"--{option.replace('_', '-')}", "states")
    with faults.gathering():
        values |= field_options(namespace, QuantizeOptions)
    faults.require()
    return QuantizeOptions(**{**defaults, **values})


def _add_weights(group: Any, *, default: str) -> None:
    """The option, which may be given again; `default` is the kind of weights that it does not name."""
    group.add_argument(
        "--weights",
        action="append",
        default=[],
        type=weights,
        metavar="[TENSOR=]KIND",
        help=f"codes of float weights: {FLOAT_WEIGHTS[0]}, or {FLOAT_WEIGHTS[1]} to {FLOAT_WEIGHTS[-1]} "
        f"(default {default}); with TENSOR= of that weight alone, as W_rec=int4 (may be given again); weights that "
        "hold fewer codes already keep them",
    )


def weights(text: str) -> tuple[str, str]:
    """`(tensor, kind)` of one option; the tensor is empty where it stands for all.

    Raises ArgumentTypeError for an unknown kind, or no tensor before the `=`.
    """
    tensor, _, kind = text.rpartition("=")
    if kind not in FLOAT_WEIGHTS or ("=" in text and not tensor):
        raise argparse.ArgumentTypeError(f"{text!r} is not [TENSOR=]KIND with KIND one of {', '.join(FLOAT_WEIGHTS)}")
    return tensor, kind


def _numbers(field: str, *, every: bool) -> Callable[[str], Named]:
    """A parser of `NAME=N,...` with the bounds of a field; with `every`, also of `N` alone, which stands for all."""
    parse = number(int, _METADATA[field]["bounds"])

    def parsed(text: str) -> Named:
        found = []
        for part in text.split(","):
            name, equals, digits = part.rpartition("=")
            if not name and (equals or not every):
                form = "[STATE=]N" if every else "NAME=N (--state-bits N is for all states)"
                raise argparse.ArgumentTypeError(f"{part!r} is not {form}")
            found.append((name, parse(digits)))
        return found

    return parsed


def _fields(named: Iterable[tuple[str, Any]], every: str, single: str, flag: str, nouns: str) -> dict[str, Any]:
    """Fields of QuantizeOptions; UsageError if two options speak of the same name."""
    entries = list(named)
    names = [name for name, _ in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults = [f"{flag} is given twice for {name or f'all {nouns}'}" for name in twice]
        raise UsageError([Diagnostic("widths-twice", fault, flag) for fault in faults])
    found: dict[str, Any] = {single: {name: value for name, value in entries if name}}
    for name, value in entries:
        if not name:
            found[every] = value
    return found
