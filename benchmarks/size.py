"""Time and memory of a compilation against the number of weights: seconds and bytes a weight, and how they grow.

    python benchmarks/size.py [--net NAME ...] [--target NAME ...] [--keep] [--out DIR]

Records the tables after each net and target, and prints them at the end; `--keep` goes on from there, and measures
what is not recorded.

Each net and target has a process of its own, on one thread: import, quantize with 64 calibration samples, certificate,
plan and emission, without simulators. A small net goes through all stages first, so that what packages take is not
counted. Times are of the processor. `exponent`: the slope of log(time) and of log(memory) over log(weights) of the
dense nets, by least squares, over the range of weights that stands beside it; 1 is linear. `fixed` and `a weight`: a
and b of `a + b * weights`, the least relative error over the same nets; fixed is what a net of any size costs. Run it
on a quiet machine: what else runs there evicts caches, which adds to the time of the processor too.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.app.cli.show import table
from eqcompile.app.contraction import contraction_of
from eqcompile.app.emission import describe
from eqcompile.app.foresight import foreseen_faults
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import seal
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import Refusals
from eqcompile.toolchain.options import QuantizeOptions

CALIBRATION_SAMPLES = 64
TARGETS = ("numpy", "c", "onnx", "nir", "loihi")
BAR_SECONDS, BAR_BYTES = 3e-6, 40
LIMIT_S = 900

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A net: the family, its tensors and settings, how to draw calibration samples, and options by target."""

    family: str
    arrays: Callable[[np.random.Generator], Arrays]
    settings: dict[str, str | int | float]
    inputs: Callable[[np.random.Generator], NDArray[Any]]
    dense: bool = False
    options: dict[str, dict[str, int]] = field(default_factory=dict)


def _normal(rng: np.random.Generator, *shape: int, gain: float = 1.0) -> NDArray[np.float32]:
    """Standard deviation `gain / sqrt(entries that a result sums)`."""
    drawn = rng.standard_normal(shape, np.float32)
    drawn *= np.float32(gain / math.sqrt(max(1, math.prod(shape[1:]))))
    return drawn


def looped(inputs: int, hidden: int, outputs: int) -> Case:
    def arrays(rng: np.random.Generator) -> Arrays:
        return {
            "W_in.weight": _normal(rng, hidden, inputs, gain=2.0),
            "W_in.bias": _normal(rng, hidden, gain=0.1),
            "W_rec.weight": _normal(rng, hidden, hidden, gain=0.4),
            "W_rec.bias": _normal(rng, hidden, gain=0.1),
            "W_out.weight": _normal(rng, outputs, hidden),
            "W_out.bias": np.zeros(outputs, np.float32),
        }

    return Case("models.LoopedMLP", arrays, {"steps": 30}, lambda rng: rng.random((CALIBRATION_SAMPLES, inputs)), True)


def cube(side: int) -> Case:
    """`models.NeuralCube`, 64 inputs, 27 weights of its own at each site."""
    sites = side**3

    def arrays(rng: np.random.Generator) -> Arrays:
        at = np.indices((side,) * 3).reshape(3, -1)
        steps = np.indices((3, 3, 3)).reshape(3, -1) - 1
        near = at[:, :, None] + steps[:, None]
        inside = ((near >= 0) & (near < side)).all(axis=0)
        index = np.where(inside, np.ravel_multi_index(tuple(np.clip(near, 0, side - 1)), (side,) * 3), -1)
        return {
            "W_in.weight": _normal(rng, sites, 64),
            "W_in.bias": _normal(rng, sites, gain=0.1),
            "W_local": _normal(rng, sites, 27, gain=0.5),
            "neighbor_indices": index.astype(np.int64),
            "W_out.weight": _normal(rng, 10, sites),
            "W_out.bias": np.zeros(10, np.float32),
        }

    return Case("models.NeuralCube", arrays, {"steps": 30}, lambda rng: rng.random((CALIBRATION_SAMPLES, 64)))


def conv(channels: int, side: int, *, chips: int) -> Case:
    """`models.SimpleConvEqProp` on `side` x `side` images of three channels, with its group normalisation."""

    def arrays(rng: np.random.Generator) -> Arrays:
        return {
            "embed.weight": _normal(rng, channels, 3, 3, 3),
            "embed.bias": _normal(rng, channels, gain=0.1),
            "W_rec.weight": _normal(rng, channels, channels, 3, 3, gain=0.4),
            "W_rec.bias": _normal(rng, channels, gain=0.1),
            "norm.weight": np.ones(channels, np.float32),
            "norm.bias": np.zeros(channels, np.float32),
            "head.2.weight": _normal(rng, 10, channels),
            "head.2.bias": np.zeros(10, np.float32),
        }

    settings: dict[str, str | int | float] = {"steps": 20, "height": side, "width": side}

    def inputs(rng: np.random.Generator) -> NDArray[Any]:
        return rng.random((8, 3, side, side))

    return Case("models.SimpleConvEqProp", arrays, settings, inputs, options={"loihi": {"chips": chips}})


