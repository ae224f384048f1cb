"""A folder that puts a core on a board: bitstream, pins, host script, vectors.

    write_board(net, engine, "ulx3s", folder, words=None, timeout_s=600.0)

The core sits behind a UART (`rtl/boards/link.py`) and runs on the board's oscillator, or on a PLL.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eqcompile.rtl.boards.clocks import BAUD, board_clock
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.interfaces import StageProgress, Vectors
from eqcompile.toolchain.ir import IntNet

from ..synth.flow import Workshop, too_slow
from ..synth.memory import gathered
from ..synth.parts import PARTS, Part
from ..synth.tools import INSTALL, Deadline, require, tool_version
from . import host as boards_host

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.boards.top import BoardTop
    from eqcompile.rtl.interface import Engine, Port

__all__ = ["bitstream", "board_tools", "write_board", "write_sources"]

_SEED = 1
_MHZ = 1e6

_README = """\
# {net} on {board}

`{bits}` puts the core ({arch}) on the board: `{program}`.
`python host.py PORT` (with `pip install pyserial`) runs `vectors.json` on it and compares with golden;
`python host.py --help` shows how to run your own samples. `board.json` describes the ports, `board_top.v` is what the
bitstream is made of, `build.sh` how; its first line says where the tools come from.

Clock {clock_mhz:g} MHz {origin}.
The slowest path allows {fmax_mhz:.1f} MHz (estimated by place and route, seed {seed}).
UART 8N1 at {baud} baud. Requests and answers, numbers little-endian:

    b"I"                                      ->  b"I", identity u32
    b"C", steps u16, tolerance u16            ->  b"K"
    b"W", address u32, count u32, words u32   ->  b"K"    (cores with loadable weights)
    b"S", every input code of a sample        ->  b"R", ticks made u16, every output code
    any other byte                            ->  b"E"

