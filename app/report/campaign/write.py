"""Write both files of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from .document import document
from .page import render

__all__ = ["write"]

JSON, HTML = "report.json", "report.html"


def write(folder: Path, *, against: Path | None = None) -> dict[str, Any]:
    """Write `report.json` and `report.html` of what a campaign holds so far, into its folder; return the document.

    Raises ArtifactError if there are no results, or on a disk that refuses.
    """
    found = document(folder, against=against)
    page = render(found)
    try:
        for name in (JSON, HTML):
            temporary = folder / f".{name}"
            if name == JSON:
                write_json(temporary, found)
            else:
                temporary.write_text(page, encoding="utf-8")
            temporary.replace(folder / name)
    except OSError as error:
        what = f"cannot write: {error.strerror}"
        raise ArtifactError(Diagnostic("output-not-writable", what, str(folder))) from error
    return found
