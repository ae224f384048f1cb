"""Lowering of every model family, from the small trained checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_nets import NAMES, zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, ops
from eqcompile.toolchain.reference import run_reference


def without_integer_form(net: EqNet) -> set[str]:
    """Values that nothing here can lower."""
    return {
        op.out
        for op in net.all_ops()
        if isinstance(op, (ops.Normalize, ops.Mod)) or (isinstance(op, ops.Softmax) and op.mask is not None)
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_lowered_or_refused_with_reasons(name: str) -> None:
    """A family is lowered and its first tick is right, or each node that stands in the way is named. A crash, a silent
    refusal or a wrong scale in any composition of the zoo would show here."""
    net, inputs = zoo_net(name)
    refused = without_integer_form(net)
    options = QuantizeOptions(state_bits=12, input_bits=12)
    if refused or net.schedule.stop is not None:
        with pytest.raises(UnsupportedError) as caught:
            lower(net, options, calibration=inputs)
        named = {
            d.where.split(",")[0].rpartition(".")[2] for d in caught.value.diagnostics if d.code == "unsupported-op"
        }
        assert named == refused
        return
    lowered = lower(net, options, calibration=inputs).net
    golden = run(lowered, encode(lowered, inputs)[0], trace=True)
    real = run_reference(net, inputs, trace=True)
    assert real.trace is not None
    for s in lowered.states:
        assert s.frac is not None
        off = np.abs(golden.states[s.name][0] * 2.0**-s.frac - real.trace[s.name][0]).max()
        assert off < 0.03, s.name
