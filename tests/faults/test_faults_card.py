"""Flips of states on the card, all or drawn: the outcomes of golden; its kernel runs under Triton's interpreter."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gpu_faults import drawn_net
from strategies import random_inputs, small_net, with_formats

from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu import sweep
from eqcompile.sim.faults.gpu.engine import GpuEngine, GpuSession
from eqcompile.sim.faults.gpu.philox import below, philox
from eqcompile.sim.faults.gpu.sweep import drawn_table
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.toolchain.ir import IntNet, Output, Param, ops

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")), reason="Triton is not installed"
)
MUTANTS = (
    ("tl.where(ever > 0, healed, masked)", "healed"),
    ("(near <= limit)", "(near < limit)"),
    ("1 << (flip % BITS)", "1 << ((flip + 1) % BITS)"),
    ("spoilt = tl.maximum(spoilt, tl.max(z, 1))", "pass"),
    ("ticks - (t - begin)", "ticks - (t - begin) + 1"),
)
INPUTS = {"x": np.array([[20, 0, -19], [50, -33, 1], [2, 0, -1]])}
ONE = {"x": INPUTS["x"][:1]}


def loop(tolerance: int = 0, steps: int = 6) -> IntNet:
    """A loop of three units that settles, with classes."""
    weight = [[1, -1, 0], [0, 1, 1], [-1, 0, 1]]
    base = small_net(weight, table=[i // 3 for i in range(-90, 90)], first=-90, steps=steps)
    read = Param("R", np.array([[1, 0, -1], [-1, 1, 0]]), "test")
    net = replace(
        base,
        params=(*base.params, read),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        schedule=replace(base.schedule, tolerance=tolerance),
    )
    return with_formats(net)


def opened(net: IntNet, codes: Any) -> GpuSession:
    return GpuEngine().open(net, codes, near=1)


def wrong(net: IntNet, codes: Any) -> int:
    """Outcomes and distances of all flips that are not golden's."""
    model, session, count = SeuModel(sites="state"), opened(net, codes), 0
    rows = GoldenEngine().open(net, codes, near=1).run(model.exhaustive(net, codes))
    for site in model.population(net, codes).sites:
        shape = (site.units, site.bits, site.ticks, len(next(iter(codes.values()))))
        mine, rows = rows[: int(np.prod(shape))].reshape(shape), rows[int(np.prod(shape)) :]
        found = session.sweep(site.target, (0, site.units))
        assert found is not None
        count += int((found.outcome != mine["outcome"]).sum())
        count += int((found.distance != mine["distance_end"].max(axis=(0, 1)).T).sum())
    return count


@pytest.mark.parametrize("tolerance", [0, 2])
def test_every_flip_is_golden_s(tolerance: int) -> None:
    """Would break if a trajectory that ticks share ended elsewhere for one of them."""
    assert wrong(loop(tolerance), ONE) == 0


def test_a_part_of_the_units_is_that_part_of_all() -> None:
    """A population in several blocks would have the outcomes of others in some of them."""
    session = opened(loop(), ONE)
    whole, parts = session.sweep("h", (0, 3)), [session.sweep("h", units) for units in ((0, 1), (1, 3))]
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([part.outcome for part in parts if part is not None]), whole.outcome)
    np.testing.assert_array_equal(np.max([part.distance for part in parts if part is not None], axis=0), whole.distance)


@pytest.mark.slow
def test_every_flip_of_random_nets_is_golden_s() -> None:
    """Would break for nets of several states, or of operations that a loop has not."""
    compared = 0
    for seed in range(4):
        source = random.Random(seed)
        net = drawn_net(source)
        if not GpuEngine().check(net):
            assert wrong(net, {n: v[:1] for n, v in random_inputs(net, source).items()}) == 0
            compared += 1
    assert compared >= 1


def test_drawn_flips_are_drawn_again_on_the_cpu() -> None:
    """Would break if a fault that the card counted could not be injected again."""
    net, count = loop(), 48
    drawn = opened(net, INPUTS).sweeper.drawn("h", count, 7)
    table = drawn_table("h", 3, 8, 3, 6, count=count, seed=7, which=np.arange(count))
    rows = GoldenEngine().open(net, INPUTS, near=1).run(table)
    assert drawn.outcome.tolist() == rows["outcome"].tolist()
    assert drawn.flip.tolist() == (8 * table.faults["unit"] + table.faults["bit"]).tolist()
    assert len(set(drawn.outcome.tolist())) >= 3


def test_philox_is_the_published_one() -> None:
    """Known answer of the authors' Random123 for counter and key 0; numbers below a top are even."""
    assert int(philox(0, np.array([0]))[0]) == 0x6627E8D5
    numbers = below(24, 5, np.arange(24_000))
    counts = np.bincount(numbers, minlength=24)
    assert counts.min() > 800
    assert counts.max() < 1200


@pytest.mark.parametrize(("right", "bad"), MUTANTS)
def test_a_wrong_kernel_is_noticed(right: str, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons with golden could otherwise not fail."""
    loaded, changed = sweep.load_kernel, []

    def mutant(text: str) -> Any:
        changed.append(right in text)
        return loaded(text.replace(right, bad))

    monkeypatch.setattr(sweep, "load_kernel", mutant)
    assert wrong(loop(steps=5), {"x": INPUTS["x"][2:]}) > 0
    assert all(changed)
