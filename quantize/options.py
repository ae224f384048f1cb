"""What the user may ask for, checked all at once."""

from __future__ import annotations

import math

from ..toolchain.contracts import QuantizeOptions
from ..toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["FLOAT_WEIGHTS", "check_options"]

FLOAT_WEIGHTS = ("ternary", *(f"int{bits}" for bits in range(2, 9)))
"""What float weights can become."""

_BITS = (2, 16)


def check_options(options: QuantizeOptions) -> None:
    """Raise UsageError with every option that is out of its range."""
    faults = []
    if options.weights not in FLOAT_WEIGHTS:
        faults.append(
            Diagnostic("option-weights", f"weights is {options.weights!r}", hint=f"one of {', '.join(FLOAT_WEIGHTS)}")
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
    if faults:
        raise UsageError(faults)
