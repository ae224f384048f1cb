"""Every board placed and routed: what a trained net takes of it, and how fast it runs there.

    python benchmarks/boards.py [--board NAME ...] [--out DIR]

digits_ternary in a serial core, on each board at its own clock, and on the ULX3S at 40 MHz by a PLL too. Each row holds
the day on which it was made; rows that are not run stay. Where the net does not fit a board, or misses its clock, the
exit status is 1 once all were tried. Nothing runs on a board: Yosys, nextpnr and the packers make the bitstream.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import results

from eqcompile.app.progress import stage_progress
from eqcompile.quantization.lower import lower
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.targets.rtl.board.write import write_board
from eqcompile.targets.rtl.synth.flow import within
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.vectors import bench_inputs
from eqcompile.toolchain.data import read_inputs
from eqcompile.toolchain.diagnostics import EqcompileError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import StageProgress, Vectors
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import QuantizeOptions

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAME = "boards"
TITLE = "Boards, placed and routed"
NET = "digits_ternary"
PLL = ("ulx3s", 40.0)
"""A board whose core runs by a PLL here, and its clock in MHz; that of others is in rtl/boards/boards.toml."""
LANES = {"hx8k": 1}
"""Weights in a clock where it is not 4: with them the tables of this net need 36 of an HX8K's 32 block RAMs."""
TIMEOUT_S = 3600.0
Row = dict[str, Any]


def placed(net: IntNet, board: str, clock_mhz: float | None, progress: StageProgress) -> Row:
    """The row of a board; with `failed`, the words of the tools, where there is no bitstream."""
    part = PARTS[BOARDS[board].part]
    spram = part.name == "up5k"
    lanes = LANES.get(board, 4)
    engine = SerialEngine(net, trace=False, lanes=lanes, family="up5k" if spram else "generic")
    inputs = bench_inputs(net)
    row: Row = {"board": board, "part": part.name, "lanes": lanes, "asked_mhz": clock_mhz or BOARDS[board].core_mhz}
    row |= {"pll": row["asked_mhz"] * 1e6 != BOARDS[board].clock_hz, "date": datetime.now(UTC).date().isoformat()}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = write_board(
                net,
                engine,
                board,
                Path(folder),
                vectors=Vectors(inputs, run(net, inputs)),
                arch="serial",
                words=engine.load_words(net) if spram else None,
                timeout_s=TIMEOUT_S,
                clock_mhz=clock_mhz,
                progress=progress,
            )
        except EqcompileError as error:
            return {
                **row,
                "seconds": time.perf_counter() - start,
                "failed": "; ".join(d.what for d in error.diagnostics),
            }
        size = (Path(folder) / built.bitstream).stat().st_size
    usage = {key: [u.used, u.available] for key, u in built.usage.items()}
    return {
        **row,
        "seconds": time.perf_counter() - start,
        "clock_mhz": built.clock_hz / 1e6,
        "fmax_mhz": built.fmax_mhz,
        "usage": usage,
        "bytes": size,
    }


def cells(row: Row) -> list[object]:
    """A row as the page shows it."""
    clock = f"{row['asked_mhz']:g}{' (PLL)' if row['pll'] else ''}"
    if "failed" in row:
        return [row["board"], row["part"], row["lanes"], clock, "", "", "", "", row["failed"], row["date"], row["at"]]
    used = {key: f"{used} of {has}" for key, (used, has) in row["usage"].items()}
    shown = [f"{row['fmax_mhz']:.1f}", used.get("lut", ""), used.get("bram", ""), used.get("spram", "")]
    return [
        row["board"],
        row["part"],
        row["lanes"],
        clock,
        *shown,
        f"bitstream of {row['bytes']:,} bytes",
        row["date"],
        row["at"],
    ]


def write(rows: Sequence[Row], net: IntNet, folder: Path) -> None:
    """The record with these rows, and those of earlier runs."""
    heads = {"board": "", "part": "", "lanes": "", "clock, MHz": "", "Fmax, MHz": "estimated", "logic": "estimated"}
    heads |= {"block RAM": "estimated", "single-port RAM": "estimated", "result": "", "run on": "", "at": ""}
    joined = results.joined(NAME, rows, ("board", "asked_mhz"), folder)
    table = results.table(heads, [cells(row) for row in joined])
    note = "`make boards`; estimated by place and route (nextpnr, one seed), no physical board took part"
    facts = results.net_facts(NET, net)
    results.record(NAME, TITLE, [table], data=joined, nets=[facts], note=note, folder=folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append", choices=BOARDS, help="this board alone (may be given again)")
    results.add_folder(parser)
    options = parser.parse_args()
    source = import_model(EXAMPLES / "checkpoints" / f"{NET}.pt").net
    calibration = read_inputs(EXAMPLES / "data" / "digits_calibration.npz", source)
    net = lower(source, QuantizeOptions(), calibration=calibration).net
    cases: list[tuple[str, float | None]] = [(board, None) for board in options.board or BOARDS]
    cases += [PLL] if PLL[0] in dict(cases) else []
    rows: list[Row] = []
    with stage_progress() as progress:
        for number, (board, clock_mhz) in enumerate(cases, 1):
            where = f"{board}, {number} of {len(cases)}: "
            rows.append(placed(net, board, clock_mhz, within(progress, where)))
            write(rows, net, options.out)
    for row in rows:
        if "failed" in row:
            sys.stderr.write(f"{row['board']}: {row['failed']}\n")
    return 1 if any("failed" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
