"""QONNX graphs of one relaxation step: what is imported relaxes as qonnx itself executes the graph, or is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eqcompile.toolchain.diagnostics import ImportFileError, UnsupportedError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.files import onnx_file
from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.reference import run_reference

STEPS, INPUTS, UNITS, CLASSES = 6, 5, 7, 3


def quant(name: str, bits: float, scale: Any, **options: Any) -> tuple[list[Any], Any]:
    """Initializers of a Quant of the constant `name`, and the node."""
    held = {f"{name}_scale": np.float32(scale), f"{name}_zero": np.float32(0), f"{name}_bits": np.float32(bits)}
    given = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND", **options}
    node = helper.make_node(
        "Quant", [name, *held], [f"{name}_q"], name=f"{name}_quant", domain="qonnx.custom_op.general"
    )
    node.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
    return [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()], node


def step_graph(extra: Any = (), weight: str = "W_rec_q") -> onnx.ModelProto:
    """`h_next = tanh(x W_in + b + h W_rec)`, `logits = h W_out`, weights behind quantizers; written by hand."""
    source = np.random.default_rng(0)
    arrays = {
        "W_in": source.normal(size=(INPUTS, UNITS)),
        "b": source.normal(size=(1, UNITS)) * 0.1,
        "W_rec": source.normal(size=(UNITS, UNITS)) * 0.3,
        "W_out": source.normal(size=(UNITS, CLASSES)),
    }
    held = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()]
    nodes = []
    for name, bits, scale in (("W_in", 4, 0.3), ("W_rec", 2, 0.25), ("W_out", 8, 0.02)):
        more, node = quant(name, bits, scale)
        held += more
        nodes.append(node)
    nodes += [
        helper.make_node("MatMul", ["x", "W_in_q"], ["drive"], name="drive"),
        helper.make_node("Add", ["drive", "b"], ["biased"], name="biased"),
        helper.make_node("MatMul", ["h", weight], ["recurrent"], name="recurrent"),
        helper.make_node("Add", ["biased", "recurrent"], ["pre"], name="pre"),
        *extra,
        helper.make_node("Tanh", ["pre"], ["h_next"], name="phi"),
        helper.make_node("MatMul", ["h", "W_out_q"], ["logits"], name="readout"),
    ]
    sizes = {"x": INPUTS, "h": UNITS, "h_next": UNITS, "logits": CLASSES}
    shown = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size]) for n, size in sizes.items()}
    graph = helper.make_graph(nodes, "step", [shown["x"], shown["h"]], [shown["h_next"], shown["logits"]], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "step.onnx"
    onnx.save(model, path)
    return path


def executed(model: onnx.ModelProto, x: Any, steps: int) -> tuple[Any, Any]:
    """States after each step and the outputs at the end, `[samples, ...]`, as qonnx executes the graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        wrapped = ModelWrapper(model).transform(InferShapes())
        states, logits = [], []
        for row in x.astype(np.float32):
            h, seen = np.zeros((1, UNITS), np.float32), []
            for _ in range(steps):
                h = execute_onnx(wrapped, {"x": row[None], "h": h})["h_next"]
                seen.append(h[0])
            states.append(seen)
            logits.append(execute_onnx(wrapped, {"x": row[None], "h": h})["logits"][0])
    return np.array(states).swapaxes(0, 1), np.array(logits)


def same(model: onnx.ModelProto, folder: Path) -> bool:
    """Whether the imported net's relaxation is qonnx's, to the rounding of float32."""
    net = import_model(saved(model, folder), settings={"steps": STEPS}).net
    x = np.random.default_rng(1).normal(size=(4, INPUTS)).astype(np.float32).astype(np.float64)
    run = run_reference(net, {"x": x}, trace=True)
    states, logits = executed(model, x, STEPS)
    assert run.trace is not None
    return bool(
        np.allclose(run.trace["h"], states, rtol=0, atol=2e-5) and np.allclose(run.outputs["logits"], logits, atol=2e-4)
    )


