"""What the user may ask for, checked all at once."""

from __future__ import annotations

import math

from eqcompile.toolchain.interfaces import QuantizeOptions

from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet
from .plan import Map

__all__ = ["FLOAT_WEIGHTS", "check_options", "kinds_of"]

FLOAT_WEIGHTS = ("ternary", *(f"int{bits}" for bits in range(2, 9)))
"""What float weights can become."""

_BITS = (2, 16)


def check_options(options: QuantizeOptions) -> None:
    """Raise UsageError with every option that is out of its range."""
    faults = []
    for name, kind in (("weights", options.weights), *((f"weights of {n}", k) for n, k in options.widths.items())):
        if kind not in FLOAT_WEIGHTS:
            faults.append(
                Diagnostic("option-weights", f"{name} is {kind!r}", hint=f"one of {', '.join(FLOAT_WEIGHTS)}")
            )
    for name, bits in (("state_bits", options.state_bits), ("input_bits", options.input_bits)):
        if isinstance(bits, bool) or not isinstance(bits, int) or not _BITS[0] <= bits <= _BITS[1]:
            faults.append(
                Diagnostic("option-bits", f"{name} is {bits!r}, must be an integer in {_BITS[0]}..{_BITS[1]}")
            )
    lo, hi = options.input_range
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        faults.append(Diagnostic("option-range", f"input_range is {lo} to {hi}, must be finite and rising"))
    if isinstance(options.tolerance, bool) or not isinstance(options.tolerance, int) or options.tolerance < 0:
        faults.append(Diagnostic("option-tolerance", f"tolerance is {options.tolerance!r}, must be an integer from 0"))
    if options.contract is not None and not 0.0 < options.contract < 1.0:
        faults.append(Diagnostic("option-contract", f"contract is {options.contract!r}, must be between 0 and 1"))
    if faults:
        raise UsageError(faults)


def kinds_of(net: EqNet, options: QuantizeOptions) -> dict[str, str]:
    """The kind of every weight of the net: its own from `options.widths`, else `options.weights`.

    A name stands for the weight of that name, or for the only one that it begins, up to an underscore (`W_rec` for
    `W_rec_weight`); a dot reads as an underscore. Raises UsageError with every name that fits none or several.
    """
    names = list(dict.fromkeys(op.weight for op in net.all_ops() if isinstance(op, Map)))
    found = dict.fromkeys(names, options.weights)
    faults = []
    for asked, kind in options.widths.items():
        plain = asked.replace(".", "_")
        fitting = [n for n in names if n == plain] or [n for n in names if n.startswith(f"{plain}_")]
        if len(fitting) == 1:
            found[fitting[0]] = kind
            continue
        what = f"{asked!r} stands for no weight of this net" if not fitting else f"{asked!r} begins several weights"
        hint = f"its weights: {', '.join(fitting or names)}"
        faults.append(Diagnostic("unknown-weight", what, f"--weights {asked}={kind}", hint))
    if faults:
        raise UsageError(faults)
    return found
