"""What follows an emitted core if it is asked for: figures of parts in `synth.json`, and a board's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Given, StageProgress
from eqcompile.toolchain.ir import IntNet

from .board.write import BOARD_PARTS, board_tools, write_board
from .emit import TOP, files_of
from .engines import Choice
from .synth.clocks import clocks_or_note
from .synth.fit import known_shortfalls
from .synth.flow import SynthReport, synthesise, tools_of
from .synth.parts import PARTS
from .synth.tools import require

__all__ = ["Wanted", "finish_folder", "need_tools", "shortfalls"]

FIGURES = "synth.json"
BOARD = "board"


@dataclass(frozen=True)
class Wanted:
    """Parts to synthesise for with their seeds, a board to make a bitstream for, and the limit of each."""

    parts: tuple[str, ...]
    seeds: Sequence[int]
    board: str | None
    timeout_s: float

    @property
    def devices(self) -> set[str]:
        """Every part that the core must run on."""
        return {*self.parts, *([BOARD_PARTS[self.board]] if self.board is not None else [])}


def need_tools(wanted: Wanted) -> None:
    """Raise MissingToolError, with the install command, unless every tool is there."""
    tools = [tool for part in wanted.parts for tool in tools_of(PARTS[part])]
    if wanted.board is not None:
        tools += board_tools(PARTS[BOARD_PARTS[wanted.board]])
    require(tools)


def shortfalls(folder: Path, engine: Mapping[str, Any], wanted: Wanted) -> list[Diagnostic]:
    """What the devices have too little of, as far as it is known without synthesis; `engine` describes itself."""
    verilog = (folder / f"{TOP}.v").read_text(encoding="utf-8")
    return [fault for device in sorted(wanted.devices) for fault in known_shortfalls(verilog, engine, PARTS[device])]


def finish_folder(
    net: IntNet, choice: Choice, folder: Path, wanted: Wanted, given: Given | None, progress: StageProgress
) -> dict[str, Any]:
    """Write `synth.json` and `board/`; return details for the manifest."""
    details: dict[str, Any] = {}
    summary: list[str] = []
    if wanted.parts:
        reports = _figures(folder, wanted, given, progress)
        documents = [r.to_json() for r in reports]
        write_json(folder / FIGURES, {"digest": net.digest, "parts": documents})
        details["synthesis"] = documents
        summary += [line for r in reports for line in r.text().splitlines()]
    if wanted.board is not None:
        made = _board(net, choice, folder, wanted.board, wanted, progress)
        details["board"] = made
        summary.append(
            f"board {wanted.board}: {BOARD}/{made['bitstream']}, clock {made['clock_hz'] / 1e6:g} MHz, "
            f"slowest path allows {made['fmax_mhz']:.1f} MHz ({made['kind']})"
        )
    return {**details, "files": files_of(folder), "summary": summary}


def _figures(folder: Path, wanted: Wanted, given: Given | None, progress: StageProgress) -> list[SynthReport]:
    progress("clocks", 0, 1)
    clocks, notes = clocks_or_note(folder, given, timeout_s=wanted.timeout_s)
    progress("clocks", 1, 1)
    reports = []
    for part in wanted.parts:
        report = synthesise(
            folder / f"{TOP}.v",
            TOP,
            part,
            seeds=wanted.seeds,
            timeout_s=wanted.timeout_s,
            progress=lambda done, total, part=part: progress(f"synthesis for {part}", done, total),  # type: ignore[misc]
        )
        reports.append(replace(report, clocks=clocks, notes=notes))
    return reports


def _board(
    net: IntNet, choice: Choice, folder: Path, board: str, wanted: Wanted, progress: StageProgress
) -> Mapping[str, Any]:
    engine = choice.engine(net, trace=False)
    (folder / BOARD).mkdir()
    return write_board(
        net,
        engine,
        board,
        folder / BOARD,
        arch=choice.arch,
        words=engine.load_words(net) if choice.spram else None,
        timeout_s=wanted.timeout_s,
        progress=lambda done, total: progress(f"bitstream for {board}", done, total),
    )
