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

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Simulator
from eqcompile.toolchain.ir import IntNet

KEPT = 0.99
SAMPLES = 2
ONE = {"nir": "torchdeq", "lava-loihi1": "torchdeq", "lava-loihi2": "P_MLP"}
"""Slow simulators run one of the nets here; `make families` runs all of them on all nets."""


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
    for name in NETS
    if ONE.get(simulator, name) == name
]


def marked(cases: list[tuple[str, str, str]]) -> list[Any]:
    return [pytest.param(*case, marks=[] if case[0] == "numpy" else [pytest.mark.simulator]) for case in cases]


@pytest.mark.parametrize(("target", "simulator", "name"), marked(PAIRS))
def test_targets_equal_golden(target: str, simulator: str, name: str, tmp_path: Path) -> None:
    """A target that computes another state at any step of any of these nets; and a comparison that would not see it."""
    backend, runner = registry.target_class(target)(), registry.find_class("simulators", simulator, Simulator)()
    skip_without_tools(backend)
    net, codes = lowered(name)
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
