"""The onnx target: standard models whose bits are golden's in ONNX Runtime."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from emitting import emitted, refused, unchecked
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_run import execute, whole
from quantize_nets import inputs_of, loop
from strategies import int_runs, random_net, small_net, with_formats
from zoo_nets import zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.sim.simulators import OnnxSimulator
from eqcompile.targets.onnx.float_form import float_model
from eqcompile.targets.onnx.graph import integer_model, label_keys
from eqcompile.targets.onnx.target import OLDEST_RUNTIME, OnnxTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import SimulatorError, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import Encoding, Format, IntNet, ops
from eqcompile.toolchain.reference import run_reference

Codes = dict[str, NDArray[np.int64]]


def real(net: IntNet, inputs: Codes, input_type: str) -> dict[str, NDArray[np.float64]]:
    """What a model of `input_type` takes for these codes."""
    scales = {i.name: i.encoding.scale for i in net.inputs if i.encoding is not None and input_type != "codes"}
    return {n: codes * scales[n] if n in scales else codes for n, codes in inputs.items()}


def run_models(net: IntNet, inputs: Codes, folder: Path, input_type: str = "float32") -> Run:
    """Outputs and steps of the model, states of the traced one."""
    found = []
    for trace in (False, True):
        model = whole(integer_model(net, input_type=input_type, trace=trace))  # type: ignore[arg-type]
        onnx.checker.check_model(model, full_check=True)
        path = folder / f"model{trace:d}.onnx"
        onnx.save(model, path)
        found.append(execute(path, real(net, inputs, input_type)))
    plain, traced = found
    for name, key in label_keys(net).items():
        np.testing.assert_array_equal(plain[key], golden.labels(plain[name]))
    assert all(np.array_equal(plain[name], traced[name]) for name in plain)
    states = {s.name: traced[f"state.{s.name}"] for s in net.states}
    return Run(states=states, outputs={o.name: plain[o.name] for o in net.outputs}, steps=plain["steps"])


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(int_runs())
def test_every_state_of_every_step_is_golden(tmp_path: Path, run: tuple[IntNet, Codes]) -> None:
    """A kernel of ONNX Runtime that is not exact for int64, a lost settle, or an encoding that rounds otherwise."""
    net, inputs = run
    compare(golden.run(net, inputs), run_models(net, inputs, tmp_path)).require()


@pytest.mark.parametrize("input_type", ["codes", "float32", "float64"])
@pytest.mark.parametrize("frames", [False, True])
def test_every_kind_of_input(tmp_path: Path, input_type: str, frames: bool) -> None:
    """Each input type, with and without frames, gives the same bits."""
    source = random.Random(5)
    net = random_net(source, spaces=("vector",), extras=(), frames=frames, tolerance=1)
    lead = (4, 3) if frames else (4,)
    f = net.inputs[0].encoding.format if net.inputs[0].encoding else Format(1, False)
    x = np.random.default_rng(1).integers(f.lo, f.hi, (*lead, *net.inputs[0].shape), endpoint=True)
    compare(golden.run(net, {"x": x}), run_models(net, {"x": x}, tmp_path, input_type)).require()


def subgraphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return [graph, *(g for part in inner for g in subgraphs(part))]


@pytest.mark.parametrize("seed", range(4))
def test_the_model_is_standard(seed: int) -> None:
    """No function, no domain of our own, no float in the relaxation: what any runtime takes."""
    net = random_net(random.Random(seed))
    model = whole(integer_model(net, input_type="codes", trace=False))
    assert [o.domain for o in model.opset_import] == [""]
    assert not model.functions
    nodes = [n for g in subgraphs(model.graph) for n in g.node]
    assert {n.domain for n in nodes} == {""}
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    tensors = [a.t for n in nodes for a in n.attribute if a.HasField("t")]
    assert not {t.data_type for t in [*tensors, *model.graph.initializer]} & floats


def test_the_encoding_saturates_and_rounds_half_to_even(tmp_path: Path) -> None:
    """The model's own encoding is the one of the specification, at ties and beyond both ends."""
    net = small_net([[0, 0, 0]] * 3, table=list(range(-128, 128)), first=-128, steps=1)
    model = whole(integer_model(net, input_type="float64", trace=False))
    onnx.save(model, tmp_path / "m.onnx")
    x = np.array([[0.5, 1.5, 2.5], [-0.5, -1.5, 1e30], [-1e30, 127.5, -128.5]])
    found = execute(tmp_path / "m.onnx", {"x": x})["o"]
    assert found.tolist() == [[0, 2, 2], [0, -2, 127], [-128, 127, -128]]


