"""Ternary MNIST networks on the serial core: every state at every step of the whole test set, and the clocks.

    python benchmarks/mnist_rtl.py --data mnist.npz [--net mnist_layered ...] [--images 10000] [--few 8]

`mnist.npz` holds x_test and y_test, as Keras distributes it. The emitted core runs in the native Verilator driver, and
in both cocotb simulators on a few images; states, outputs and ticks are compared with golden. The same core with the
dense schedule, in which a code is an event whether it changed or not, says what the events save. Clocks and mismatches
are simulated, the accuracy is that of the core's outputs. `benchmarks/rtl.py` places and routes this core. Nets that do
not run keep the rows that they have in the record.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import results
from mnist import CHECKPOINTS, NETS, batches, images
from numpy.typing import NDArray
from tqdm import tqdm

from eqcompile.app.cli.show import table
from eqcompile.app.emission import describe
from eqcompile.quantization.lower import lower
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.rtl.serial.options import Serial
from eqcompile.sim.simulators import IcarusSimulator, NativeSimulator, VerilatorSimulator
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.artifact import Artifact, seal
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run, Simulator
from eqcompile.toolchain.ir import IntNet

TIMEOUT_S = 3600.0
COLUMNS = {
    "net": "",
    "core": "",
    "simulator": "",
    "images": "",
    "steps compared": "simulated",
    "mismatches": "simulated",
}
COLUMNS |= {"accuracy": "simulated", "clocks an image": "simulated", "seconds": "measured"}


def mnist_net(name: str) -> IntNet:
    """A trained net as integers; a tanh state lies in -1..1 and a pixel in 0..1, so no data is needed."""
    options = QuantizeOptions(input_range=(0.0, 1.0))
    net: IntNet = lower(import_model(CHECKPOINTS / f"{name}.npz").net, options, calibration=None).net
    return net


def compared(
    artifact: Artifact, simulator: Simulator, codes: NDArray[np.int64], want: Run, y: NDArray[Any]
) -> dict[str, Any]:
    """One row: a simulator of an emitted core on these images."""
    began = time.perf_counter()
    got = simulator.run(artifact, {"x": codes}, trace=True, timeout_s=TIMEOUT_S)
    found = compare(want, got, states=True)
    timed = got.details.get("latency")
    return {
        "simulator": simulator.name,
        "images": len(codes),
        "steps": found.ticks * found.samples,
        "mismatches": found.mismatches,
        "right": int((golden.labels(got.outputs["logits"]) == y).sum()),
        "clocks": None if timed is None else [int(v) for v in timed],
        "seconds": time.perf_counter() - began,
    }


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of the same simulator on other images as one."""
    total = {key: sum(r[key] for r in rows) for key in ("images", "steps", "mismatches", "right", "seconds")}
    clocks = [v for r in rows for v in r["clocks"] or ()]
    return {"simulator": rows[0]["simulator"], **total, **({"clocks": _spread(clocks)} if clocks else {})}


def _spread(clocks: list[int]) -> dict[str, float]:
    return {"median": float(np.median(clocks)), "mean": float(np.mean(clocks)), "worst": float(max(clocks))}


def lines(found: list[dict[str, Any]]) -> list[list[str]]:
    """Cells of COLUMNS."""
    cells = []
    for r in found:
        clocks = f"{r['clocks']['median']:.0f} median, {r['clocks']['worst']:.0f} worst" if "clocks" in r else "-"
        share = f"{r['right'] / r['images']:.4f}"
        fixed = [r["net"], r["core"], r["simulator"], f"{r['images']:,}", f"{r['steps']:,}", str(r["mismatches"])]
        cells.append([*fixed, share, clocks, f"{r['seconds']:.0f}"])
    return cells


class Dense(Serial):
    """The serial core with every code an event."""

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> SerialEngine:
        return SerialEngine(net, trace=trace, inject=inject, lanes=self.lanes, dense=True)


def measure(name: str, x: NDArray[np.float64], y: NDArray[Any], few: int) -> dict[str, Any]:
    """One net: rows of its cores and simulators, additions with and without events, and facts of the net. The cocotb
    simulators run the first `few` images."""
    net = mnist_net(name)
    codes = data.encode(net, {"x": x})[0]["x"]
    parts = list(zip(batches(codes), batches(y), strict=True))
    first = golden.run(net, {"x": codes[:few]})
    rows: list[dict[str, Any]] = []
    dense = event = 0
    for label, core in (("serial", Serial()), ("serial, dense schedule", Dense())):
        with tempfile.TemporaryDirectory() as folder:
            target = RtlTarget.of(arch="serial")
            plan = RtlPlan(net, target, core)
            artifact = seal(Path(folder), net, describe(plan, target, plan.emit(Path(folder), bench_vectors(plan))))
            whole = []
            for part, labels in tqdm(parts, desc=f"{name}, {label}", unit="batch"):
                want = golden.run(net, {"x": part}, evaluation="event")
                dense += want.details["additions_dense"] * (not isinstance(core, Dense))
                event += want.details["additions_event"] * (not isinstance(core, Dense))
                whole.append(compared(artifact, NativeSimulator(clocks=True), part, want, labels))
            rows.append({"net": name, "core": label, **joined(whole)})
            if not isinstance(core, Dense):
                for simulator in (VerilatorSimulator(), IcarusSimulator()):
                    row = compared(artifact, simulator, codes[:few], first, y[:few])
                    rows.append({"net": name, "core": label, **joined([row])})
    return {
        "rows": rows,
        "additions": {"dense": int(dense), "event": int(event)},
        "clocks_of_dense_schedule": rows[-1]["clocks"]["mean"] / rows[0]["clocks"]["mean"],
        "facts": results.net_facts(name, net, first),
    }


def words(figures: dict[str, Any]) -> str:
    dense, event, images = figures["additions"]["dense"], figures["additions"]["event"], figures["compared"]
    return (
        f"{figures['net']}: events skip {1 - event / dense:.1%} of {dense / images:.0f} recurrent additions an image; "
        f"the dense schedule takes {figures['clocks_of_dense_schedule']:.2f} times as many clocks on the same core "
        "(mean; simulated)."
    )


def main() -> int:
    """Print the table, record it; 1 if anything differs from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz with x_test and y_test")
    parser.add_argument("--net", action="append", choices=NETS, help="only this net (may be repeated)")
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="the first N (default: all)")
    parser.add_argument("--few", type=int, default=8, metavar="N", help="of the cocotb simulators (default: 8)")
    results.add_folder(parser)
    options = parser.parse_args()
    x, y = (v[: options.images] for v in images(options.data))
    fresh = [{"net": name, "compared": len(x), **measure(name, x, y, options.few)} for name in options.net or NETS]
    facts = [figures.pop("facts") for figures in fresh]
    every = results.joined("mnist_rtl", fresh, ("net",), options.out)
    texts = [words(figures) for figures in every]
    cells = lines([row for figures in every for row in figures["rows"]])
    sys.stdout.write("\n\n".join((table(tuple(COLUMNS), cells), *texts)) + "\n")
    results.record(
        "mnist_rtl",
        "MNIST on the serial core",
        [
            results.text("`benchmarks/mnist_rtl.py`, every state of every step against golden."),
            results.table(COLUMNS, cells),
            *map(results.text, texts),
        ],
        data=every,
        nets=results.joined_nets("mnist_rtl", facts, options.out),
        note=results.origins(every),
        older=results.older("mnist_rtl", options.out),
        folder=options.out,
    )
    return int(any(row["mismatches"] for figures in fresh for row in figures["rows"]))


if __name__ == "__main__":
    sys.exit(main())
