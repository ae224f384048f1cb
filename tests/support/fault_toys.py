"""A fault model and an engine as a stranger would install them: what happens to a fault is a hash of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from eqcompile.toolchain import registry

__all__ = ["installed_toys"]

PLUGIN = """
import os, time, zlib
from dataclasses import dataclass, field
import numpy as np
from eqcompile.sim.faults.engine import RESULT, Engine, Outcome, Session
from eqcompile.sim.faults.model import Columns, EnumeratedModel, FaultModel, Population, Site
from eqcompile.sim.faults.table import Place

@dataclass(frozen=True)
class Toy(EnumeratedModel):
    summary = "one bit of a state, or of a parameter"
    name = "toy"
    site: str = field(default="state", metadata={"help": "state or param"})

    def population(self, net, samples):
        state, ticks = net.states[0], net.schedule.steps
        size, bits = int(np.prod(state.shape)), net.formats[state.name].bits
        place, name = (Place.STATE, state.name) if self.site == "state" else (Place.PARAM, net.params[0].name)
        sites = (Site(f"{self.site}:{name}", place, name, size, bits, 0, ticks),)
        return Population(sites, len(next(iter(samples.values()))))

    def faults(self, net, samples, population, points):
        (site,) = population.sites
        last = points.tick if self.site == "state" else net.schedule.steps
        owner = np.arange(len(points.site))
        upsets = Columns(owner, site.place, 0, points.unit, points.tick, last, flip=1 << points.bit)
        return upsets.table([site.target], [site.name], points)

class RandomToy(FaultModel):
    summary, name = "the same, drawn one by one", "random-toy"

    def population(self, net, samples):
        return Toy().population(net, samples)

    def draw(self, net, n, generator, samples):
        return Toy().draw(net, n, generator, samples)

class ToySession(Session):
    def __init__(self, net):
        self.net = net

    def run(self, table):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        rows = np.zeros(len(table), RESULT)
        for k, fault in enumerate(table):
            lot = zlib.crc32(str(fault).encode()) / 2**32
            rows["outcome"][k] = Outcome.MASKED if lot < 0.5 else Outcome.HEALED if lot < 0.9 else Outcome.SDC
            rows["distance_max"][k] = rows["outcome"][k] != 0
        return rows

    def trace(self, fault):
        return {s.name: codes + (k >= fault.upsets[0].first) for s in self.net.states
                for k, codes in [(np.arange(self.net.schedule.steps).reshape(-1, *(1 for _ in s.shape)),
                                  self.clean(0)[s.name])]}

    def clean(self, sample):
        return {s.name: np.zeros((self.net.schedule.steps, *s.shape), np.int64) for s in self.net.states}

class ToyEngine(Engine):
    name = "toy"

    def missing(self):
        return ()

    def check(self, net):
        return ()

    def open(self, net, inputs, *, near):
        return ToySession(net)
"""
ENTRY_POINTS = """
    [eqcompile.faults]
    toy = eqfault_toys:Toy
    random-toy = eqfault_toys:RandomToy
    [eqcompile.engines]
    toy = eqfault_toys:ToyEngine
"""


def installed_toys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the plug-in into `folder`, here and for processes started from here."""
    (folder / "eqfault_toys.py").write_text(PLUGIN)
    info = folder / "eqfault_toys-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eqfault-toys\nVersion: 0\n")
    (info / "entry_points.txt").write_text(dedent(ENTRY_POINTS))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    registry._group.cache_clear()
    yield folder
    sys.modules.pop("eqfault_toys", None)
    registry._group.cache_clear()
