"""What is known before a weight gets codes, and the lowering from there: widths can be tried again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eqcompile.toolchain.interfaces import Assumption, Lowered, QuantizeOptions

from ..toolchain.arrays import Array
from ..toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ..toolchain.ir import Encoding, EqNet, Param, RangeError, ops, verify
from ..toolchain.typed_json import JsonObject
from .bounds import Bounds, Range
from .dither import dither_faults
from .emitter import Emitter
from .grids import Grids
from .hoist import hoist
from .identity import without_identities
from .inputs import Span, choose_encoding, encode_error, input_spans
from .moments import Moments, measure, seen_ranges
from .plan import Use, free_biases, make_plan
from .stopping import without_stop
from .weights import Codes

__all__ = ["Ground"]


@dataclass(frozen=True)
class Ground:
    """A net with its input codes, grids and, where there are calibration data, the moments of what weights read."""

    net: EqNet
    options: QuantizeOptions
    calibration: Mapping[str, Array] | None
    known: Mapping[str, Range]
    spans: Mapping[str, Span]
    encodings: Mapping[str, Encoding]
    grids: Grids
    moments: Mapping[str, Moments]
    identities: tuple[JsonObject, ...] = ()
    _codes: dict[tuple[Use, str, float], Codes] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        net: EqNet,
        options: QuantizeOptions,
        *,
        calibration: Mapping[str, Array] | None,
        ranges: Mapping[str, Range],
    ) -> Ground:
        """Decide all but the weights. Raises UsageError with every fault of the calibration data, or for states whose
        range is neither proved nor known."""
        net, identities = without_identities(without_stop(net))
        spans = input_spans(net, options, calibration, ranges)
        encodings = {
            name: choose_encoding(options.input_bits, span.range, None if calibration is None else calibration[name])
            for name, span in spans.items()
        }
        limits = {name: span.range for name, span in spans.items()}
        _, _, grids = _prepared(net, options, limits, ranges, calibration)
        moments = {} if calibration is None else measure(net, calibration, encodings, grids)
        for out in free_biases(net, moments, per_row=options.per_row):
            moments[out] = moments[out].without_means()
        return cls(net, options, calibration, ranges, spans, encodings, grids, moments, identities)

    def lowered(self, kinds: Mapping[str, str], *, shrink: Mapping[str, float] | None = None) -> Lowered:
        """The IntNet whose weights are of these kinds, by name; `shrink` multiplies some of them beforehand.

        Codes of a weight are found once for each kind and factor. Raises UnsupportedError if a value gets too wide.
        """
        factors = shrink or {}
        params = tuple(
            Param(p.name, p.value * factors[p.name], f"{p.source}, times {factors[p.name]:.6g}")
            if p.name in factors
            else p
            for p in self.net.params
        )
        plan = make_plan(
            replace(self.net, params=params),
            kinds,
            per_row=self.options.per_row,
            moments=self.moments,
            source=self.net,
            known={use: c for (use, kind, f), c in self._codes.items() if (kind, f) == _key(use, kinds, factors)},
        )
        self._codes.update({(use, *_key(use, kinds, factors)): codes for use, codes in plan.codes.items()})
        limits = {name: span.range for name, span in self.spans.items()}
        hoisted, bounds, grids = _prepared(plan.net, self.options, limits, self.known, self.calibration)
        faults = list(dither_faults(self.net, self.options))
        if faults:
            raise UsageError(faults)
        emitter = Emitter(hoisted, self.options, bounds, grids, self.encodings, plan.codes)
        try:
            made = emitter.net()
        except RangeError as error:
            raise UnsupportedError(
                Diagnostic(
                    "too-wide", str(error), self.net.family, "lower --state-bits, --input-bits or the weights' bits"
                )
            ) from error
        verify(made)
        inputs = [_input_row(name, self.encodings[name], span, self.calibration) for name, span in self.spans.items()]
        assumed = tuple(
            Assumption(f"range of input {name}", list(span.range), "option input_range")
            for name, span in self.spans.items()
            if span.origin == "assumed"
        )
        rows = (
            *inputs,
            *self.identities,
            *grids.rows(hoisted, bounds, self.options),
            *emitter.choices,
            *(() if emitter.dither is None else (emitter.dither.row(),)),
            *plan.rows(self.net),
        )
        return Lowered(made, rows, assumed)


def _key(use: Use, kinds: Mapping[str, str], factors: Mapping[str, float]) -> tuple[str, float]:
    return kinds[use[0]], factors.get(use[0], 1.0)


def _prepared(
    net: EqNet,
    options: QuantizeOptions,
    limits: Mapping[str, Range],
    known: Mapping[str, Range],
    calibration: Mapping[str, Array] | None,
) -> tuple[EqNet, Bounds, Grids]:
    """The net with its sums hoisted, the bounds of its values and the grids of its signals."""
    hoisted, changed = hoist(net)
    bounds = _bounds(hoisted, limits, {name: r for name, r in known.items() if name not in changed}, calibration)
    return hoisted, bounds, Grids.choose(hoisted, bounds, options)


def _bounds(
    net: EqNet, spans: Mapping[str, Range], seen: Mapping[str, Range], calibration: Mapping[str, Array] | None
) -> Bounds:
    """Bounds of every value; the float model runs on the calibration data only if a proof is missing."""
    bounds = Bounds(net, spans, seen)
    if (bounds.missing or bounds.normalizes or _has_open_table(net)) and calibration is not None:
        bounds = Bounds(net, spans, {**seen_ranges(net, calibration), **seen})
    if bounds.missing:
        raise UsageError(
            [
                Diagnostic(
                    "range-unknown",
                    f"no interval of state {name} stays inside itself: its range cannot be proved",
                    f"{net.family}: {name}",
                    "give calibration data (--calibrate) that covers the inputs to expect",
                )
                for name in bounds.missing
            ]
        )
    return bounds


def _has_open_table(net: EqNet) -> bool:
    """Whether an activation never saturates, so that its table has to end somewhere."""
    return any(isinstance(op, ops.Activation) and op.kind not in ("tanh", "sigmoid") for op in net.all_ops())


def _input_row(name: str, encoding: Encoding, span: Span, calibration: Mapping[str, Array] | None) -> JsonObject:
    return {
        "what": "input",
        "name": name,
        "format": str(encoding.format),
        "scale": encoding.scale,
        "range": list(span.range),
        "range_from": span.origin,
        "max_error": None if calibration is None else encode_error(encoding, calibration[name])[1],
    }
