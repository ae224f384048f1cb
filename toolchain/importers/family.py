"""What an importer is made of: named tensors with provenance, and a family that reads an EqNet from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import Diagnostic, ImportFileError, UsageError
from ..ir import EqNet

__all__ = ["Array", "Configurable", "Family", "Reading", "Setting", "SettingValue", "Tensors", "lacking", "normalise"]

Array: TypeAlias = NDArray[np.generic]
"""An array of any type and shape."""
SettingValue: TypeAlias = bool | int | float | str | tuple[bool | int | float | str, ...]
_SHOWN = 12

_ORIGINAL = (".parametrizations.weight.original", ".weight_orig")
_NORM_VECTORS = re.compile(r"\.(parametrizations\.weight\.0\._[uv]|weight_[uv])$")


def normalise(key: str) -> str | None:
    """The key a layer would have without spectral norm; None for the stored singular vectors."""
    if _NORM_VECTORS.search(key):
        return None
    for suffix in _ORIGINAL:
        if key.endswith(suffix):
            return key.removesuffix(suffix) + ".weight"
    return key


@dataclass(frozen=True)
class Tensors(Mapping[str, NDArray[np.float64] | NDArray[np.int64]]):
    """Tensors of one file by normalised key, `label` (the file's name) for provenance.

    `arrays` holds the file's own keys, prefixes such as `_orig_mod.` already removed, dtypes as stored.
    """

    label: str
    arrays: Mapping[str, Array]
    _keys: Mapping[str, str] = field(init=False, repr=False)
    _values: dict[str, NDArray[np.float64] | NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)
    """What was read before: several families try a file, and each would widen and fold its tensors again."""

    def __post_init__(self) -> None:
        keys = {n: k for k in self.arrays if (n := normalise(k)) is not None}
        object.__setattr__(self, "_keys", keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> NDArray[np.float64] | NDArray[np.int64]:
        """The tensor under a normalised key in float64 (integers and booleans in int64), spectral norm folded as the
        eval-mode forward pass does: `original / (u . (original [out, -1] @ v))` with the stored u and v.

        Raises KeyError if absent, ImportFileError if the singular vectors are missing or do not fit.
        """
        if key not in self._values:
            self._values[key] = self._folded(key)
            self._values[key].setflags(write=False)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def stored(self, key: str) -> Array:
        """The tensor under a normalised key as the file holds it, in its own dtype. Raises KeyError if absent."""
        return np.asarray(self.arrays[self._keys[key]])

    def _folded(self, key: str) -> NDArray[np.float64] | NDArray[np.int64]:
        stored = self._keys[key]
        array = np.asarray(self.arrays[stored])
        if array.dtype.kind in "iub":
            return array.astype(np.int64)
        value = array.astype(np.float64)
        if stored == key:
            return value
        layer = key.removesuffix(".weight")
        u, v = self._vectors(layer, stored)
        matrix = value.reshape(value.shape[0], -1)
        if u.shape != (matrix.shape[0],) or v.shape != (matrix.shape[1],):
            raise ImportFileError(
                Diagnostic(
                    "spectral-norm-shape",
                    f"singular vectors have shapes {list(u.shape)} and {list(v.shape)}, "
                    f"the weight needs [{matrix.shape[0]}] and [{matrix.shape[1]}]",
                    f"{self.label}:{layer}",
                )
            )
        sigma = float(u @ (matrix @ v))
        if not np.isfinite(sigma) or sigma == 0.0:
            raise ImportFileError(
                Diagnostic("spectral-norm-zero", f"the stored spectral norm is {sigma}", f"{self.label}:{layer}")
            )
        return np.asarray(value / sigma)

    def _vectors(self, layer: str, stored: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        parametrized = stored.endswith(_ORIGINAL[0])
        names = [f"{layer}.parametrizations.weight.0._{s}" if parametrized else f"{layer}.weight_{s}" for s in "uv"]
        missing = [n for n in names if n not in self.arrays]
        if missing:
            raise ImportFileError(
                Diagnostic(
                    "spectral-norm-vectors",
                    f"{stored} is spectrally normalised but {' and '.join(missing)} are missing: the deployed weight "
                    "cannot be known",
                    self.label,
                    "save the whole state_dict of the model in eval mode",
                )
            )
        return np.asarray(self.arrays[names[0]], np.float64), np.asarray(self.arrays[names[1]], np.float64)

    @property
    def normed(self) -> tuple[str, ...]:
        """Stored keys of the weights that are spectrally normalised."""
        return tuple(stored for key, stored in self._keys.items() if stored != key)

    def source(self, key: str, note: str = "") -> str:
        """Provenance text for a parameter made from `key`."""
        stored = self._keys[key]
        folded = "spectral norm folded" if stored != key else ""
        notes = "; ".join(n for n in (folded, note) if n)
        return f"{self.label}:{stored}" + (f" ({notes})" if notes else "")

    @property
    def shapes(self) -> str:
        """What the file holds, for a message: its keys with their shapes, the first of them."""
        shown = [f"{key[:80]} {list(a.shape)}" for key, a in self.arrays.items()]
        more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f"the file holds {', '.join(shown[:_SHOWN])}{more}"


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter that the file may not hold. `default` is the source code's; None means it must be given.

    `changes`: what another value would change: the `dynamics` of the net or its `weights`, which make it another net;
    the shape of its `input`, by which a wrong value is refused; `nothing`. `example` is what messages show where there
    is no default, and what stands in where only keys matter.
    """

    name: str
    default: SettingValue | None
    doc: str
    changes: Literal["nothing", "input", "dynamics", "weights"] = "dynamics"
    example: SettingValue = 8


class Configurable(Protocol):
    """What has settings: a class of network or a vocabulary of graphs."""

    @property
    def key(self) -> str:
        """The name that diagnostics give it."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that it has."""


@dataclass(frozen=True)
class Reading:
    """What a family makes of the tensors of one file.

    `net` is None where anything below keeps it from being one. `read` holds the keys that were asked for and there,
    `missing` those that were not there (`N` for the number of a layer), `unexpected` those that nobody asked for.
    `faults` say which tensors do not fit each other, `misuse` which settings are out of their range. `complete` is
    False where reading ended early, for what followed hung on a tensor that is missing or wrong: then keys that were
    not asked for say little.
    """

    net: EqNet | None
    read: frozenset[str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    faults: tuple[Diagnostic, ...] = ()
    misuse: tuple[Diagnostic, ...] = ()
    complete: bool = True

    @property
    def fits(self) -> bool:
        """Whether the keys are exactly those of the family."""
        return not self.missing and not self.unexpected

    def demand(self, family: str, label: str) -> EqNet:
        """The net. Raises ImportFileError for tensors that are missing or do not fit, UsageError for settings."""
        if self.net is not None:
            return self.net
        if self.missing or self.faults:
            raise ImportFileError([*(lacking(key, family, label) for key in self.missing), *self.faults])
        raise UsageError(self.misuse)


@dataclass(frozen=True)
class Family:
    """One class of network of the research code.

    `key` is `package.Class`. `read(tensors, settings)` reads its net, `settings` having every setting that is declared;
    which tensors a file of this family holds is what it asks for, no list of them exists. `same_as`: key of a family
    that computes the same from the same file; where both fit, that one is taken.
    """

    key: str
    summary: str
    settings: tuple[Setting, ...]
    read: Callable[[Tensors, Mapping[str, SettingValue]], Reading]
    same_as: str | None = None
    twins: tuple[Family, ...] = ()
    """Other classes that compute the same from the same file."""

    @property
    def offer(self) -> str:
        """How a command line asks for it, what it computes, with which settings, and its other names."""
        settings = [s.name if s.default is None else f"{s.name}={s.default}" for s in self.settings]
        names = [twin.key for twin in self.twins]
        parts = [f"--family {self.key}  ({self.summary})", f"settings {', '.join(settings) or 'none'}"]
        return "; ".join([*parts, f"other names {', '.join(names)}"] if names else parts)

    def build(self, tensors: Tensors, settings: Mapping[str, SettingValue]) -> EqNet:
        """The net; errors as of `Reading.demand`."""
        return self.read(tensors, settings).demand(self.key, tensors.label)


def lacking(key: str, family: str, label: str) -> Diagnostic:
    """A tensor that a family needs and a file does not have."""
    return Diagnostic("missing-tensor", f"the file has no tensor {key}, {family} needs it", label)
