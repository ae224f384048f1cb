"""What follows an emitted core if it is asked for: figures of parts in `synth.json`, and a board's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.boards.clocks import BAUD
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.toolchain.artifact import Artifact, write_json
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import ClockedRun, Emission, StageProgress, Vectors
from eqcompile.toolchain.typed_json import JSON, JsonObject, encode

from .board.write import Bitstream, board_tools, write_board
from .emit import TOP
from .synth.clocks import clocks_of
from .synth.fit import Needs, block_rams, known_shortfalls
from .synth.flow import synthesise, too_slow, within
from .synth.parts import PARTS
from .synth.report import SynthReport
from .synth.tools import require

__all__ = ["Requests", "block_ram_estimates", "clock_note", "finish_folder", "need_tools", "shortfalls"]

FIGURES = "synth.json"
BOARD = "board"


@dataclass(frozen=True)
class Requests:
    """Parts to synthesise for with their seeds and the clock that they must reach, a board to make a bitstream for, and
    the limit of each."""

    parts: tuple[str, ...]
    seeds: Sequence[int]
    board: str | None
    timeout_s: float
    clock_mhz: float | None = None

    @property
    def devices(self) -> set[str]:
        """Every part that the core must run on."""
        return {*self.parts, *([BOARDS[self.board].part] if self.board is not None else [])}


def need_tools(requests: Requests) -> None:
    """Raise MissingToolError, with the install command, unless every tool is there."""
    tools = [tool for part in requests.parts for tool in PARTS[part].family.tools]
    if requests.board is not None:
        tools += board_tools(PARTS[BOARDS[requests.board].part])
    require(tools)


def shortfalls(engine: JsonObject, requests: Requests) -> list[Diagnostic]:
    """What the devices have too little of, as far as it is known without synthesis; `engine` describes itself."""
    return [fault for device in sorted(requests.devices) for fault in known_shortfalls(engine, PARTS[device])]


def block_ram_estimates(engine: JsonObject, requests: Requests) -> tuple[str, ...]:
    """What the memories of a core take of the parts at least, before synthesis: of those asked for, else of all that
    are known; nothing for a core without such memories."""
    names = sorted(requests.devices) or sorted(PARTS)
    memories = Needs.of(engine).memories
    parts = [PARTS[name] for name in names if PARTS[name].has.get("bram")]
    if not memories or not parts:
        return ()
    counts = [(part, sum(block_rams(memory, part) for memory in memories)) for part in parts]
    blocks = ", ".join(f"{count} of {part.has['bram']} on {part.name}" for part, count in counts)
    return (f"block RAM before synthesis: at least {blocks} [estimated]",)


def clock_note(requests: Requests) -> tuple[str, ...]:
    """What is said of a frequency that nothing checks."""
    if requests.clock_mhz is None or requests.parts or requests.board is not None:
        return ()
    return (
        f"clock {requests.clock_mhz:g} MHz: in ip/core_ooc.xdc; nothing was placed to check it (--synth PART does)",
    )


def finish_folder(
    architecture: Architecture,
    artifact: Artifact,
    vectors: Vectors,
    requests: Requests,
    clocks: ClockedRun | None,
    progress: StageProgress,
) -> Emission:
    """Write `synth.json` and `board/`."""
    folder, net = artifact.folder, artifact.net
    details: dict[str, JSON] = {}
    summary: list[str] = []
    if requests.parts:
        reports = _figures(folder, requests, clocks, progress)
        documents = [r.to_json() for r in reports]
        write_json(folder / FIGURES, {"digest": net.digest, "parts": documents})
        details["synthesis"] = documents
        summary += [line for r in reports for line in r.text().splitlines()]
    if requests.board is not None:
        figures = _board(architecture, artifact, vectors, requests.board, requests, progress)
        details["board"] = {"board": requests.board, "baud": BAUD, **encode(figures)}
        summary.append(
            f"board {requests.board}: {BOARD}/{figures.bitstream}, clock {figures.clock_hz / 1e6:g} MHz, "
            f"slowest path allows {figures.fmax_mhz:.1f} MHz ({figures.kind})"
        )
    return Emission(details, tuple(summary))


def _figures(folder: Path, requests: Requests, clocks: ClockedRun | None, progress: StageProgress) -> list[SynthReport]:
    counts = None if clocks is None or clocks.run is None else clocks_of(clocks.run, clocks.source)
    reports = []
    for part in requests.parts:
        report = synthesise(
            folder / f"{TOP}.v",
            TOP,
            part,
            seeds=requests.seeds,
            timeout_s=requests.timeout_s,
            clock_mhz=requests.clock_mhz,
            progress=within(progress, f"synthesis for {part}, "),
        )
        slow = report.median_timing
        if report.meets_clock is False and requests.clock_mhz is not None and slow is not None:
            raise too_slow(slow, requests.clock_mhz, f"--clock for {part}")
        reports.append(replace(report, clocks=counts, notes=() if clocks is None else clocks.notes))
    return reports


def _board(
    architecture: Architecture,
    artifact: Artifact,
    vectors: Vectors,
    board: str,
    requests: Requests,
    progress: StageProgress,
) -> Bitstream:
    net, folder = artifact.net, artifact.folder
    engine = architecture.engine(net, trace=False)
    (folder / BOARD).mkdir()
    return write_board(
        net,
        engine,
        board,
        folder / BOARD,
        vectors=vectors,
        arch=architecture.name,
        words=engine.load_words(net) if not architecture.preloaded else None,
        timeout_s=requests.timeout_s,
        clock_mhz=requests.clock_mhz,
        progress=within(progress, f"bitstream for {board}, "),
    )
