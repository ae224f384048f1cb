"""Measure speed: each figure is a ratio to a named peer of the same run, with the machine's limit beside it.

    python benchmarks/run.py [--out DIR]      prints and records the table

Nothing here is a test: a slow machine fails nothing. Every number is measured, on one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: peers and we get one thread each

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nets
import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.app.cli.show import table
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden

REPEATS = 5
Row = dict[str, Any]


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Wall-clock of each of `repeats` calls, after one that is not counted."""
    call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def row(name: str, ours: list[float], peer: str, theirs: list[float], limit: str = "") -> Row:
    """One line of the table; ratio above 1 means that we are slower than the peer."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "name": name,
        "seconds": mine,
        "seconds_min": min(ours),
        "seconds_max": max(ours),
        "peer": peer,
        "peer_seconds": other,
        "ratio": mine / other,
        "limit": limit,
        "kind": "measured",
    }


def start_up() -> list[Row]:
    """`eqcompile --help` as a whole process, beside a bare interpreter and one that imports torch."""
    command = [sys.executable, "-m", "eqcompile", "--help"]
    ours = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    rows = []
    for peer, code in (("python -c pass", "pass"), ("python -c 'import torch'", "import torch")):
        argv = [sys.executable, "-c", code]
        theirs = seconds(lambda argv=argv: subprocess.run(argv, check=True, capture_output=True))
        rows.append(row("eqcompile --help", ours, peer, theirs, "bar: 0.5 s"))
    return rows


def compile_time(folder: Path) -> list[Row]:
    """Checkpoint to `numpy` artifact, warm (imports done), beside PyTorch's exporter on the same net unrolled."""
    from eqcompile.app import compile as pipeline
    from eqcompile.toolchain import registry

    checkpoint = folder / "mnist_size.pt"
    nets.write_checkpoint(checkpoint)
    calibration = folder / "calibration.npz"
    np.savez(calibration, x=nets.inputs(64))
    request = pipeline.CompileRequest(
        model=checkpoint,
        target=registry.target_class("numpy")(),
        output=folder / "out",
        family="models.LoopedMLP",
        settings={"steps": nets.STEPS},
        calibration=calibration,
        verify=False,
        force=True,
    )
    ours = seconds(lambda: pipeline.compile_model(request))
    module, example = torch_module(), torch_inputs(1)
    theirs = seconds(lambda: export(module, example, folder / "peer.onnx"))
    return [row("compile 784-256-10 to numpy, warm", ours, "torch.onnx.export (30 steps unrolled)", theirs, "bar: 2 s")]


def torch_module() -> Any:
    import torch

    w = {name: torch.from_numpy(value) for name, value in nets.weights().items()}

    class Looped(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            drive = x @ w["W_in.weight"].T + w["W_in.bias"] + w["W_rec.bias"]
            h = torch.zeros_like(drive)
            for _ in range(nets.STEPS):
                h = torch.tanh(drive + h @ w["W_rec.weight"].T)
            return h @ w["W_out.weight"].T + w["W_out.bias"]

    return Looped().eval()


def torch_inputs(count: int) -> Any:
    import torch

    return torch.from_numpy(nets.inputs(count))


def export(module: Any, example: Any, path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=False)


def peak_macs() -> float:
    """Multiply-adds a second of the fastest float32 product found here: the adders' limit for the dense schedule.

    NumPy, PyTorch and ONNX Runtime bring kernels of their own, the last with weights packed beforehand; the best of
    the three on [1024, 256] by [256, 256] counts.
    """
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper

    a, b = np.ones((1024, 256), np.float32), np.ones((256, 256), np.float32)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1024, 256]) for n in "ay")
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    products = (lambda: a @ b, lambda: ta @ tb, lambda: session.run(None, {"a": a}))
    return 1024 * 256 * 256 / min(min(seconds(product, 20)) for product in products)


def int_net(folder: Path) -> tuple[Any, NDArray[np.int64]]:
    from eqcompile.toolchain import data
    from eqcompile.toolchain.importers.api import import_model
    from eqcompile.toolchain.interfaces import QuantizeOptions

    checkpoint = folder / "mnist_size.pt"
    nets.write_checkpoint(checkpoint)
    imported = import_model(checkpoint, family="models.LoopedMLP", settings={"steps": nets.STEPS})
    x = {"x": nets.inputs(1024)}
    net = lower(imported.net, QuantizeOptions(), calibration={"x": x["x"][:64]}).net
    codes, _ = data.encode(net, x)
    return net, codes["x"]


