"""Live PyTorch steps: the net relaxes as the module does in float64, at every state of every step, or it is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_steps import CASES, INPUTS, UNITS, Gated, Looped, pairs, relaxed

import eqcompile as eq
from eqcompile.app.compile import CompileRequest, compile_model
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import EqcompileError, MissingToolError, UnsupportedError, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.graphs import torch_step
from eqcompile.toolchain.importers.graphs.aten_forms import ATEN_FORMS
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.reference import run_reference

pytestmark = pytest.mark.usefixtures("seeded_torch")

CLASSES, STEPS = 4, 5


def inputs_of(imported: eq.Model, example: Any) -> dict[str, Any]:
    tensors = list(example.values() if isinstance(example, dict) else example)[1:]
    return {i.name: t.double().numpy() for i, t in zip(imported.net.inputs, tensors, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_step_relaxes_as_the_module_does(name: str) -> None:
    """An operation that is read otherwise, or a parameter at the wrong place, changes a state."""
    step, example = CASES[name]()
    imported = eq.load(step, example=example, steps=STEPS, readout=lambda h: h if isinstance(h, Tensor) else h[-1])
    run = run_reference(imported.net, inputs_of(imported, example), trace=True)
    assert run.trace is not None
    expected = relaxed(step, example, STEPS)
    for tick, states in enumerate(expected):
        for state, tensor in zip(imported.net.states, states, strict=True):
            np.testing.assert_allclose(run.trace[state.name][tick], tensor.numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(next(iter(run.outputs.values())), expected[-1][-1].numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["raised", "rounded", "windows"])
def test_a_composed_step_has_integers(name: str) -> None:
    """An exponential, a floor or a pool that the quantizer refuses, or that it computes on the wrong grid."""
    step, example = CASES[name]()
    imported = eq.load(step, example=example, steps=1, readout=lambda h: h)
    inputs = inputs_of(imported, example)
    net = lower(imported.net, QuantizeOptions(state_bits=14, input_bits=14), calibration=inputs).net
    golden, real = run_golden(net, encode(net, inputs)[0]), run_reference(imported.net, inputs)
    (state,) = net.states
    assert state.frac is not None
    off = np.abs(golden.states[state.name][-1] * 2.0**-state.frac - real.states[state.name])
    assert np.median(off) < 0.003
    assert np.abs(real.states[state.name]).max() > 0.05


@pytest.mark.parametrize("operation", ["tanh", "linear", "lerp"])
def test_an_operation_that_is_read_wrongly_is_noticed(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import itself compares the first step: a defect must not become a net."""
    monkeypatch.setitem(ATEN_FORMS, operation, lambda f, a: f.scale(ATEN_FORMS_BEFORE[operation](f, a), 1.001))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="differs from that of Looped"):
        eq.load(Looped("lerp"), example=pairs(UNITS), steps=2, readout=lambda h: h)


ATEN_FORMS_BEFORE = dict(ATEN_FORMS)


def test_damping_is_one_operation() -> None:
    """A damped state keeps guard bits only if the net says that it averages."""
    for damping in ("sum", "lerp"):
        net = eq.load(Looped(damping), example=pairs(UNITS), steps=2, readout=lambda h: h).net
        assert sum(isinstance(op, ops.Damp) for op in net.step) == 1


def test_what_no_state_changes_is_computed_once() -> None:
    """The drive would be computed anew in every step; what is joined and then multiplied takes one product each."""
    net = eq.load(Gated(), example=pairs(UNITS), steps=2, readout=lambda h: h).net
    assert {op.mnemonic for op in net.drive} == {"linear"}
    reads = {name for op in net.all_ops() for name in op.reads}
    assert {p.name for p in net.params} <= reads
    assert all("Gated:cell." in p.source or "Gated:gate." in p.source or p.value.size == 1 for p in net.params)


