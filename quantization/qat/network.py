"""An EqNet in PyTorch: its drive, step and readout as differentiable functions of inputs, states and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...toolchain.arrays import Numbers
from ...toolchain.ir import EqNet
from ...toolchain.ir.ops import Op, Repeat
from .operations import evaluate

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Network", "constants", "relax"]

Values = Mapping[str, "Tensor"]


def constants(net: EqNet) -> dict[str, Tensor]:
    """The net's parameters as tensors: float32, indices and masks int64."""
    import torch

    return {
        p.name: torch.tensor(p.value) if p.value.dtype.kind in "iub" else torch.tensor(p.value, dtype=torch.float32)
        for p in net.params
    }


class Network:
    """The three blocks of a net over given parameter tensors. `drive` and `step` return every value they define."""

    def __init__(self, net: EqNet, params: Values) -> None:
        self.net = net
        self.params = params

    def drive(self, inputs: Values) -> dict[str, Tensor]:
        """Inputs and drive values of one clamped frame, `[batch, *shape]`."""
        return self._evaluate(self.net.drive, inputs)

    def initial(self, drive: Values, batch: int) -> dict[str, Tensor]:
        """States before the first tick: zeros, a parameter or a drive value."""
        return {
            s.name: self._shaped(None if s.init is None else self._value(drive, s.init), s.shape, batch)
            for s in self.net.states
        }

    def step(self, drive: Values, states: Values) -> dict[str, Tensor]:
        """The states after a tick."""
        batch = len(next(iter(states.values())))
        scope = self._evaluate(self.net.step, {**drive, **states})
        return {s.name: self._shaped(self._value(scope, s.update), s.shape, batch) for s in self.net.states}

    def readout(self, drive: Values, states: Values) -> dict[str, Tensor]:
        """The outputs."""
        scope = self._evaluate(self.net.readout, {**drive, **states})
        return {o.name: self._value(scope, o.value) for o in self.net.outputs}

    def _value(self, scope: Values, name: str) -> Tensor:
        return scope[name] if name in scope else self.params[name][None]

    def _evaluate(self, block: Iterable[Op], outer: Values) -> dict[str, Tensor]:
        scope = dict(outer)
        for op in block:
            if isinstance(op, Repeat):
                value = self._value(scope, op.init)
                for _ in range(op.count):
                    inner = self._evaluate(op.body, {**scope, op.carry: value})
                    value = self._value(inner, op.result)
            else:
                value = evaluate(op, lambda name: self._value(scope, name), self.params.__getitem__)
            scope[op.out] = value
        return scope

    def _shaped(self, value: Tensor | None, shape: tuple[int, ...], batch: int) -> Tensor:
        import torch

        if value is None:
            return torch.zeros(batch, *shape)
        missing = 1 + len(shape) - value.ndim
        aligned = value.reshape(value.shape[:1] + (1,) * missing + value.shape[1:])
        return aligned.expand(batch, *shape)


def relax(net: EqNet, inputs: Mapping[str, Numbers]) -> dict[str, Tensor]:
    """Outputs of a net without frames or a stop rule, in float32, without gradients.

    `inputs`: float64 `[batch, *shape]` by name; outputs float32 `[batch, *shape]` by name.
    """
    import torch

    with torch.no_grad():
        network = Network(net, constants(net))
        clamped = {
            n: torch.tensor(a) if a.dtype.kind in "iu" else torch.tensor(a, dtype=torch.float32)
            for n, a in inputs.items()
        }
        drive = network.drive(clamped)
        states = network.initial(drive, len(next(iter(clamped.values()))))
        for _ in range(net.schedule.steps):
            states = network.step(drive, states)
        return network.readout(drive, states)
