"""Names that mean something to a target: all may stand in a net, and no result is lost or mistaken for another."""

from __future__ import annotations

import ast
import random
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conformance_nets import skip_without_tools
from emitting import emitted
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx_run import whole
from plugged import under_test
from strategies import random_inputs, random_net

from eqcompile.targets.onnx.float_form import float_model
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Refusals, Simulator
from eqcompile.toolchain.ir import EqNet, Input, IntNet, Output, Param, Schedule, State, ops, verify
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.serial import load, save
from eqcompile.toolchain.reference import run_reference

TAKEN = (
    *("u", "steps", "labels", "report", "file", "batch", "true", "none", "one", "frame", "final", "start", "step"),
    *("drive", "readout", "data", "s", "out", "now", "old", "delta", "moved", "started", "padding", "clamping", "i0"),
    *(
        "int",
        "double",
        "main",
        "NULL",
        "size_t",
        "EQ_STEPS",
        "SIZE_MAX",
        "eq_run",
        "eq_clear",
        "int8_t",
        "class_",
        "template",
        "state",
    ),
    *("lambda_", "np", "inputs", "trace", "run", "checked", "self", "history", "print", "codes", "relax", "events"),
    *("wire", "reg", "module", "clk", "rst", "x", "y", "h", "output", "input", "kernel", "units", "lanes", "value"),
)
SIMULATED = [
    (target, name)
    for target in under_test("targets")
    for name, simulator in registry.simulators_of(target).items()
    if simulator.suite == "all"
]


def renamed(net: IntNet, names: Mapping[str, str], outputs: Mapping[str, str]) -> IntNet:
    """The same net with other names of inputs, states, parameters and values, and of outputs."""

    def of(name: str) -> str:
        return names.get(name, name)

    def op(made: Op) -> Op:
        fields: dict[str, Any] = {f: getattr(made, f) for f, _ in made.reference_fields()}
        if isinstance(made, ops.Repeat):
            fields |= {"carry": made.carry, "result": made.result}
        changes: dict[str, Any] = {f: of(n) for f, n in fields.items() if n is not None}
        if isinstance(made, ops.Repeat):
            changes["body"] = tuple(op(inner) for inner in made.body)
        return replace(made, out=of(made.out), **changes)

    return replace(
        net,
        inputs=tuple(replace(i, name=of(i.name)) for i in net.inputs),
        params=tuple(replace(p, name=of(p.name)) for p in net.params),
        states=tuple(
            replace(s, name=of(s.name), update=of(s.update), init=None if s.init is None else of(s.init))
            for s in net.states
        ),
        drive=tuple(map(op, net.drive)),
        step=tuple(map(op, net.step)),
        readout=tuple(map(op, net.readout)),
        outputs=tuple(replace(o, name=outputs.get(o.name, o.name), value=of(o.value)) for o in net.outputs),
        formats={of(n): f for n, f in net.formats.items()},
    )


def spoiled(net: IntNet, seed: int) -> IntNet:
    """The net with names drawn from `TAKEN`; outputs may share theirs with an input or a state."""
    rng = random.Random(seed)
    names = [i.name for i in net.inputs] + [p.name for p in net.params] + [s.name for s in net.states]
    for op in net.all_ops():
        names += [op.carry, op.out] if isinstance(op, ops.Repeat) else [op.out]
    # What is left keeps its name behind an underscore, so that no two names meet.
    chosen = rng.sample(TAKEN, min(len(TAKEN), len(names)))
    drawn = dict(zip(names, [*chosen, *(f"_{n}" for n in names[len(chosen) :])], strict=True))
    outputs = dict(zip([o.name for o in net.outputs], rng.sample(TAKEN, len(net.outputs)), strict=True))
    made = renamed(net, drawn, outputs)
    verify(made)
    return made


@pytest.mark.simulator
@pytest.mark.parametrize(("target", "simulator"), SIMULATED)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=5483974)  # a state called self
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
def test_no_name_changes_what_is_computed(target: str, simulator: str, seed: int) -> None:
    """A state called `u` gave C that does not compile, one called `steps` an invalid ONNX graph, and outputs called
    `steps` or `labels` were lost: with any names the artifact must give what golden gives."""
    made = registry.target_class(target)()
    skip_without_tools(made)
    net = spoiled(random_net(random.Random(seed)), seed)
    if isinstance(made.plan(net), Refusals):
        return
    inputs = random_inputs(net, random.Random(seed), batch=2)
    golden = run_golden(net, inputs, trace=True)
    run = registry.find_class("simulators", simulator, Simulator)
    with tempfile.TemporaryDirectory() as folder:
        artifact = emitted(made, net, Path(folder) / "a")
        found = run().run(artifact, inputs, trace=True, timeout_s=120.0)
    compare(golden, found, states=bool(net.states)).require()


@pytest.mark.parametrize("target", under_test("targets"))
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.slow
def test_every_target_writes_files_that_can_be_read(target: str, seed: int) -> None:
    """No target dies of a name; the Python that it writes is Python, and the saved net loads again."""
    made = registry.target_class(target)()
    if made.missing():
        pytest.skip("not installed")
    net = spoiled(random_net(random.Random(seed), frames=False, tolerance=0), seed)
    if isinstance(made.plan(net), Refusals):
        return
    with tempfile.TemporaryDirectory() as folder:
        emitted(made, net, Path(folder) / "a")
        for path in Path(folder).rglob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"))
        assert load(Path(folder) / "a" / "net.onnx").digest == net.digest


@pytest.mark.parametrize("single", [True, False])
def test_the_float_form_keeps_every_result(single: bool) -> None:
    """Inputs, parameters and outputs that are called as results of the graph are: `batch`, `steps`, `labels`."""
    net = EqNet(
        name="float",
        family="test",
        inputs=(Input("steps", (3,)), Input("batch", (3,))),
        params=(Param("labels", np.arange(9.0).reshape(3, 3) / 10, "test"),),
        states=(State("u", (3,), "true"),),
        drive=(ops.Linear(out="none", x="steps", weight="labels"),),
        step=(ops.Add(out="sum", a="u", b="none"), ops.Activation(out="true", x="sum", kind="tanh")),
        readout=(ops.Add(out="final", a="u", b="batch"),),
        outputs=(Output("labels", "final", "classes"), Output("steps", "u", "values"), Output("batch", "u", "values")),
        schedule=Schedule(4),
    )
    verify(net)
    inputs = {n: np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) for n in ("steps", "batch")}
    want = run_reference(net, inputs)
    model = whole(float_model(net, single=single))
    onnx.checker.check_model(model, full_check=True)
    given = {f"input.{n}": v if single else v.astype(np.float64) for n, v in inputs.items()}
    results = ReferenceEvaluator(model).run(None, given)
    found = dict(zip([o.name for o in model.graph.output], results, strict=True))
    for name in ("labels", "steps", "batch"):
        np.testing.assert_allclose(found[f"output.{name}"], want.outputs[name], atol=1e-6)
    np.testing.assert_array_equal(found["labels"], want.outputs["labels"].argmax(axis=-1))
    assert int(found["steps"]) == 4
    with tempfile.TemporaryDirectory() as folder:
        save(net, Path(folder) / "net.onnx")
        assert load(Path(folder) / "net.onnx").digest == net.digest
