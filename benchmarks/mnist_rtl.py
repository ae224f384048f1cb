"""The ternary MNIST network on the serial core: every state at every step of the whole test set, and the clocks.

    python benchmarks/mnist_rtl.py --data mnist.npz [--images 10000] [--out DIR]

`mnist.npz` holds x_test and y_test, as Keras distributes it. The emitted core runs in the native Verilator driver, and
in both cocotb simulators on a few images; states, outputs and ticks are compared with golden. The same core with the
dense schedule, in which a code is an event whether it changed or not, says what the events save. Clocks and mismatches
are simulated, the accuracy is that of the core's outputs. `benchmarks/rtl.py` places and routes this core.
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
from mnist import CHECKPOINT, batches, images
from numpy.typing import NDArray

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

FEW = 8
TIMEOUT_S = 3600.0
COLUMNS = {"core": "", "simulator": "", "images": "", "steps compared": "simulated", "mismatches": "simulated"}
COLUMNS |= {"accuracy": "simulated", "clocks an image": "simulated", "seconds": "measured"}


def mnist_net() -> IntNet:
    """The trained net as integers; a tanh state lies in -1..1 and a pixel in 0..1, so no data is needed."""
    options = QuantizeOptions(input_range=(0.0, 1.0))
    found: IntNet = lower(import_model(CHECKPOINT).net, options, calibration=None).net
    return found


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
        fixed = [r["core"], r["simulator"], f"{r['images']:,}", f"{r['steps']:,}", str(r["mismatches"])]
        cells.append([*fixed, share, clocks, f"{r['seconds']:.0f}"])
    return cells


class Dense(Serial):
    """The serial core with every code an event."""

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> SerialEngine:
        return SerialEngine(net, trace=trace, inject=inject, lanes=self.lanes, dense=True)


def main() -> int:
    """Print the table, record it; 1 if anything differs from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz with x_test and y_test")
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="the first N (default: all)")
    results.add_folder(parser)
    given = parser.parse_args()
    x, y = (v[: given.images] for v in images(given.data))
    net = mnist_net()
    codes = data.encode(net, {"x": x})[0]["x"]
    found: list[dict[str, Any]] = []
    dense = event = 0
    with tempfile.TemporaryDirectory() as name:
        parts = list(zip(batches(codes), batches(y), strict=True))
        for label, core in (("serial", Serial()), ("serial, dense schedule", Dense())):
            folder = Path(name) / str(len(found))
            folder.mkdir()
            target = RtlTarget.of(arch="serial")
            plan = RtlPlan(net, target, core)
            artifact = seal(folder, net, describe(plan, target, plan.emit(folder, bench_vectors(plan))))
            rows = []
            for done, (part, labels) in enumerate(parts):
                sys.stderr.write(f"\r{label}: {done * len(parts[0][0])} of {len(codes)}")
                want = golden.run(net, {"x": part}, evaluation="event")
                dense += want.details["additions_dense"] * (not isinstance(core, Dense))
                event += want.details["additions_event"] * (not isinstance(core, Dense))
                rows.append(compared(artifact, NativeSimulator(clocks=True), part, want, labels))
            found.append({"core": label, **joined(rows)})
            if not isinstance(core, Dense):
                want = golden.run(net, {"x": codes[:FEW]})
                for simulator in (VerilatorSimulator(), IcarusSimulator()):
                    row = compared(artifact, simulator, codes[:FEW], want, y[:FEW])
                    found.append({"core": label, **joined([row])})
    sys.stderr.write("\r" + " " * 60 + "\r")
    saved = found[-1]["clocks"]["mean"] / found[0]["clocks"]["mean"]
    cells = lines(found)
    words = (
        f"`benchmarks/mnist_rtl.py`, every state of every step against golden. Events skip {1 - event / dense:.1%} of "
        f"{dense / len(codes):.0f} recurrent additions an image; the dense schedule takes {saved:.2f} times as many "
        "clocks on "
        "the same core (mean; simulated)."
    )
    sys.stdout.write(f"{table(tuple(COLUMNS), cells)}\n\n{words}\n")
    blocks = [results.text(words), results.table(COLUMNS, cells)]
    figures = {"additions": {"dense": int(dense), "event": int(event)}, "rows": found}
    facts = [results.net_facts("mnist_ternary", net, want)]
    results.record("mnist_rtl", "MNIST on the serial core", blocks, data=figures, nets=facts, folder=given.out)
    return 0 if not any(r["mismatches"] for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
