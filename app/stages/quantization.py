"""The second stage: the integer net of a float net, which defines every bit from here on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eqcompile.quantization.config import config_of, options_of
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.interfaces import Lowered
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.kept_labels import kept_labels
from eqcompile.toolchain.options import QuantizeOptions
from eqcompile.toolchain.typed_json import JSON

from ..compile import generate
from ..contraction import Contraction, contraction_of
from ..wording import percent, shown
from .display import Display, Picture, Row
from .inference import Inference, relax_integers
from .keywords import keyword_options
from .model import Model
from .samples import SampleSource, samples_of

__all__ = ["Quantization", "quantize"]

_DRAWN = 8
"""Samples of a picture."""


@dataclass(frozen=True, eq=False)
class Quantization(Display):
    """An integer net and how it came about. `options`: what was asked for; `lowered`: the net, and a row for each
    tensor, state and input; `calibration`: the samples that gave the ranges, None without any."""

    model: Model
    options: QuantizeOptions
    lowered: Lowered
    calibration: Inputs | None = field(default=None, repr=False)
    calibration_file: Path | None = None

    @property
    def net(self) -> IntNet:
        """The integer net; `print(q.net)` shows its IR."""
        return self.lowered.net

    @property
    def contraction(self) -> Contraction:
        """What is proved of the contraction of a step before and after quantization. The cost in labels of one that was
        asked for is counted on the calibration samples."""
        net, real = self.model.net, self._some()
        return contraction_of(
            net, self.lowered, self.options, calibration=self.calibration, real=real, source="the calibration samples"
        )

    def config(self) -> dict[str, JSON]:
        """What was asked for, as a dictionary of JSON values with an entry for each weight, state and value.

        Change it and hand it back: `eq.quantize(net, calibrate=x, config=config)`. Unchanged, it gives the same net.
        """
        return config_of(self.model.net, self.options)

    def run(self, x: SampleSource, *, limit: int | None = None, trace: bool = True) -> Inference:
        """Relax samples `[samples, (frame,) *shape]` of real numbers in golden; the first `limit` of them. Without
        `trace` the states after each tick are not kept.

        Raises ImportFileError with everything that is wrong with the samples.
        """
        return relax_integers(self.net, x, self.net.name, limit=limit, trace=trace, show=True)

    def _some(self) -> Mapping[str, Any]:
        if self.calibration is not None:
            return self.calibration
        low, high = self.options.input_range
        return generate(self.model.net, _DRAWN, low, high, np.random.default_rng(0))

    def rows(self) -> Sequence[Row]:
        """A row for each input, state, table and weight, and the contraction."""
        rows: list[Row] = [("net", f"{self.model.imported.path.name} ({self.model.family})")]
        kept = kept_labels(self.lowered.choices)
        if kept is not None:
            met = "meets" if kept.met else "MISSES"
            rows.append(("labels kept", f"{kept.equal} of {kept.labels}: {met} the target {kept.target:g}"))
        skipped = {"what", "name", "source", "shape", "scale", "range"}
        for choice in self.lowered.choices:
            if choice["what"] == "labels":
                continue
            parts = [
                f"density {percent(float(value), 1)}"
                if key == "density" and isinstance(value, float)
                else f"{key.replace('_', ' ')} {shown(value)}"
                for key, value in choice.items()
                if key not in skipped and value is not None
            ]
            rows.append((f"{choice['what']} {choice.get('name', '')}".strip(), ", ".join(parts)))
        contraction = self.contraction
        return [*rows, ("contraction", contraction.lowered.lines()[0]), ("digest", self.net.digest[:16])]

    def plot(self, x: SampleSource | None = None) -> Picture:
        """How samples settle in the integers: of `x`, of the calibration samples, or of a few generated ones."""
        samples = Inputs(dict(self._some())).first(_DRAWN) if x is None else x
        return self.run(samples, limit=_DRAWN).plot()


def quantize(
    model: Model,
    *,
    calibrate: SampleSource | None = None,
    config: Mapping[str, object] | None = None,
    **options: Any,
) -> Quantization:
    """The integer net of a float net.

    q = eq.quantize(net, calibrate=x_train, weights="int4", widths={"W_rec": "ternary"})

    Args:
        model: what `load` returns.
        calibrate: real inputs `[samples, (frame,) *shape]`, or a file of them, from which ranges are taken; without
            them `input_range` holds.
        config: what `Quantization.config` gives, changed or not, in place of options.
        options: the fields of `QuantizeOptions`.

    Raises:
        UsageError: an option or entry that there is not, or out of its range: all of them. ImportFileError: samples
            that do not fit. UnsupportedError: an operation without an integer form, each named.
    """
    if config is not None and options:
        what = f"config and {', '.join(options)} together"
        raise UsageError(Diagnostic("usage", what, "eq.quantize", "change the entries of the configuration"))
    chosen = (
        keyword_options(QuantizeOptions, options, "eq.quantize") if config is None else options_of(model.net, config)
    )
    samples = None if calibrate is None else samples_of(calibrate, model.net)
    file = Path(calibrate) if isinstance(calibrate, (str, Path)) else None
    return Quantization(model, chosen, lower(model.net, chosen, calibration=samples), samples, file)
