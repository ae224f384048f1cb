"""EqNet to IntNet.

The order of decisions: options, what is unsupported, sums hoisted into the drive, ranges of the inputs, bounds of every
value (proved; calibrated only for states without a proof), formats, then each operation in turn (`emitter`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..toolchain.contracts import Assumption, Lowered, QuantizeOptions
from ..toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ..toolchain.ir import Encoding, EqNet, RangeError, infer, ops, verify, walk
from ..toolchain.ir.ops import Op
from ..toolchain.reference import run_reference
from .bounds import Bounds, Range
from .emitter import Emitter
from .grids import Grids
from .hoist import hoist
from .inputs import Span, choose_encoding, encode_error, input_spans
from .options import check_options

__all__ = ["lower"]

Array = NDArray[Any]

_UNSUPPORTED: Mapping[type[Op], str] = {
    ops.Normalize: "a normalisation needs an integer square root",
    ops.Mod: "a coordinate on a circle has no integer form here",
}


def lower(
    net: EqNet,
    options: QuantizeOptions,
    *,
    calibration: Mapping[str, Array] | None,
    ranges: Mapping[str, Range] | None = None,
) -> Lowered:
    """The IntNet of a verified EqNet.

    `calibration`: real inputs, shaped as for the float reference; they set the input codes, and ranges where nothing
    can be proved. `ranges`: known smallest and largest entry by value name (as `FloatRun.ranges`); it wins over
    calibration. Without either, `options.input_range` is assumed and recorded.

    Raises UsageError with every option or calibration fault, or for states whose range is neither proved nor known;
    UnsupportedError with every operation that has no integer form.
    """
    check_options(options)
    faults = list(_unsupported(net))
    if faults:
        raise UnsupportedError(faults)
    known = _checked_ranges(net, ranges or {})
    spans = input_spans(net, options, calibration, known)
    hoisted, changed = hoist(net)
    seen = {name: r for name, r in known.items() if name not in changed}
    encodings = {
        name: choose_encoding(options.input_bits, span.range, None if calibration is None else calibration[name])
        for name, span in spans.items()
    }
    bounds = _bounds(hoisted, {name: span.range for name, span in spans.items()}, seen, calibration)
    grids = Grids.choose(hoisted, bounds, options.state_bits)
    emitter = Emitter(hoisted, options, bounds, grids, encodings)
    try:
        made = emitter.net()
    except RangeError as error:
        raise UnsupportedError(
            Diagnostic("too-wide", str(error), net.family, "lower --state-bits, --input-bits or the weights' bits")
        ) from error
    verify(made)
    choices = [_input_row(name, encodings[name], span, calibration) for name, span in spans.items()]
    assumed = tuple(
        Assumption(f"range of input {name}", list(span.range), "option input_range")
        for name, span in spans.items()
        if span.origin == "assumed"
    )
    return Lowered(made, (*choices, *grids.rows(hoisted, bounds), *emitter.choices), assumed)


def _bounds(
    net: EqNet, spans: Mapping[str, Range], seen: Mapping[str, Range], calibration: Mapping[str, Array] | None
) -> Bounds:
    """Bounds of every value; the float model runs on the calibration data only if a proof is missing."""
    bounds = Bounds(net, spans, seen)
    if (bounds.missing or _has_open_table(net)) and calibration is not None:
        run = run_reference(net, calibration, ranges=True)
        bounds = Bounds(net, spans, {**run.ranges, **seen})
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


def _checked_ranges(net: EqNet, ranges: Mapping[str, Range]) -> Mapping[str, Range]:
    known = set(infer(net))
    faults = []
    for name, (lo, hi) in ranges.items():
        if name not in known:
            faults.append(Diagnostic("range-name", f"a range is given for {name!r}, the net has no such value", name))
        if not (np.isfinite(lo) and np.isfinite(hi) and lo <= hi):
            faults.append(Diagnostic("range-value", f"the range of {name} is {lo} to {hi}", name))
    if faults:
        raise UsageError(faults)
    return ranges


def _unsupported(net: EqNet) -> Iterator[Diagnostic]:
    """Every node without an integer form, with the tensors it reads."""
    sources = {p.name: p.source for p in net.params}
    types = infer(net)
    for block, block_ops in net.blocks:
        for op in walk(block_ops):
            why = _UNSUPPORTED.get(type(op), "")
            if isinstance(op, ops.Softmax) and op.mask is not None:
                why = "a masked softmax has no integer form here"
            if isinstance(op, ops.Mul) and {op.a, op.b} & net.param_names:
                value = op.b if op.a in net.param_names else op.a
                if types[op.out].shape != types[value].shape:
                    why = f"a product with a constant must keep the shape {list(types[value].shape)}"
            if why:
                held = [sources[n] for n in op.reads if n in sources]
                where = ", ".join([f"{net.family}: {block}.{op.out}", *held])
                yield Diagnostic("unsupported-op", f"{op.mnemonic} {op.out!r}: {why}", where)
    if net.schedule.stop is not None:
        stop = net.schedule.stop
        yield Diagnostic(
            "unsupported-stop",
            f"the model stops early when the batch maximum of |{stop.state} moved| falls below {stop.epsilon:g}: "
            "a result that depends on its batch has no circuit",
            f"{net.family}: {stop.state}",
            "set the family's epsilon to 0 to run all steps, if its results stay acceptable",
        )


def _input_row(name: str, encoding: Encoding, span: Span, calibration: Mapping[str, Array] | None) -> Mapping[str, Any]:
    return {
        "what": "input",
        "name": name,
        "format": str(encoding.format),
        "scale": encoding.scale,
        "range": list(span.range),
        "range_from": span.origin,
        "max_error": None if calibration is None else encode_error(encoding, calibration[name])[1],
    }
