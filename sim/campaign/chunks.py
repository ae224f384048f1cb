"""One chunk of a campaign: draw, inject, and inject again into a network started anew. Runs in any process."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...toolchain import registry
from ...toolchain.diagnostics import Diagnostic, MissingToolError, UnsupportedError
from ...toolchain.ir import IntNet
from ..faults.draw import Draw
from ..faults.engine import Engine, Outcome, Session, Tally
from ..faults.table import FaultTable
from .curves import Curve, curves_of, has_curves
from .definition import Campaign, Content
from .reset import left_after_reset

__all__ = [
    "NOT_RUN",
    "ChunkResult",
    "Counts",
    "chunk_digest",
    "find_engine",
    "open_engine",
    "run_chunk",
    "table_digest",
    "usable_engine",
]

KEPT = (Outcome.SDC, Outcome.HANG)
"""Outcomes whose faults are listed by counted campaigns."""
_CURVED, _DIGESTED = 100, 1_000
"""Of a chunk of a counted campaign: faults that may have curves, and those that stand for all in its digest."""
NOT_RUN = 255
"""`after_reset` of a fault of which a reset leaves nothing: the new run is the clean one."""


@dataclass(frozen=True, eq=False)
class Counts:
    """How many faults ended so, by column `[cells]`: the name of the site (object), `unit`, `bit`, `tick`, `outcome`
    and `faults`, int64."""

    site: NDArray[np.object_]
    unit: NDArray[np.int64]
    bit: NDArray[np.int64]
    tick: NDArray[np.int64]
    outcome: NDArray[np.int64]
    faults: NDArray[np.int64]


@dataclass(frozen=True)
class ChunkResult:
    """The rows of one chunk. `faults` and `sites` are those of the table, `results` of dtype `RESULT`, `after_reset`
    outcomes `[faults]` uint8; `digest` tells the drawn faults apart from any others; `mechanisms` are the session's;
    `curves` of a few faults, in some chunks. Of a counted campaign `counts` is of all faults, and the rows are those of
    the numbers `which` `[faults]`."""

    number: int
    sites: tuple[str, ...]
    faults: NDArray[np.void]
    results: NDArray[np.void]
    after_reset: NDArray[np.uint8]
    digest: str
    seconds: float
    mechanisms: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    which: NDArray[np.int64] | None = None
    counts: Counts | None = None

    @property
    def size(self) -> int:
        """Faults that were injected."""
        return len(self.faults) if self.counts is None else int(self.counts.faults.sum())


def usable_engine(name: str, net: IntNet, artifact: Path | None) -> Engine:
    """An engine by name. Raises MissingToolError or UnsupportedError with every reason why it cannot run the net."""
    engine = registry.find_class("engines", name, Engine)(artifact)
    absent = engine.missing()
    if absent:
        what = f"engine {engine.name} needs {', '.join(absent)}"
        raise MissingToolError(Diagnostic("missing-tool", what, hint=engine.install))
    reasons = engine.check(net)
    if reasons:
        raise UnsupportedError(reasons)
    return engine


def find_engine(campaign: Campaign) -> Engine:
    """The engine of a campaign; raises as `usable_engine`."""
    return usable_engine(campaign.engine, campaign.net, campaign.artifact)


def open_engine(campaign: Campaign) -> Session:
    """The clean runs of a campaign in its engine; raises as `find_engine`."""
    return find_engine(campaign).open(campaign.net, campaign.inputs, near=campaign.near)


@lru_cache(maxsize=2)
def _opened(content: Content) -> tuple[Campaign, Session]:
    campaign = content.open()
    return campaign, open_engine(campaign)


def run_chunk(content: Content, number: int) -> ChunkResult:
    """Inject chunk `number`; the campaign is opened once a process."""
    campaign, session = _opened(content)
    start = time.perf_counter()
    if campaign.plan.counted:
        return _counted(campaign, session, number, start)
    table = campaign.faults(number)
    results = session.run(table)
    after = np.full(len(table), NOT_RUN, np.uint8)
    which, left = left_after_reset(table, campaign.ticks)
    if len(which):
        after[which] = session.run(left)["outcome"]
    return ChunkResult(
        number=number,
        sites=table.sites,
        faults=table.faults,
        results=results,
        after_reset=after,
        digest=table_digest(table),
        seconds=time.perf_counter() - start,
        mechanisms=session.mechanisms,
        curves=curves_of(session, table, results) if has_curves(campaign.plan, number) else (),
    )


def _counted(campaign: Campaign, session: Session, number: int, start: float) -> ChunkResult:
    """Count a chunk, and inject again what is worth a row: faults with a wrong label, and those that have curves."""
    draw = campaign.drawn(number)
    tally = session.tally(draw, KEPT)
    curved = has_curves(campaign.plan, number)
    which = np.union1d(tally.kept, np.arange(min(draw.count, _CURVED) if curved else 0))
    table = draw.faults(which)
    results = session.run(table)
    listed = which[np.isin(results["outcome"], KEPT)]
    assert np.array_equal(listed, tally.kept), "what was counted as a wrong label has none when it is injected again"
    curves = curves_of(session, table, results) if curved else ()
    return ChunkResult(
        number=number,
        sites=table.sites,
        faults=table.faults,
        results=results,
        after_reset=np.full(len(table), NOT_RUN, np.uint8),
        digest=chunk_digest(campaign, number),
        seconds=time.perf_counter() - start,
        mechanisms=session.mechanisms,
        curves=tuple(replace(curve, number=int(which[curve.number])) for curve in curves),
        which=which,
        counts=_cells(draw, tally),
    )


def _cells(draw: Draw, tally: Tally) -> Counts:
    """The counts that are not 0."""
    tick, place, outcome = np.nonzero(tally.counts)
    sites = draw.population.sites
    names = np.array([s.name for s in sites], object)
    site = np.repeat(np.arange(len(sites)), [s.units * s.bits for s in sites])
    unit = np.concatenate([np.repeat(np.arange(s.units), s.bits) for s in sites])
    bit = np.concatenate([np.tile(np.arange(s.bits), s.units) for s in sites])
    faults = tally.counts[tick, place, outcome]
    return Counts(names[site[place]], unit[place], bit[place], draw.ticks[tick], outcome, faults)


def chunk_digest(campaign: Campaign, number: int) -> str:
    """What tells the faults of a chunk apart from others; of a counted one the first thousand stand for all."""
    count = campaign.plan.faults_in(number)
    which = range(min(count, _DIGESTED)) if campaign.plan.counted else None
    return table_digest(campaign.faults(number, which))


def table_digest(table: FaultTable) -> str:
    """SHA-256 over everything in a table."""
    found = hashlib.sha256(repr((table.names, table.sites)).encode())
    found.update(np.ascontiguousarray(table.faults).tobytes())
    found.update(np.ascontiguousarray(table.upsets).tobytes())
    return found.hexdigest()
