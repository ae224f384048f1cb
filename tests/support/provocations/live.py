"""Live PyTorch steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import eqcompile as eq

from .case import Provocations

H, X = torch.zeros(2, 3), torch.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Counter(torch.nn.Module):
    """It counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        self.count += 1.0
        return h + self.count * x


def early(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Its output is made of states before the step."""
    new = torch.tanh(h + x)
    return 0.5 * h + 0.5 * new, new


def decided(h: Tensor, x: Tensor) -> Tensor:
    """It is another step for other values."""
    return h if bool(x.sum() > 0) else h + x


def wrong(step: Any, example: Any = (H, X), readout: Any = lambda h: h) -> Any:
    """The net of a step that has none."""
    return lambda case: eq.load(step, example=example, steps=3, readout=readout)


LIVE: Provocations = {
    "torch-arguments": wrong(lambda h, x, y: h),
    "torch-buffer": wrong(Counter()),
    "torch-call": wrong(lambda h, x: h @ x),
    "torch-example": wrong(lambda h: h, example=(H,)),
    "torch-export": wrong(decided),
    "torch-node": wrong(lambda h, x: torch.log(h) + x),
    "torch-output": wrong(lambda h, x: h + x, readout=None),
    "torch-readout": wrong(early, readout=None),
    "torch-samples": wrong(lambda h, x: h + x.mean()),
    "torch-start": wrong(lambda h, x: h + x, example=(X, X)),
    "torch-state": wrong(lambda h, x: h[:, :2]),
    "torch-type": wrong(lambda h, x: h, example=(H, X.long())),
}
