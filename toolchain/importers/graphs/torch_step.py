"""A live PyTorch step, `(h, x) -> h_next`, becomes an EqNet: `torch.export` gives its graph, `aten_forms` reads it.

The step is a module (its forward) or a function; its first argument is the state, one tensor or a tuple, list or
dictionary of them, the others are inputs. It returns the next state in the form of the state, or a tuple of that and of
outputs. A readout, a function or module of the state (and of the inputs, if it takes more arguments), is evaluated
once, on the last states, in place of outputs that the step returns. The example is what the step is called with,
samples along the first axis of every tensor; its states are those that the relaxation starts from. Modules are read in
eval mode. Each sample is relaxed alone: a step that mixes samples is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...diagnostics import Diagnostic, MissingToolError, UnsupportedError
from ...interfaces import Imported
from ...ir import EqNet
from ...reference import run_reference
from ..family import Setting, SettingValue
from .aten_forms import ATEN_FORMS
from .reader import OUTPUTS, GraphKind, import_graph
from .step import StepReader
from .torch_call import Call, Example, Step
from .torch_trace import trace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TORCH", "Example", "Step", "import_step"]

TORCH = GraphKind("torch.Step", "torch", (Setting("steps", None, "steps made for an input"), OUTPUTS))


class _Reader(StepReader):
    kind = TORCH
    forms = ATEN_FORMS


def import_step(
    step: Step, *, example: Example, steps: int, readout: Step | None = None, outputs: str = "classes"
) -> Imported:
    """The verified net of a live step. Nothing is trained, changed or written.

    Args:
        step: a module or function as above.
        example: the arguments of one call, float tensors or arrays `[samples, *shape]`; two samples or more, so that
            mixing of samples is noticed.
        steps: how often the step is made for an input.
        readout: what the outputs are made of, if the step does not return them.
        outputs: `classes` (the label is the largest) or `values`.

    Raises:
        UsageError: an example that does not fit the step, or a step without state or output.
        UnsupportedError: operations that a net does not have, all of them with the line of the user's source; a step
            that depends on values in its flow, or that mixes samples.
        MissingToolError: PyTorch is not installed, or too old.
    """
    if find_spec("torch") is None:
        what = "a live step needs PyTorch, which is not installed"
        raise MissingToolError(Diagnostic("missing-tool", what, hint="pip install 'eqcompile[torch]'"))
    call = Call.of(step, readout, example)
    graph = trace(call)
    _demand_separate(call)

    def read(settings: Mapping[str, SettingValue]) -> EqNet:
        return _Reader(graph, call.label, settings).net()

    user = {"steps": steps, "outputs": outputs}
    imported = import_graph(TORCH, read, Path(call.label), stated={}, user=user, config={}, assume=False)
    _demand_same(imported.net, call)
    return imported


def _demand_separate(call: Call) -> None:
    """UnsupportedError if samples are mixed: what a sample gives alone, it must give among others."""
    import torch

    tensors = call.tensors if len(call.tensors[0]) > 1 else tuple(torch.cat([t, 0.5 * t]) for t in call.tensors)
    with call.in_eval_mode(), torch.no_grad():
        alone = call.results([t[:1] for t in tensors])
        try:
            together = call.results(tensors)
        except (RuntimeError, ValueError, IndexError):
            if len(call.tensors[0]) > 1:
                raise
            return
    names = (*(f"the next {n}" for n in call.names[: call.states]), *call.outputs)
    faults = [
        Diagnostic("torch-samples", f"{name} of a sample depends on the other samples of its batch", call.label, _ALONE)
        for name, a, b in zip(names, alone, together, strict=True)
        if a.shape[1:] != b.shape[1:] or not _equal(a, b[:1])
    ]
    if faults:
        raise UnsupportedError(faults)


_ALONE = "leave the first axis alone: each sample is relaxed on its own"


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether half of the digits of the tensors' own dtype agree."""
    import torch

    close = float(torch.finfo(a.dtype).eps ** 0.5)
    return bool(torch.allclose(a, b, rtol=close, atol=close * max(1.0, float(b.abs().max()))))


def _demand_same(net: EqNet, call: Call) -> None:
    """The first step of the net against the step itself; AssertionError where they differ, which is a defect."""
    import torch

    inputs = {i.name: t.double().numpy() for i, t in zip(net.inputs, call.tensors[call.states :], strict=True)}
    run = run_reference(replace(net, schedule=replace(net.schedule, steps=1)), inputs)
    with call.in_eval_mode(), torch.no_grad():
        expected = call.results(call.tensors)[: call.states]
    for state, tensor in zip(net.states, expected, strict=True):
        ours = torch.from_numpy(np.asarray(run.states[state.name])).to(tensor.dtype)
        assert _equal(ours, tensor), f"{state.name} of the first step differs from that of {call.label}"
