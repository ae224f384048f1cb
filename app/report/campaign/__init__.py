"""Reports of fault campaigns."""

from __future__ import annotations

from pathlib import Path

from .. import kit
from .document import document
from .page import render
from .schema import CampaignReport

__all__ = ["write"]


def write(folder: Path, *, against: Path | None = None) -> CampaignReport:
    """Write `report.json` and `report.html` of what a campaign holds so far, into its folder; return the document.

    Raises ArtifactError if there are no results, or on a disk that refuses.
    """
    report = document(folder, against=against)
    kit.write(folder, report, render(report))
    return report
