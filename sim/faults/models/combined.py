"""Several faults in one inference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ....toolchain import registry
from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..model import FaultModel, Population, Samples, Site, count_of
from ..table import Fault, FaultTable, Place

__all__ = ["CombinedModel"]


@dataclass(frozen=True, kw_only=True)
class CombinedModel(FaultModel):
    """One fault of each part, with the part's own defaults, in one inference, in the order of the parts.

    A part may stand twice. The sample is that of the first part; events belong to their sample, so they come first.
    """

    name: ClassVar[str] = "combined"
    summary: ClassVar[str] = "faults of several models at once"

    parts: str = field(default="seu,seu", metadata={"metavar": "MODELS", "help": "names of models, with commas"})

    def models(self) -> tuple[FaultModel, ...]:
        """UsageError for a part that is unknown, that combines again, or that is bound to its sample and not first."""
        names = [part.strip() for part in self.parts.split(",")]
        if self.name in names or "events" in names[1:]:
            what = f"{self.parts!r}: no part may be {self.name!r}, and 'events' comes first"
            raise UsageError(Diagnostic("fault-parts", what, "--parts", "as seu,noise"))
        return tuple(registry.find_class("faults", name, FaultModel)().on(self.artifact) for name in names)

    def population(self, net: IntNet, samples: Samples) -> Population:
        """One place: what is drawn there are faults of the parts."""
        site = Site(self.parts.replace(",", "+"), Place.STATE, net.states[0].name, 1, 1, 0, 1)
        return Population((site,), count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        tables = [model.draw(net, n, generator, samples) for model in self.models()]
        site = self.parts.replace(",", "+")
        return FaultTable.of(
            Fault(parts[0].sample, site, -1, -1, tuple(u for part in parts for u in part.upsets))
            for parts in zip(*tables, strict=True)
        )