def attention(length: int, width: int, vocabulary: int = 64) -> Case:
    """`models.CausalTransformerEqProp` of two layers."""

    def arrays(rng: np.random.Generator) -> Arrays:
        made: Arrays = {
            "token_emb.weight": _normal(rng, vocabulary, width),
            "pos_emb.weight": _normal(rng, length, width),
            "lm_head.weight": _normal(rng, vocabulary, width),
            "lm_head.bias": np.zeros(vocabulary, np.float32),
        }
        for i in range(2):
            for name in "qkvo":
                made[f"attentions.{i}.W_{name}.weight"] = _normal(rng, width, width)
                made[f"attentions.{i}.W_{name}.bias"] = np.zeros(width, np.float32)
            for layer, (rows, columns) in {0: (4 * width, width), 2: (width, 4 * width)}.items():
                made[f"ffns.{i}.{layer}.weight"] = _normal(rng, rows, columns)
                made[f"ffns.{i}.{layer}.bias"] = np.zeros(rows, np.float32)
            for norm in ("norms1", "norms2"):
                made[f"{norm}.{i}.weight"] = np.ones(width, np.float32)
                made[f"{norm}.{i}.bias"] = np.zeros(width, np.float32)
        return made

    def tokens(rng: np.random.Generator) -> NDArray[Any]:
        return rng.integers(0, vocabulary, (CALIBRATION_SAMPLES, length))

    return Case("models.CausalTransformerEqProp", arrays, {"steps": 20, "num_heads": 4}, tokens)


CASES = {
    "784-256-10": looped(784, 256, 10),
    "784-512-10": looped(784, 512, 10),
    "784-1024-10": looped(784, 1024, 10),
    "3072-2048-10": looped(3072, 2048, 10),
    "784-4096-10": looped(784, 4096, 10),
    "cube 10^3": cube(10),
    "cube 20^3": cube(20),
    "conv 64 x 32 x 32": conv(64, 32, chips=5),
    "attention 20 x 64": attention(20, 64),
}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compile_once(case: Case, target_name: str, folder: Path) -> dict[str, Any]:
    """Stages of one compilation: processor seconds each, and the highest memory since the start of the process."""
    rng = np.random.default_rng(0)
    checkpoint = folder / "net.npz"
    np.savez(checkpoint, **case.arrays(rng))
    calibration = {"x": case.inputs(rng)}
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    start = time.process_time()

    def lap(stage: str) -> None:
        nonlocal start
        seconds[stage] = time.process_time() - start
        peaks[stage] = peak_bytes()
        start = time.process_time()

    source = import_model(checkpoint, family=case.family, settings=case.settings).net
    lap("import")
    target = registry.target_class(target_name).of(**case.options.get(target_name, {}))
    weights = sum(p.value.size for p in source.params)
    faults = foreseen_faults(target, source, QuantizeOptions(), calibration)
    lap("preflight")
    if faults:
        refused = [str(d.what) for d in faults]
        return {"weights": weights, "seconds": seconds, "peaks": peaks, "refused": refused, "digest": "", "bound": None}
    lowered = lower(source, QuantizeOptions(), calibration=calibration)
    net = lowered.net
    lap("quantize")
    # Both levels, in every norm, as a build does.
    contraction = contraction_of(
        source, lowered, QuantizeOptions(), calibration=calibration, real=calibration, source="calibration"
    )
    bound = contraction.lowered.bound
    lap("certificate")
    plan = target.plan(net, source)
    lap("plan")
    refused = [str(d.what) for d in plan.diagnostics] if isinstance(plan, Refusals) else []
    if not isinstance(plan, Refusals):
        (folder / "out").mkdir()
        emission = plan.emit(folder / "out", bench_vectors(plan))
        seal(folder / "out", net, describe(plan, target, emission))
        lap("emit")
    return {
        "weights": weights,
        "seconds": seconds,
        "peaks": peaks,
        "refused": refused,
        "digest": net.digest,
        "bound": bound if math.isfinite(bound) else None,
    }


def measure(name: str, target: str) -> dict[str, Any]:
    """`compile_once` of a small net, then of the case; memory is what the second adds."""
    with tempfile.TemporaryDirectory() as folder:
        compile_once(looped(8, 8, 2), target, Path(folder))
    before = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        row = compile_once(CASES[name], target, Path(folder))
    return {"net": name, "target": target, **row, "before": before}