def test_the_loop_ends_when_all_settled(tmp_path: Path) -> None:
    """Without its condition a settled batch would cost every tick: a million ticks end in a moment."""
    net = small_net([[0]], table=[3], first=0, steps=1_000_000_000)
    onnx.save(whole(integer_model(net, input_type="codes", trace=False)), tmp_path / "m.onnx")
    found = execute(tmp_path / "m.onnx", {"x": np.array([[1], [2]])})
    assert (found["steps"].tolist(), found["o"].tolist()) == ([2, 2], [[3], [3]])


@pytest.mark.parametrize("weight", [-128, -127, -1, 1, 127])
@pytest.mark.parametrize("code", [-128, 127])
def test_products_of_bytes_do_not_saturate(tmp_path: Path, weight: int, code: int) -> None:
    """Kernels that add products of bytes in 16 bits give other sums at the ends of both codes."""
    weights = np.full((40, 40), weight)
    weights[::2, ::3] = -weight if weight > -128 else 127
    net = small_net(weights.tolist(), table=list(range(-128, 128)), first=-128, steps=3, init=[code] * 40)
    wide = replace(net, outputs=(*net.outputs, replace(net.outputs[0], name="sum", value="r")))
    wide = with_formats(replace(wide, readout=(replace(net.step[0], out="r", x="h"),)))
    inputs = {"x": np.full((5, 40), code)}
    compare(golden.run(wide, inputs), run_models(wide, inputs, tmp_path, "codes")).require()


