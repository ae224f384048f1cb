"""What an importer is made of: named tensors with provenance, and a family that builds an EqNet from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import Diagnostic, ImportFileError
from ..ir import EqNet

__all__ = ["Configurable", "Family", "Setting", "Tensors", "normalise"]

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
class Tensors(Mapping[str, NDArray[Any]]):
    """Tensors of one file by normalised key, `label` (the file's name) for provenance.

    `arrays` holds the file's own keys, prefixes such as `_orig_mod.` already removed, dtypes as stored.
    """

    label: str
    arrays: Mapping[str, NDArray[Any]]
    _keys: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keys = {n: k for k in self.arrays if (n := normalise(k)) is not None}
        object.__setattr__(self, "_keys", keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> NDArray[Any]:
        """The tensor under a normalised key in float64 (integers and booleans in int64), spectral norm folded as the
        eval-mode forward pass does: `original / (u . (original [out, -1] @ v))` with the stored u and v.

        Raises KeyError if absent, ImportFileError if the singular vectors are missing or do not fit.
        """
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

    def count(self, template: str) -> int:
        """How many consecutive indices from 0 exist, e.g. `count("layers.{}.weight")`."""
        n = 0
        while template.format(n) in self:
            n += 1
        return n


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter that the file may not hold. `default` is the source code's; None means it must be given.

    `changes`: what another value would change: the `dynamics` of the net or its `weights`, `nothing` that it computes.
    """

    name: str
    default: Any
    doc: str
    changes: Literal["nothing", "dynamics", "weights"] = "dynamics"


class Configurable(Protocol):
    """What has settings: a class of network or a vocabulary of graphs."""

    @property
    def key(self) -> str:
        """The name that diagnostics give it."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that it has."""


@dataclass(frozen=True)
class Family:
    """One class of network of the research code.

    `key` is `package.Class`. `required` and `optional` are regular expressions over normalised keys (full match): a
    file has this layout when each required one matches some key and each key matches one of either. `unused` match
    keys that the file may hold and inference never reads. `build(tensors, settings)` returns the EqNet; `settings`
    has every declared setting.

    `spectral_norm`: whether the class can normalise layers; a file that does is of no class that cannot. `same_as`:
    key of a family that computes the same from the same file; where both fit, that one is taken.
    """

    key: str
    summary: str
    required: tuple[str, ...]
    settings: tuple[Setting, ...]
    build: Callable[[Tensors, Mapping[str, Any]], EqNet]
    optional: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    spectral_norm: bool = True
    same_as: str | None = None
