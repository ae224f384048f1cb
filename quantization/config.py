"""The integers of a net as a dictionary: an entry for each weight, state and value, to be changed and handed back.

    {"weights": {"W_rec": "int4"}, "per_row": True,
     "states": {"h": {"bits": 8, "guard_bits": 0}}, "values": {"drive": {"bits": None}}, "state_bits": 8,
     "inputs": {"bits": 8, "range": [-1.0, 1.0]}, "dither": 0, "tolerance": 0, "keep_labels": None,
     "max_lipschitz": None}

What is left out has its default. `values` are those whose width may be chosen beside the states'; without bits they
have those of the state that they flow into. `guard_bits` stand where a state averages. All of it are JSON values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eqcompile.toolchain.options import FLOAT_WEIGHTS, QuantizeOptions

from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet
from ..toolchain.typed_json import JSON
from .hoist import hoist
from .options import kinds_of, option_errors
from .precision import averages, named_values

__all__ = ["config_of", "options_of"]

_PLAIN = ("per_row", "state_bits", "dither", "tolerance", "keep_labels", "max_lipschitz")
"""Keys that are fields of QuantizeOptions as they stand."""
_UNKNOWN = "there is no such entry of a configuration"
_PARTS = ("weights", "states", "values", "inputs")


def config_of(net: EqNet, options: QuantizeOptions) -> dict[str, JSON]:
    """What `options` mean for each weight, state and value of a net; `options_of` makes the same integers of it.

    Raises UsageError as `kinds_of`.
    """
    hoisted, _ = hoist(net)
    slow = averages(hoisted)
    states: dict[str, JSON] = {}
    for s in net.states:
        entry: dict[str, JSON] = {"bits": options.states.get(s.name, options.state_bits)}
        if s.name in slow:
            entry["guard_bits"] = options.guards.get(s.name, options.guard_bits)
        states[s.name] = entry
    known = {s.name for s in net.states}
    values: dict[str, JSON] = {
        name: {"bits": options.states.get(name)} | _guard(options, name, slow)
        for name in dict.fromkeys((*named_values(hoisted), *slow))
        if name not in known
    }
    return {
        "weights": dict(kinds_of(net, options)),
        "states": states,
        "values": values,
        "inputs": {"bits": options.input_bits, "range": list(options.input_range)},
        **{key: getattr(options, key) for key in _PLAIN},
    }


def _guard(options: QuantizeOptions, name: str, slow: Mapping[str, object]) -> dict[str, JSON]:
    return {"guard_bits": options.guards.get(name, options.guard_bits)} if name in slow else {}


def options_of(net: EqNet, config: Mapping[str, object]) -> QuantizeOptions:
    """The options that a dictionary like that of `config_of` asks for.

    Raises UsageError with every entry that there is not, of another type, or out of its range.
    """
    reader = _Reader(net)
    fields = reader.read(config)
    options = QuantizeOptions(**fields)
    faults = [*reader.faults, *option_errors(net, options)]
    if faults:
        raise UsageError(faults)
    return options


@dataclass
class _Reader:
    """Reads a dictionary entry by entry, and gathers what is wrong with it."""

    net: EqNet
    faults: list[Diagnostic] = field(default_factory=list)

    def read(self, config: Mapping[str, object]) -> dict[str, Any]:
        """Fields of QuantizeOptions, without the entries that have a fault."""
        fields: dict[str, Any] = {}
        default = QuantizeOptions()
        for key in _PLAIN:
            value = config.get(key, getattr(default, key))
            if key == "per_row" and not isinstance(value, bool):
                self._refuse(key, value, "True or False")
            elif key in ("keep_labels", "max_lipschitz") and not (value is None or _is_number(value)):
                self._refuse(key, value, "None or a number")
            else:
                fields[key] = value
        for key in config:
            if key not in (*_PLAIN, *_PARTS):
                self._unknown(str(key), (*_PARTS, *_PLAIN))
        fields["widths"] = {
            name: kind
            for name, kind in self._part(config, "weights").items()
            if kind in FLOAT_WEIGHTS or self._refuse(f"weights.{name}", kind, f"one of {', '.join(FLOAT_WEIGHTS)}")
        }
        fields |= self._widths(config)
        fields |= self._inputs(config)
        return fields

    def _widths(self, config: Mapping[str, object]) -> dict[str, object]:
        states, guards = {}, {}
        names = {s.name for s in self.net.states}
        for part in ("states", "values"):
            for name, entry in self._part(config, part).items():
                where = f"{part}.{name}"
                if (name in names) != (part == "states"):
                    hint = f"it belongs to values; the states: {', '.join(sorted(names))}"
                    if part == "values":
                        hint = "it is a state: its entry belongs to states"
                    self.faults.append(Diagnostic("config-unknown", _UNKNOWN, where, hint))
                    continue
                for key, value in self._keys(entry, where, ("bits", "guard_bits")):
                    if value is None and part == "values" and key == "bits":
                        continue
                    if not _is_whole(value):
                        self._refuse(f"{where}.{key}", value, "a whole number")
                    elif key == "bits":
                        states[name] = value
                    else:
                        guards[name] = value
        return {"states": states, "guards": guards}

    def _inputs(self, config: Mapping[str, object]) -> dict[str, object]:
        fields: dict[str, object] = {}
        for key, value in self._keys(config.get("inputs", {}), "inputs", ("bits", "range")):
            if key == "bits":
                fields["input_bits"] = value
            elif isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value)):
                fields["input_range"] = (float(value[0]), float(value[1]))
            else:
                self._refuse("inputs.range", value, "two numbers, as [-1.0, 1.0]")
        return fields

    def _part(self, config: Mapping[str, object], key: str) -> Mapping[str, object]:
        part = config.get(key, {})
        if isinstance(part, Mapping):
            return part
        self._refuse(key, part, "a dictionary")
        return {}

    def _keys(self, entry: object, where: str, keys: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        if not isinstance(entry, Mapping):
            self._refuse(where, entry, f"a dictionary with {' and '.join(keys)}")
            return
        for key, value in entry.items():
            if key in keys:
                yield key, value
            else:
                self._unknown(f"{where}.{key}", keys)

    def _unknown(self, where: str, keys: tuple[str, ...]) -> None:
        self.faults.append(Diagnostic("config-unknown", _UNKNOWN, where, f"one of {', '.join(keys)}"))

    def _refuse(self, where: str, value: object, wanted: str) -> bool:
        self.faults.append(Diagnostic("config-entry", f"the entry is {value!r}, must be {wanted}", where))
        return False


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