def run_one(name: str, target: str) -> dict[str, Any]:
    """`measure` in a process of its own, or why there is nothing to tell of it."""
    argv = [sys.executable, __file__, "--measure", name, target]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"net": name, "target": target, "failed": f"not done after {LIMIT_S} s"}
    if done.returncode:
        return {"net": name, "target": target, "failed": done.stderr.strip().splitlines()[-1][:200]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{name} {target}: {sum(row['seconds'].values()):.1f} s\n")
    return row


def grown(rows: Sequence[dict[str, Any]], target: str) -> list[str] | None:
    """Slopes of time and memory over the dense nets that a target takes, their fixed parts and their parts by weight,
    and the weights of these nets; None with fewer than three sizes."""
    chosen = [r for r in rows if r["target"] == target and not ("failed" in r or r["refused"])]
    chosen = [r for r in chosen if CASES[r["net"]].dense]
    if len(chosen) < 3:
        return None
    size = np.log([r["weights"] for r in chosen])
    lines = (
        [sum(r["seconds"].values()) for r in chosen],
        [max(r["peaks"].values()) - r["before"] for r in chosen],
    )
    slopes = (f"{np.polyfit(size, np.log(v), 1)[0]:.2f}" for v in lines)
    weights = [r["weights"] for r in chosen]
    (rate, fixed), (held, fixed_bytes) = (np.polyfit(weights, v, 1, w=1.0 / np.array(v)) for v in lines)
    fits = (f"{fixed:.2f} s", f"{rate * 1e6:.2f} us", f"{fixed_bytes / 1e6:.0f} MB", f"{held:.0f} B")
    return [target, *slopes, *fits, f"{min(weights):,} to {max(weights):,}"]


def cells(row: dict[str, Any]) -> list[str]:
    if "failed" in row:
        return [row["net"], row["target"], "", "", "", "", "", row["failed"]]
    total, memory = sum(row["seconds"].values()), max(row["peaks"].values()) - row["before"]
    stages = ", ".join(f"{stage} {s:.1f}" for stage, s in row["seconds"].items())
    each, held = total / row["weights"], memory / row["weights"]
    over = [w for w, above in (("time", each > BAR_SECONDS), ("memory", held > BAR_BYTES)) if above]
    given = [f"--{k} {v}" for k, v in CASES[row["net"]].options.get(row["target"], {}).items()]
    note = "; ".join([*given, *row["refused"][:2], *([f"above the bar: {', '.join(over)}"] if over else [])])
    figures = [f"{row['weights']:,}", f"{total:.1f} s", f"{each * 1e6:.2f} us", f"{held:.0f} B", stages]
    return [row["net"], row["target"], *figures, note]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--keep", action="store_true", help="keep what is recorded, measure the rest")
    parser.add_argument("--measure", nargs=2, metavar=("NET", "TARGET"), help="one of them, as a line of JSON")
    results.add_folder(parser)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(*arguments.measure)) + "\n")
        return
    path = arguments.out / "size.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["data"] if arguments.keep and path.exists() else []
    rows = {(r["net"], r["target"]): r for r in recorded}
    order = [(name, target) for name in CASES for target in TARGETS]
    shown = ""
    for key in ((name, target) for name in arguments.net for target in arguments.target):
        if key not in rows:
            rows[key] = run_one(*key)
            shown = record([rows[k] for k in order if k in rows], arguments.out)
    sys.stdout.write(shown)


def record(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """Write the tables to the page of results; what people are shown of them."""
    columns = {"net": "", "target": "", "weights": "", "time": "measured", "a weight": "measured"}
    columns |= {"memory a weight": "measured", "stages, s": "measured", "note": ""}
    lines = [cells(row) for row in rows]
    slopes = [s for target in TARGETS if (s := grown(rows, target)) is not None]
    heads = {"target": "", "exponent of time": "measured", "exponent of memory": "measured"}
    heads |= dict.fromkeys(("fixed time", "time a weight", "fixed memory", "memory a weight"), "measured")
    heads |= {"weights": "computed"}
    words = (
        f"`benchmarks/size.py`: processor time of one thread, import to sealed artifact with {CALIBRATION_SAMPLES} "
        f"calibration samples, no simulator. Bars: {BAR_SECONDS * 1e6:.0f} us and {BAR_BYTES} bytes a weight. Load of "
        f"the machine at the end: {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors; above 1 of each, others ran "
        "too and times are higher than on a quiet machine. Fixed: of a + b * weights over the dense nets."
    )
    blocks = [results.table(columns, lines), results.table(heads, slopes), results.text(words)]
    results.record("size", "Time and memory against the number of weights", blocks, data=list(rows), folder=folder)
    return table(tuple(columns), lines) + "\n" + table(tuple(heads), slopes) + "\n"


if __name__ == "__main__":
    main()
