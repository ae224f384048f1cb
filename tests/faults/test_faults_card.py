"""Flips of states on the card, all or drawn: the outcomes of golden; its kernel runs as C."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gpu_faults import INPUTS, drawn_net, large, loop, noticed, opened
from strategies import random_inputs, with_formats

from eqcompile.sim.faults.draw import Draw
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu import program
from eqcompile.sim.faults.gpu.engine import GpuEngine
from eqcompile.sim.faults.gpu.plan import make_plan
from eqcompile.sim.faults.gpu.sweep import flat
from eqcompile.sim.faults.model import EnumeratedModel
from eqcompile.sim.faults.models.pair import PairModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.philox import below, philox
from eqcompile.toolchain.ir import IntNet, Param, Schedule, ops

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")), reason="Triton is not installed"
)
MUTANTS = (
    ("found = ever ? healed : masked", "found = healed"),
    ("off <= near_limit", "off < near_limit"),
    ("place_mask[L(place)], 0", "place_mask[L(place)] ^ 1, 0"),
    ("found.output |= BALLOT(differs) != 0", ";"),
    ("i32 ends = TICKS - (t - begin)", "i32 ends = TICKS - (t - begin) - 1"),
    ("above.x - LK(a0", "above.x + LK(a0"),
    ("&& !first && same", "&& !first && !same"),
)
LARGE = (
    ("s > (i32)net->high", "s > 8 + (i32)net->high"),
    ("total[4 + j] += d", "total[4 + j] -= d"),
    ("UNIT(four.entry[n]) * 128 + 64 * p", "UNIT(four.entry[n]) * 128 + 32 * p"),
    ("<= 64;", "<= 640;"),
    ("x = y = 0;", ";"),
    ("x += d * w.x", "x -= d * w.x"),
    ("lane < (-count & 3)", "lane < 0"),
)
ONE = {"x": INPUTS["x"][:1]}
SINGLE = SeuModel(sites="state")


def wrong(net: IntNet, codes: Any, model: EnumeratedModel = SINGLE) -> int:
    """Outcomes and distances of all faults that are not golden's."""
    session, count = opened(net, codes), 0
    rows = GoldenEngine().open(net, codes, near=1).run(model.exhaustive(net, codes))
    for site in model.population(net, codes).sites:
        shape = (site.units, site.bits, site.ticks, len(next(iter(codes.values()))))
        mine, rows = rows[: int(np.prod(shape))].reshape(shape), rows[int(np.prod(shape)) :]
        masks = model.masks(site)
        assert masks is not None
        found = session.sweep(site.target, (0, site.units), masks)
        assert found is not None
        count += int((found.outcome != mine["outcome"]).sum())
        count += int((found.distance != mine["distance_end"].max(axis=(0, 1)).T).sum())
    return count


@pytest.mark.parametrize("tolerance", [0, 2])
def test_every_flip_is_golden_s(tolerance: int) -> None:
    """Would break if a trajectory that ticks share ended elsewhere for one of them."""
    assert wrong(loop(tolerance), ONE) == 0


def test_every_flip_of_a_large_net_is_golden_s() -> None:
    """Would break for units behind the first 256, or sums that a byte does not hold."""
    net, codes = large()
    assert wrong(net, codes) == 0


def test_every_flip_of_a_large_net_of_two_maps_is_golden_s() -> None:
    """Would break if sums of one map lay where those of the other do: each is longer than what a warp adds at once."""
    net, codes = large()
    more = Param("V", np.roll(net.param("W"), 7, axis=0), "test")
    step = (
        net.step[0],
        ops.Linear(out="v", x="h", weight="V"),
        ops.Sub(out="u", a="w", b="v"),
        ops.Add(out="a", a="u", b="x"),
        net.step[2],
    )
    net = replace(net, params=(*net.params, more), step=step, formats={"h": net.formats["h"]}, schedule=Schedule(2))
    assert wrong(with_formats(net), codes) == 0


