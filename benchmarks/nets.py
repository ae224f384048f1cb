"""The nets that the benchmarks run: a seeded looped MLP of MNIST size, as a file and as peers compute it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STEPS = 30
SHAPE = (784, 256, 10)
SEED = 0
CONTRACTION = 0.9

Weights = dict[str, NDArray[np.float32]]


def weights() -> Weights:
    """Random weights of models.LoopedMLP 784-256-10 whose recurrent part has spectral norm 0.9 (it settles)."""
    generator = np.random.default_rng(SEED)
    inputs, hidden, outputs = SHAPE
    w_rec = generator.normal(size=(hidden, hidden))
    w_rec *= CONTRACTION / np.linalg.norm(w_rec, 2)
    shapes = {
        "W_in.weight": generator.normal(size=(hidden, inputs)) / np.sqrt(inputs) * 2,
        "W_in.bias": generator.normal(size=hidden) * 0.1,
        "W_rec.weight": w_rec,
        "W_rec.bias": generator.normal(size=hidden) * 0.1,
        "W_out.weight": generator.normal(size=(outputs, hidden)) / np.sqrt(hidden),
        "W_out.bias": np.zeros(outputs),
    }
    return {name: value.astype(np.float32) for name, value in shapes.items()}


def write_checkpoint(path: Path) -> None:
    """The net as a PyTorch state_dict."""
    import torch

    torch.save({name: torch.from_numpy(value) for name, value in weights().items()}, path)


def inputs(count: int) -> NDArray[np.float32]:
    """`[count, 784]` images of 8-bit pixels in [0, 1], four fifths of them black, as in MNIST."""
    generator = np.random.default_rng(SEED + 1)
    pixels = generator.integers(0, 256, (count, SHAPE[0])) * (generator.random((count, SHAPE[0])) < 0.2)
    return (pixels / 255).astype(np.float32)


def onnx_model() -> bytes:
    """The float32 net as a standard ONNX graph, the relaxation in a Loop, the drive computed once."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w = weights()
    constants = [numpy_helper.from_array(np.ascontiguousarray(v.T if v.ndim == 2 else v), n) for n, v in w.items()]
    constants.append(numpy_helper.from_array(np.array(STEPS, np.int64), "steps"))
    constants.append(numpy_helper.from_array(np.array(True), "go"))
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    state = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "W_rec.weight"], ["r"]),
            helper.make_node("Add", ["r", "drive"], ["p"]),
            helper.make_node("Tanh", ["p"], ["h_new"]),
            helper.make_node("Identity", ["cond"], ["cond_out"]),
        ],
        "tick",
        [state("i", TensorProto.INT64, []), state("cond", TensorProto.BOOL, []), state("h", TensorProto.FLOAT, None)],
        [state("cond_out", TensorProto.BOOL, []), state("h_new", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W_in.weight"], ["d0"]),
            helper.make_node("Add", ["d0", "W_in.bias"], ["d1"]),
            helper.make_node("Add", ["d1", "W_rec.bias"], ["drive"]),
            helper.make_node("Mul", ["drive", "zero"], ["h0"]),
            helper.make_node("Loop", ["steps", "go", "h0"], ["h_end"], body=body),
            helper.make_node("MatMul", ["h_end", "W_out.weight"], ["y0"]),
            helper.make_node("Add", ["y0", "W_out.bias"], ["y"]),
        ],
        "looped",
        [state("x", TensorProto.FLOAT, ["batch", SHAPE[0]])],
        [state("y", TensorProto.FLOAT, ["batch", SHAPE[2]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
