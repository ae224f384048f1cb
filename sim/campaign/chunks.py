"""One chunk of a campaign: draw, inject, and inject again into a network started anew. Runs in any process."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...toolchain import registry
from ...toolchain.diagnostics import Diagnostic, MissingToolError, UnsupportedError
from ...toolchain.ir import IntNet
from ..faults.engine import Engine, Session
from ..faults.table import FaultTable
from .curves import Curve, curves_of, has_curves
from .definition import Campaign, Content
from .reset import left_after_reset

__all__ = ["NOT_RUN", "ChunkResult", "find_engine", "open_engine", "run_chunk", "table_digest", "usable_engine"]

NOT_RUN = 255
"""`after_reset` of a fault of which a reset leaves nothing: the new run is the clean one."""


@dataclass(frozen=True)
class ChunkResult:
    """The rows of one chunk. `faults` and `sites` are those of the table, `results` of dtype `RESULT`, `after_reset`
    outcomes `[faults]` uint8; `digest` tells the drawn faults apart from any others; `mechanisms` are the session's;
    `curves` of a few faults, in some chunks."""

    number: int
    sites: tuple[str, ...]
    faults: NDArray[np.void]
    results: NDArray[np.void]
    after_reset: NDArray[np.uint8]
    digest: str
    seconds: float
    mechanisms: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()


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


def table_digest(table: FaultTable) -> str:
    """SHA-256 over everything in a table."""
    found = hashlib.sha256(repr((table.names, table.sites)).encode())
    found.update(np.ascontiguousarray(table.faults).tobytes())
    found.update(np.ascontiguousarray(table.upsets).tobytes())
    return found.hexdigest()
