"""ONNX graphs of steps as PyTorch exports them: both forms of the readout, and the operations of real steps."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_steps import CASES, INPUTS, UNITS, Looped, pairs, relaxed

from eqcompile.app.cli.main import main
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.reference import run_reference

pytestmark = pytest.mark.usefixtures("seeded_torch")

CLASSES, STEPS = 4, 5
CLOSE = 1e-7
"""ONNX holds attributes, such as the eps of a normalisation, in float32."""
ABSENT = {
    "attention": "torch.onnx has no causal attention in float64",
    "gated": "torch.onnx has no GRU cell",
    "modulo": "torch.onnx writes a remainder with a floor, which the IR has not",
    "normed": "torch.onnx has no spectral norm",
    "picked": "torch.onnx writes scattered entries",
}
"""What the exporter, not the importer, keeps from being tested."""


class Exported(nn.Module):
    """A step of flat states `h0, h1, ..., x`, and a readout of the states that enter or that leave."""

    def __init__(self, step: Any, states: int, readout: Any, form: str) -> None:
        super().__init__()
        self.step, self.states, self.readout, self.form = step, states, readout, form

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        old, x = tensors[: self.states], tensors[self.states :]
        new = self.step(old[0] if self.states == 1 else old, *x)
        new = (new,) if isinstance(new, Tensor) else tuple(new)
        read = {"inside": new, "outside": old, "intermediate": (2.0 * new[0] - old[0],)}[self.form][-1]
        return (*new, self.readout(read))


def exported(folder: Path, step: Any, example: Any, readout: Any, form: str, **options: Any) -> Path:
    """The step as an ONNX file that PyTorch writes."""
    options = options or {"opset_version": 17, "dynamo": False}
    state, x = example
    old = (state,) if isinstance(state, Tensor) else tuple(state)
    names = [f"h{i}" for i in range(len(old))]
    path = folder / "step.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported(step, len(old), readout, form).eval(),
            tuple(t[:1] for t in (*old, x)),
            str(path),
            input_names=[*names, "x"],
            output_names=[*(f"{n}_next" for n in names), "logits"],
            **options,
        )
    return path


@pytest.mark.parametrize("name", [n for n in CASES if n not in ABSENT])
def test_an_exported_step_relaxes_as_the_module_does(name: str, tmp_path: Path) -> None:
    """An operation that is read otherwise, or a parameter at the wrong place, changes a state."""
    step, example = CASES[name]()
    path = exported(tmp_path, step, example, lambda h: 2.0 * h, "inside")
    net = import_model(path, settings={"steps": STEPS, "outputs": "values"}).net
    run = run_reference(net, {"x": example[1].numpy()}, trace=True)
    assert run.trace is not None
    expected = relaxed(step, example, STEPS)
    for tick, states in enumerate(expected):
        for i, tensor in enumerate(states):
            np.testing.assert_allclose(run.trace[f"h{i}"][tick], tensor.numpy(), rtol=0, atol=CLOSE)
    np.testing.assert_allclose(run.outputs["logits"], 2.0 * expected[-1][-1].numpy(), rtol=0, atol=CLOSE)


@pytest.mark.slow
def test_what_the_exporter_of_today_writes_is_read(tmp_path: Path) -> None:
    """PyTorch's default exporter names, folds and cuts otherwise than the older one; it takes seconds to start."""
    pytest.importorskip("onnxscript")
    step, example = CASES["gated"]()
    options = {"dynamo": True, "external_data": False, "verbose": False}
    path = exported(tmp_path, step, example, lambda h: 2.0 * h, "inside", **options)
    net = import_model(path, settings={"steps": STEPS, "outputs": "values"}).net
    logits = run_reference(net, {"x": example[1].numpy()}).outputs["logits"]
    np.testing.assert_allclose(logits, 2.0 * relaxed(step, example, STEPS)[-1][0].numpy(), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("form", ["inside", "outside"])
def test_both_forms_of_a_readout_give_the_numbers_of_pytorch(form: str, tmp_path: Path) -> None:
    """`(h_next, head(h_next))` was read with one step more than the loop of PyTorch makes."""
    step, head, (h, x) = Looped("sum"), nn.Linear(UNITS, CLASSES), pairs(UNITS)
    path = exported(tmp_path, step, (h, x), head, form)
    net = import_model(path, settings={"steps": STEPS}).net
    states = relaxed(step, (h, x), STEPS + 1)
    logits = run_reference(net, {"x": x.numpy()}).outputs["logits"]
    np.testing.assert_allclose(logits, head(states[STEPS - 1][0]).detach().numpy(), rtol=0, atol=CLOSE)
    for other in (STEPS - 2, STEPS):
        assert not np.allclose(logits, head(states[other][0]).detach().numpy(), rtol=0, atol=CLOSE)
    assert len(net.readout) == 1


def test_a_readout_of_old_and_new_states_is_refused(tmp_path: Path) -> None:
    """In a loop it is made of the states before the last step: either way to read it would be a guess."""
    step, head = Looped("sum"), nn.Linear(UNITS, CLASSES)
    path = exported(tmp_path, step, pairs(UNITS), head, "intermediate")
    with pytest.raises(UnsupportedError, match="reads both h0 and h0_next"):
        import_model(path, settings={"steps": STEPS})


def test_a_step_is_inspected_and_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` called the file damaged that `eqcompile` took."""
    path = exported(tmp_path, Looped("sum"), pairs(UNITS), nn.Linear(UNITS, CLASSES), "inside")
    assert main(["inspect", str(path), "--set", f"steps={STEPS}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["what"], document["steps"]) == ("ONNX graph of one step", STEPS)
    assert document["inputs"] == {"x": [INPUTS]}
    argv = [str(path), "--set", f"steps={STEPS}", "--target", "numpy", "-o", str(tmp_path / "out"), "--verify", "2"]
    assert main(argv) == 0
    assert "equal to golden" in capsys.readouterr().out
