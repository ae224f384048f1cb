"""Graphs: NIR files, and ONNX files of one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from eqcompile.toolchain.importers.api import import_model

from .case import Case, Provocations

ONES = np.ones(2)


def nir_file(case: Case, cell: Any = None, *, direct: bool = False) -> Path:
    """A graph of one cell, fed by its input and by its own output; `direct`: the loop has no cell in it."""
    nodes = {
        "input": nir.Input(np.array([2])),
        "cell": nir.LI(tau=ONES, r=ONES, v_leak=ONES) if cell is None else cell,
        "rec": nir.Linear(np.eye(2)),
        "output": nir.Output(np.array([2])),
    }
    edges = [("input", "cell"), ("cell", "rec"), ("rec", "cell"), ("cell", "output")]
    if direct:
        edges = [("input", "rec"), ("rec", "rec"), ("rec", "cell"), ("cell", "output")]
    nir.write(case.folder / "net.nir", nir.NIRGraph(nodes=nodes, edges=edges, type_check=False))
    return case.folder / "net.nir"


def read_nir(case: Case, cell: Any = None, *, direct: bool = False, **settings: Any) -> Any:
    """Such a graph, imported."""
    path = nir_file(case, cell, direct=direct)
    return import_model(path, settings={"steps": 3, "dt": 0.1, "outputs": "values", **settings})


def hdf5(case: Case) -> Any:
    with h5py.File(case.folder / "x.nir", "w") as file:
        file["data"] = np.zeros(2)
    return import_model(case.folder / "x.nir")


def linked(case: Case) -> Any:
    path = nir_file(case)
    with h5py.File(path, "a") as file:
        file["node/nodes/rec/more"] = h5py.ExternalLink("/etc/passwd", "/")
    return import_model(path)


def step(case: Case, nodes: list[Any] | None = None, *, h: tuple[Any, ...] = (1, 2), **settings: Any) -> Any:
    """A graph of one step, `h_next = tanh(h W + x)`, with other nodes in place of the tanh."""
    nodes = nodes if nodes is not None else [helper.make_node("Tanh", ["pre"], ["h_next"], name="phi")]
    before = [
        helper.make_node("MatMul", ["h", "W"], ["w"], name="matmul"),
        helper.make_node("Add", ["w", "x"], ["pre"], name="add"),
    ]
    reads = "both" if any("both" in node.output for node in nodes) else "h"
    after = [helper.make_node("MatMul", [reads, "W"], ["logits"], name="readout")]
    constants = [numpy_helper.from_array(np.eye(2, dtype=np.float32), "W")]
    for name, value in (("scale", 0.1), ("zero", 0.0), ("bits", 99.0)):
        constants.append(numpy_helper.from_array(np.float32(value), name))
    return import_model(written(case, [*before, *nodes, *after], constants, h), settings={"steps": 3, **settings})


def written(case: Case, nodes: list[Any], constants: list[Any], h: tuple[Any, ...]) -> Path:
    shapes = {"x": (1, 2), "h": h, "h_next": h, "logits": (1, 2)}
    shown = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in shapes.items()}
    graph = helper.make_graph(nodes, "step", [shown["x"], shown["h"]], [shown["h_next"], shown["logits"]], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), case.folder / "step.onnx")
    return case.folder / "step.onnx"


def quant(x: str, out: str) -> Any:
    """A quantizer."""
    options = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    node = helper.make_node(
        "Quant", [x, "scale", "zero", "bits"], [out], name="quant", domain="qonnx.custom_op.general"
    )
    node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
    return node


def external(case: Case) -> Any:
    array = numpy_helper.from_array(np.eye(2, dtype=np.float32), "W")
    array.data_location = TensorProto.EXTERNAL
    array.external_data.add(key="location", value="weights.bin")
    return import_model(written(case, [helper.make_node("Tanh", ["h"], ["h_next"])], [array], (1, 2)))


TANH = helper.make_node("Tanh", ["q"], ["h_next"], name="phi")
MIXED = [
    helper.make_node("Tanh", ["pre"], ["h_next"], name="phi"),
    helper.make_node("Add", ["h", "h_next"], ["both"], name="both"),
]
CYCLE = [
    helper.make_node("Add", ["pre", "b"], ["a"], name="first"),
    helper.make_node("Tanh", ["a"], ["b"], name="second"),
    helper.make_node("Tanh", ["b"], ["h_next"], name="phi"),
]

GRAPHS: Provocations = {
    "nir-delay": lambda case: read_nir(case, nir.Delay(np.array([0.25, 0.25]))),
    "nir-file": hdf5,
    "nir-link": linked,
    "nir-loop": lambda case: read_nir(case, direct=True),
    "nir-node": lambda case: read_nir(case, nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))),
    "nir-schedule": lambda case: read_nir(case, steps=0),
    "nir-spiking": lambda case: read_nir(case, nir.LIF(tau=ONES, r=ONES, v_leak=ONES, v_threshold=ONES)),
    "nir-step": lambda case: read_nir(case, dt=9.0),
    "onnx-external": external,
    "onnx-file": lambda case: import_model(written(case, [], [], (1, 2))),
    "onnx-saved-net": lambda case: import_model(case.net()),
    "qonnx-activation": lambda case: step(case, [quant("pre", "q"), TANH]),
    "qonnx-graph": lambda case: step(
        case,
        [helper.make_node("Transpose", ["W"], ["t"], perm=[0, 7]), helper.make_node("MatMul", ["h", "t"], ["h_next"])],
    ),
    "qonnx-input": lambda case: step(case, h=("batch",)),
    "qonnx-node": lambda case: step(case, [helper.make_node("Sin", ["pre"], ["h_next"], name="sin")]),
    "qonnx-quant": lambda case: step(case, [quant("W", "q"), helper.make_node("MatMul", ["h", "q"], ["h_next"])]),
    "qonnx-readout": lambda case: step(case, MIXED),
    "qonnx-states": lambda case: step(case, states="g:g_next"),
}
