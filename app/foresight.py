"""Whether a target can hold a net, asked before the net is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eqcompile.quantization.requirements import requirements_of
from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Target
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.options import QuantizeOptions

__all__ = ["foreseen_faults"]


def foreseen_faults(
    target: Target, net: EqNet, options: QuantizeOptions, calibration: Mapping[str, Array] | None
) -> Sequence[Diagnostic]:
    """Every reason, certain before a weight has a code, why the target cannot hold the net; none if it may.

    `calibration`: float64 `[samples, *shape]` by input. Bounds that hold for any such data come first, in a second at
    20 million weights; where a target would refuse the net without data, how far codes reach is found by running the
    float model on them, a fifth of the work of the quantization.

    Raises UsageError as `requirements_of`.
    """
    faults = target.preflight(requirements_of(net, options, calibrated=calibration is not None))
    if faults or calibration is None or not target.preflight(requirements_of(net, options, calibrated=False)):
        return faults
    return target.preflight(requirements_of(net, options, calibrated=True, calibration=calibration))
