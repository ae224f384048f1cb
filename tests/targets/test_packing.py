"""The fast placement against its definition, and units of an image site by site."""

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_nets import image, placed
from slow_placement import SlowPlacer, written
from strategies import SPACES, random_net

from eqcompile.targets.loihi.chips import CHIPS, Chip
from eqcompile.targets.loihi.mapping import place
from eqcompile.targets.loihi.packing import Packing, by_sites
from eqcompile.targets.loihi.partition import Partition, partition
from eqcompile.targets.loihi.report import mapping_text
from eqcompile.toolchain.passes import unroll

SMALL = {"neurons": (2, 8), "memory_bits": (60, 1200), "in_axons": (4, 60), "out_axons": (6, 100)}


def small_chip(rng: random.Random) -> Chip:
    """A chip on which small nets take several cores; some limits are not published."""
    limits: dict[str, Any] = {name: rng.randint(*span) for name, span in SMALL.items()}
    for name in ("in_axons", "out_axons"):
        limits[name] = None if rng.random() < 0.2 else limits[name]
    return replace(CHIPS["loihi1"], cores=10_000, **limits)


def small_parts(rng: random.Random) -> Partition:
    spaces = rng.choice((SPACES, ("image",)))
    return partition(unroll(random_net(rng, spaces=spaces, tolerance=0)))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_the_fast_placement_is_the_defined_one(seed: int) -> None:
    """Would break if a run ended too early or late, a source were counted twice, or an edge went to a wrong core."""
    rng = random.Random(seed)
    parts, chip = small_parts(rng), small_chip(rng)
    found = place(parts, chip)
    assert written(found) == SlowPlacer(parts, chip, found.sites).result()


@pytest.mark.slow
def test_the_comparison_meets_what_it_is_for() -> None:
    """Would break if the random nets above fitted one core each, or none fitted, so that nothing were compared."""
    split, refused, by_site = 0, 0, 0
    for seed in range(200):
        rng = random.Random(seed)
        parts, chip = small_parts(rng), small_chip(rng)
        found = place(parts, chip)
        refused += bool(found.shortages)
        split += len(found.cores) > len(parts.populations) + 2
        by_site += bool(found.sites) and not found.shortages
    assert split > 30
    assert refused > 10
    assert by_site > 3


@pytest.mark.parametrize("mutant", ["axons", "memory", "place"])
def test_a_wrong_placement_is_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the comparison let through sources counted twice, a run that ends a place early, or edges that
    leave from the place of another unit."""
    if mutant == "axons":
        met = Packing._reach
        monkeypatch.setattr(Packing, "_met", lambda self, stream, first, last: both(self, met, stream, first, last))
    elif mutant == "memory":
        bits = Packing.memory_bits
        monkeypatch.setattr(Packing, "memory_bits", lambda self, first, last: bits(self, first, last) + 1)
    else:
        monkeypatch.setattr(Packing, "place", property(lambda self: np.arange(self.units)[::-1]))
    caught = 0
    for seed in range(60):
        rng = random.Random(seed)
        parts, chip = small_parts(rng), small_chip(rng)
        found = place(parts, chip)
        caught += written(found) != SlowPlacer(parts, chip, found.sites).result()
    assert caught


def both(packing: Packing, reach: Any, stream: Any, first: int, last: int) -> Any:
    """Every tap of every feed, sources that several share among them."""
    found = [reach(packing, feed, first, last) for feed in packing.feeds if feed.source == stream]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def test_places_site_by_site() -> None:
    """The numbering that README and mapping.json state: place p is channel `p % C` of site `p // C`."""
    assert by_sites((2, 1, 3)).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("chip", CHIPS)
def test_an_image_that_fills_many_cores_lies_site_by_site(chip: str) -> None:
    """Would break if each core of an image still had sources from whole channels: a core of some sites needs the sites
    around these alone. Who reads the placement must see which units a core holds."""
    net = image(16, 24)
    found = placed(net, chip, chips=4)
    parts = partition(net)
    assert dict(found.sites) == {p.name: (16, 24, 24) for p in parts.populations}
    h = [core for core in found.cores if core.population == "h"]
    assert len(h) > 1
    # Sites of a run, a row above and below, one at each end; all channels of each; and x, which h mirrors.
    for core in h:
        sites = -(-core.last // 16) - core.first // 16
        assert core.in_axons <= (3 * (sites + 2)) * 16 + (core.last - core.first)
    assert "place p is channel p % 16 of site p // 16" in " ".join(found.notes).lower()
    assert "site by site" in mapping_text(found)
    assert json.loads(json.dumps(found.to_json()))["sites"]["h"] == [16, 24, 24]


def test_an_image_that_one_core_holds_stays_as_it_is() -> None:
    """The order changes nothing there, so nothing may be said of it."""
    found = placed(image(2, 6))
    assert not found.sites
    assert "site by site" not in mapping_text(found)
