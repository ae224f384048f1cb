"""How a host codes real inputs, and what is known of their range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eqcompile.toolchain.interfaces import QuantizeOptions

from ..toolchain.arrays import Array
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.inputs import check_inputs
from ..toolchain.ir import Encoding, EqNet, Format
from .bounds import Range, widest

__all__ = ["Span", "choose_encoding", "encode_error", "input_spans"]


@dataclass(frozen=True)
class Span:
    """The range of an input and where it is from: `given`, `calibrated` or `assumed`."""

    range: Range
    origin: str


def input_spans(
    net: EqNet, options: QuantizeOptions, calibration: Mapping[str, Array] | None, given: Mapping[str, Range]
) -> dict[str, Span]:
    """Range of each numeric input: as given, else as seen in the calibration data, else the option's.

    Raises UsageError with every fault of the calibration data, an input that is 0 throughout among them.

    `calibration`: float64 `[samples, *shape]` by input, in the units of the source model.
    """
    if calibration is not None:
        arrays, faults = check_inputs(net, calibration, content="reals", where="calibration data")
        where, hint = "calibration data", "give samples like those that the net was trained on"
        faults += [
            Diagnostic("calibration-zero", f"all samples of {i.name} are 0: they have no range", where, hint)
            for i in net.inputs
            if i.kind == "number" and i.name in arrays and i.name not in given and not arrays[i.name].any()
        ]
        if faults:
            raise UsageError(faults)
    found: dict[str, Span] = {}
    for i in net.inputs:
        if i.kind == "index":
            continue
        if i.name in given:
            found[i.name] = Span(given[i.name], "given")
        elif calibration is not None:
            data = np.asarray(calibration[i.name], np.float64)
            found[i.name] = Span((float(data.min()), float(data.max())), "calibrated")
        else:
            found[i.name] = Span(options.input_range, "assumed")
    return found


def choose_encoding(bits: int, bounds: Range, data: Array | None) -> Encoding:
    """Codes for a range: unsigned if it holds no negative number.

    The scale is the range over full scale, or the finest power of two that covers the range if that codes the
    calibration data at least as well (least squared error): k/255 and k/16 then become exact.

    `data`: float64 `[samples, *shape]`, in the units of the source model.
    """
    fmt = Format(bits, bounds[0] < 0.0)
    top = widest(bounds)
    if top == 0.0:
        return Encoding(fmt, 1.0)
    full = Encoding(fmt, top / fmt.hi)
    exponent = math.floor(math.log2(full.scale))
    while bounds[1] > fmt.hi * 2.0**exponent or bounds[0] < fmt.lo * 2.0**exponent:
        exponent += 1
    dyadic = Encoding(fmt, 2.0**exponent)
    if data is None:
        return full
    return min((dyadic, full), key=lambda e: encode_error(e, data)[0])


def encode_error(encoding: Encoding, data: Array) -> tuple[float, float]:
    """Mean squared and largest error of coding `data`.

    `data`: float64 `[samples, *shape]`; both errors in its units.
    """
    fmt = encoding.format
    codes = np.clip(np.rint(np.asarray(data, np.float64) / encoding.scale), fmt.lo, fmt.hi)
    error = codes * encoding.scale - data
    return float(np.mean(error * error)), float(np.abs(error).max())