def inference(folder: Path) -> list[Row]:
    """Golden, dense and event-driven, and the emitted NumPy kernel beside PyTorch eager and ONNX Runtime (float32)."""
    import onnxruntime
    import torch

    torch.set_num_threads(1)
    net, codes = int_net(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(nets.onnx_model(), options, providers=["CPUExecutionProvider"])
    module = torch_module()
    kernel = load_kernel(folder / "out" / "kernel.py")
    macs = nets.SHAPE[0] * nets.SHAPE[1] + nets.STEPS * nets.SHAPE[1] ** 2 + nets.SHAPE[1] * nets.SHAPE[2]
    peak = peak_macs()
    rows = []
    for batch in (1, 64, 1024):
        x, code = nets.inputs(batch), codes[:batch]
        tensor = torch.from_numpy(x)
        limit = f"adders: {macs * batch / peak * 1e3:.2f} ms at {peak / 1e9:.0f} G MAC/s"
        with torch.no_grad():
            eager = seconds(lambda tensor=tensor: module(tensor))
        ort = seconds(lambda x=x: session.run(None, {"x": x}))
        agree(module(tensor).numpy(), session.run(None, {"x": x})[0])
        dense = seconds(lambda code=code: golden.run(net, {"x": code}, trace=False))
        event = seconds(lambda code=code: golden.run(net, {"x": code}, trace=False, evaluation="event"))
        emitted = seconds(lambda code=code: kernel.run(code))
        counts = golden.run(net, {"x": code}, trace=False, evaluation="event").details
        skipped = 1 - counts["additions_event"] / counts["additions_dense"]
        rows += [
            row(f"golden dense, batch {batch}", dense, "PyTorch eager float32", eager, limit),
            row(f"golden dense, batch {batch}", dense, "ONNX Runtime float32", ort, limit),
            row(f"numpy target's kernel, batch {batch}", emitted, "PyTorch eager float32", eager, limit),
            row(f"numpy target's kernel, batch {batch}", emitted, "ONNX Runtime float32", ort, limit),
            row(
                f"golden event-driven, batch {batch}",
                event,
                "golden dense",
                dense,
                f"{skipped:.1%} of the recurrent additions skipped, bits identical",
            ),
        ]
    return rows


def agree(a: NDArray[Any], b: NDArray[Any]) -> None:
    """The peers must compute the same function, or the ratios mean nothing."""
    worst = float(np.abs(a - b).max())
    if worst > 1e-3:
        sys.exit(f"the peers disagree by {worst}: the comparison would be void")


def load_kernel(path: Path) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("kernel", path)
    if spec is None or spec.loader is None:
        sys.exit(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    out = parser.parse_args().out
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (start_up, lambda: compile_time(folder), lambda: inference(folder)):
            rows += part()
        net, codes = int_net(folder)
        facts = results.net_facts("looped 784-256-10", net, golden.run(net, {"x": codes[:64]}, trace=False))
    columns = {"what": "", "against": "", "time": "measured", "its time": "measured", "ratio": "measured", "limit": ""}
    cells = [
        [r["name"], r["peer"], *(f"{r[k] * 1e3:.2f} ms" for k in ("seconds", "peer_seconds")), f"{r['ratio']:.2f}"]
        + [r["limit"]]
        for r in rows
    ]
    sys.stdout.write(table(tuple(columns), cells) + "\n")
    words = (
        f"`make bench`: median of {REPEATS} runs on one thread; a ratio above 1 is slower than the peer. Golden is "
        "written for reading and checks every width as it goes; in NumPy, skipping additions saves no time at this "
        "size, on event-driven hardware it does."
    )
    blocks = [results.table(columns, cells), results.text(words)]
    title = "Speed, beside named peers in the same run"
    results.record("speed", title, blocks, data=rows, nets=[facts], folder=out)


if __name__ == "__main__":
    main()
