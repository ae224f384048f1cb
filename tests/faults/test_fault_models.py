"""Fault models: populations are exact, numbers are faults, and each fault is what its model says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_sessions import instrumented
from numpy.typing import NDArray
from strategies import small_net

from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.model import EnumeratedModel, FaultModel
from eqcompile.sim.faults.table import Place, parse_fault
from eqcompile.toolchain import golden, registry
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet

IDENTITY = list(range(-128, 128))
WEIGHT = [[1, -1, 0], [0, 1, 1], [-1, 0, 1]]
Codes = dict[str, NDArray[np.int64]]


def net(**changes: Any) -> IntNet:
    return small_net(WEIGHT, table=IDENTITY, first=-128, steps=4, **changes)


def inputs(samples: int = 2) -> Codes:
    return {"x": np.random.default_rng(0).integers(-20, 20, (samples, 3))}


def model(name: str, **options: Any) -> Any:
    kind = registry.find_class("faults", name, FaultModel)
    if not kind.instrument:
        return kind(**options)
    return kind(**{"clocks": 3, **options}).on(_instrument(kind.instrument))


@cache
def _instrument(target: str) -> Path:
    return instrumented(target, net())


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("faults"))
def test_a_seed_is_a_table_and_ids_are_its_faults(name: str) -> None:
    """Campaigns are repeated from their seed, faults from their id."""
    draw = [model(name).draw(net(), 30, np.random.default_rng(5), inputs()) for _ in range(2)]
    assert list(draw[0]) == list(draw[1])
    assert len(draw[0]) == 30
    assert all(parse_fault(str(fault)) == fault for fault in draw[0])
    engine = GoldenEngine().open(net(), inputs(), near=1)
    if Place.CORE in draw[0].upsets["place"]:
        # A net has no registers of a core; engine rtl runs these (test_fault_rtl).
        with pytest.raises(UsageError, match="fault-core"):
            engine.run(draw[0])
    else:
        engine.run(draw[0])


def test_the_population_of_upsets_by_hand() -> None:
    """The planner divides by it: states in ticks 0 to 4, sums in 0 to 3, memory once; two samples."""
    sizes = {s.name: s.size for s in model("seu").population(net(), inputs()).sites}
    assert sizes == {
        "state:h": 3 * 8 * 5,
        "accumulator:w": 3 * 9 * 4,
        "table:T": 256 * 8,
        "weight:W": 9 * 2,
    }
    assert model("seu").population(net(), inputs()).size == 2 * sum(sizes.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seu", {"sites": "state,accumulator,weight"}),
        ("seu", {"sites": "accumulator", "accumulators": "event"}),
        ("seu", {"sites": "weight", "packing": "2bit"}),
        ("seu", {"sites": "weight", "packing": "5trit"}),
        ("stuck", {"sites": "state,weight", "at": 1, "duration": 2}),
        ("set", {}),
    ],
)
def test_the_exhaustive_table_is_the_population(name: str, options: dict[str, Any]) -> None:
    """Each fault once: as many as the population says, no two alike."""
    made = model(name, **options)
    table = made.exhaustive(net(), inputs(1))
    assert len(table) == made.population(net(), inputs(1)).size
    assert len({str(f) for f in table}) == len(table)


@pytest.mark.slow
def test_every_enumerated_model_numbers_what_it_draws() -> None:
    """A drawn fault that is not in the list of all would be counted against another population."""
    for name in registry.names("faults"):
        made = model(name)
        if isinstance(made, EnumeratedModel):
            every = {str(f) for f in made.exhaustive(net(), inputs(1))}
            drawn = made.draw(net(), 50, np.random.default_rng(0), inputs(1))
            assert {str(f) for f in drawn} <= every


def test_draws_are_uniform() -> None:
    """Weights are 18 of 2,294 faults: 20,000 draws hit them 157 times in the mean, with a deviation of 12.5."""
    table = model("seu").draw(net(), 20_000, np.random.default_rng(3), inputs())
    share = np.bincount(table.faults["site"], minlength=4)
    sizes = np.array([120, 108, 2048, 18])
    expected = 20_000 * sizes / sizes.sum()
    assert (np.abs(share - expected) < 4 * np.sqrt(expected)).all()


def test_clusters_follow_their_distribution_and_stay_inside() -> None:
    """Adjacent bits of one word, or one bit of adjacent words, as many as were asked for."""
    bits = model("mbu", sites="state", cluster="3:1").draw(net(), 200, np.random.default_rng(0), inputs())
    assert {int(flip) >> int(bit) for flip, bit in zip(bits.upsets["flip"], bits.faults["bit"], strict=True)} == {0b111}
    assert bits.upsets["flip"].max() < 1 << 8
    words = model("mbu", sites="state", across="words", cluster="2:1").draw(
        net(), 99, np.random.default_rng(0), inputs()
    )
    pairs = words.upsets["index"].reshape(-1, 2)
    assert (pairs[:, 1] == pairs[:, 0] + 1).all()
    assert pairs.max() == 2
    mixed = model("mbu", sites="state").draw(net(), 2000, np.random.default_rng(0), inputs())
    sizes = np.bincount([int(f).bit_count() for f in mixed.upsets["flip"]], minlength=5)
    assert abs(sizes[2] - 1400) < 90
    assert abs(sizes[4] - 200) < 60


def test_dead_units_are_zero_in_every_tick() -> None:
    """A dead unit that still shows codes is not dead: half of three units, rounded to two."""
    table = model("dead", share="0.5").draw(net(), 5, np.random.default_rng(0), inputs())
    opened = GoldenEngine().open(net(), inputs(), near=0)
    for fault in table:
        units = {u.index for u in fault.upsets}
        assert len(units) == 2
        assert not opened.trace(fault)["h"][:, sorted(units)].any()


def test_noise_has_its_deviation() -> None:
    """Sigma is in state units: 0.1 of a state of 7 fraction bits is 12.8 codes."""
    table = model("noise", sigma=0.1).draw(net(), 500, np.random.default_rng(0), inputs())
    codes = np.zeros(500 * 4 * 3)
    codes[: len(table.upsets)] = table.upsets["add"]
    assert abs(codes.std() - 12.8) < 0.4
    once = model("noise", when="once").draw(net(), 50, np.random.default_rng(0), inputs())
    assert all(len({u.first for u in fault.upsets}) == 1 for fault in once)


@pytest.mark.parametrize("kind", ["dropped", "duplicated", "delayed"])
def test_events_against_an_event_driven_machine(kind: str) -> None:
    """The upsets must be what the loss does: here the machine itself loses, doubles or delays one event."""
    table = model("events", kind=kind, delay=2).draw(net(), 40, np.random.default_rng(4), inputs())
    opened = GoldenEngine().open(net(), inputs(), near=0)
    weight = np.array(WEIGHT)
    for number, fault in enumerate(table):
        tick, unit, x = int(table.faults["tick"][number]), fault.unit, inputs()["x"][fault.sample]
        h, known, sums = (np.zeros(3, np.int64) for _ in range(3))
        late: dict[int, Any] = {}
        rows = []
        for t in range(4):
            change, known = h - known, h.copy()
            sums = sums + weight @ change
            lost = weight[:, unit] * change[unit]
            if t == tick:
                assert change[unit]
                sums = sums + (lost if kind == "duplicated" else -lost)
                late[t + 2] = lost if kind == "delayed" else 0
            sums = sums + late.get(t, 0)
            h = np.clip(sums + x, -128, 127)
            rows.append(h)
        np.testing.assert_array_equal(opened.trace(fault)["h"], np.array(rows))


def test_events_start_from_the_initial_state() -> None:
    """Before the first tick an event-driven machine knows 0; what an initial state adds are events as well."""
    begun = net(init=[5, 0, -5])
    assert golden.first_states(begun, inputs())["h"].tolist() == [[5, 0, -5]] * 2
    table = model("events").draw(begun, 200, np.random.default_rng(0), inputs())
    assert {(f.unit, u.add) for f in table for u in f.upsets if u.first == 0} == {(0, -5), (0, 5), (2, 5)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seu", {"sites": "state,stat"}),
        ("set", {"blocks": "steps"}),
        ("mbu", {"cluster": "2"}),
        ("mbu", {"cluster": "0:1"}),
        ("stuck", {"duration": -1}),
        ("dead", {"share": "1.5"}),
        ("noise", {"sigma": 0.0}),
        ("events", {"delay": 0}),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any]) -> None:
    """At once, with what is known, before hours of a campaign."""
    with pytest.raises(UsageError):
        model(name, **options)


@pytest.mark.parametrize("parts", ["combined,seu", "seu,events", "sue"])
def test_parts_that_do_not_combine_are_refused(parts: str) -> None:
    """Events belong to their sample; a combination of combinations has no end."""
    with pytest.raises(UsageError):
        model("combined", parts=parts).draw(net(), 1, np.random.default_rng(0), inputs())


@pytest.mark.parametrize("name", ["mbu", "dead", "noise", "events", "combined"])
def test_random_faults_have_no_list(name: str) -> None:
    """A campaign that believes that it saw all of them would state no interval."""
    with pytest.raises(UsageError, match="random parts"):
        model(name).exhaustive(net(), inputs())
