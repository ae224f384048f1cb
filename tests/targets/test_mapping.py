"""Placement on neurocores and the estimates, against numbers worked out by hand."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from placed_nets import image, placed
from strategies import with_formats

from eqcompile.targets.loihi import energy
from eqcompile.targets.loihi import target as loihi_target
from eqcompile.targets.loihi.capacity import least_cores, weight_bits
from eqcompile.targets.loihi.chips import CHIPS, ChipName
from eqcompile.targets.loihi.report import mapping_text
from eqcompile.targets.loihi.target import LoihiTarget
from eqcompile.toolchain.interfaces import Refusals
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops
from eqcompile.toolchain.passes import Taps

RANDOM = np.random.default_rng(0)


def feed_forward(weight: np.ndarray[Any, Any]) -> IntNet:
    """`y = W x`, read out after one tick."""
    return with_formats(
        IntNet(
            name="ff",
            family="test",
            inputs=(Input("x", (weight.shape[1],), encoding=Encoding(Format(4, True), 1.0)),),
            params=(Param("W", weight.astype(np.int64), "test"),),
            states=(),
            drive=(ops.Linear(out="y", x="x", weight="W"),),
            step=(),
            readout=(),
            outputs=(Output("o", "y", "values", 1.0),),
            schedule=Schedule(1),
        )
    )


def loop(size: int, top: int) -> IntNet:
    """`h <- clamp(W h + drive)` with dense weights up to `top`."""
    weight = RANDOM.integers(1, top, (size, size), endpoint=True)
    return with_formats(
        IntNet(
            name="loop",
            family="test",
            inputs=(Input("x", (3,), encoding=Encoding(Format(4, True), 1.0)),),
            params=(
                Param("W", weight, "test"),
                Param("V", np.ones((size, 3), np.int64), "test"),
                Param("T", np.arange(-8, 8), "test"),
            ),
            states=(State("h", (size,), "new", frac=3),),
            drive=(ops.Linear(out="d", x="x", weight="V"),),
            step=(
                ops.Linear(out="r", x="h", weight="W"),
                ops.Add(out="p", a="d", b="r"),
                ops.Lookup(out="new", x="p", table="T", first=-8),
            ),
            readout=(),
            outputs=(Output("o", "h", "values", 1.0),),
            schedule=Schedule(5),
            formats={"h": Format(4, True)},
        )
    )


@pytest.mark.parametrize(
    ("weights", "bits"), [([-1, 0, 1], 2), ([1, 1], 2), ([-127, 5], 8), ([127], 8), ([-128], 8), ([-3], 3), ([0], 1)]
)
def test_weight_bits(weights: list[int], bits: int) -> None:
    """A ternary weight counted as 8 bits would make every estimate four times too large."""
    values = np.array(weights)
    column = np.flatnonzero(values)
    matrix = Taps(values.size, np.array([0, column.size]), column.astype(np.int32), values[column].astype(np.int16))
    assert weight_bits(matrix) == bits


def test_a_population_is_split_where_memory_ends() -> None:
    """Rows of 1100 weights of 8 bits and 3 of 2 bits: 119 units fill 128 KB, so 10 cores; greedy, nothing lost."""
    found = placed(loop(1100, 127), connectivity="dense")
    rows = [c for c in found.cores if c.population == "h"]
    bits = 1100 * 8 + 3 * 2
    fit = 128 * 1024 * 8 // bits
    assert fit == 119
    assert [(c.first, c.last) for c in rows] == [(i, min(i + fit, 1100)) for i in range(0, 1100, fit)]
    assert [c.memory_bits for c in rows[:2]] == [119 * bits, 119 * bits]
    assert all(c.in_axons == 1100 + 3 for c in rows)
    assert all(c.out_axons == (c.last - c.first) * len(rows) for c in rows), "each unit reaches every core of h"
    assert found.shortages == ()


def test_sources_are_split_where_out_axons_end() -> None:
    """1000 inputs that reach 5 cores need 5000 edges; one core has 4096, so the inputs take two cores or more."""
    found = placed(feed_forward(RANDOM.integers(1, 127, (600, 1000))), connectivity="dense")
    targets = [c for c in found.cores if c.population == "o" or c.population == "y"]
    sources = [c for c in found.cores if c.population == "x"]
    assert len(targets) == 5
    assert len(sources) >= 2
    assert sum(c.last - c.first for c in sources) == 1000
    assert all(c.out_axons == (c.last - c.first) * 5 <= 4096 for c in sources)
    assert found.shortages == ()


def test_sparse_storage_counts_an_index_and_only_what_is_there() -> None:
    """An index costs 10 bits on a core of 1024 neurons; a row that misses a source needs no axon for it."""
    weight = np.zeros((4, 50), np.int64)
    weight[0, 3] = weight[1, 3] = weight[3, 49] = 1
    found = placed(feed_forward(weight))
    (core,) = [c for c in found.cores if c.population == "y"]
    assert found.storage == {"y": "sparse"}
    assert (core.memory_bits, core.in_axons, dict(core.synapses)) == (3 * (2 + 10), 2, {"y": 3})
    (core,) = [c for c in placed(feed_forward(weight), connectivity="dense").cores if c.population == "y"]
    assert (core.memory_bits, core.in_axons) == (4 * 50 * 2, 50)


def test_auto_takes_the_smaller_storage() -> None:
    """A full matrix stored with indices would waste more than half of the memory."""
    assert placed(feed_forward(np.ones((8, 8)))).storage == {"y": "dense"}


def test_loihi2_shares_its_memory_with_registers_and_tables() -> None:
    """On Loihi 2 state and tables take room from the synapses; leaving them out would overfill a core."""
    (core,) = [c for c in placed(loop(10, 1), "loihi2", connectivity="dense").cores if c.population == "h"]
    weights = 10 * 10 * 2 + 10 * 3 * 2
    registers = 10 * (1 + 2 + 1)  # h; sums d and r; last sent h
    assert core.memory_bits == weights + (registers + 16) * 32


@pytest.mark.parametrize(
    ("net", "options", "want"),
    [
        (feed_forward(np.ones((1, 4097))), {}, ("in-axons", "y", 4097, 4096)),
        (feed_forward(np.ones((1, 4000)) * 127), {"connectivity": "sparse"}, None),
        (feed_forward(np.ones((2, 4096)) * 1000), {"connectivity": "dense"}, None),
    ],
)
def test_shortage_of_one_core(net: IntNet, options: Any, want: Any) -> None:
    """A unit that cannot fit any core must be named with what it lacks."""
    found = placed(net, **options).shortages
    assert [(s.resource, s.where, s.needed, s.available) for s in found] == ([] if want is None else [want])


@pytest.mark.parametrize("name", CHIPS)
def test_limits_that_nobody_published_are_named(name: str) -> None:
    """A placement that reads as checked against a limit that is not known."""
    chip = CHIPS[name]
    [note] = [n for n in placed(loop(4, 1), name).notes if n.startswith("Not checked")] or [""]
    for limit in ("in_axons", "out_axons"):
        assert (limit in note) == (getattr(chip, limit) is None)


def test_shortage_of_cores() -> None:
    """More cores than the chip has is a shortage too, and another chip ends it."""
    net = feed_forward(RANDOM.integers(1, 3, (132 * 1024, 1)))
    (found,) = placed(net).shortages
    assert (found.resource, found.available, found.needed) == ("neurocores", 128, 133)
    assert placed(net, chips=2).shortages == ()
    assert "DOES NOT FIT" in mapping_text(placed(net))


def test_cores_are_counted_before_anything_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of 96 channels has 81 million synapses: to write them down takes gigabytes, and then no chip holds
    them. The bound must be below what placing finds, and the refusal must come without placing."""
    for net in (loop(40, 1), loop(300, 100), image(2, 12), image(3, 20)):
        for chip in CHIPS.values():
            least, bits = least_cores(net, chip, "auto")
            cores = placed(net, chip.name).cores
            assert least <= len(cores)
            assert bits <= sum(core.memory_bits for core in cores)
    monkeypatch.setattr("eqcompile.targets.loihi.target.partition", lambda net: pytest.fail("the net is cut"))
    refusal = LoihiTarget().plan(image(96, 32))
    assert isinstance(refusal, Refusals)
    # 96 * 96 * (32 * 3 - 2)^2 taps; ternary, so 2 bits each and 13 for the neuron.
    needed = -(-96 * 96 * 94 * 94 * 15 // (192 * 1024 * 8))
    assert [d.code for d in refusal.diagnostics] == ["loihi-capacity"]
    assert f"at least {needed} neurocores" in refusal.diagnostics[0].what
    assert "have 128" in refusal.diagnostics[0].what


@pytest.mark.parametrize("name", CHIPS)
def test_the_chips_that_suffice_are_named(name: ChipName, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has to try one number after another waits for a quantization each time: the number that is told is the
    first that compiles."""
    small = {n: replace(chip, cores=3) for n, chip in CHIPS.items()}
    monkeypatch.setattr(loihi_target, "CHIPS", small)
    net = image(16, 24)
    refusal = LoihiTarget(chip=name).plan(net)
    assert isinstance(refusal, Refusals)
    (fault,) = refusal.diagnostics
    chips = int(re.search(r"give --chips (\d+), which suffices", fault.hint).group(1))  # type: ignore[union-attr]
    assert chips > 1
    assert isinstance(LoihiTarget(chip=name, chips=chips - 1).plan(net), Refusals)
    assert not isinstance(LoihiTarget(chip=name, chips=chips).plan(net), Refusals)


def test_text_and_json_of_a_placement() -> None:
    """The table is what a user reads: limits, their sources, and that binary spikes cannot carry this network."""
    found = placed(loop(10, 1))
    text = mapping_text(found)
    assert "p. 89, constraint 2" in text
    assert "binary spikes" in text
    assert "binary" not in mapping_text(placed(loop(10, 1), "loihi2"))
    assert json.loads(json.dumps(found.to_json()))["chip"]["memory_bits"] == 1048576


def counted() -> energy.Events:
    result = {
        "steps": np.array([4, 5]),
        "events.x_drive": np.array([[3], [1]]),
        "events.h_step": np.array([[0, 5, 2, 1, 0], [0, 5, 4, 2, 1]]),
        "synops.r": np.array([[0, 50, 20, 10, 0], [0, 50, 40, 20, 10]]),
        "synops.d": np.array([[30], [10]]),
        "units.h": np.array([[5, 2, 1, 0, 0], [5, 4, 2, 1, 0]]),
    }
    return energy.counted(result)


def test_events_are_means_over_samples() -> None:
    """Sums in the place of means would charge one sample for the whole batch."""
    found = counted()
    assert (found.samples, found.ticks, found.settled_after) == (2, 5, 4.5)
    assert found.streams == {"x_drive": 2.0, "h_step": 10.0}
    assert found.synops == {"r": 100.0, "d": 20.0}
    assert found.moved == {"h": 10.0}
    assert found.per_tick == {"h_step": (0.0, 5.0, 3.0, 1.5, 0.5)}


def test_estimate_by_hand() -> None:
    """Energy and time must be the counts times the published figures, nothing else."""
    placement = placed(loop(10, 1)).to_json()
    found = energy.estimate(placement, counted())
    assert found is not None
    assert found.time_steps == 7  # clamp, five ticks, readout
    assert found.energy_nj["synaptic operations"] == pytest.approx(120 * 23.6e-3)
    assert found.energy_nj["neuron updates"] == pytest.approx((10 * 81 + (13 * 7 - 10) * 52) * 1e-3)
    assert found.energy_nj["spikes"] == pytest.approx(12 * 1.7e-3)
    assert found.energy_nj["tile hops"] == 0.0
    assert found.total_nj == pytest.approx(sum(found.energy_nj.values()))
    assert found.time_step_ns[0] == pytest.approx(113 + 10 * 5.3)
    assert found.time_step_ns[1] == pytest.approx(465 + 10 * 8.4 + 120 / 7 * 3.5)


def test_hops_are_counted_between_tiles() -> None:
    """Core 0 and core 5 lie on neighbouring tiles: one hop east-west for each message between them."""
    found = placed(loop(1100, 127), connectivity="dense")
    (route,) = [r for r in found.routes if r.stream == "h_step"]
    tiles = [n // 4 for n, c in enumerate(found.cores) if c.population == "h"]
    sizes = [c.last - c.first for c in found.cores if c.population == "h"]
    want = sum(n * abs(a - b) for n, a in zip(sizes, tiles, strict=True) for b in tiles) / 1100
    assert route.copies == pytest.approx(len(sizes))
    assert route.hops_east_west == pytest.approx(want)
    assert route.hops_north_south == 0.0


def test_nothing_is_estimated_without_published_figures() -> None:
    """Energy for Loihi 2 would be an invention."""
    placements = {chip: placed(loop(10, 1), chip).to_json() for chip in ("loihi1", "loihi2")}
    report = energy.report(placements, counted())
    assert report["estimates"]["loihi2"] == {"kind": "estimated", "none": "no figures per operation are published"}
    assert report["estimates"]["loihi1"]["total_nj"] > 0
    assert report["events"]["kind"] == "simulated"
    for lines in (energy.text(report).splitlines(), energy.summary(report)):
        assert [line for line in lines if "at the costs of an operation of loihi1 (estimated)" in line and "nJ" in line]
        assert "energy and time on loihi2 (estimated): none, no figures per operation are published" in lines


def test_what_does_not_fit_has_no_estimate() -> None:
    """A cost on a chip that cannot hold the network would be read as if it could."""
    crowded = {"loihi1": placed(loop(10, 1)).to_json() | {"shortages": [{}]}}
    report = energy.report(crowded, counted())
    assert report["estimates"]["loihi1"]["none"] == "the network does not fit"
