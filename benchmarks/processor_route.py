"""The processor placed and routed for ECP5 with ternary MNIST nets: cells, Fmax, time and work of an image.

    python benchmarks/processor_route.py --data mnist.npz [--only WORD] [--seeds 1 2 3] [--images N] [--profiled N]

Cells and Fmax are estimated by Yosys and nextpnr, bus shell and load port included, no trace port. The simulator of
instructions states clocks and counts work for the first `--profiled` images, from the wait for the first code to the
last result. The emitted core runs `--images` in the native driver: outputs and ticks are compared with golden, and the
program ends with 1 if any differs; what it takes between first code in and last code out stays in the data. A seed that
was placed before stays in the record as long as the Verilog and the contents of its memories are the same; cases that
do not run keep their rows.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import results
from mnist import images
from mnist_rtl import mnist_net
from numpy.typing import NDArray

from eqcompile.app.emission import emit_artifact
from eqcompile.rtl.processor.compiler import compile_net
from eqcompile.rtl.processor.profile import profile
from eqcompile.sim.simulators import NativeSimulator
from eqcompile.targets.rtl.synth.flow import synthesise
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.ir import IntNet

LIMIT_S = 3600.0
BATCH = 1000
KEYS = ("case",)


@dataclass(frozen=True)
class Case:
    net: str
    part: str
    lanes: int
    width: int

    def __str__(self) -> str:
        return f"{self.net} {self.part} {self.lanes}/{self.width}"


SIZES = (("ecp5-25k", 64, 2), ("ecp5-85k", 256, 8))
CASES = tuple(Case(net, *size) for net in ("mnist_layered", "mnist_certified") for size in SIZES)
COLUMNS = {"net": "", "part": "", "lanes, width": "", "LUT4": "estimated", "flip-flops": "estimated"}
COLUMNS |= {"block RAMs": "estimated", "multipliers": "estimated", "Fmax MHz (seeds)": "estimated"}
COLUMNS |= {"clocks an image, mean / 95 %": "simulated", "us an image, mean / 95 %": "estimated"}
WORK = {
    "net": "",
    "lanes, width": "",
    "ticks": "simulated",
    "words of weights": "simulated",
    "bits of them": "simulated",
}
WORK |= {"additions": "simulated", "entries of tables": "simulated"}
PEERS = (
    (
        "Loihi (Renner et al., Nature Communications 2024, table 1)",
        "400-400-10, spiking, inference only",
        "96.3 %",
        "0.17 ms",
        "a chip; 2.5 uJ an image; 400 inputs",
    ),
    (
        "Flexi-NeurA (arXiv 2602.18140)",
        "256-128-10, leaky integrate-and-fire",
        "97.23 %",
        "1.1 ms",
        "FPGA, two cores, 1,623 logic cells, 7 block RAMs, 111 mW; 256 inputs",
    ),
    (
        "FINN (arXiv 1612.07119)",
        "binary, feed-forward",
        "95.8 %",
        "0.31 us",
        "ZC706, a circuit of one net, 12.3 million images a second, system below 25 W",
    ),
    (
        "DWN (arXiv 2410.11112)",
        "weightless, feed-forward",
        "-",
        "-",
        "FPGA, a circuit of one net; its figures were not at hand; they leave out the encoder (arXiv 2512.15251)",
    ),
)
LEFT_OUT = (
    "Peers are as published; none was run here. Their nets are feed-forward or spiking, and relax nothing. FINN and "
    "DWN are circuits of one net, whose weights no host can load; this core runs other nets after a load. The parts "
    "differ in process, size and price. Times of this core are clocks that are simulated at a frequency that is "
    "estimated, for images that wait at the stream port: no bus and no host is in them, nor in the figures of the "
    "peers. Power was neither measured nor estimated; work is counted instead: words of weights, additions "
    "to sums (of weights that are 0 too), and entries of tables that are asked for."
)


def digest(folder: Path) -> str:
    """Of the Verilog and the contents of its memories."""
    found = hashlib.sha256()
    for file in (folder / "core.v", *sorted(folder.glob("*.hex"))):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def placed(folder: Path, case: Case, options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Cells, and timings of the given seeds and of those that an earlier run of the same core had."""
    timings: dict[str, Any] = dict(earlier.get("seeds", {}))
    usage = earlier.get("usage", {})
    if todo := [s for s in options.seeds if str(s) not in timings]:
        kept = options.netlists / str(case).replace("/", "_").replace(" ", "_")
        kept.mkdir(parents=True, exist_ok=True)
        report = synthesise(folder / "core.v", "core", case.part, seeds=todo, timeout_s=LIMIT_S, kept=kept)
        found = report.to_json()
        usage = {u["key"]: {k: u[k] for k in ("core", "available")} for u in found["usage"]}
        for row in found["seeds"]:
            timings[str(row.pop("seed"))] = row
    rates = [t["fmax_mhz"] for t in timings.values()]
    return {"usage": usage, "seeds": dict(sorted(timings.items())), "fmax_mhz": median(rates) if rates else None}


def simulated(artifact: Artifact, net: IntNet, codes: NDArray[np.int64], y: NDArray[Any]) -> dict[str, Any]:
    """Clocks of every image, and how many differ from golden in an output or in ticks."""
    clocks: list[int] = []
    differ = right = ticks = 0
    for at in range(0, len(codes), BATCH):
        part = {"x": codes[at : at + BATCH]}
        got = NativeSimulator(clocks=True).run(artifact, part, trace=False, timeout_s=LIMIT_S)
        want = golden.run(net, part, trace=False)
        wrong = got.steps != want.steps
        for name, value in want.outputs.items():
            wrong |= (got.outputs[name] != value).reshape(len(wrong), -1).any(axis=1)
        differ += int(wrong.sum())
        right += int((golden.labels(got.outputs["logits"]) == y[at : at + BATCH]).sum())
        ticks += int(got.steps.sum())
        clocks += [int(c) for c in np.array(got.details["latency"])]
    counts = {"differ": differ, "right": right, "ticks": ticks / len(codes)}
    return {"images": len(codes), **counts, "clocks": spread(clocks)}