A break on the line drops the request at hand; the board then waits for the next.
"""


def write_board(
    net: IntNet,
    engine: Engine,
    board: str,
    folder: Path,
    *,
    vectors: Vectors,
    arch: str,
    words: Sequence[int] | None,
    timeout_s: float,
    clock_mhz: float | None = None,
    progress: StageProgress | None = None,
) -> Bitstream:
    """Write the folder of `engine`, an engine without a trace port that computes `net`; return what its tools say.
    `clock_mhz`: of the core, by a PLL where it is not the oscillator's; None for the board's own.

    `vectors`: what the host runs and compares with. `words`: what it loads before that, None if the bitstream holds the
    weights.

    Raises UsageError (unknown board), MissingToolError, DoesNotFitError, SynthesisError (also where the design is
    slower than the board's clock).
    """
    top = write_sources(net, engine, board, folder, vectors=vectors, words=words, clock_mhz=clock_mhz)
    from eqcompile.rtl.boards.top import CORE_CLOCK, TOP

    chosen = BOARDS[board]
    built = bitstream(
        folder,
        TOP,
        PARTS[chosen.part],
        chosen.constraints_name,
        clock_hz=top.core_hz,
        clock="clk" if top.pll is None else CORE_CLOCK,
        timeout_s=timeout_s,
        progress=progress,
    )
    oscillator = f"{chosen.clock_hz / _MHZ:g} MHz of the oscillator"
    readme = _README.format(
        net=net.name,
        board=board,
        bits=built.bitstream,
        arch=arch,
        program=chosen.program.format(file=built.bitstream),
        clock_mhz=top.core_hz / _MHZ,
        origin="of the oscillator" if top.pll is None else f"by a PLL from {oscillator}",
        fmax_mhz=built.fmax_mhz,
        seed=_SEED,
        baud=BAUD,
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return built


def write_sources(
    net: IntNet,
    engine: Engine,
    board: str,
    folder: Path,
    *,
    vectors: Vectors,
    words: Sequence[int] | None,
    clock_mhz: float | None = None,
) -> BoardTop:
    """What `write_board` writes, but for the bitstream and the README: the top, which it returns, with its pins, and
    the host's files.

    Raises UsageError for an unknown board, or a clock that its PLL cannot make.
    """
    from eqcompile.rtl.boards.top import TOP, BoardTop, board_verilog

    if board not in BOARDS:
        raise UsageError(
            Diagnostic("unknown-board", f"there is no board {board!r}", "--board", f"known: {', '.join(BOARDS)}")
        )
    chosen = BOARDS[board]
    identity = int.from_bytes(bytes.fromhex(net.digest[:8]), "big")
    pll, _ = board_clock(chosen, clock_mhz)
    top = BoardTop(engine, chosen, baud=BAUD, identity=identity, schedule=net.schedule, pll=pll)
    source, memories = gathered(board_verilog(top))
    for file, content in {f"{TOP}.v": source, **memories}.items():
        (folder / file).write_text(content, encoding="utf-8")
    (folder / chosen.constraints_name).write_text(chosen.constraints, encoding="utf-8")
    signature = engine.signature
    description = {
        "net": net.name,
        "digest": net.digest,
        "identity": identity,
        "baud": BAUD,
        "x": _port(signature.x_port),
        "y": _port(signature.y_port),
    }
    write_json(folder / "board.json", description)
    write_json(folder / "vectors.json", vectors_of(net, vectors))
    shutil.copyfile(boards_host.__file__, folder / "host.py")
    if words is not None:
        (folder / "weights.json").write_text(f"[{', '.join(map(str, words))}]\n", encoding="utf-8")
    return top


def vectors_of(net: IntNet, vectors: Vectors) -> dict[str, list[list[int]]]:
    """Samples as a host sends them and what must come back, by golden."""
    sent = [vectors.inputs[i.name] for i in net.inputs]
    returned = [vectors.run.outputs[o.name] for o in net.outputs]
    return {"inputs": _rows(sent), "outputs": _rows(returned)}


def board_tools(part: Part) -> tuple[str, str, str]:
    """Synthesis, placer and packer of a part."""
    return "yosys", part.family.placer, part.family.packer


@dataclass(frozen=True, kw_only=True)
class Bitstream:
    """The file, and what place and route estimated of the design in it. `usage`: by resource."""

    bitstream: str
    clock_hz: int
    fmax_mhz: float
    kind: str
    seed: int
    usage: Mapping[str, UsedOf]
    tools: tuple[str, ...]


@dataclass(frozen=True)
class UsedOf:
    """Cells of a resource: what the design takes, and what the part has."""

    used: int
    available: int


def bitstream(
    folder: Path,
    top: str,
    part: Part,
    constraints: str,
    *,
    clock_hz: int,
    timeout_s: float,
    clock: str = "clk",
    progress: StageProgress | None = None,
) -> Bitstream:
    """Make the bitstream of `folder/TOP.v` beside it, and `build.sh` that does the same. `clock`: net of the clock
    whose frequency `clock_hz` is.

    Raises what `write_board` raises of the tools.
    """
    family, tools = part.family, board_tools(part)
    require(tools)
    tell = progress or (lambda stage, done, total: None)
    placed, bits = f"{top}.config", f"{top}.{family.bitstream}"
    script = f"read_verilog {top}.v; {family.synth} -top {top} -json {top}.json"
    asked = ["--freq", f"{clock_hz / _MHZ:g}", "--seed", str(_SEED)]
    placing = [*part.arguments, "--json", f"{top}.json", family.pins, constraints, family.placed, placed, *asked]
    with tempfile.TemporaryDirectory(prefix="eqcompile-board-") as name:
        shop = Workshop(Path(name), part, Deadline.after(timeout_s))
        for file in (f"{top}.v", constraints, *(p.name for p in folder.glob("*.hex"))):
            shutil.copyfile(folder / file, shop.folder / file)
        tell("mapping", 0, 0)
        shop.yosys(script, top, lambda: tell("mapping", 0, 0))
        usage, timing = shop.place(placing, top, clock=clock, progress=tell)
        tell("packing the bitstream", 0, 0)
        shop.run(family.packer, [placed, bits], top)
        if timing.fmax_mhz * _MHZ < clock_hz:
            raise too_slow(timing, clock_hz / _MHZ, "the board's clock")
        shutil.copyfile(shop.folder / bits, folder / bits)
    steps = [("yosys", ["-q", "-p", script]), (family.placer, placing), (family.packer, [placed, bits])]
    commands = [shlex.join([f"yowasp-{tool}", *arguments]) for tool, arguments in steps]
    lines = ["#!/bin/sh", f"# {INSTALL}", "set -e", 'cd "$(dirname "$0")"', *commands, ""]
    (folder / "build.sh").write_text("\n".join(lines), encoding="utf-8")
    return Bitstream(
        bitstream=bits,
        clock_hz=clock_hz,
        fmax_mhz=timing.fmax_mhz,
        kind="estimated by place and route",
        seed=_SEED,
        usage={u.key: UsedOf(u.core, u.available) for u in usage},
        tools=tuple(tool_version(t) for t in tools[:2]),
    )


def _port(port: Port) -> dict[str, int]:
    return {"bytes": port.bytes, "count": port.count, "lo": port.format.lo, "hi": port.format.hi}


def _rows(arrays: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    flat = np.concatenate([np.asarray(a, np.int64).reshape(len(a), -1) for a in arrays], axis=1)
    rows: list[list[int]] = flat.tolist()
    return rows
