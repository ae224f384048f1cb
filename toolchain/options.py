"""What a user chooses, as dataclasses: a field holds its default, its help and its bounds, for the command line and for
the check of a call alike. Imports nothing heavy, since the help of a command is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from .diagnostics import Diagnostic
from .typed_json import JSON

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "Assumption",
    "FLOAT_WEIGHTS",
    "MOST_BITS",
    "MOST_GUARD_BITS",
    "Bounds",
    "QuantizeOptions",
    "TuneOptions",
    "bits_of",
    "bounds_of",
    "option",
    "option_faults",
    "plain_type",
]


FLOAT_WEIGHTS = ("ternary", *(f"int{bits}" for bits in range(2, 9)))
"""Kinds of codes that float weights can become."""


def bits_of(kind: str) -> int:
    """Bits that one code of a kind takes in memory: two of a ternary one."""
    return 2 if kind == "ternary" else int(kind.removeprefix("int"))


@dataclass(frozen=True)
class Assumption:
    """A value that the file does not hold and that was taken from a default; `source` says whose default."""

    name: str
    value: JSON
    source: str


@dataclass(frozen=True)
class Bounds:
    """The numbers from `low` to `high`; `above` and `below`: without that end itself. Infinite ends are no numbers."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = self.low < value if self.above else self.low <= value
        high = value < self.high if self.below else value <= self.high
        return low and high and math.isfinite(value)

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high) and self.above == self.below:
            return f"between {self.low:g} and {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"
        low = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        high = f"below {self.high:g}" if self.below else f"of at most {self.high:g}"
        return " and ".join([low] * math.isfinite(self.low) + [high] * math.isfinite(self.high))


def option(
    default: Any,
    *,
    help: str = "",
    metavar: str = "N",
    bounds: Bounds | None = None,
    flag: str | None = None,
    unit: str | None = None,
    pattern: str | None = None,
    plugins: str | None = None,
) -> Any:
    """A field of a dataclass of options.

    Args:
        default: its value where the option is absent.
        help: what it does, for the help of the command.
        metavar: what stands for its value there.
        bounds: the numbers that it takes.
        flag: the option's name, where it is not that of the field; of a field that is true by default, it switches it
            off.
        unit: of the number, as "s" or "MHz".
        pattern: a regular expression that a text must match as a whole.
        plugins: group of entry points whose entry the option names; the fields of that entry, a dataclass with a `name`
            and a `summary`, are options as well. The field itself holds such entries.
    """
    metadata = {"help": help, "metavar": metavar, "bounds": bounds, "flag": flag, "unit": unit}
    metadata |= {"pattern": pattern, "plugins": plugins}
    stated = {k: v for k, v in metadata.items() if v is not None}
    return field(default_factory=dict, metadata=stated) if default == {} else field(default=default, metadata=stated)


def plain_type(hint: Any) -> Any:
    """`T` of `T | None`, which is how an option without a default is typed."""
    left = [t for t in get_args(hint) if t is not type(None)]
    return left[0] if get_origin(hint) in (Union, UnionType) and len(left) == 1 else hint


def bounds_of(kind: type[int | float], bounds: Bounds) -> str:
    """The noun for what an option of type `kind` takes: "a whole number of at least 1"."""
    return f"a {'whole' if kind is int else 'finite'} number {bounds}".rstrip()


def option_faults(options: DataclassInstance) -> list[Diagnostic]:
    """One diagnostic (code `option-value`) for each field outside its bounds, of another type of number, none of its
    choices, or not as its pattern; None passes where it is the default."""
    hints = get_type_hints(type(options))
    faults = []
    for f in fields(options):
        value, bounds, kind = getattr(options, f.name), f.metadata.get("bounds"), plain_type(hints[f.name])
        if value is None and f.default is None:
            continue
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            faults.append(Diagnostic("option-value", f"{f.name} is {value!r}, must be one of {choices}", f.name))
        pattern = f.metadata.get("pattern")
        if pattern is not None and not re.fullmatch(pattern, value):
            what, hint = f"{f.name} is {value!r}, must match {pattern}", f.metadata["help"]
            faults.append(Diagnostic("option-value", what, f.name, hint))
        if get_origin(kind) in (Union, UnionType):
            numbers, words = get_args(kind)
            if value in get_args(words):
                continue
            kind = numbers
        if bounds is None:
            continue
        entries = {f.name: value}
        if get_origin(kind) is Mapping:
            entries, kind = {f"{f.name} of {name}": v for name, v in value.items()}, get_args(kind)[1]
        for name, entry in entries.items():
            right_type = isinstance(entry, (int,) if kind is int else (int, float)) and not isinstance(entry, bool)
            if not right_type or entry not in bounds:
                what = f"{name} is {entry!r}, must be {bounds_of(kind, bounds)}"
                faults.append(Diagnostic("option-value", what, f.name))
    return faults


