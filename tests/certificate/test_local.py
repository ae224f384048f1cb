"""Radii around fixed points, and runs that show that nothing can hold for all settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import inputs_of, latch, loop

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import attraction, counterexamples, recovery
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet, Param

Array = NDArray[Any]


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.5, 3.0), bits=st.integers(3, 4))
@settings(max_examples=12, deadline=None)
def test_no_upset_within_a_radius_does_harm(seed: int, gain: float, bits: int) -> None:
    """All settings of two units within the radius are run: no label changes, no unit is further off than stated."""
    rng = np.random.default_rng(seed)
    made = loop(rng, units=2, steps=8, gain=gain)
    net = lower(made.net, QuantizeOptions(state_bits=bits), calibration=None).net
    codes = encode(net, inputs_of(rng, made.net, 4))[0]
    proved = attraction(net, codes, ticks=5)
    assert refuted(net, codes, proved.radius, proved.apart, 5) == 0


def refuted(net: IntNet, codes: dict[str, Array], radius: Array, apart: Array, ticks: int) -> int:
    """Settings within the radii that end with another label, or further off."""
    whole = golden.run(net, codes)
    labels, ends = golden.labels(next(iter(whole.outputs.values()))), net.formats["h"]
    count = 0
    for sample, far in enumerate(radius):
        at = whole.states["h"][-1, sample]
        pools = [range(max(ends.lo, v - far), min(ends.hi, v + far) + 1) for v in at]
        start = np.array(list(product(*pools)))
        one = {name: np.repeat(v[sample : sample + 1], len(start), axis=0) for name, v in codes.items()}
        clamped, batch, _ = golden.clamped_codes(net, one)
        machine, scope = golden.Machine(net, batch, "dense"), {n: v[:, 0] for n, v in clamped.items()}
        machine.evaluate(net.drive, scope, np.arange(batch))
        states = {"h": start.astype(np.int64)}
        for _ in range(ticks):
            states, _ = machine.tick(scope, states, np.arange(batch))
        if far:
            other = golden.labels(next(iter(machine.read(scope, states).values()))) != labels[sample]
            count += int((other | (np.abs(states["h"] - at).max(axis=1) > apart[sample])).sum())
    return count


def test_a_latch_has_a_radius_and_two_fixed_points() -> None:
    """No label is safe from all upsets; small ones are; and the run that shows the first is one of golden."""
    net = latch()
    codes = encode(net, {"x": np.ones((2, 5))})[0]
    assert not recovery(net, codes, ticks=10).safe.any()
    proved = attraction(net, codes, ticks=10)
    assert (proved.radius > 0).all()
    assert all(0.0 < rate <= 1.0 for rate in proved.rates())
    # Twice what is proved is refuted, or the search below would have nothing to show.
    assert refuted(net, codes, proved.radius, proved.apart, 10) == 0
    assert refuted(net, codes, np.full(2, 31), proved.apart, 10) > 0
    examples = counterexamples(net, codes)
    assert [e.sample for e in examples] == [0, 1]
    for e in examples:
        assert (e.kind, e.period) == ("two fixed points", 1)
        assert e.labels[0] != e.labels[1]
        assert e.codes > 10


def test_an_oscillator_has_a_cycle_and_a_contracting_net_nothing() -> None:
    """Two units that take each other's sign, one turned: a cycle of four ticks."""
    made = loop(np.random.default_rng(0), units=2, steps=12)
    values = {"W": 3.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])}
    values |= {n: np.zeros_like(p.value) for p in made.net.params if (n := p.name) in ("A", "b", "c")}
    turned = replace(made.net, params=tuple(Param(p.name, values.get(p.name, p.value), "") for p in made.net.params))
    net = lower(turned, QuantizeOptions(state_bits=5), calibration=None).net
    (example,) = counterexamples(net, encode(net, {"x": np.zeros((1, 5))})[0])
    assert (example.kind, example.period) == ("cycle", 4)
    still = loop(np.random.default_rng(0), units=2, steps=12, gain=0.2)
    quiet = lower(still.net, QuantizeOptions(state_bits=5), calibration=None).net
    assert counterexamples(quiet, encode(quiet, {"x": np.zeros((1, 5))})[0]) == []


@pytest.mark.parametrize("radius", [1, 4, 31])
def test_a_radius_narrows_what_is_possible(radius: int) -> None:
    """Less than any upset, and the same where it reaches all codes."""
    net = latch()
    codes = encode(net, {"x": np.ones((2, 5))})[0]
    within, anywhere = recovery(net, codes, ticks=5, radius=radius), recovery(net, codes, ticks=5)
    assert (within.apart <= anywhere.apart).all()
    assert (radius == 31) == bool((within.apart == anywhere.apart).all())
