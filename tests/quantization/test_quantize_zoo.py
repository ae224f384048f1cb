"""Lowering of every model family, from the small trained checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_nets import NAMES, zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.reference import run_reference


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_lowered(name: str) -> None:
    """Every family is lowered and its first tick is right: a crash, a refusal or a wrong scale in any composition of
    the zoo would show here."""
    net, inputs = zoo_net(name)
    options = QuantizeOptions(state_bits=12, input_bits=12)
    lowered = lower(net, options, calibration=inputs).net
    golden = run(lowered, encode(lowered, inputs)[0], trace=True)
    real = run_reference(net, inputs, trace=True)
    assert real.trace is not None
    for s in lowered.states:
        assert s.frac is not None
        off = np.abs(golden.states[s.name][0] * 2.0**-s.frac - real.trace[s.name][0]).max()
        assert off < 0.01 * max(3.0, float(np.abs(real.trace[s.name]).max())), s.name
