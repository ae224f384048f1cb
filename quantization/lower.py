"""EqNet to IntNet.

The order of decisions: options, what is unsupported, then (`ground`) ranges of the inputs, bounds of every value
(proved; calibrated only for states without a proof), formats, what reaches the weights, the codes of the weights, and
each operation in turn (`emitter`); last, if asked for, weaker recurrent weights (`contract`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from eqcompile.toolchain.interfaces import Lowered, Progress, QuantizeOptions

from ..toolchain.arrays import Array
from ..toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ..toolchain.ir import EqNet, ops, walk
from ..toolchain.passes import Analysis
from ..toolchain.typed_json import JsonObject, encode
from .bounds import Range
from .contract import contracted
from .ground import Ground
from .options import kinds_of
from .stopping import stop_rows
from .widen import keep_labels

__all__ = ["check_supported", "lower"]


def lower(
    net: EqNet,
    options: QuantizeOptions,
    *,
    calibration: Mapping[str, Array] | None,
    ranges: Mapping[str, Range] | None = None,
    progress: Progress | None = None,
) -> Lowered:
    """The IntNet of a verified EqNet.

    `calibration`: real inputs, shaped as for the float reference; they set the input codes, and ranges where nothing
    can be proved. `ranges`: known smallest and largest entry by value name (as `FloatRun.ranges`); it wins over
    calibration. Without either, `options.input_range` is assumed and recorded. `progress`: of the search for widths
    that `options.keep_labels` asks for.

    Raises UsageError with every option or calibration fault, or for states whose range is neither proved nor known;
    UnsupportedError with every operation that has no integer form.
    """
    kinds = kinds_of(net, options)
    check_supported(net)
    widths: tuple[JsonObject, ...] = ()
    if options.keep_labels is not None:
        kept = keep_labels(net, options, calibration, progress)
        options, calibration, widths = kept.widening.options, kept.calibration, (encode(kept.widening.kept()),)
    ground = Ground.of(net, options, calibration=calibration, ranges=_checked_ranges(net, ranges or {}))
    lowered = ground.lowered(kinds)
    if options.max_lipschitz is not None:
        lowered = contracted(ground, kinds, lowered, options.max_lipschitz)
    return replace(lowered, choices=(*widths, *stop_rows(net, calibration), *lowered.choices))


def _checked_ranges(net: EqNet, ranges: Mapping[str, Range]) -> Mapping[str, Range]:
    known = set(Analysis.of(net).types)
    faults = []
    for name, (lo, hi) in ranges.items():
        if name not in known:
            faults.append(Diagnostic("range-name", f"a range is given for {name!r}, the net has no such value", name))
        if not (np.isfinite(lo) and np.isfinite(hi) and lo <= hi):
            faults.append(Diagnostic("range-value", f"the range of {name} is {lo} to {hi}", name))
    if faults:
        raise UsageError(faults)
    return ranges


def check_supported(net: EqNet) -> None:
    """Raise UnsupportedError with every operation that has no integer form."""
    faults = list(_unsupported(net))
    if faults:
        raise UnsupportedError(faults)


def _unsupported(net: EqNet) -> Iterator[Diagnostic]:
    """Every node without an integer form, with the tensors it reads."""
    sources = {p.name: p.source for p in net.params}
    types = Analysis.of(net).types
    for block, block_ops in net.blocks:
        for op in walk(block_ops):
            why = ""
            if isinstance(op, ops.Mul) and {op.a, op.b} & net.param_names:
                value = op.b if op.a in net.param_names else op.a
                if types[op.out].shape != types[value].shape:
                    why = f"a product with a constant must keep the shape {list(types[value].shape)}"
            if why:
                held = [sources[n] for n in op.reads if n in sources]
                where = ", ".join([f"{net.family}: {block}.{op.out}", *held])
                yield Diagnostic("unsupported-op", f"{op.mnemonic} {op.out!r}: {why}", where)
