"""Time of an inference of the C target here, one thread, beside ONNX Runtime int8 and PyTorch eager.

    python benchmarks/c.py [--data mnist.npz] [--only mnist_layered.npz] [--out DIR]

`mnist.npz` holds x_test and y_test as Keras distributes it; without it the images are random pixels. Peers run the same
net for all its ticks: PyTorch float32 eager, and the net unrolled in ONNX with dynamically quantized int8 weights. C
stops when no state moves, which cannot change its result; `every tick` is the same code held to all of them. Peers are
timed with one input at a time and with 64 (time an input); C takes one at a time always.

All programs of a net are timed in turn, round after round, in CPU time of the process, and the best pass of each
counts: other work on the machine makes a pass slower, never faster. It evicts caches, which slows peers more than C:
trust ratios from a calm machine. Floors, measured in the same rounds: `cache`, reading all weights once and the
recurrent ones in each tick made, in vector loads from the cache that holds them; `adders`, the additions that the
events need (golden counts them: one for each nonzero weight of an operand that changed) in full vector registers of
16-bit codes. Neither counts tables, comparisons or control; a kernel that skips what did not change can be faster than
the first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: peers and we get one thread each

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results
from nets import inputs as random_images
from numpy.typing import NDArray

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.targets.c.target import CTarget
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet

HERE = Path(__file__).parent
CHECKPOINTS = HERE.parent / "examples" / "checkpoints"
MODELS = ("mnist_layered.npz", "digits_layered.npz", "digits_ternary.pt", "digits_looped.pt", "mnist_ternary.npz")
KERNELS = (("event", "auto"), ("event", "2bit"), ("event", "5trit"), ("dense", "2bit"), ("dense", "int8"))
FLAGS = ("-std=c99", "-O3", "-march=native")
PEERS = ("PyTorch eager float32", "ONNX Runtime int8")
BATCHES = (1, 64)
TIMED = [f"{peer}{f', batch {batch}' if batch > 1 else ''}" for batch in BATCHES for peer in PEERS]
SAMPLES = 200
ROUNDS = 5
PASSES = 5
Floats = NDArray[np.float32]
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="mnist.npz")
    parser.add_argument("--only", action="append", choices=MODELS, help="only this net (may be repeated)")
    results.add_folder(parser)
    options = parser.parse_args()
    fresh: list[Row] = []
    facts: list[Row] = []
    for name in options.only or MODELS:
        found, fact = measured(name, samples(name, options.data))
        fresh += found
        facts.append(fact)
    rows = results.joined("c", fresh, ("model", "title"), options.out)
    rows.sort(key=lambda row: MODELS.index(row["model"]))
    nets = results.joined_nets("c", facts, options.out)
    columns = {"net": "", "program": "", "ticks": "simulated", "us": "measured", "floor: cache, us": "measured"}
    columns |= {"floor: adders, us": "measured"} | {f"times {peer}": "measured" for peer in TIMED}
    columns |= {"RAM, bytes": "computed", "flash, bytes": "computed"}
    cells = [
        [r["model"], r["title"], f"{r['ticks']:.1f}", *(f"{r[k] * 1e6:.2f}" for k in ("seconds", "cache", "adders"))]
        + [f"{r[peer] / r['seconds']:.1f}" if peer in r else "-" for peer in TIMED]
        + [r["ram_bytes"], r["flash_bytes"]]
        for r in rows
    ]
    compiler = subprocess.run(["gcc", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    words = (
        f"`benchmarks/c.py`: one thread, {compiler}, {' '.join(FLAGS)}; CPU time an input of the best pass over "
        f"{SAMPLES} inputs, {ROUNDS} rounds in turn; C one at a time, peers so too and 64 at a time. Peers make all "
        "ticks: `every tick` compares the same work, the other rows gain by stopping when nothing moves, which changes "
        "no bit. Floors: reading the weights that are used from cache, and adding them in vector registers."
    )
    blocks, note = [results.text(words), results.table(columns, cells)], results.origins(rows, "model")
    results.record("c", "The C target, beside its peers", blocks, data=rows, nets=nets, note=note, folder=options.out)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def samples(model: str, mnist: Path | None) -> Floats:
    """Inputs `[samples, units]` in [0, 1]."""
    if model.startswith("digits"):
        from sklearn.datasets import load_digits

        return (load_digits().data[-SAMPLES:] / 16.0).astype(np.float32)
    if mnist is None:
        say("no --data: MNIST times are for random pixels")
        return random_images(SAMPLES)
    with np.load(mnist) as file:
        return (file["x_test"][:SAMPLES].reshape(SAMPLES, -1) / 255.0).astype(np.float32)


def measured(model: str, x: Floats) -> tuple[list[Row], Row]:
    float_net = import_model(CHECKPOINTS / model).net
    net = lower(float_net, QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net
    codes = data.encode(net, {"x": x})[0]["x"]
    told = golden.run(net, {"x": codes}, trace=False, evaluation="event")
    labels = golden.labels(told.outputs["logits"])
    layers = weights_of(float_net)
    peers = {
        PEERS[0]: torch_call(layers, float_net.schedule.steps),
        PEERS[1]: onnx_call(layers, float_net.schedule.steps),
    }
    given = {batch: [x[i : i + batch] for i in range(0, len(x) - batch + 1, batch)] for batch in BATCHES}
    say(f"\n{model}: {len(x)} inputs, settled after {told.steps.mean():.1f} of {net.schedule.steps} ticks on average")
    best: dict[str, float] = {}
    for peer, call in peers.items():
        equal = int(sum(call(row).argmax() == label for row, label in zip(given[1], labels, strict=True)))
        say(f"  {peer}: labels as golden {equal}/{len(x)}")
        if equal < 0.9 * len(x):
            sys.exit(f"{peer} gives {equal} of {len(x)} labels of golden: the comparison would be void")
    with tempfile.TemporaryDirectory() as name:
        rows = []
        programs: dict[str, tuple[Path, int]] = {}
        for kernel, pack in KERNELS:
            for every in (False, True):
                title = f"C {kernel}, {pack}{', every tick' if every else ''}"
                folder = Path(name) / str(len(programs))
                made = len(codes) * net.schedule.steps if every else int(told.steps.sum())
                details = build(net, folder, kernel, pack, every)
                programs[title] = (folder / "time", made)
                rows.append(row(model, title, details, made / len(codes), additions(net, codes, told)))
        floor = compiled(Path(name) / "floor", "c_floor.c")
        for _ in range(ROUNDS):
            for title, (batch, peer) in zip(TIMED, ((b, p) for b in BATCHES for p in PEERS), strict=True):
                keep(best, title, min(one_pass(peers[peer], given[batch]) for _ in range(PASSES)))
            for title, (program, made) in programs.items():
                keep(best, title, run_c(program, codes, told, made))
            for r in rows:
                argv = [floor, "20", str(r["weight_bytes"])]
                reading, adding = map(float, subprocess.run(argv, check=True, capture_output=True).stdout.split())
                keep(r, "cache", reading * 1e-12 * r["bytes_read_dense"] / r["weight_bytes"])
                keep(r, "adders", adding * 1e-12 * r["additions"])
    for peer in TIMED:
        say(f"  {peer:44} {best[peer] * 1e6:8.2f} us")
    for r in rows:
        r |= {"seconds": best[r["title"]], **{peer: best[peer] for peer in TIMED}}
        shown = "  ".join(f"{best[peer] / r['seconds']:6.1f}x" for peer in TIMED)
        floors = f"cache {r['cache'] * 1e6:.2f} us, adders {r['adders'] * 1e6:.2f} us"
        say(f"  {r['title']:44} {r['seconds'] * 1e6:8.2f} us  {shown}  {floors}")
    return rows, results.net_facts(model, net, told)


def keep(best: Row, key: str, seconds: float) -> None:
    best[key] = min(best.get(key, seconds), seconds)


def compiled(program: Path, *sources: str | Path) -> Path:
    argv = ["gcc", *FLAGS, f"-I{program.parent}", *(str(HERE / s) for s in sources), "-o", str(program)]
    subprocess.run(argv, check=True)
    return program


def build(net: IntNet, folder: Path, kernel: str, pack: str, every: bool) -> Row:
    """The program `time` of a kernel in the new `folder`; details of the target."""
    folder.mkdir()
    artifact = emit_artifact(CTarget(kernel=kernel, pack=pack), net, folder)  # type: ignore[arg-type]
    if every:
        source = (folder / "eq.c").read_text(encoding="utf-8")
        (folder / "eq.c").write_text(source.replace("while (moved && ", "while ("), encoding="utf-8")
    compiled(folder / "time", "c_time.c", folder / "eq.c")
    return dict(artifact.manifest.details)


def run_c(program: Path, codes: NDArray[np.int64], told: Any, made: int) -> float:
    """Seconds an inference of the best pass; the program must make golden's ticks and give golden's outputs."""
    given = np.uint64(len(codes)).tobytes() + codes.astype(np.uint8).tobytes()
    done = subprocess.run([program, str(PASSES)], input=given, check=True, capture_output=True)
    *passes, last = done.stdout.decode().splitlines()
    found = tuple(map(int, last.split()))
    want = int(told.outputs["logits"].astype("<i4").view(np.uint8).sum(dtype=np.int64))
    if found != (PASSES * made, PASSES * want):
        sys.exit(f"{program}: ticks and sum {found}, golden {PASSES * made} and {PASSES * want}")
    return min(map(int, passes)) * 1e-9 / len(codes)


def row(model: str, title: str, details: Row, ticks: float, adds: float) -> Row:
    sizes = {n: m["bytes"] for n, m in details["matrices"].items()}
    recurrent = next(size for n, size in sizes.items() if n.startswith("W_rec"))
    return {
        "model": model,
        "title": title,
        "weight_bytes": sum(sizes.values()),
        "bytes_read_dense": sum(sizes.values()) - recurrent + recurrent * ticks,
        "additions": adds,
        "ticks": ticks,
        "ram_bytes": details["ram_bytes"],
        "flash_bytes": details["flash_bytes"],
        "kind": "measured",
    }


def additions(net: IntNet, codes: NDArray[np.int64], told: Any) -> float:
    """Additions an inference that events need, input and output layer included."""
    weights = {p.name: p.value for p in net.params if p.name.startswith("W_") and p.value.ndim == 2}
    given = next(w for n, w in weights.items() if n.startswith("W_in"))
    read = next(w for n, w in weights.items() if n.startswith("W_out"))
    drive = ((codes != 0) @ np.count_nonzero(given, axis=0)).mean()
    return float(drive + np.count_nonzero(read) + told.details["additions_event"] / len(codes))


def one_pass(call: Callable[[Floats], object], given: list[Floats]) -> float:
    """Seconds an input, of calls with the same number of them each."""
    start = time.process_time()
    for row in given:
        call(row)
    return (time.process_time() - start) / sum(map(len, given))


def weights_of(net: EqNet) -> list[tuple[Floats, Floats]]:
    """Weight and bias of the input, the recurrent and the output layer."""
    found = []
    for block in (net.drive, net.step, net.readout):
        (op,) = (op for op in block if op.mnemonic == "linear")
        found.append((net.param(op.weight).astype(np.float32), net.param(op.bias).astype(np.float32)))  # type: ignore[attr-defined]
    return found


def torch_call(layers: list[tuple[Floats, Floats]], steps: int) -> Callable[[Floats], Any]:
    import torch

    torch.set_num_threads(1)
    (w_in, b_in), (w_rec, b_rec), (w_out, b_out) = (tuple(map(torch.from_numpy, layer)) for layer in layers)
    linear = torch.nn.functional.linear

    def call(x: Floats) -> Any:
        with torch.no_grad():
            drive = linear(torch.from_numpy(x), w_in, b_in)
            h = torch.zeros_like(drive)
            for _ in range(steps):
                h = torch.tanh(drive + linear(h, w_rec, b_rec))
            return linear(h, w_out, b_out)

    return call


def onnx_call(layers: list[tuple[Floats, Floats]], steps: int) -> Callable[[Floats], Any]:
    """The unrolled net after ONNX Runtime's own dynamic quantization to int8 weights."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    constants, nodes = [], []
    for name, (weight, bias) in zip(("in", "rec", "out"), layers, strict=True):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(weight.T), f"w_{name}"))
        constants.append(numpy_helper.from_array(bias, f"b_{name}"))
    nodes += [helper.make_node("MatMul", ["x", "w_in"], ["d0"]), helper.make_node("Add", ["d0", "b_in"], ["d1"])]
    nodes.append(helper.make_node("Add", ["d1", "b_rec"], ["drive"]))
    nodes.append(helper.make_node("Tanh", ["drive"], ["h1"]))
    for tick in range(1, steps):
        nodes.append(helper.make_node("MatMul", [f"h{tick}", "w_rec"], [f"r{tick}"]))
        nodes.append(helper.make_node("Add", [f"r{tick}", "drive"], [f"p{tick}"]))
        nodes.append(helper.make_node("Tanh", [f"p{tick}"], [f"h{tick + 1}"]))
    nodes += [
        helper.make_node("MatMul", [f"h{steps}", "w_out"], ["y0"]),
        helper.make_node("Add", ["y0", "b_out"], ["y"]),
    ]
    sizes = (layers[0][0].shape[1], len(layers[2][0]))
    given, result = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in zip("xy", sizes, strict=True)
    )
    graph = helper.make_graph(nodes, "unrolled", [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, folder / "float.onnx")
        quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            (folder / "int8.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    return lambda x: session.run(None, {"x": x})[0]


if __name__ == "__main__":
    main()