def test_a_graph_written_by_hand_relaxes_as_qonnx_runs_it(tmp_path: Path) -> None:
    """A weight that is read with another rounding or limit changes every state."""
    pytest.importorskip("qonnx")
    assert same(step_graph(), tmp_path)


@pytest.mark.simulator
def test_what_brevitas_exports_relaxes_as_qonnx_runs_it(tmp_path: Path) -> None:
    """The way from a trained Brevitas module to an EqNet, with the package's own exporter and executor on the way."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("brevitas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import brevitas.nn as qnn
        from brevitas.export import export_qonnx
        from brevitas.quant import Int8WeightPerTensorFloat

        class Step(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                shapes = {"w_in": (INPUTS, UNITS), "w_rec": (UNITS, UNITS), "w_out": (UNITS, CLASSES)}
                for name, (a, b) in shapes.items():
                    made = qnn.QuantLinear(a, b, bias=True, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=4)
                    setattr(self, name, made)

            def forward(self, x: Any, h: Any) -> Any:
                return torch.tanh(self.w_in(x) + self.w_rec(h)), self.w_out(h)

        path = tmp_path / "export.onnx"
        export_qonnx(
            Step().eval(),
            args=(torch.zeros(1, INPUTS), torch.zeros(1, UNITS)),
            export_path=str(path),
            input_names=["x", "h"],
            output_names=["h_next", "logits"],
            dynamo=False,
        )
    assert same(onnx.load(path), tmp_path)


def test_another_rounding_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the executor agreed with wrong weights, the tests above would prove nothing."""
    pytest.importorskip("qonnx")
    right = onnx_file.quantized
    monkeypatch.setattr(onnx_file, "quantized", lambda *a: right(*a) + np.float32(0.01))
    assert not same(step_graph(), tmp_path)


def test_nodes_that_are_not_read_are_all_named(tmp_path: Path) -> None:
    """One run shows every node that stands in the way."""
    extra = [
        helper.make_node("Softplus", ["pre"], ["soft"], name="soft"),
        helper.make_node("Selu", ["soft"], ["up"], name="up"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        import_model(saved(step_graph(extra), tmp_path), settings={"steps": STEPS})
    assert "soft" in str(caught.value)
    assert "'up'" in str(caught.value)


def test_a_quantizer_of_a_value_is_refused_or_left_out(tmp_path: Path) -> None:
    """Rounding that the float level cannot hold must not vanish without being asked for."""
    model = step_graph()
    more, node = quant("pre", 8, 1 / 128)
    model.graph.initializer.extend(more)
    nodes = list(model.graph.node)
    at = next(i for i, n in enumerate(nodes) if n.name == "phi")
    nodes[at].input[0] = "pre_q"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], node, *nodes[at:]])
    path = saved(model, tmp_path)
    with pytest.raises(UnsupportedError, match="pre_quant"):
        import_model(path, settings={"steps": STEPS})
    assert import_model(path, settings={"steps": STEPS, "act_quant": "ignore"}).net.states[0].name == "h"


def test_a_graph_without_a_state_is_no_relaxation(tmp_path: Path) -> None:
    """A feed-forward graph is told how a state would have to be called."""
    model = step_graph()
    model.graph.output[0].name = "other"
    model.graph.node[-2].output[0] = "other"
    with pytest.raises(UsageError, match="states=h:h_next"):
        import_model(saved(model, tmp_path), settings={"steps": STEPS})


