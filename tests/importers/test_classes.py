"""Classes without a trained checkpoint: modules with random weights against what their files are read as."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from class_nets import example
from zoo_classes import CASES

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.detect import all_families, detect, fit
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.reference import run_reference

FAMILIES = all_families()
BOUND = 1e-9
UNUSED = ("feedback_weights", "top_down", "up_coarse", "up_medium", "causal_mask")
NO_EFFECT = "W_k.bias"
"""It adds the same to all scores of a row, which a softmax does not see."""


@pytest.mark.parametrize("name", CASES)
def test_float_reference_equals_the_class(name: str) -> None:
    """An importer that composes another network than the class; a tensor that it reads and does not compute with."""
    e = example(name)
    reading = fit(e.family, e.tensors, e.settings)
    assert (reading.missing, reading.unexpected, reading.faults, reading.complete) == ((), (), (), True)
    assert e.error(e.net()) <= BOUND
    for key, value in e.tensors.arrays.items():
        if key.startswith(UNUSED) or key.endswith(NO_EFFECT):
            continue
        moved = {**e.tensors.arrays, key: value + 0.05 * np.random.default_rng(1).normal(size=value.shape)}
        assert e.error(e.net(moved)) > BOUND, f"{key} has no effect"


OTHER_VALUE: dict[str, Any] = {
    "alpha": 0.4,
    "coupling_strength": 0.2,
    "cube_size": 4,
    "gamma": 0.4,
    "num_heads": 4,
    "reference_dim": 3,
    "steps": 3,
}
OTHER_SHAPE = ("height", "length", "width")


@pytest.mark.parametrize("name", CASES)
def test_every_setting_matters(name: str) -> None:
    """A comparison that another setting passes as well proves nothing about it."""
    e = example(name)
    for setting in e.family.settings:
        if setting.changes == "nothing" or setting.name in OTHER_SHAPE or name == "cube-channels":
            continue
        other = "relu" if e.settings[setting.name] != "relu" else "tanh"
        value = OTHER_VALUE.get(setting.name, other)
        assert e.error(e.net(**{setting.name: value})) > BOUND, setting.name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_integers_equal_the_scalar_interpreter(name: str) -> None:
    """A class whose composition the quantizer refuses, or whose integers golden computes in another way than they are
    defined."""
    e = example(name)
    net = lower(e.net(), QuantizeOptions(), calibration={"x": e.x}).net
    codes = {key: value[:1] for key, value in encode(net, {"x": e.x})[0].items()}
    run = golden.run(net, codes, trace=True)
    states, outputs, steps = oracle.run(net, codes)
    for have, want in ((run.states, states), (run.outputs, outputs), ({"": run.steps}, {"": steps})):
        assert have.keys() == want.keys()
        for key, value in want.items():
            np.testing.assert_array_equal(have[key], value, key)


def test_the_largest_units_keep_their_ties() -> None:
    """Units as large as the last that is kept stay, as `|x| >= threshold` has it, and no others."""
    e = example("Sparse-tanh")
    kept = run_reference(e.net(), {"x": e.x}).states["h"]
    assert (np.count_nonzero(kept, axis=-1) == kept.shape[-1] // 2).all()
    equal = {key: np.full_like(value, key.endswith("bias")) for key, value in e.tensors.arrays.items()}
    assert run_reference(e.net(equal), {"x": e.x}).states["h"].all()


TWINS = [(family.key, twin.key) for family in FAMILIES.values() for twin in family.twins]


@pytest.mark.parametrize(("key", "twin"), TWINS)
def test_an_alias_is_the_family_under_its_name(key: str, twin: str) -> None:
    """An alias that reads other tensors, has other settings or is not asked for by its name."""
    family, alias = FAMILIES[key], FAMILIES[twin]
    assert (alias.same_as, alias.settings, alias.summary) == (key, family.settings, family.summary)
    for name, case in CASES.items():
        if case.family in (key, *(t.key for t in family.twins)):
            e = example(name)
            assert detect(e.tensors, twin, known=FAMILIES) is alias
            nets = [f.build(e.tensors, e.settings) for f in (family, alias)]
            assert [net.family for net in nets] == [key, twin]
            assert nets[0].step == nets[1].step
