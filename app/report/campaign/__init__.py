"""Reports of fault campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import kit
from .document import document, labels
from .page import render
from .schema import CampaignReport

__all__ = ["place", "write"]


def write(folder: Path, *, against: Sequence[Path] = (), output: Path | None = None) -> CampaignReport:
    """Write `report.json` and `report.html` of what a campaign holds so far; return the document. They go to `output`,
    by default `place(folder, against)`.

    Raises ArtifactError if there are no results, or on a disk that refuses.
    """
    report = document(folder, against=against)
    kit.write(output or place(folder, against), report, render(report))
    return report


def place(folder: Path, against: Sequence[Path]) -> Path:
    """Where a report goes: the folder of the campaign, and one inside it that names the others for a comparison, so
    that none takes the place of another."""
    return folder / "_".join(["against", *labels(against)]).replace("/", "-") if against else folder
