"""What the statistics claim: sizes from the literature, and coverage, measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import small_net

from eqcompile.sim.campaign.curves import _curve
from eqcompile.sim.campaign.plan import Plan, make_plan
from eqcompile.sim.campaign.statistics import (
    exact,
    look_schedule,
    rank,
    sample_size,
    stratified,
    wilson,
    wilson_bounds,
)
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.table import Fault, Place, Upset
from eqcompile.toolchain.diagnostics import UsageError

CONFIDENCE = 0.95


@pytest.mark.parametrize(
    ("population", "margin", "confidence", "want"),
    [(None, 0.01, 0.95, 9604), (None, 0.05, 0.95, 385), (None, 0.01, 0.99, 16588), (10_000, 0.01, 0.95, 4900)],
)
def test_sample_sizes_of_the_literature(population: int | None, margin: float, confidence: float, want: int) -> None:
    """Would break if the formula of Leveugle et al. were mistyped: 9,604 is the number every campaign quotes."""
    assert sample_size(population, margin=margin, confidence=confidence) == want


@given(st.integers(1, 10**9))
def test_a_finite_population_never_needs_more(population: int) -> None:
    """Would break if more faults were asked for than there are, or than an infinite population needs."""
    size = sample_size(population, margin=0.01, confidence=CONFIDENCE)
    assert 1 <= size <= min(population, 9604)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 500))
def test_intervals_hold_their_estimate_and_stay_in_range(hits: int, faults: int) -> None:
    """Would break if an interval left 0..1 or its own estimate, which Wald's does near 0 and 1."""
    hits = min(hits, faults)
    for found in (
        wilson(hits, faults, confidence=CONFIDENCE),
        wilson(hits, faults, confidence=CONFIDENCE, population=1000),
        exact(hits, faults, confidence=CONFIDENCE),
    ):
        assert 0.0 <= found.low <= found.estimate <= found.high <= 1.0


@settings(max_examples=40, deadline=None)
@given(st.floats(0.002, 0.998), st.sampled_from([200, 1000, 9604]), st.integers(0, 2**32 - 1))
def test_wilson_covers_the_rate(p: float, faults: int, seed: int) -> None:
    """Would break if the interval were Wald's: near 0 that one covers far less often than it says. Coverage is exact
    here, summed over the binomial distribution."""
    from scipy.stats import binom

    hits = np.arange(faults + 1)
    low, high = wilson_bounds(hits, np.full(len(hits), faults), confidence=CONFIDENCE)
    covered = binom.pmf(hits, faults, p)[(low <= p) & (p <= high)].sum()
    # With few hits expected the count is lumpy: Wilson's interval is known to dip there (Brown, Cai, DasGupta 2001).
    assert covered > (0.93 if faults * min(p, 1 - p) > 5 else 0.83)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0005, 0.9995), st.sampled_from([50, 200, 500]))
def test_the_exact_interval_covers_at_least_as_it_says(p: float, faults: int) -> None:
    """Would break if the interval that must stay honest under stopping were one that dips below its level."""
    from scipy.stats import binom

    hits = np.arange(faults + 1)
    probable = hits[binom.pmf(hits, faults, p) > 1e-12]
    ends = [exact(int(x), faults, confidence=CONFIDENCE) for x in probable]
    inside = np.array([e.low <= p <= e.high for e in ends])
    assert binom.pmf(probable, faults, p)[inside].sum() >= CONFIDENCE - 1e-9


def test_stopping_does_not_spoil_the_interval() -> None:
    """Would break if each look used the whole error: stopping when the interval looks narrow would then favour
    wrong ones. 4,000 campaigns with the true rate at the stopping rule's edge; the naive interval is the mutant."""
    generator = np.random.default_rng(7)
    looks = look_schedule(96, 3)
    chunk, p, runs = 50, 0.03, 4000

    def covered(each: int) -> float:
        ends = {}
        good = 0
        hits = generator.binomial(chunk, p, size=(runs, looks[-1])).cumsum(axis=1)
        for row in hits:
            for look in looks:
                key = (int(row[look - 1]), look * chunk)
                if key not in ends:
                    ends[key] = exact(*key, confidence=CONFIDENCE, looks=each)
                found = ends[key]
                # The worst rule: whoever watches stops as soon as the truth is excluded.
                if not found.low <= p <= found.high:
                    break
            else:
                good += 1
        return good / runs

    assert covered(len(looks)) >= CONFIDENCE
    assert covered(1) < CONFIDENCE - 0.02


def test_sampling_without_replacement_narrows_the_interval_and_still_covers() -> None:
    """Would break if the finite correction were the wrong way round: the interval of nearly all faults must be nearly
    exact, and cover in repeated draws."""
    generator = np.random.default_rng(11)
    population, marked, faults = 2000, 260, 1500
    hits = generator.hypergeometric(marked, population - marked, faults, size=4000)
    corrected = [wilson(int(x), faults, confidence=CONFIDENCE, population=population) for x in hits]
    inside = np.mean([e.low <= marked / population <= e.high for e in corrected])
    assert 0.935 < inside < 0.975
    assert corrected[0].margin < 0.6 * wilson(int(hits[0]), faults, confidence=CONFIDENCE).margin
    assert wilson(marked, population, confidence=CONFIDENCE, population=population).margin == 0.0


