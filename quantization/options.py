"""What the user may ask for, checked all at once."""

from __future__ import annotations

import math

from eqcompile.toolchain.options import FLOAT_WEIGHTS, QuantizeOptions, option_faults

from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet
from .plan import Map

__all__ = ["check_options", "kinds_of"]


def check_options(options: QuantizeOptions) -> None:
    """Raise UsageError with every option that is out of its range."""
    faults = []
    for name, kind in (("weights", options.weights), *((f"weights of {n}", k) for n, k in options.widths.items())):
        if kind not in FLOAT_WEIGHTS:
            faults.append(
                Diagnostic("option-weights", f"{name} is {kind!r}", hint=f"one of {', '.join(FLOAT_WEIGHTS)}")
            )
    faults += option_faults(options)
    lo, hi = options.input_range
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        faults.append(Diagnostic("option-range", f"input_range is {lo} to {hi}, must be finite and rising"))
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
