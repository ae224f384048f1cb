"""The outcomes of blocks in a folder: a file for each, whole or absent, a byte for each fault before compression."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....toolchain.artifact import write_arrays
from ....toolchain.diagnostics import ArtifactError, Diagnostic
from ...faults.engine import Outcome
from ...faults.model import EnumeratedModel
from ..definition import Campaign
from .blocks import Block, blocks_of, points_of
from .totals import Totals

__all__ = ["OUTCOMES", "Outcomes", "ids", "packed", "read_block", "stored", "totals_of", "write_block"]

OUTCOMES = "outcomes"
"""The folder of the files, in that of the campaign."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of the faults of a block, as `Totals.add` takes it."""

    outcome: NDArray[np.uint8]
    distance: NDArray[np.int64]
    transient: bool


def _file(folder: Path, block: Block) -> Path:
    return folder / OUTCOMES / f"{block.number:06d}.npz"


def stored(folder: Path, block: Block) -> bool:
    """Whether a block was injected."""
    return _file(folder, block).is_file()


def packed(block: Block, found: Outcomes) -> bytes:
    """The bytes of a block's file, compressed where they are made: that takes longer than to write them."""
    bounds = np.array([block.site, *block.units, *block.samples, found.transient], np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "bounds": bounds,
        "outcome": found.outcome,
        "distance": found.distance.astype(np.int32),
    }
    file = io.BytesIO()
    write_arrays(file, arrays.items())
    return file.getvalue()


def write_block(folder: Path, block: Block, file: bytes) -> None:
    """Store the bytes of a block. ArtifactError on a disk that refuses; nothing half-written is left under its name."""
    path = _file(folder, block)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(file)
        temporary.replace(path)
    except OSError as error:
        what = f"cannot write: {error.strerror}"
        hint = "the same command goes on from here"
        raise ArtifactError(Diagnostic("output-not-writable", what, str(path), hint)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_block(folder: Path, block: Block) -> Outcomes:
    """A stored block; ArtifactError if its file is damaged or holds another block."""
    path = _file(folder, block)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            bounds, outcome, distance = (file[name] for name in ("bounds", "outcome", "distance"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(_damaged(path, f"the file of outcomes is damaged: {error}")) from error
    expected = [block.site, *block.units, *block.samples]
    if bounds[:-1].tolist() != expected:
        raise ArtifactError(_damaged(path, f"the file holds block {bounds[:-1].tolist()}, here belongs {expected}"))
    return Outcomes(outcome, distance.astype(np.int64), bool(bounds[-1]))


def _damaged(path: Path, what: str) -> Diagnostic:
    return Diagnostic("exhaust-damaged", what, str(path), "delete it and run the command again")


def totals_of(folder: Path, campaign: Campaign) -> Totals:
    """Counts of all blocks that are stored. Raises ArtifactError as `read_block`."""
    totals = Totals(campaign.population)
    for block in blocks_of(campaign.population):
        if stored(folder, block):
            found = read_block(folder, block)
            totals.add(block, found.outcome, found.distance, transient=found.transient)
    return totals


def ids(folder: Path, campaign: Campaign, outcome: Outcome) -> Iterator[str]:
    """The id of each stored fault that ended so, in the order of the blocks; `eqfault replay` takes it."""
    model = campaign.fault_model
    assert isinstance(model, EnumeratedModel), "a population is listed for enumerated models alone"
    for block in blocks_of(campaign.population):
        if not stored(folder, block):
            continue
        which = np.flatnonzero(read_block(folder, block).outcome.reshape(-1) == outcome)
        points = points_of(block, campaign.population.sites[block.site])
        points = points.take(which)
        points.sample[:] += block.samples[0]
        table = model.faults(campaign.net, campaign.inputs, campaign.population, points)
        yield from (str(fault) for fault in table)
