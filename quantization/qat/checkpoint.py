"""Which tensors of a checkpoint training may change, and the checkpoint that holds them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eqcompile.toolchain.interfaces import Imported

from ...toolchain.arrays import Numbers
from ...toolchain.diagnostics import Diagnostic, ImportFileError, UnsupportedError
from ...toolchain.importers.config import STEP_NAMES
from ...toolchain.importers.detect import all_families, unprefixed
from ...toolchain.importers.family import Tensors
from ...toolchain.importers.files.format import LoadedFile
from ...toolchain.importers.files.load import load_file
from ...toolchain.importers.names import renamed
from ...toolchain.importers.settings import resolve
from ...toolchain.ir import EqNet

__all__ = ["Checkpoint", "Trainable"]

_SAME = 1e-12
"""Relative difference within which a parameter counts as built unchanged: what a mean of equal numbers may lose."""


@dataclass(frozen=True)
class Trainable:
    """A net parameter that a tensor of the file determines.

    `kind`: `free`, it takes any values; `ternary`, the family itself ternarizes the tensor, so that it must stay
    ternary with the magnitude that it has.
    """

    param: str
    key: str
    kind: Literal["free", "ternary"]


class Checkpoint:
    """A file as its family reads it. `trainable`: what training may change, by parameter; all else stays as it is."""

    def __init__(self, imported: Imported) -> None:
        known = all_families()
        if imported.family not in known:
            what = f"{imported.path.name} is a graph of {imported.family}, whose parts are not written back"
            hint = "train a checkpoint of one of the families of `eqcompile families`"
            raise UnsupportedError(Diagnostic("tune-family", what, str(imported.path), hint))
        self.imported = imported
        self.net: EqNet = imported.net
        self.family = known[imported.family]
        self.file: LoadedFile = unprefixed(renamed(load_file(imported.path), imported.map), [self.family])
        self.tensors = Tensors(self.file.label, self.file.arrays)
        self.settings = resolve(
            self.family, user=dict(imported.given), config={}, stated={}, label=self.file.label
        ).values
        if self.rebuilt({}) != self.net:
            what = "the net is not what its family builds from the file's own tensors, as after a Brevitas quantizer"
            hint = "train the float checkpoint, or compile this one as it is"
            raise UnsupportedError(Diagnostic("tune-source", what, str(imported.path), hint))
        self.trainable = self._trainable()

    def rebuilt(self, values: Mapping[str, Numbers]) -> EqNet:
        """The net of this file with other values of trainable parameters."""
        return self.family.build(Tensors(self.file.label, self._arrays(values)), self.settings)

    def content(self, values: Mapping[str, Numbers]) -> dict[str, object]:
        """The checkpoint with these values of trainable parameters, in the dictionary form that `load_file` reads:
        numbers, strings and `state_dict` of arrays (float32 where they were floats).

        Spectral norms are folded into the weights, and every setting is stated.
        """
        stated = {name: list(v) if isinstance(v, tuple) else v for name, v in self.settings.items()}
        config = {k: v for k, v in self.file.config.items() if k not in STEP_NAMES and _plain(v)}
        for name in ("use_spectral_norm", "spectral_norm"):
            if name in config:
                config[name] = False
        package, _, model_class = self.family.key.rpartition(".")
        return {
            "model_class": model_class,
            "package": package,
            "key": self.family.key,
            "config": {**config, **stated},
            "forward_kwargs": {
                k: v
                for k, v in self.file.forward_kwargs.items()
                if k not in STEP_NAMES and k not in stated and _plain(v)
            },
            "state_dict": {
                key: a.astype(np.float32) if a.dtype.kind == "f" else a for key, a in self._arrays(values).items()
            },
        }

    def _arrays(self, values: Mapping[str, Numbers]) -> dict[str, Numbers]:
        """Every tensor that the family reads, spectral norms folded."""
        arrays = dict(self.tensors)
        for name, value in values.items():
            key = next(t.key for t in self.trainable if t.param == name)
            arrays[key] = np.asarray(value, np.float64).reshape(arrays[key].shape)
        return arrays

    def _trainable(self) -> tuple[Trainable, ...]:
        """Parameters that come out of the family's builder as they were put into their tensor.

        Found by trying: a parameter whose provenance names a tensor of its size, and no other parameter's does, gets
        noise; what returns it unchanged is free. A ternary one that is not free gets itself.
        """
        named: dict[str, str] = {}
        for p in self.net.params:
            found = [key for key in self.tensors if _names(p.source, self.tensors.source(key))]
            if p.value.dtype.kind == "f" and len(found) == 1 and self.tensors[found[0]].size == p.value.size:
                named[p.name] = found[0]
        readers = [key for p in self.net.params for key in self.tensors if _names(p.source, self.tensors.source(key))]
        named = {name: key for name, key in named.items() if readers.count(key) == 1}
        noise = np.random.default_rng(0)
        tried = {name: self.net.param(name) + noise.uniform(-1.0, 1.0, self.net.param(name).shape) for name in named}
        free = self._unchanged(named, tried)
        ternary = {n: self.net.param(n) for n in named if n not in free and _magnitude(self.net.param(n)) is not None}
        kept = self._unchanged(named, ternary)
        return tuple(
            Trainable(name, key, "free" if name in free else "ternary")
            for name, key in named.items()
            if name in free or name in kept
        )

    def _unchanged(self, keys: Mapping[str, str], values: Mapping[str, Numbers]) -> set[str]:
        arrays = dict(self.tensors)
        for name, value in values.items():
            arrays[keys[name]] = value.reshape(arrays[keys[name]].shape)
        try:
            built = self.family.build(Tensors(self.file.label, arrays), self.settings)
        except ImportFileError:
            return set()
        return {
            name
            for name, value in values.items()
            if name in built.param_names
            and built.param(name).shape == value.shape
            and np.allclose(built.param(name), value, rtol=_SAME, atol=0.0)
        }


def _names(source: str, plain: str) -> bool:
    """Whether the provenance of a parameter names the tensor of provenance `plain`, alone or with a note."""
    return source == plain or source.startswith(f"{plain.removesuffix(' (spectral norm folded)')} (")


def _magnitude(value: Numbers) -> float | None:
    """The one magnitude of all nonzero entries, or None."""
    found = np.unique(np.abs(value[value != 0.0]))
    return float(found[0]) if len(found) == 1 else None


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