@pytest.mark.slow
def test_two_ways_to_read_out_give_the_numbers_of_pytorch() -> None:
    """Neither `(h_next, head(h_next))` nor `readout=head` may make a step more or less than the loop."""
    step, head = Looped("sum"), nn.Linear(UNITS, CLASSES)
    h, x = pairs(UNITS)
    for _ in range(STEPS):
        h = step(h, x)
    expected = head(h).detach().numpy()

    def inside(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        new = step(h, x)
        return new, head(new)

    def before(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return step(h, x), head(h)

    for model, readout in ((step, head), (step, lambda h, x: head(h)), (inside, None), (before, None)):
        imported = eq.load(model, example=(torch.zeros_like(h), x), steps=STEPS, readout=readout)
        outputs = run_reference(imported.net, inputs_of(imported, (h, x))).outputs
        np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=1e-9)
        assert len(imported.net.readout) == 1


def test_a_readout_of_what_the_step_computes_is_refused() -> None:
    """In a loop it is the value of the last step; evaluated on the last states it would be that of a step more."""

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.tanh(h + x[:, :1])
        return 0.5 * h + 0.5 * new, 2.0 * new

    with pytest.raises(UnsupportedError, match="what the step computes from h and the inputs"):
        eq.load(step, example=pairs(UNITS), steps=2)


def test_states_start_as_the_example_does() -> None:
    """A relaxation from elsewhere ends elsewhere; a start of its own for each sample is no part of a net."""
    step, (h, x) = Looped("sum"), pairs(UNITS)
    h = h + torch.linspace(-1.0, 1.0, UNITS)
    imported = eq.load(step, example=(h, x), steps=2, readout=lambda h: h)
    run = run_reference(imported.net, inputs_of(imported, (h, x)))
    np.testing.assert_allclose(run.states["h"], relaxed(step, (h, x), 2)[-1][0].numpy(), rtol=0, atol=1e-9)
    with pytest.raises(UsageError, match="starts otherwise in each sample"):
        eq.load(step, example=(h + x[:, :1], x), steps=2, readout=lambda h: h)


def test_states_by_name_and_arrays() -> None:
    """Names of a dictionary are those of the states, and arrays take the dtype of the module."""
    inner = nn.Linear(UNITS, UNITS).float()

    def step(states: dict[str, Tensor], image: Tensor) -> dict[str, Tensor]:
        return {
            "fast": torch.tanh(inner(states["slow"]) + image[:, :1]),
            "slow": 0.5 * states["slow"] + 0.5 * states["fast"],
        }

    states = {"fast": np.zeros((2, UNITS)), "slow": np.zeros((2, UNITS))}
    example = {"states": states, "image": np.ones((2, INPUTS))}
    imported = eq.load(step, example=example, steps=3, readout=lambda states: states["slow"], outputs="values")
    assert [s.name for s in imported.net.states] == ["fast", "slow"]
    assert [i.name for i in imported.net.inputs] == ["image"]
    assert imported.net.outputs[0].kind == "values"
    assert {"step:inner.weight", "step:inner.bias"} <= {p.source for p in imported.net.params}
    assert inner.weight.dtype == torch.float32


def test_the_module_is_left_as_it_was() -> None:
    """A module in training goes on training after it was compiled."""
    step = Looped(norm=True)
    before = {key: value.clone() for key, value in step.state_dict().items()}
    eq.load(step, example=pairs(UNITS), steps=2, readout=lambda h: h)
    assert step.training
    assert step.norm.training
    assert all(torch.equal(value, before[key]) for key, value in step.state_dict().items())


def test_what_is_not_read_is_all_named_with_its_line() -> None:
    """One run shows every operation that stands in the way, where the user wrote it."""

    def helper(h: Tensor) -> Tensor:
        return torch.sort(h)[0]

    def step(h: Tensor, x: Tensor) -> Tensor:
        y = torch.log(h)
        return helper(y) + torch.cumsum(y, 1) + h / (1 + h.abs())

    with pytest.raises(UnsupportedError) as caught:
        eq.load(step, example=pairs(UNITS), steps=2, readout=lambda h: h)
    shown = {(d.what.split()[0], d.where.partition(": ")[2]) for d in caught.value.diagnostics}
    assert ("log", "y = torch.log(h)") in shown
    assert ("sort", "return torch.sort(h)[0]") in shown
    assert ("cumsum", "return helper(y) + torch.cumsum(y, 1) + h / (1 + h.abs())") in shown
    assert all(d.where.startswith("test_torch_step.py:") for d in caught.value.diagnostics)


def mixing(h: Tensor, x: Tensor) -> Tensor:
    return torch.tanh(h + x[:, :1] - h.mean(0) + x.mean())


def deciding(h: Tensor, x: Tensor) -> Tensor:
    return h if bool(x.sum() > 0) else h + 1


class Counting(nn.Module):
    """It keeps what should be a state in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(UNITS))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        self.last += 1.0
        return torch.tanh(h + self.last + x[:, :1])


WRONG: dict[str, tuple[Any, Any, str]] = {
    "mixes samples": (mixing, None, "depends on the other samples of its batch"),
    "decides on values": (deciding, None, "cannot trace the step"),
    "keeps a buffer": (Counting(), None, "changes the buffers last"),
    "returns another state": (lambda h, x: h[:, :2], None, r"the step returns \[3, 2\], its state is \[3, 6\]"),
    "fails": (lambda h, x: h @ x, None, "the step fails on the example: RuntimeError"),
    "too few arguments": (lambda h, x, y: h, None, "the example does not fit"),
    "no input": (lambda h: h, (torch.zeros(3, 4),), "must hold a state and an input"),
    "whole numbers": (lambda h, x: h, (torch.zeros(3, 4), torch.zeros(3, 4).long()), "must be a tensor of floats"),
    "other samples": (lambda h, x: h, (torch.zeros(3, 4), torch.zeros(2, 4)), "of as many samples"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_step_that_no_net_can_stand_for_is_refused(name: str) -> None:
    """Each is a mistake that a user makes once; the message says what to write instead."""
    step, example, message = WRONG[name]
    with pytest.raises(EqcompileError, match=message) as caught:
        eq.load(step, example=example or pairs(UNITS), steps=2, readout=lambda h: h)
    assert all(d.remedy for d in caught.value.diagnostics)


def test_a_step_without_an_output_is_told_how_to_have_one() -> None:
    """A net must give something."""
    with pytest.raises(UsageError, match="there is no readout"):
        eq.load(Looped(), example=pairs(UNITS), steps=2)


def test_an_output_that_is_no_tensor_is_named() -> None:
    """A step may return anything: what is read out, or a part of it, could be a number or a text."""
    states, x = torch.zeros(2, 3), torch.zeros(2, 3)
    for read, part in ((lambda h: 1.0, "logits is a float"), (lambda h: {"y": h, "name": "h"}, "name is a str")):
        with pytest.raises(UsageError, match=f"{part}, must be a tensor") as caught:
            eq.load(lambda h, x: h + x, example=(states, x), steps=3, readout=read)
        assert [d.code for d in caught.value.diagnostics] == ["torch-type"]


def test_arguments_of_files_and_of_steps_are_told_apart() -> None:
    """An argument that is silently left out is one that the user believes in."""
    with pytest.raises(UsageError, match="steps must be given with a step; map belongs to a file"):
        eq.load(Looped(), example=pairs(UNITS), map={"a": "b"})
    with pytest.raises(UsageError, match="example belongs to a step, the model is a file"):
        eq.load("model.pt", example=pairs(UNITS))


def test_without_pytorch_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is an extra."""
    monkeypatch.setattr(torch_step, "find_spec", lambda name: None)
    assert importlib.util.find_spec("torch") is not None
    with pytest.raises(MissingToolError, match=r"eqcompile\[torch\]"):
        eq.load(Looped(), example=pairs(UNITS), steps=2)


def test_a_live_step_becomes_an_artifact(tmp_path: Any) -> None:
    """The whole way: integers that golden and the artifact agree on in every state, and labels that the floats give."""
    step, head, example = Looped("sum"), nn.Linear(UNITS, CLASSES), pairs(UNITS)
    imported = eq.load(step, example=example, steps=STEPS, readout=head)
    build = eq.compile(eq.quantize(imported), target="numpy", out=tmp_path / "out", samples=8)
    manifest = build.artifact.manifest
    assert [v.status for v in manifest.verification] == ["equal"]
    assert manifest.source is not None
    assert (manifest.source.file, manifest.source.given["steps"]) == ("Looped", STEPS)
    with pytest.raises(UsageError, match="belong to a file"):
        compile_model(
            CompileRequest(model=imported.imported, target=eq.target("numpy"), output=tmp_path / "b", family="x")
        )
