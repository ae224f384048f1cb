"""Nets of other research codes as integers: their labels, and every state at every step on the targets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_nets import Codes, skip_without_tools
from emitting import emitted
from published_nets import NETS, published_net
from untrained_nets import UNTRAINED, untrained_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Simulator
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.reference import run_reference

KEPT = 0.99
SAMPLES = 2
FEW = {"nir": ("torchdeq",), "lava-loihi1": ("laborieux.VF_CNN",), "lava-loihi2": ("P_MLP",)}
"""Slow simulators run one of the nets here; `make families` runs all of them on all trained nets."""


@cache
def lowered(name: str) -> tuple[IntNet, Codes]:
    """A net in 8-bit states and weights, and the codes of all its test inputs."""
    net, inputs, calibration = published_net(name)
    integers = lower(net, QuantizeOptions(), calibration=calibration).net
    return integers, encode(integers, inputs)[0]


@pytest.mark.parametrize("name", NETS)
def test_integers_keep_the_labels(name: str) -> None:
    """Integers that settle elsewhere than the net that was trained."""
    net, codes = lowered(name)
    labels = run_golden(net, codes, trace=False).outputs["logits"].argmax(-1)
    stored = NETS[name].data()["out"].argmax(-1)
    assert len(stored) == 64
    assert np.mean(labels == stored) >= KEPT


@pytest.mark.parametrize("key", UNTRAINED)
def test_integers_follow_the_floats(key: str) -> None:
    """A scale that is wrong in one of the compositions: twelve bits must come near the float states at every step."""
    net, inputs = untrained_net(key)
    integers = lower(net, QuantizeOptions(state_bits=12, input_bits=12), calibration=inputs).net
    golden = run_golden(integers, encode(integers, inputs)[0])
    real = run_reference(net, inputs, trace=True)
    assert real.trace is not None
    for s in integers.states:
        assert s.frac is not None
        off = np.abs(golden.states[s.name] * 2.0**-s.frac - real.trace[s.name])
        assert np.median(off) < 0.002 * max(1.0, float(np.abs(real.trace[s.name]).max())), s.name
        assert np.abs(real.trace[s.name]).max() > 0.01, "a state that stays at zero shows nothing"


@cache
def lowered_untrained(key: str) -> tuple[IntNet, Codes]:
    net, inputs = untrained_net(key)
    integers = lower(net, QuantizeOptions(), calibration=inputs).net
    return integers, encode(integers, inputs)[0]


PAIRS = [
    (target, simulator, name)
    for target, simulator in (
        ("numpy", "numpy"),
        ("c", "c-host"),
        ("onnx", "onnxruntime"),
        ("nir", "nir"),
        ("loihi", "lava-loihi1"),
        ("loihi", "lava-loihi2"),
    )
    for name in (*NETS, *UNTRAINED)
    if name in FEW.get(simulator, (name,))
]


def marked(cases: list[tuple[str, str, str]]) -> list[Any]:
    return [pytest.param(*case, marks=[] if case[0] == "numpy" else [pytest.mark.simulator]) for case in cases]


@pytest.mark.parametrize(("target", "simulator", "name"), marked(PAIRS))
@pytest.mark.slow
def test_targets_equal_golden(target: str, simulator: str, name: str, tmp_path: Path) -> None:
    """A target that computes another state at any step of any of these nets; and a comparison that would not see it."""
    backend, runner = registry.target_class(target)(), registry.find_class("simulators", simulator, Simulator)()
    skip_without_tools(backend)
    net, codes = (lowered if name in NETS else lowered_untrained)(name)
    codes = {key: value[:SAMPLES] for key, value in codes.items()}
    artifact = emitted(backend, net, tmp_path)
    got = runner.run(artifact, codes, trace=True, timeout_s=300.0)
    golden = run_golden(net, codes)
    assert compare(golden, got, states=True).ok
    other = next(iter(codes))
    moved = {**codes, other: np.where(codes[other] > 0, codes[other] - 1, codes[other] + 1)}
    assert not compare(run_golden(net, moved), got, states=True).ok
    shorter = replace(net, schedule=replace(net.schedule, steps=net.schedule.steps - 1))
    assert not compare(run_golden(shorter, codes), got, states=True).ok
