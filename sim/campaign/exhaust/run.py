"""The run over every fault of a campaign: block by block, each stored as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import ArtifactError, Diagnostic
from ...faults.engine import Session
from ...faults.model import EnumeratedModel, Site
from ...faults.table import Place
from ..chunks import find_engine
from ..definition import Campaign, Content, read_campaign, read_content, write_campaign
from ..scheduler import LOCAL, make_pool
from .blocks import Block, blocks_of, points_of
from .store import OUTCOMES, Outcomes, packed, stored, write_block

__all__ = ["begin", "exhaust", "is_exhaustive", "outcomes_of", "run_block"]

Progress = Callable[[int, int], None]


def is_exhaustive(folder: Path) -> bool:
    """Whether the folder of a campaign holds outcomes of every fault in place of a table of results."""
    return (folder / OUTCOMES).is_dir()


def begin(campaign: Campaign, folder: Path, *, force: bool) -> None:
    """Make the folder of a campaign over every fault, or take the one that is there if it is the same campaign.

    Raises ArtifactError for a folder of something else (with `force`: that is no campaign).
    """
    if not force and is_exhaustive(folder):
        stated, there = (_definition(c) for c in (campaign, read_campaign(folder)))
        different = [key for key in stated if stated[key] != there[key]]
        if different:
            what = f"the folder holds every fault of another campaign: other {', '.join(different)}"
            hint = "choose another -o, or replace it: --force"
            raise ArtifactError(Diagnostic("exhaust-other", what, str(folder), hint))
        return
    write_campaign(campaign, folder, force=force)
    (folder / OUTCOMES).mkdir()


def _definition(campaign: Campaign) -> Mapping[str, object]:
    """What outcomes depend on."""
    said = campaign.to_json()
    return {key: said[key] for key in ("net", "ir_digest", "inputs", "model", "options", "near", "schedule")}


def exhaust(folder: Path, progress: Progress | None = None, *, scheduler: str = LOCAL, workers: int = 1) -> None:
    """Inject every fault that a folder still lacks, with local processes or a dask scheduler as `run_campaign`; what a
    block holds depends on its number alone. `progress(done, all)`: faults.

    Raises ArtifactError if the folder is none of `begin`, and as the engine and the scheduler; what was stored before
    stays.
    """
    if not is_exhaustive(folder):
        what = f"the folder has no {OUTCOMES}/: it is no run over every fault"
        raise ArtifactError(Diagnostic("exhaust-none", what, str(folder), "eqfault exhaust makes one"))
    content, campaign = read_content(folder), read_campaign(folder)
    if scheduler == LOCAL and find_engine(campaign).alone:
        workers = 1
    blocks, sites = blocks_of(campaign.population), campaign.population.sites
    sizes = [int(np.prod(block.shape(sites[block.site]))) for block in blocks]
    left = [block.number for block in blocks if not stored(folder, block)]
    done = sum(sizes) - sum(sizes[number] for number in left)
    if progress is not None:
        progress(done, sum(sizes))
    with closing(make_pool(content, run_block, scheduler, min(workers, max(1, len(left))))) as pool:
        for number, file in pool.run(left):
            write_block(folder, blocks[number], file)
            done += sizes[number]
            if progress is not None:
                progress(done, sum(sizes))
    _session.cache_clear()


def run_block(content: Content, number: int) -> tuple[int, bytes]:
    """Inject a block: its number, and the bytes of its file. The campaign, and a session for the same samples, are
    opened once a process."""
    campaign = _campaign(content)
    block = blocks_of(campaign.population)[number]
    return number, packed(block, outcomes_of(campaign, _session(content, block.samples), block))


@lru_cache(maxsize=1)
def _campaign(content: Content) -> Campaign:
    return content.open()


@lru_cache(maxsize=1)
def _session(content: Content, samples: tuple[int, int]) -> Session:
    campaign = _campaign(content)
    return find_engine(campaign).open(campaign.net, _part(campaign.inputs, samples), near=campaign.near)


def _part(inputs: Mapping[str, NDArray[np.int64]], samples: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    return {name: codes[slice(*samples)] for name, codes in inputs.items()}


def outcomes_of(campaign: Campaign, session: Session, block: Block) -> Outcomes:
    """What becomes of the faults of a block, in a session on its samples."""
    site = campaign.population.sites[block.site]
    shape = block.shape(site)
    model = campaign.fault_model
    assert isinstance(model, EnumeratedModel), "a population is listed for enumerated models alone"
    if (masks := model.masks(site)) is not None:
        swept = session.sweep(site.target, block.units, masks)
        if swept is not None:
            return Outcomes(swept.outcome, swept.distance, transient=True)
    inputs = _part(campaign.inputs, block.samples)
    once = points_of(replace(block, samples=(0, 1)), site)
    table = model.faults(campaign.net, inputs, campaign.population, once)
    swept = session.everywhere(table)
    if swept is not None:
        ticks = slice(site.first, site.first + site.stride * site.ticks, site.stride)
        return Outcomes(swept.outcome.reshape(shape), swept.distance[:, ticks], _transient(table.upsets, site))
    table = model.faults(campaign.net, inputs, campaign.population, points_of(block, site))
    rows = session.run(table)
    distance = rows["distance_end"].reshape(shape).max(axis=(0, 1)).T
    return Outcomes(rows["outcome"].reshape(shape), distance.astype(np.int64), transient=_transient(table.upsets, site))


def _transient(upsets: NDArray[np.void], site: Site) -> bool:
    """Whether upsets are of states, each in the one tick that its fault names."""
    return site.place is Place.STATE and bool((upsets["first"] == upsets["last"]).all())