@pytest.mark.parametrize("rates", [(0.9, 0.5, 0.05, 0.01), (0.3, 0.3, 0.3, 0.3), (0.0, 0.0, 0.0, 0.4)])
def test_stratified_estimates_cover_the_whole(rates: tuple[float, ...]) -> None:
    """Would break if the variance of strata were that of one heap, or were 0 where a stratum had no hit: the draws are
    few in some strata, in others many, unlike their weights."""
    generator = np.random.default_rng(5)
    p, weights, faults = np.array(rates), np.array([0.1, 0.2, 0.3, 0.4]), np.array([400, 100, 200, 60])
    truth = float((p * weights).sum())
    inside = naive = 0
    for _ in range(1500):
        hits = generator.binomial(faults, p)
        found = stratified(hits, faults, weights, confidence=CONFIDENCE)
        inside += found.low <= truth <= found.high
        heap = wilson(int(hits.sum()), int(faults.sum()), confidence=CONFIDENCE)
        naive += heap.low <= truth <= heap.high
    assert inside / 1500 > 0.94
    if len(set(rates)) > 1:
        assert naive / 1500 < 0.9, "the heap is biased here: the test must see it"


def test_ranks_cover_the_true_ranks() -> None:
    """Would break if a unit could be named the most important one on the strength of a few faults."""
    generator = np.random.default_rng(3)
    rates = np.array([0.02, 0.05, 0.05, 0.2, 0.6])
    true = [5, 3, 3, 2, 1]
    wrong = 0
    for _ in range(500):
        found = rank(generator.binomial(150, rates), [150] * 5, confidence=CONFIDENCE)
        wrong += any(not r.first <= true[r.index] <= r.last for r in found)
    assert wrong / 500 <= 0.05
    few = rank([1, 0, 0], [3, 3, 3], confidence=CONFIDENCE)
    assert [(r.first, r.last) for r in few] == [(1, 3)] * 3
    assert rank([0, 0], [0, 0], confidence=CONFIDENCE) == []


@given(st.integers(1, 500))
def test_looks_are_few_and_end_with_the_last_chunk(chunks: int) -> None:
    """Would break if the error were shared among more looks than the size was planned for."""
    looks = look_schedule(chunks, max(1, chunks // 32))
    assert looks[-1] == chunks
    assert list(looks) == sorted(set(looks))
    assert len(looks) <= 7


def plan(population: int, count: int | str = "auto", **changes: object) -> Plan:
    given = {"enumerated": True, "seed": 0, "margin": 0.01, "confidence": CONFIDENCE, **changes}
    return make_plan(population, count, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [0.003, 0.01, 0.05])
def test_the_last_look_reaches_the_margin_at_any_rate(margin: float) -> None:
    """Would break if a campaign with --stop-at-margin could end without the margin it was planned for."""
    found = plan(10**9, stop_at_margin=margin)
    worst = found.interval(found.size // 2, found.size)
    assert worst.margin <= margin
    assert worst.margin > 0.85 * margin, "more faults than the margin needs"


def test_plans() -> None:
    """Would break if a small population were sampled, a large one listed, or the finite formula used where faults are
    drawn with replacement (its interval would then promise too much)."""
    assert (plan(9000).method, plan(9000).size) == ("exhaustive", 9000)
    assert (plan(100_000).method, plan(100_000).size) == ("without replacement", 8763)
    assert (plan(10**8).method, plan(10**8).size) == ("with replacement", 9604)
    assert (plan(100_000, enumerated=False).method, plan(100_000, enumerated=False).size) == ("with replacement", 9604)
    assert plan(50_000, "exhaustive").size == 50_000
    assert plan(500, 10**6).method == "exhaustive"
    for text, found in (("no-faults", lambda: plan(0)), ("listed", lambda: plan(9, "exhaustive", enumerated=False))):
        with pytest.raises(UsageError, match=text):
            found()


@pytest.mark.parametrize("changes", [{}, {"stop_at_margin": 0.02}, {"enumerated": False}])
def test_a_plan_survives_its_text(changes: dict[str, object]) -> None:
    """Would break if a resumed campaign drew other chunks than the one that was begun."""
    found = plan(123_456, **changes)
    assert Plan.from_json(found.to_json()) == found
    assert sum(found.faults_in(k) for k in range(found.chunks)) == found.size
    assert found.how
    assert math.isclose(found.interval(0, found.size).low, 0.0)


@pytest.mark.parametrize("tick", [5, 6])
def test_the_curve_of_an_upset_after_the_last_tick(tick: int) -> None:
    """Would break if the last fault of a campaign, of the codes that the readout reads, ended it with an IndexError."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    session = GoldenEngine().open(net, {"x": np.array([[0, 0, 0]])}, near=1)
    fault = Fault(0, "state", 0, tick, (Upset(Place.STATE, "h", 0, tick, tick, flip=8),))
    curve = _curve(session, 0, fault)
    moved = session.trace(fault)["h"][5] - session.clean(0)["h"][5]
    assert curve.distance == ((np.abs(moved).max(),) if tick == 5 else ())
    assert curve.norm == np.sqrt((moved**2).sum())
