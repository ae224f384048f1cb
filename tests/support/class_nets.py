"""Modules of classes without a trained checkpoint, with random weights, as the families read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from zoo_classes import CASES

from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.family import Family, Tensors
from eqcompile.toolchain.ir import EqNet, verify
from eqcompile.toolchain.reference import run_reference

__all__ = ["Example", "example"]

BATCH = 5


@dataclass(frozen=True)
class Example:
    """The file of a module, inputs `x`, and the output and states that the module computes from them in float64."""

    family: Family
    tensors: Tensors
    settings: dict[str, Any]
    x: NDArray[Any]
    out: NDArray[np.float64]
    states: dict[str, NDArray[np.float64]]

    def net(self, arrays: dict[str, Any] | None = None, **settings: Any) -> EqNet:
        net = self.family.build(self.tensors if arrays is None else Tensors("net.pt", arrays), self.settings | settings)
        verify(net)
        return net

    def error(self, net: EqNet) -> float:
        """Largest difference of an output or a state; infinite where shapes differ."""
        run = run_reference(net, {"x": self.x})
        (out,) = run.outputs.values()
        pairs = [(out, self.out), *((run.states[name], value) for name, value in self.states.items())]
        return max(float(np.abs(a - b).max()) if a.shape == b.shape else np.inf for a, b in pairs)


def example(name: str) -> Example:
    """The module of a case in evaluation mode, its singular vectors as stale as after a step of training."""
    case, rng = CASES[name], np.random.default_rng(7)
    torch.manual_seed(7)
    module = case.make().double().train()
    x = rng.normal(size=(BATCH, *case.sample)) if case.rows is None else rng.integers(case.rows, size=(BATCH, 5))
    with torch.no_grad():
        module(torch.from_numpy(x))
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        module.eval()
        out, states = module(torch.from_numpy(x))
    family = all_families()[case.family]
    settings = {s.name: s.default for s in family.settings} | case.settings
    tensors = Tensors("net.pt", {key: value.numpy() for key, value in module.state_dict().items()})
    return Example(family, tensors, settings, x, out.numpy(), {key: value.numpy() for key, value in states.items()})