def spread(clocks: Sequence[int]) -> dict[str, float]:
    """Of images."""
    return {"mean": float(np.mean(clocks)), "p95": float(np.percentile(clocks, 95)), "worst": max(clocks)}


def work(net: IntNet, case: Case, codes: NDArray[np.int64]) -> dict[str, Any]:
    """Counts an image, and the clocks that the simulator of instructions states."""
    program = compile_net(net, lanes=case.lanes, width=case.width)
    stated = profile(program, [[row] for row in codes])
    core, count = program.image.core, len(codes)
    words = sum(stated.words) / count
    bits = core.lanes * core.code_bits + core.group_bits
    counts = {"words": words, "bits": words * bits, "additions": stated.additions / count}
    clocks = spread(stated.totals)
    return {"profiled": count, **counts, "lookups": stated.lookups / count, "clocks": clocks}


def measure(case: Case, options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    net = mnist_net(case.net)
    x, y = (v[: options.images] for v in images(options.data))
    codes = data.encode(net, {"x": x})[0]["x"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = emit_artifact(RtlTarget.of(arch="processor", lanes=case.lanes, width=case.width), net, folder)
        core = digest(folder)
        same = earlier if earlier.get("core") == core else {}
        row = placed(folder, case, options, same)
        run = same.get("run")
        if run is None or run["images"] < len(x):
            run = simulated(artifact, net, codes, y)
    counts = work(net, case, codes[: options.profiled])
    facts = results.net_facts(case.net, net)
    return {"case": str(case), **vars(case), "core": core, **row, "run": run, "work": counts, "facts": facts}


def times(row: Mapping[str, Any]) -> tuple[float, float]:
    """Microseconds an image at the median frequency: mean, and what 95 % of the images need at most."""
    return row["work"]["clocks"]["mean"] / row["fmax_mhz"], row["work"]["clocks"]["p95"] / row["fmax_mhz"]


def cells(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Cells of COLUMNS."""
    for r in rows:
        used = [f"{r['usage'][k]['core']:,} of {r['usage'][k]['available']:,}" for k in ("lut", "ff", "bram", "dsp")]
        seeds = ", ".join(f"{t['fmax_mhz']:.1f}" for t in r["seeds"].values())
        clocks, (mean, slow) = r["work"]["clocks"], times(r)
        both = f"{clocks['mean']:,.0f} / {clocks['p95']:,.0f}"
        figures = [f"{r['fmax_mhz']:.1f} ({seeds})", both, f"{mean:.1f} / {slow:.1f}"]
        yield [r["net"], r["part"], f"{r['lanes']}, {r['width']}", *used, *figures]


def work_cells(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Cells of WORK."""
    seen = set()
    for r in rows:
        size = f"{r['lanes']}, {r['width']}"
        if (r["net"], size) not in seen:
            seen.add((r["net"], size))
            counts = [f"{r['work'][k]:,.0f}" for k in ("words", "bits", "additions", "lookups")]
            yield [r["net"], size, f"{r['run']['ticks']:.1f}", *counts]


def words(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for name in dict.fromkeys(r["net"] for r in rows):
        row = next(r for r in rows if r["net"] == name)
        f, run = row["facts"], row["run"]
        parts.append(
            f"{name}: {f['units']} units, W_rec {f['density']:.0%} not 0, L {f['L']:.4f}, {run['ticks']:.1f} ticks an "
            f"image, {run['right'] / run['images']:.4f} of {run['images']:,} images right, {run['differ']} differ from "
            "golden"
        )
    return "; ".join(parts) + ". Weights are loaded at run time; input, settling and output are in the clocks."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz with x_test and y_test")
    parser.add_argument(
        "--only", metavar="WORD", default="", help="cases whose name holds this, as NET PART LANES/WIDTH"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="placements (default: 1 2 3)"
    )
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="the first N (default: all)")
    parser.add_argument("--profiled", type=int, default=200, metavar="N", help="whose work is counted (default: 200)")
    netlists = results.HERE.parent / "build" / "bench" / "netlists"
    parser.add_argument("--netlists", type=Path, default=netlists, metavar="DIR", help="kept for further seeds")
    results.add_folder(parser)
    options = parser.parse_args()
    known = {r["case"]: r for r in results.joined("processor_route", (), KEYS, options.out)}
    fresh = []
    for case in CASES:
        if options.only in str(case):
            fresh.append(measure(case, options, known.get(str(case), {})))
            sys.stdout.write(f"{case}: {next(cells(fresh[-1:]))}\n")
    every = results.joined("processor_route", fresh, KEYS, options.out)
    facts = [r["facts"] for r in every]
    peers = {"peer": "", "net": "", "MNIST": "measured", "latency": "measured", "conditions": ""}
    results.record(
        "processor_route",
        "The processor on ECP5",
        [
            results.text(f"`benchmarks/processor_route.py`. {words(every)}"),
            results.table(COLUMNS, [*cells(every)]),
            results.text("Work an image:"),
            results.table(WORK, [*work_cells(every)]),
            results.text("Beside them, as published:"),
            results.table(peers, PEERS),
            results.text(LEFT_OUT),
        ],
        data=every,
        nets=results.joined_nets("processor_route", facts, options.out),
        note=results.origins(every, "case"),
        folder=options.out,
    )
    return int(any(row["run"]["differ"] for row in fresh))


if __name__ == "__main__":
    sys.exit(main())