def test_which_products_are_of_bytes() -> None:
    """The fast form where codes are proved to fit, the wide one where they are not."""
    kinds = {}
    for top in (1, 127, 128):
        net = small_net([[top, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
        model = whole(integer_model(net, input_type="codes", trace=False))
        found = {n.op_type for g in subgraphs(model.graph) for n in g.node}
        kinds[top] = sorted(found & {"MatMul", "MatMulInteger"})
    assert kinds == {1: ["MatMulInteger"], 127: ["MatMulInteger"], 128: ["MatMul"]}


def numbers(model: ModelProto) -> list[onnx.AttributeProto]:
    """Integer constants of the relaxation's body that hold one number."""
    body = subgraphs(model.graph)[1]
    return [a for n in body.node if n.op_type == "Constant" for a in n.attribute if a.name == "value_int"]


@pytest.mark.parametrize("mutant", ["domain shifted", "update kept back", "settles too early", "zero of the bytes"])
def test_a_changed_model_is_caught(tmp_path: Path, mutant: str) -> None:
    """The comparison must be able to fail, for each part of the relaxation."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    inputs = {"x": np.array([[1, 0], [-2, 2], [0, 1]])}
    model = whole(integer_model(net, input_type="codes", trace=True))
    body = subgraphs(model.graph)[1]
    if mutant == "domain shifted":
        (first,) = [a for a in numbers(model) if a.i == -2]
        first.i = -1
    elif mutant == "update kept back":
        (latch,) = [n for n in body.node if n.output[0] == "latch/h"]
        latch.input[0] = "step/h"
    elif mutant == "zero of the bytes":
        (zero,) = [n for n in body.node if n.output[0] == "step/w/zero"]
        zero.attribute[0].t.CopyFrom(numpy_helper.from_array(np.uint8(127)))
    else:
        (limit,) = [n for n in body.node if n.output[0] == "moved/h/tolerance"]
        limit.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(40)))
    onnx.save(model, tmp_path / "m.onnx")
    found = execute(tmp_path / "m.onnx", inputs)
    got = Run(states={"h": found["state.h"]}, outputs={"o": found["o"]}, steps=found["steps"])
    assert not compare(golden.run(net, inputs), got).ok


@pytest.mark.simulator
def test_a_model_that_differs_from_its_trace_is_refused(tmp_path: Path) -> None:
    """States of one file prove nothing about another: the runner holds the two against each other."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    emitted(OnnxTarget(), net, tmp_path)
    other = replace(net, params=(replace(net.params[0], value=-net.params[0].value), *net.params[1:]))
    onnx.save(whole(integer_model(other, input_type="float32", trace=False)), tmp_path / "model.onnx")
    with pytest.raises(SimulatorError, match="differ"):
        OnnxSimulator().run(unchecked(tmp_path), {"x": np.array([[1, 0]])}, trace=True, timeout_s=60.0)


@pytest.mark.simulator
def test_the_float_form_is_run_in_verification(tmp_path: Path) -> None:
    """A float.onnx that no runtime takes, or of another net, would lie unseen in the folder."""
    source, inputs = zoo_net("LoopedMLP_release_sn")
    net = lower(source, QuantizeOptions(), calibration=inputs).net
    codes, _ = encode(net, inputs)
    emitted(OnnxTarget(), net, tmp_path / "a", source)
    count = len(codes["x"])

    def note(folder: Path) -> str:
        return OnnxSimulator().run(unchecked(folder), codes, trace=True, timeout_s=60.0).details["summary"][0]

    assert f"{count} of {count} labels as the integers" in note(tmp_path / "a")
    readout = next(p for p in source.params if p.name == "W_out_weight")
    other = replace(source, params=tuple(replace(p, value=-p.value) if p is readout else p for p in source.params))
    emitted(OnnxTarget(), net, tmp_path / "b", other)
    assert f"{count} of {count}" not in note(tmp_path / "b")
    (tmp_path / "b" / "float.onnx").write_bytes(b"no model")
    with pytest.raises(SimulatorError, match=r"float\.onnx"):
        note(tmp_path / "b")


@pytest.mark.parametrize(("single", "bound"), [(False, 1e-9), (True, 1e-3)])
@pytest.mark.parametrize("name", ["LoopedMLP_release_sn", "TransformerEqProp_release", "ConvEqProp_release_sn"])
def test_the_float_form_is_the_reference_up_to_rounding(tmp_path: Path, name: str, single: bool, bound: float) -> None:
    """The float model is the net before quantization, for families that have no integer form too."""
    net, inputs = zoo_net(name)
    model = whole(float_model(net, single=single))
    onnx.checker.check_model(model, full_check=True)
    assert [o.domain for o in model.opset_import] == [""]
    onnx.save(model, tmp_path / "m.onnx")
    typed = {n: v.astype(np.float32) if single and v.dtype.kind == "f" else v for n, v in inputs.items()}
    found = execute(tmp_path / "m.onnx", typed)
    want = run_reference(net, inputs)
    for o in net.outputs:
        np.testing.assert_allclose(found[o.name], want.outputs[o.name], atol=bound)
    assert int(found["steps"]) == want.steps[0]


def test_names_of_results_are_free_inside_the_loop(tmp_path: Path) -> None:
    """A parameter that is called as a result of the model is renamed wherever it is read, in the loop's body too."""
    rng = np.random.default_rng(0)
    net = loop(rng).net
    named = tuple(replace(p, name="steps") if p.name == "W" else p for p in net.params)
    step = tuple(replace(op, weight="steps") if isinstance(op, ops.Linear) else op for op in net.step)
    model = whole(float_model(replace(net, params=named, step=step), single=False))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "m.onnx")
    inputs = inputs_of(rng, net, 3)
    found = execute(tmp_path / "m.onnx", inputs)
    np.testing.assert_allclose(found["out"], run_reference(net, inputs).outputs["out"], atol=1e-9)
    assert int(found["steps"]) == net.schedule.steps


def test_refusals() -> None:
    """Inputs too wide for single precision, and options that do not exist."""
    net = small_net([[1]], table=[0, 1], first=0, steps=2)
    wide = with_formats(
        replace(
            net,
            inputs=(replace(net.inputs[0], encoding=Encoding(Format(30, True), 1.0)),),
            formats={"h": Format(8, True)},
        )
    )
    assert [d.code for d in refused(OnnxTarget(), wide)] == ["onnx-input-bits"]
    assert refused(OnnxTarget(input_type="codes"), wide) == []
    with pytest.raises(UsageError, match="must be one of"):
        OnnxTarget(input_type="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [False, True])
def test_onnxs_own_evaluator_gives_goldens_codes(frames: bool, tmp_path: Path) -> None:
    """A Loop whose condition is left out is one that onnx's reference implementation runs once, or not at all."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6, frames=frames)
    codes = np.array([[1, 0], [-3, 2], [0, 0]])
    codes = np.stack([codes, codes[::-1]], axis=1) if frames else codes
    golden = run_golden(net, {"x": codes})
    emitted(OnnxTarget(input_type="codes"), net, tmp_path)
    for name in ("model.onnx", "trace.onnx"):
        evaluator = ReferenceEvaluator(str(tmp_path / name))
        results = dict(zip(evaluator.output_names, evaluator.run(None, {"x": codes}), strict=True))
        np.testing.assert_array_equal(results["o"], golden.outputs["o"])
        if name == "trace.onnx":
            np.testing.assert_array_equal(results["state.h"], golden.states["h"])
    evaluator = ReferenceEvaluator(str(tmp_path / "net.onnx"))
    results = dict(zip(evaluator.output_names, evaluator.run(None, {"x": codes}), strict=True))
    np.testing.assert_array_equal(results["o"], golden.outputs["o"])


def test_the_readme_names_the_runtime_that_is_tried(tmp_path: Path) -> None:
    """Would break if the README promised an older runtime than `benchmarks/oldest_onnxruntime.py` installs."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=4)
    text = (emitted(OnnxTarget(), net, tmp_path / "onnx").folder / "README.md").read_text(encoding="utf-8")
    assert f"ONNX Runtime from {OLDEST_RUNTIME.removesuffix('.0')} on" in text
