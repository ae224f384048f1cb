"""What samples with labels say of a float net and its integers."""

from __future__ import annotations

import numpy as np
import pytest
from quantize_nets import inputs_of, loop

from eqcompile.app.accuracy import judge
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.interfaces import QuantizeOptions


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_confusion_is_of_the_classes_of_the_net(samples: int) -> None:
    """However few samples there are, and whichever labels they have."""
    rng = np.random.default_rng(0)
    net = loop(rng).net
    labels = np.full(samples, 2)
    inputs = Inputs(inputs_of(rng, net, samples), labels)
    integers = lower(net, QuantizeOptions(), calibration=inputs).net
    found = judge(net, integers, inputs, "drawn").accuracy
    assert found is not None
    assert found.confusion is not None
    assert found.confusion.shape == (3, 3)
    assert found.confusion.sum(axis=1).tolist() == [0, 0, samples]
    assert found.int_correct == found.confusion.trace()
