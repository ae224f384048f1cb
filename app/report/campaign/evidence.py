"""A campaign as one file to hand over: what it leaves out, what it rests on, its result, and all that repeats it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from eqcompile.toolchain.typed_json import JsonObject

from ...files import replacing
from ...wording import shown
from ..kit import HTML, JSON
from . import write
from .headline import assumptions, exclusions, headline_rows
from .schema import CampaignReport

__all__ = ["evidence_page", "pack"]

_PAGE, _SUMS = "EVIDENCE.md", "SHA256SUMS"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member: two packs of one campaign are equal to the bit."""


def pack(folder: Path, output: Path, *, force: bool) -> Mapping[str, str]:
    """Write the report of a campaign anew and pack its folder, baselines and instrumented core included, into the zip
    file `output`, with EVIDENCE.md and SHA256SUMS. Returns the SHA-256 of each member by its name.

    Raises ArtifactError if there are no results, or `output` exists without `force` or cannot be written.
    """
    report = write(folder)
    members = [path for path in _members(folder) if path.resolve() != output.resolve()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in members}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files[_PAGE] = evidence_page(report, sums).encode()
    sums[_PAGE] = hashlib.sha256(files[_PAGE]).hexdigest()
    files[_SUMS] = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())).encode()
    first = [_PAGE, _SUMS, HTML, JSON]
    with replacing(output, force=force) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*first, *sorted(files.keys() - set(first))]:
            archive.writestr(zipfile.ZipInfo(name, _DATE), files[name], zipfile.ZIP_DEFLATED)
    return sums


def _members(folder: Path) -> list[Path]:
    """Files of a campaign but what a simulator built on this machine, or a run left behind."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in files if not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)]


def evidence_page(report: CampaignReport, sums: Mapping[str, str]) -> str:
    """What a reviewer reads, Markdown: first what no figure counts. `sums`: SHA-256 by file."""
    c = report["campaign"]
    lines = [f"# Evidence: {c['net']}, fault model {c['model']}", "", "## What is not covered", ""]
    lines += [f"- {line}" for line in exclusions(report)]
    lines += ["", "## Assumptions", "", *(f"- {line}" for line in assumptions(report))]
    lines += ["", "## Result", "", "| what | value | kind |", "|---|---|---|"]
    lines += [f"| {name} | {value} | {kind} |" for name, value, kind in headline_rows(report)]
    lines += ["", "## How to repeat it", "", f"    {c.get('command', 'made by the API')}", ""]
    chunk = f"what a chunk of {c['plan']['chunk']:,} holds depends on its number and the seed alone"
    lines += [
        f"- seed {c['plan']['seed']}; {report['faults']['value']:,} faults; {chunk}",
        f"- net: IR digest {c['ir_digest']}",
        f"- inputs: {c['inputs']['samples']:,} samples, digest {c['inputs']['digest']}",
        "- versions, of the run: " + ", ".join(f"{name} {version}" for name, version in c["tools"].items()),
        "- versions, of the report: " + ", ".join(f"{name} {version}" for name, version in report["tools"].items()),
        f"- options of the model: {_words(c['options'])}",
        *([f"- core: {_words(c['core'])}"] if c["core"] else []),
    ]
    lines += ["", f"## Files ({_SUMS} has them for `sha256sum -c`)", "", "| file | SHA-256 |", "|---|---|"]
    lines += [f"| {name} | `{value}` |" for name, value in sums.items()]
    return "\n".join(lines) + "\n"


def _words(options: JsonObject) -> str:
    """Options as words; none chosen: those of the model itself."""
    return ", ".join(f"{name} {shown(value)}" for name, value in sorted(options.items())) or "as by default"
