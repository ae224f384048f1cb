"""The nets that the conformance suite runs, and how it runs and compares an artifact."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from quantize_nets import loop
from strategies import random_inputs, random_net, small_net, with_formats
from waist_nets import FORMS, form
from zoo_nets import zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.compare import Comparison, compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Run, Simulator, Target
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops

__all__ = ["DITHERED", "EXAMPLES", "FAMILIES", "Codes", "agree", "example", "simulated", "skip_without_tools"]

TIMEOUT_S = 300.0
FAMILIES = (
    "LoopedMLP_release_sn",
    "LoopedMLP_release_nosn",
    "LoopedMLP_archive_symmetric_sn",
    "TernaryEqProp_release_t0.13_best",
    "TernaryEqProp_archive_t1.5_1layer_best",
    "LazyEqProp_release_sn",
    "LazyEqProp_archive_sn",
    "NeuralCube_release",
    "NeuralCube_archive_sn",
    "TemporalResonanceEqProp_release_sn",
    "ToroidalMLP_archive_sn",
    "ModernEqProp_archive_sn",
    "EqPropAttentionOnlyLM_release",
)
"""Four families in all variants; then frames, a ring of past states, layer normalisation, and attention with a mask."""
DITHERED = "LoopedMLP_dithered"
RANDOM_SEEDS = (1, 2, 3, 4)
Codes = Mapping[str, NDArray[np.int64]]


def plain() -> tuple[IntNet, Codes]:
    """The plainest loop: whoever takes any net takes this one."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    return net, {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}


def unsigned() -> tuple[IntNet, Codes]:
    """A slow state without a sign, whose codes of the upper half a signed register of its width would call negative."""
    net = IntNet(
        name="unsigned",
        family="test",
        inputs=(Input("x", (3,), encoding=Encoding(Format(8, True), 1.0)),),
        params=(
            Param("W", np.array([[1, -2, 0], [0, 1, 1], [-1, 0, 2]]), "test"),
            Param("T", np.array([0, 3, 60, 130, 200, 255]), "test"),
            Param("m", np.array(1), "test"),
            Param("h0", np.array([255, 0, 128]), "test"),
        ),
        states=(State("h", (3,), "next", init="h0", frac=8),),
        drive=(),
        step=(
            ops.Linear(out="w", x="h", weight="W"),
            ops.Add(out="a", a="w", b="x"),
            ops.Rescale(out="s", x="a", multiplier="m", shift=6),
            ops.Lookup(out="y", x="s", table="T", first=-2),
            ops.DampFixed(out="next", old="h", new="y", multiplier=3, shift=2),
        ),
        readout=(ops.Linear(out="o", x="h", weight="W"),),
        outputs=(Output("logits", "o", "classes", 1.0),),
        schedule=Schedule(6),
        formats={"h": Format(8, False)},
    )
    return with_formats(net), {"x": np.array([[100, 0, -1], [-128, 127, 127], [0, -60, 90]])}


def roots() -> tuple[IntNet, Codes]:
    """Square roots of squares and of their neighbours, up to words of 61 bits, and of negative numbers."""
    edges = [0, 1, 2, 215, 216, 255, 256, 4096, 9741, 9742, 23170, 32767]
    near = np.array([-(1 << 40), -1, 0, 1])
    net = IntNet(
        name="roots",
        family="test",
        inputs=(Input("x", (len(edges), 1), encoding=Encoding(Format(16, True), 1.0)),),
        params=(Param("near", near, "test"),),
        states=(State("h", (len(edges), len(near)), "root"),),
        drive=(
            ops.Mul(out="square", a="x", b="x"),
            ops.Mul(out="fourth", a="square", b="square"),
            ops.Add(out="beside", a="fourth", b="near"),
        ),
        step=(ops.Isqrt(out="root", x="beside"),),
        readout=(),
        outputs=(Output("o", "h", "values", 1.0),),
        schedule=Schedule(2),
        formats={"h": Format(31, False)},
    )
    return with_formats(net), {"x": np.array([[[e] for e in edges], [[-e] for e in edges]])}


def dithered() -> tuple[IntNet, Codes]:
    """A state that counts ticks, and an offset by its count on every recurrent sum."""
    rng = np.random.default_rng(0)
    source = loop(rng, units=6, inputs=3, steps=6).net
    inputs = {source.inputs[0].name: rng.uniform(-1.0, 1.0, (2, 3))}
    net = lower(source, QuantizeOptions(dither=4, per_row=False), calibration=inputs).net
    return net, encode(net, inputs)[0]


@cache
def family(name: str) -> tuple[IntNet, Codes]:
    net, inputs = form(name) if name in FORMS else zoo_net(name)
    lowered = lower(net, QuantizeOptions(), calibration=inputs)
    codes, _ = encode(lowered.net, inputs)
    return lowered.net, codes


def example(name: str) -> tuple[IntNet, Codes]:
    if name == "plain":
        return plain()
    if name == "roots":
        return roots()
    if name == "unsigned":
        return unsigned()
    if name == DITHERED:
        return dithered()
    if name.startswith("random"):
        source = random.Random(int(name.removeprefix("random")))
        net = random_net(source, extras=()) if source.random() < 0.5 else random_net(source)
        return net, random_inputs(net, source)
    return family(name)


EXAMPLES = ("plain", "unsigned", "roots", *FORMS, *(f"random{seed}" for seed in RANDOM_SEEDS), DITHERED, *FAMILIES)


def simulated(simulator: str, artifact: Artifact, inputs: Codes) -> Run:
    run: Run = registry.find_class("simulators", simulator, Simulator)().run(
        artifact, inputs, trace=True, timeout_s=TIMEOUT_S
    )
    return run


def agree(net: IntNet, inputs: Codes, got: Run) -> Comparison:
    return compare(run_golden(net, inputs), got)


def skip_without_tools(backend: Target) -> None:
    if backend.missing():
        pytest.skip(f"{backend.name} needs {', '.join(backend.missing())}: {backend.install}")
