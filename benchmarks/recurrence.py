"""Does recurrence pay in hardware: mnist_layered beside a two-layer net with as many weights, on the same architecture.

    python benchmarks/recurrence.py --data mnist.npz [--images 200] [--lanes 4]

The serial core takes no net whose step reads its input, so both nets are programs of the processor, each on a core that
was sized for it. Clocks of an image are stated by the simulator of instructions, which the core's clocks equal; every
state of every tick and every output of these images is compared with golden. Cells are those of a whole core with its
buses, by Yosys alone: no place and route. Contents of memories are left out of what Yosys reads, sizes are not: all of
them are block RAM, whatever they hold. Ends with 1 if anything differs from golden.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from mnist import images
from mnist_rtl import mnist_net
from processor_runs import differences
from protect import CELLS, cells_of, written
from tqdm import tqdm

from eqcompile.rtl.processor.compiler import compile_net
from eqcompile.rtl.processor.options import Processor
from eqcompile.rtl.processor.profile import profile
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.ir import IntNet

NETS = ("mnist_two_layer", "mnist_layered")
CONTENTS = re.compile(r"^ *words\[\S+ = .*\n", re.M)
"""Assignments of what memories hold at first, in Verilog of `emit_verilog`."""

Row = dict[str, Any]


def measure(name: str, net: IntNet, lanes: int, path: Path, count: int) -> Row:
    """One net on a core of so many lanes."""
    codes = encode(net, {"x": images(path)[0][:count]})[0]
    program = compile_net(net, lanes=lanes)
    clocks = profile(program, [[row] for row in codes["x"]]).totals
    return {
        "net": name,
        "lanes": lanes,
        "weights": sum(int((p.value != 0).sum()) for p in net.params if p.value.ndim == 2),
        "instructions": len(program.instructions),
        "clocks": {"median": float(np.median(clocks)), "worst": int(max(clocks))},
        "images": count,
        "differ": len(differences(net, codes, program)),
        "cells": cells(net, lanes),
    }


def cells(net: IntNet, lanes: int) -> dict[str, int]:
    with TemporaryDirectory() as folder:
        core = written(net, Processor(lanes=lanes), Path(folder))
        core.write_text(CONTENTS.sub("", core.read_text(encoding="utf-8")), encoding="utf-8")
        return cells_of(core)


def blocks(rows: list[Row]) -> Iterator[results.Block]:
    yield results.text(
        "`benchmarks/recurrence.py`: both nets as programs of the processor, each on a core that was sized for it. "
        f"Clocks of {rows[0]['images']} images, of which every state of every tick is compared with golden; cells of "
        "whole cores by Yosys alone (synth_ecp5):"
    )
    heads = {"net": "", "lanes": "", "weights not 0": "computed", "instructions": "computed"}
    heads |= {"clocks an image, median / worst": "simulated", **dict.fromkeys(CELLS, "estimated")}
    yield results.table(
        {**heads, "images or ticks that differ": "simulated"},
        [
            (r["net"], r["lanes"], f"{r['weights']:,}", r["instructions"])
            + (f"{r['clocks']['median']:,.0f} / {r['clocks']['worst']:,}", *(f"{n:,}" for n in r["cells"].values()))
            + (r["differ"],)
            for r in rows
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--images", type=int, default=200, help="of the test set (default %(default)s)")
    parser.add_argument("--lanes", type=int, nargs="+", default=[4], help="of the cores (default 4)")
    results.add_folder(parser)
    options = parser.parse_args()
    nets = {name: mnist_net(name) for name in NETS}
    cases = [(name, lanes) for lanes in options.lanes for name in NETS]
    rows = [measure(n, nets[n], lanes, options.data, options.images) for n, lanes in tqdm(cases, unit="core")]
    facts = [results.net_facts(name, net) for name, net in nets.items()]
    title = "Does recurrence pay: area and clocks"
    results.record("recurrence", title, list(blocks(rows)), data=rows, nets=facts, folder=options.out)
    return int(any(row["differ"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
