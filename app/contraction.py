"""What quantization does to the contraction of the recurrent blocks, and what asking for one costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NotRequired, TypedDict

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.agreement import labels_agreeing
from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.certificate import Certificate, certify
from eqcompile.toolchain.interfaces import Lowered, QuantizeOptions
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.reference import run_reference
from eqcompile.toolchain.typed_json import JsonObject, decode_as

__all__ = ["Contraction", "ContractionDocument", "Cost", "contraction_of"]


class CostDocument(TypedDict):
    """What a contraction that was asked for costs in labels."""

    kind: Literal["simulated"]
    samples: int
    labels: int
    labels_equal_without: int
    labels_equal_with: int
    source: str


ContractionDocument = TypedDict(  # noqa: UP013 - a key is named as a type that others have
    "ContractionDocument",
    {
        "kind": Literal["proved"],
        "how": str,
        "float": float | None,
        "integer": float | None,
        "raised": bool,
        "certificate": JsonObject,
        "lines": list[str],
        "asked": NotRequired[float],
        "factors": NotRequired[dict[str, float]],
        "cost": NotRequired[CostDocument],
    },
)
"""Bounds of the contraction of a step before and after quantization (None: infinite); `asked`, `factors` of weights and
`cost` where a contraction was asked for."""


@dataclass(frozen=True)
class Cost:
    """Labels equal to those of the float64 net, of `labels` on `samples`, without and with weaker recurrent weights."""

    samples: int
    labels: int
    without: int
    with_it: int
    source: str


@dataclass(frozen=True)
class Contraction:
    """Certificates of the float net and of the integer net; `cost` where a contraction was asked for."""

    source: Certificate
    lowered: Certificate
    asked: float | None = None
    factors: Mapping[str, float] | None = None
    cost: Cost | None = None

    @property
    def raised(self) -> bool:
        """Whether the integers contract less than the floats, as far as is proved."""
        return self.lowered.bound > self.source.bound

    def to_json(self) -> ContractionDocument:
        """JSON values; bounds that are infinite are None."""
        row: ContractionDocument = {
            "kind": "proved",
            "how": "upper bounds of the contraction of a step, with directed rounding",
            "float": _finite(self.source.bound),
            "integer": _finite(self.lowered.bound),
            "raised": self.raised,
            "certificate": self.lowered.to_json(),
            "lines": self.lines(),
        }
        if self.asked is not None and self.cost is not None:
            row["asked"] = self.asked
            row["factors"] = dict(self.factors or {})
            row["cost"] = {
                "kind": "simulated",
                "samples": self.cost.samples,
                "labels": self.cost.labels,
                "labels_equal_without": self.cost.without,
                "labels_equal_with": self.cost.with_it,
                "source": self.cost.source,
            }
        return row

    def lines(self) -> list[str]:
        """The same for people."""
        lines = [f"L float {_shown(self.source)} -> L integer {_shown(self.lowered)} [proved: upper bounds]"]
        if self.raised:
            lines.append("WARNING: as far as is proved, the integer net contracts less than the float net")
        if self.asked is not None and self.cost is not None:
            scaled = ", ".join(f"{name} times {factor:.4g}" for name, factor in (self.factors or {}).items())
            lines.append(
                f"--max-lipschitz {self.asked:g}: {scaled or 'no weight had to be changed'}; labels equal to "
                f"float64 on {self.cost.source}: {self.cost.without} of {self.cost.labels} without it, "
                f"{self.cost.with_it} with it [simulated]"
            )
        return lines + self.lowered.lines()


def contraction_of(
    net: EqNet,
    lowered: Lowered,
    options: QuantizeOptions,
    *,
    calibration: Mapping[str, Array] | None,
    real: Mapping[str, Array],
    source: str,
) -> Contraction:
    """Certify both levels. If a contraction was asked for, lower once more without it and run both on the inputs `real`
    (described by `source`).

    `calibration` and `real`: float64 `[samples, *shape]` by input, in the units of the source model.
    """
    before, after = certify(net), certify(lowered.net, norms=True)
    if options.max_lipschitz is None:
        return Contraction(before, after)
    plain: Lowered = lower(net, replace(options, max_lipschitz=None), calibration=calibration)
    reference = run_reference(net, real)
    without, labels = labels_agreeing(plain.net, real, reference)
    with_it, _ = labels_agreeing(lowered.net, real, reference)
    cost = Cost(len(next(iter(real.values()))), labels, without, with_it, source)
    rows = [row for row in lowered.choices if row["what"] == "contraction"]
    factors = decode_as(Mapping[str, float], rows[0]["factors"], "factors") if rows else {}
    return Contraction(before, after, options.max_lipschitz, factors, cost)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(certificate: Certificate) -> str:
    return "unknown" if certificate.reason else f"{certificate.bound:.6g}"