MOST_BITS, MOST_GUARD_BITS = 16, 4
_WIDTH = Bounds(2, MOST_BITS)
_GUARD = Bounds(0, MOST_GUARD_BITS)
_COUNT = Bounds(1)


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What the user chooses about the integers. Defaults live at the CLI and API edge, here.

    `weights`: "ternary" or "int2".."int8" for float weights; tensors that are ternary already stay exactly so.
    `widths`: the same for single weights, by name. `state_bits`: width of the states, and the precision of the values
    between them; `states`: the same of single states and values, by name. `guard_bits`: more fraction bits of states
    whose next value holds a part of their last (damped, Euler), which near their end move by less than a step of
    `state_bits`; `guards`: the same of single states, by name. `input_range`: used where no calibration data is given.
    `keep_labels`: widen states until this share of the labels of the float net is kept on the calibration
    samples, every other of which gives the ranges. None leaves the widths as they are.
    `dither`: ticks in which known offsets are added to recurrent sums, so that runs which an upset drove apart meet.
    `max_lipschitz`: weaken recurrent weights until each block is proved to contract by this factor; None leaves them.
    """

    weights: str = "int8"
    per_row: bool = option(True, flag="--per-tensor", help="one weight scale a tensor (default: one an output row)")
    state_bits: int = option(8, bounds=_WIDTH, help="width of the states")
    guard_bits: int = option(
        0, bounds=_GUARD, help="more fraction bits of states that average; weights read them without these bits"
    )
    input_bits: int = option(8, bounds=_WIDTH, help="width of the inputs")
    input_range: tuple[float, float] = option(
        (-1.0, 1.0), metavar="LO HI", help="of the inputs, where no calibration data is given"
    )
    dither: int = option(
        0, bounds=Bounds(0), help="known offsets on recurrent sums in the first N ticks: upsets before heal to the bit"
    )
    tolerance: int = option(
        0, bounds=Bounds(0), help="end a sample once no state moved by more than N codes; 0 is exact"
    )
    widths: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, int] = option(
        {},
        bounds=_WIDTH,
        metavar="NAME=N",
        help="width of a state alone, or bits of a value that weights or tables read",
    )
    guards: Mapping[str, int] = option({}, bounds=_GUARD)
    keep_labels: float | None = option(
        None,
        metavar="A",
        bounds=Bounds(0, 1, above=True),
        help="add guard bits, then widen single states, until this share of the float net's labels is kept on the "
        "samples of --calibrate, every other of which gives the ranges; the widths are printed, a miss is exit code 9",
    )
    max_lipschitz: float | None = option(
        None,
        metavar="L",
        bounds=Bounds(0, 1, above=True, below=True),
        help="weaken recurrent weights until the net is proved to contract by L < 1 a step; its cost is reported",
    )


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What the user chooses about training. `quantize`: the integers that are trained for.

    `hold_out`: share of the data that is not trained on and chooses the epoch; 0 keeps the last epoch. `ticks`: how
    many of the last ticks gradients flow through, None for all (a gate that closed early stops them). `distill`: share
    of the loss that asks for the float net's own probabilities instead of the labels. `noise`: of the training inputs,
    in their standard deviations; it stands for data, of which fine-tuning sees little.
    `max_lipschitz`: bound of the contraction of a step that the integers are proved to keep after each batch; None asks
    for none. `margin`: by how much the label's logit is to lead, in the units of the logits, 0 for no such loss. What
    both cost is told by training again without them, unless `skip_cost`.
    """

    quantize: QuantizeOptions
    epochs: int = option(150, bounds=_COUNT, help="passes over the data; the first one tells how long all will take")
    lr: float = option(6e-3, metavar="R", bounds=Bounds(0, above=True), help="first learning rate, then a cosine")
    batch: int = option(128, bounds=_COUNT, help="samples a batch")
    ticks: int | None = option(None, bounds=_COUNT, help="last ticks that gradients reach (default all)")
    hold_out: float = option(
        0.1, metavar="F", bounds=Bounds(0, 1, below=True), help="share of the data that chooses the epoch"
    )
    distill: float = option(
        0.5, metavar="F", bounds=Bounds(0, 1), help="share of the loss that asks for the float net's probabilities"
    )
    noise: float = option(
        0.4, metavar="F", bounds=Bounds(0), help="noise on the training inputs, in their standard deviations"
    )
    max_lipschitz: float | None = option(
        None,
        metavar="L",
        bounds=Bounds(0, 1, above=True, below=True),
        help="keep the integers proved to contract by L < 1 a step, after every batch; its cost is reported",
    )
    margin: float = option(
        0.0,
        metavar="M",
        bounds=Bounds(0),
        help="add to the loss what the label's logit lacks of leading by M; its cost is reported",
    )
    skip_cost: bool = option(False, help="do not train again without --max-lipschitz and --margin to tell their cost")
    seed: int = option(0, bounds=Bounds(0), help="of the order of the data and of the noise")