def test_a_part_of_the_units_is_that_part_of_all() -> None:
    """A population in several blocks would have the outcomes of others in some of them."""
    session = opened(loop(), ONE)
    masks = 1 << np.arange(8)
    whole, parts = session.sweep("h", (0, 3), masks), [session.sweep("h", units, masks) for units in ((0, 1), (1, 3))]
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([part.outcome for part in parts if part is not None]), whole.outcome)
    np.testing.assert_array_equal(np.max([part.distance for part in parts if part is not None], axis=0), whole.distance)


def test_every_pair_of_bits_of_a_word_is_golden_s() -> None:
    """Would break if a mask of two bits were taken for one of them."""
    assert wrong(loop(), ONE, PairModel()) == 0


@pytest.mark.slow
def test_every_flip_of_random_nets_is_golden_s() -> None:
    """Would break for nets of several states, or of operations that a loop has not."""
    compared = 0
    for seed in range(10):
        source = random.Random(seed)
        net = drawn_net(source)
        codes = {n: v[:1] for n, v in random_inputs(net, source).items()}
        if not GpuEngine().check(net) and flat(make_plan(net)):
            assert wrong(net, codes) == 0
            compared += 1
    assert compared >= 3


def draw(net: IntNet, codes: Any, model: EnumeratedModel, *, count: int, seed: int) -> Draw:
    population = model.population(net, codes)
    masks = tuple(model.masks(site) for site in population.sites)
    return Draw(population, masks, lambda points: model.faults(net, codes, population, points), count, seed)


@pytest.mark.parametrize("model", [SINGLE, PairModel()])
def test_drawn_flips_are_drawn_and_counted_again_on_the_cpu(model: EnumeratedModel) -> None:
    """Would break if a fault that the card counted could not be injected again."""
    net, bad = loop(), (Outcome.SDC, Outcome.NEAR)
    drawn = draw(net, INPUTS, model, count=200, seed=7 << 32 | 5)
    session, right = opened(net, INPUTS), GoldenEngine().open(net, INPUTS, near=1)
    mine, theirs = session.tally(drawn, bad), right.tally(drawn, bad)
    np.testing.assert_array_equal(mine.counts, theirs.counts)
    np.testing.assert_array_equal(mine.kept, theirs.kept)
    assert mine.counts.sum() == 200
    assert len(mine.kept) > 0
    rows = right.run(drawn.faults(np.arange(200)))
    assert session.sweeper.drawn(drawn, single=True).outcome.tolist() == rows["outcome"].tolist()


def test_neighbouring_words_are_counted_by_table() -> None:
    """Faults that are no flips of one word were taken for some."""
    net = loop()
    drawn = draw(net, INPUTS, PairModel(across="neighbours"), count=64, seed=3)
    mine, theirs = (s.tally(drawn, ()) for s in (opened(net, INPUTS), GoldenEngine().open(net, INPUTS, near=1)))
    np.testing.assert_array_equal(mine.counts, theirs.counts)


def test_every_fault_is_as_likely() -> None:
    """Of 21 x 24 x 3 faults, each drawn a hundred times on average, none is far off."""
    net = loop()
    drawn = draw(net, INPUTS, SINGLE, count=50_400, seed=1)
    points = drawn.points(np.arange(drawn.count))
    for column, size in ((points.sample, 3), (points.tick, 7), (points.unit, 3), (points.bit, 8)):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size
        assert abs(counts / (drawn.count / size) - 1).max() < 0.05


def test_philox_is_the_published_one() -> None:
    """Known answer of the authors' Random123 for counter and key 0; numbers below a top are even."""
    assert int(philox(0, np.array([0]))[0]) == 0x6627E8D5
    numbers = below(24, 5, np.arange(24_000))
    counts = np.bincount(numbers, minlength=24)
    assert counts.min() > 800
    assert counts.max() < 1200


@pytest.mark.slow
@pytest.mark.parametrize(("right", "bad"), [*MUTANTS, *LARGE])
def test_a_wrong_kernel_is_noticed(right: str, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons with golden could otherwise not fail."""
    loaded, changed = program._loaded, []

    def mutant(text: str) -> Any:
        changed.append(right in text)
        return loaded(text.replace(right, bad))

    monkeypatch.setattr(program, "_loaded", mutant)
    net, codes = large() if (right, bad) in LARGE else (loop(tolerance=1), INPUTS)
    assert noticed(lambda: wrong(net, codes) > 0 and all(changed))
