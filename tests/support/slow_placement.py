"""Placement as it is defined, without what makes it fast: every run is tried, every set of sources is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqcompile.targets.loihi.capacity import index_bits, stored_as, weight_bits
from eqcompile.targets.loihi.chips import Chip
from eqcompile.targets.loihi.mapping import Placement
from eqcompile.targets.loihi.partition import Partition, Population

__all__ = ["SlowPlacer", "written"]

Run = tuple[str, int, int]


class SlowPlacer:
    """Cores of a net on a chip; `sites` as of a `Placement`."""

    def __init__(self, net: Partition, chip: Chip, sites: Mapping[str, tuple[int, int, int]]) -> None:
        self.net, self.chip = net, chip
        self.by_name = {p.name: p for p in net.populations}
        self.unit: dict[str, list[int]] = {}
        for p in net.populations:
            self.unit[p.name] = [*range(p.units)]
            if p.name in sites:
                channels, height, width = sites[p.name]
                places = range(p.units)
                self.unit[p.name] = [place % channels * height * width + place // channels for place in places]

    def needs(self, run: Run) -> tuple[int, dict[Any, set[int]], dict[str, int]]:
        """Memory bits, units of each stream that reach the run, stored weights by synapse."""
        p, units = self.by_name[run[0]], self.unit[run[0]][run[1] : run[2]]
        bits, stored = 0, {}
        reached: dict[Any, set[int]] = {}
        for s in self.net.synapses:
            if p.name not in s.targets:
                continue
            rows = [r for r in range(s.matrix.shape[0]) if r * p.units // s.matrix.shape[0] in units]
            dense = stored_as(s.matrix, self.chip, "auto") == "dense"
            start = s.matrix.row_start
            taps = [int(c) for r in rows for c in s.matrix.column[start[r] : start[r + 1]]]
            met = {*range(s.matrix.shape[1])} if dense and rows else {*taps}
            stored[s.name] = len(rows) * s.matrix.shape[1] if dense else len(taps)
            bits += stored[s.name] * (weight_bits(s.matrix) + (0 if dense else index_bits(self.chip)))
            reached.setdefault(s.source, set()).update(met)
        for stream in p.mirrors:
            count = self.net.elements(stream.value)
            met = {r for r in range(count) if r * p.units // count in units}
            stored[f"mirror_{stream}"] = len(met)
            bits += len(met) * (2 + index_bits(self.chip))
            reached.setdefault(stream, set()).update(met)
        return bits, reached, stored

    def fits(self, run: Run) -> bool:
        """Neurons, memory and in-axons; a chip without shared memory."""
        bits, reached, _ = self.needs(run)
        axons = sum(map(len, reached.values()))
        limit = self.chip.in_axons
        return (
            run[2] - run[1] <= self.chip.neurons and bits <= self.chip.memory_bits and (limit is None or axons <= limit)
        )

    def runs(self, p: Population, cap: int) -> list[Run]:
        """The longest runs that fit, found place by place; the last of a population that fits nowhere is one unit."""
        found, first = [], 0
        while first < p.units:
            last = first + 1
            while last < min(p.units, first + cap) and self.fits((p.name, first, last + 1)):
                last += 1
            found.append((p.name, first, last))
            if not self.fits(found[-1]):
                return found
            first = last
        return found

    def out_axons(self, runs: list[Run]) -> list[int]:
        """For each run: for each of its units and streams, the runs that it reaches."""
        count = [0] * len(runs)
        for run in runs:
            for stream, met in self.needs(run)[1].items():
                sender = self.by_name[self.net.sender[stream]]
                for entry in met:
                    unit = entry * sender.units // self.net.elements(stream.value)
                    place = self.unit[sender.name].index(unit)
                    (at,) = (i for i, r in enumerate(runs) if r[0] == sender.name and r[1] <= place < r[2])
                    count[at] += 1
        return count

    def result(self) -> list[tuple[Any, ...]] | None:
        """As `written`; None of a net that does not fit."""
        cap = {p.name: self.chip.neurons for p in self.net.populations}
        while True:
            runs = [run for p in self.net.populations for run in self.runs(p, cap[p.name])]
            if not all(map(self.fits, runs)):
                return None
            axons = self.out_axons(runs)
            limit = self.chip.out_axons
            worst = {run[0]: 0 for run, n in zip(runs, axons, strict=True) if limit is not None and n > limit}
            for run, n in zip(runs, axons, strict=True):
                if run[0] in worst:
                    worst[run[0]] = max(worst[run[0]], n)
            if not worst or limit is None:
                break
            if any(cap[name] == 1 for name in worst):
                return None
            for name, needed in worst.items():
                cap[name] = max(1, cap[name] * limit // (needed + limit))
        rows = []
        for run, out in zip(runs, axons, strict=True):
            bits, reached, stored = self.needs(run)
            rows.append((*run, bits, sum(map(len, reached.values())), out, stored))
        return rows if len(rows) <= self.chip.cores else None


def written(placement: Placement) -> list[tuple[Any, ...]] | None:
    """Cores as rows: population, first, last, memory bits, in-axons, out-axons, synapses; None of a net that does not
    fit."""
    rows = [tuple(vars(core).values()) for core in placement.cores]
    return None if placement.shortages else [(*row[:-1], dict(row[-1])) for row in rows]
