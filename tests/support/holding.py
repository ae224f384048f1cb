"""The class of `examples.LazyLoop`, from its equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Holding"]


class Holding(nn.Module):
    """A unit moves only where it would move by more than a threshold of its own."""

    threshold: Tensor

    def __init__(self, inputs: int, units: int, outputs: int, *, steps: int) -> None:
        super().__init__()
        self.W_in, self.W_rec = nn.Linear(inputs, units), nn.Linear(units, units)
        self.W_out, self.steps = nn.Linear(units, outputs), steps
        self.register_buffer("threshold", torch.linspace(0.02, 0.3, units))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        h = x.new_zeros(len(x), self.W_rec.in_features)
        for _ in range(self.steps):
            new = torch.tanh(self.W_in(x) + self.W_rec(h))
            h = torch.where((new - h).abs() > self.threshold, new, h)
        return self.W_out(h), {"h": h}
