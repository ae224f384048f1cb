"""Reading a file's tensors and a family's settings, noting what was asked for and what is wrong with it.

Nothing that is wrong ends the reading before it must: a missing tensor, two shapes that disagree or a setting out of
its range is noted, and what hangs on it is left out. So one reading tells all that keeps a file from being of a family,
and which tensors a family needs is never written down beside the code that reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import Diagnostic
from .family import Array, SettingValue, Tensors

__all__ = ["Ended", "Reader"]

T = TypeVar("T")


class Ended(Exception):  # noqa: N818 - it is no error: it ends a reading whose faults are noted
    """What would be read next hangs on a tensor that is missing or wrong."""


class Reader:
    """Tensors and settings in the reading. Keys are normalised (see `Tensors`)."""

    def __init__(self, family: str, tensors: Tensors, settings: Mapping[str, SettingValue]) -> None:
        self.family = family
        self.tensors = tensors
        self.settings = settings
        self.keys_read: set[str] = set()
        self.missing: dict[str, None] = {}
        self.faults: list[Diagnostic] = []
        self.misuse: list[Diagnostic] = []
        self._uncounted = False

    # Settings

    def integer(self, name: str, *, least: int = 1) -> int:
        """An integer setting of at least `least`."""
        value = self.settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            return self.reject(name, f"is {value!r}, must be an integer of at least {least}", least)
        return value

    def real(self, name: str, *, over: float = -math.inf, most: float = math.inf) -> float:
        """A real setting in (over, most]."""
        value = self.settings[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return self.reject(name, f"is {value!r}, must be a number", 1.0)
        if not over < value <= most:
            return self.reject(name, f"is {value!r}, must be in ({over:g}, {most:g}]", 1.0)
        return float(value)

    def share(self, name: str) -> float:
        """A damping setting, in (0, 1]."""
        return self.real(name, over=0.0, most=1.0)

    def flag(self, name: str) -> bool:
        """A boolean setting."""
        value = self.settings[name]
        return value if isinstance(value, bool) else self.reject(name, f"is {value!r}, must be true or false", False)

    def reject(self, name: str, what: str, instead: T) -> T:
        """Note that a setting is out of its range; `instead`, with which reading goes on."""
        self.misuse.append(Diagnostic("setting-value", f"{name} {what}", self.family))
        return instead

    # Tensors

    def has(self, key: str) -> bool:
        """Whether the file has a tensor that the family can do without."""
        return key in self.tensors

    def tensor(self, key: str) -> NDArray[np.float64]:
        """A tensor as real numbers, spectral norm folded. Ends the reading if it is missing."""
        return np.asarray(self.known(key), np.float64)

    def stored(self, key: str) -> Array:
        """A tensor in the dtype that the file stores. Ends the reading if it is missing."""
        self.known(key)
        return self.tensors.stored(key)

    def matrix(self, key: str) -> NDArray[np.float64]:
        """A tensor with two axes."""
        value = self.tensor(key)
        self.demand(key, value.ndim == 2, f"{key} has shape {list(value.shape)}, must have two axes")
        return value

    def number(self, key: str) -> float:
        """A tensor with a single entry."""
        value = self.tensor(key)
        self.demand(key, value.size == 1, f"{key} has shape {list(value.shape)}, must hold one number")
        return float(value.reshape(()))

    def known(self, key: str) -> NDArray[np.float64] | NDArray[np.int64]:
        """A tensor as it is computed with. Ends the reading if it is missing."""
        value = self.find(key)
        if value is None:
            raise Ended
        return value

    def find(self, key: str) -> NDArray[np.float64] | NDArray[np.int64] | None:
        """A tensor that the family needs; None, and noted, if the file has none."""
        if key not in self.tensors:
            self.missing[re.sub(r"(?<=\.)0(?=\.)", "N", key) if self._uncounted else key] = None
            return None
        self.keys_read.add(key)
        return self.tensors[key]

    def expect(self, layer: str) -> None:
        """A layer that every file of the family has, read or not."""
        for part in ("weight", "bias"):
            self.find(f"{layer}.{part}")

    def demand(self, key: str, good: bool, what: str) -> None:
        """Unless `good`, note that a tensor is not what the family needs, and end the reading."""
        if not good:
            self.mismatch(key, what)
            raise Ended

    def mismatch(self, key: str, what: str) -> None:
        """Note that a tensor has another shape than the family needs."""
        self.faults.append(Diagnostic("shape-mismatch", what, f"{self.tensors.label}:{key}"))

    def count(self, template: str, *, least: int = 1, every: int = 1) -> int:
        """How many layers `template.format(0)`, `template.format(every)`, ... there are: `least` or more, no gap."""
        count = 0
        while template.format(count * every) in self.tensors:
            count += 1
        pattern = re.compile(re.escape(template.format("INDEX")).replace("INDEX", r"\d+"))
        total = sum(1 for key in self.tensors if pattern.fullmatch(key))
        if total == 0 and least:
            self._uncounted = True
            self.missing[template.format("N")] = None
        elif count != total or count < least:
            name = template.format("N")
            what = f"the file holds {total} tensors {name}, {count} of them numbered from 0 without a gap"
            what += f"; at least {least} are needed" if count == total else ""
            self.faults.append(Diagnostic("missing-layer", what, self.tensors.label))
        return max(count, least)