@pytest.mark.parametrize("cut", [9, 100, -7])
def test_a_damaged_file_is_refused(cut: int, tmp_path: Path) -> None:
    """A file cut short must not import as a smaller net, nor end in a traceback."""
    path = saved(step_graph(), tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises((ImportFileError, UnsupportedError, UsageError)):
        import_model(path, settings={"steps": STEPS})


def test_data_in_another_file_are_not_opened(tmp_path: Path) -> None:
    """A model file that names another file must not make us read it."""
    model = step_graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path = tmp_path / "step.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ImportFileError, match="W_in"):
        import_model(path, settings={"steps": STEPS})


def natural(readout: tuple[str, ...], extra: Any = ()) -> onnx.ModelProto:
    """`step_graph` whose logits are computed from the values `readout` by an Add of them and a matrix."""
    model = step_graph()
    nodes = list(model.graph.node)[:-1]
    read = readout[0]
    if len(readout) == 2:
        nodes.append(helper.make_node("Add", list(readout), ["both"], name="both"))
        read = "both"
    nodes += [*extra, helper.make_node("MatMul", [read, "W_out_q"], ["logits"], name="readout")]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_a_readout_of_the_new_states_makes_no_further_step(tmp_path: Path) -> None:
    """`(h, x) -> (h_next, head(h_next))` is how a step is written in PyTorch; it gave head of one step too many."""
    x = np.random.default_rng(1).normal(size=(4, INPUTS))
    outputs = []
    for number, model in enumerate((step_graph(), natural(("h_next",)))):
        (tmp_path / str(number)).mkdir()
        net = import_model(saved(model, tmp_path / str(number)), settings={"steps": STEPS}).net
        outputs.append(run_reference(net, {"x": x}).outputs["logits"])
        assert len(net.readout) == 1
    np.testing.assert_array_equal(*outputs)


def test_a_readout_of_old_and_new_states_is_refused(tmp_path: Path) -> None:
    """After the last step only the new states are there: either reading would be a guess."""
    with pytest.raises(UnsupportedError, match="reads both h and h_next"):
        import_model(saved(natural(("h", "h_next")), tmp_path), settings={"steps": STEPS})


@pytest.mark.parametrize("shape", [(), (1, UNITS), (UNITS,)])
def test_a_division_is_one_multiplication(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A divisor with the batch axis failed, and every divisor stayed behind as a parameter that nothing reads."""
    divisor = np.random.default_rng(2).uniform(0.5, 2.0, shape).astype(np.float32)
    model = step_graph([helper.make_node("Div", ["pre", "divisor"], ["scaled"], name="div")])
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(divisor), "divisor"))
    next(n for n in model.graph.node if n.name == "phi").input[0] = "scaled"
    net = import_model(saved(model, tmp_path), settings={"steps": STEPS}).net
    read = {name for op in net.all_ops() for name in op.reads}
    assert {p.name for p in net.params} <= read
    if divisor.ndim:
        np.testing.assert_array_equal(net.param("divisor"), 1.0 / divisor.reshape(-1).astype(np.float64))
    else:
        assert [op.factor for op in net.step if isinstance(op, ops.Scale)] == [1.0 / float(divisor)]


def test_a_divisor_of_zero_is_refused(tmp_path: Path) -> None:
    """It ended in a warning of NumPy and an infinite parameter without a name."""
    model = step_graph([helper.make_node("Div", ["pre", "divisor"], ["scaled"], name="div")])
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1.0] * (UNITS - 1) + [0.0], np.float32), "divisor")
    )
    next(n for n in model.graph.node if n.name == "phi").input[0] = "scaled"
    with pytest.raises(UnsupportedError, match=f"1 of {UNITS} entries of its divisor are 0"):
        import_model(saved(model, tmp_path), settings={"steps": STEPS})


@pytest.mark.parametrize("operation", ["Expand", "Slice"])
def test_a_size_that_a_file_states_is_not_believed(operation: str, tmp_path: Path) -> None:
    """A file of a few hundred bytes would take all memory."""
    wide = 1_000_000
    model = step_graph()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = wide
    held = {"Expand": [("size", [wide, wide])], "Slice": [("start", [0]), ("end", [9]), ("axis", [1])]}[operation]
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.int64), n) for n, v in held)
    node = helper.make_node(operation, ["x", *(n for n, _ in held)], ["wide"], name="wide")
    model.graph.node.insert(0, node)
    next(n for n in model.graph.node if n.name == "drive").input[0] = "wide"
    with pytest.raises(UnsupportedError, match="takes a constant of 1000000000000 entries"):
        import_model(saved(model, tmp_path), settings={"steps": STEPS})
