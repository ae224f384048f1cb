"""Steps of nets as people write them in PyTorch, with examples, and how PyTorch relaxes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CASES", "INPUTS", "SAMPLES", "UNITS", "Gated", "Looped", "pairs", "relaxed"]

SAMPLES, INPUTS, UNITS = 3, 5, 6


def pairs(*shape: int) -> tuple[Tensor, Tensor]:
    """A state of zeros and an input."""
    return torch.zeros(SAMPLES, *shape), torch.randn(SAMPLES, INPUTS)


class Looped(nn.Module):
    """`(1-a) h + a tanh(W h + U x)`, damped in one of the ways that people write."""

    def __init__(self, damping: str = "none", norm: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(UNITS, UNITS)
        self.outer = nn.Linear(INPUTS, UNITS, bias=False)
        self.norm = nn.LayerNorm(UNITS) if norm else nn.Identity()
        self.damping = damping
        if norm:
            nn.utils.parametrizations.spectral_norm(self.inner)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        new = torch.tanh(self.norm(self.inner(h) + self.outer(x)))
        match self.damping:
            case "sum":
                return 0.75 * h + 0.25 * new
            case "gap":
                return h + 0.3 * (new - h)
            case "lerp":
                return torch.lerp(h, new, 0.4)
        return new


class Gated(nn.Module):
    """A gate of the state and of the input, and the cell of PyTorch beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(UNITS + INPUTS, UNITS)
        self.cell = nn.GRUCell(INPUTS, UNITS)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(torch.cat([h, x], dim=-1)))
        return gate * h + (1 - gate) * self.cell(x, h)


class Convolved(nn.Module):
    """A state of channels with group and batch normalisation, affine or not, strides, groups, dilation and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.rec = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.batch, self.plain = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        for norm in (self.batch, self.plain):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        pooled = functional.max_pool2d(h, 2) - functional.avg_pool2d(h, 2)
        around = pooled.mean((2, 3), keepdim=True)
        return 0.5 * h + 0.5 * torch.tanh(self.batch(self.rec(self.norm(h))) + self.plain(self.embed(x)) + around)


class Attending(nn.Module):
    """A state of tokens with attention written by hand and PyTorch's own, causal."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, UNITS)
        self.norm = nn.LayerNorm(UNITS)
        self.own = nn.MultiheadAttention(UNITS, 2, batch_first=True)
        self.heads = nn.Linear(UNITS, 3 * UNITS)
        self.register_buffer("hidden", torch.triu(torch.ones(3, 3, dtype=torch.bool), 1))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        z = self.norm(h)
        q, k, v = self.heads(z).chunk(3, dim=-1)
        scores = (q @ k.transpose(-2, -1) / UNITS**0.5).masked_fill(self.hidden, float("-inf"))
        mixed = scores.softmax(-1) @ v
        attended, _ = self.own(z, z, z, need_weights=False)
        split = [t.view(t.shape[0], 3, 2, UNITS // 2).transpose(1, 2) for t in (q, k, v)]
        causal = functional.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
        return 0.5 * h + 0.5 * torch.tanh(mixed + attended + causal + self.embed(x))


class Layered(nn.Module):
    """Two states in a tuple; the second reads the new value of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(UNITS, 3), nn.Linear(3, UNITS)
        self.drive = nn.Linear(INPUTS, UNITS)

    def forward(self, states: Any, x: Tensor) -> Any:
        first, second = states
        first = functional.hardsigmoid(self.drive(x) + self.down(second))
        return first, 0.5 * second + 0.5 * torch.clamp(self.up(first), 0, 1)


def clipped(h: Tensor, x: Tensor) -> Tensor:
    """Activations without weights, conditions and cuts."""
    y = torch.cat([functional.leaky_relu(x, 0.1), functional.relu6(3 * x[:, 1:2])], 1)
    y = torch.where(y > 0.5, functional.hardswish(y), -y.abs()) + (h >= 0).to(h.dtype)
    y = y + functional.silu(h) + torch.sign(x).sum(1, keepdim=True)
    y = torch.maximum(y, h**2) - torch.minimum(y, h**3) + (1.0 - h) / 4.0
    return 0.1 * torch.stack([y[:, 0::2], y[:, 1::2]], 1).transpose(1, 2).flatten(1) * functional.softmax(h, 1)


def bent(h: Tensor, x: Tensor) -> Tensor:
    """Both forms of the Gaussian unit."""
    return 0.5 * functional.gelu(h + x[:, :1]) - functional.gelu(h, approximate="tanh") - 0.2 * x[:, 1:2]


def turned(h: Tensor, x: Tensor) -> Tensor:
    """A coordinate on a circle."""
    return torch.remainder(h + x[:, :1], 0.3)


def stepped(h: Tensor, x: Tensor) -> Tensor:
    """Whole numbers at most and at least as large, of negative ones too."""
    return 0.3 * torch.floor(4.0 * h + x[:, :1]) + 0.1 * torch.ceil(3.0 * x[:, 1:2] - h)


def raised(h: Tensor, x: Tensor) -> Tensor:
    """A soft threshold written with exponentials."""
    return 0.5 * h + 0.2 * torch.exp(-(h**2) + x[:, :1]) - 0.1 * torch.exp(0.5 * h)


def windowed(h: Tensor, x: Tensor) -> Tensor:
    """Pools whose windows overlap, are padded, or leave entries out."""
    near = functional.max_pool2d(h, 3, 1, padding=1) - functional.avg_pool2d(h, 3, 1, padding=1)
    few = functional.max_pool2d(x, 3, 2).mean((2, 3), keepdim=True) + functional.avg_pool2d(x, (2, 3), (2, 2), (0, 1))
    return torch.tanh(near + few[:, :, :, :4] - 0.5 * h)


MIXED = torch.linspace(-0.4, 0.4, UNITS * UNITS, dtype=torch.float64).reshape(UNITS, UNITS)


def picked(h: Tensor, x: Tensor) -> Tensor:
    """Entries in another order, one that is set, and products as a sum over indices."""
    h = h.clone()
    h[:, 0] = x[:, 1]
    return torch.tanh(torch.einsum("ij,bj->bi", MIXED, h) + 0.3 * h.flip(1) - 0.2 * h.roll(1, 1) + x[:, :1])


def instances(h: Tensor, x: Tensor) -> Tensor:
    """Each channel normalised by itself."""
    return torch.tanh(0.5 * functional.instance_norm(h + x))


OUTER = torch.linspace(-1.0, 1.0, UNITS * INPUTS, dtype=torch.float64).reshape(INPUTS, UNITS)
Case = Callable[[], tuple[Any, Any]]
"""A step and an example."""
CASES: dict[str, Case] = {
    "looped": lambda: (Looped(), pairs(UNITS)),
    "damped-sum": lambda: (Looped("sum"), pairs(UNITS)),
    "damped-gap": lambda: (Looped("gap"), pairs(UNITS)),
    "damped-lerp": lambda: (Looped("lerp"), pairs(UNITS)),
    "normed": lambda: (Looped("sum", norm=True), pairs(UNITS)),
    "gated": lambda: (Gated(), pairs(UNITS)),
    "conv": lambda: (Convolved(), (torch.zeros(SAMPLES, 4, 6, 8), torch.randn(SAMPLES, 2, 12, 16))),
    "attention": lambda: (Attending(), (torch.zeros(SAMPLES, 3, UNITS), torch.randn(SAMPLES, 3, 2))),
    "layered": lambda: (
        Layered(),
        ((torch.zeros(SAMPLES, UNITS), torch.zeros(SAMPLES, 3)), torch.randn(SAMPLES, INPUTS)),
    ),
    "clipped": lambda: (clipped, pairs(UNITS)),
    "picked": lambda: (picked, pairs(UNITS)),
    "instances": lambda: (instances, (torch.zeros(SAMPLES, 2, 3, 3), torch.randn(SAMPLES, 2, 3, 3))),
    "gelu": lambda: (bent, pairs(UNITS)),
    "modulo": lambda: (turned, pairs(UNITS)),
    "raised": lambda: (raised, pairs(UNITS)),
    "rounded": lambda: (stepped, pairs(UNITS)),
    "windows": lambda: (windowed, (torch.zeros(SAMPLES, 2, 4, 4), torch.randn(SAMPLES, 2, 8, 8))),
    "closure": lambda: (
        lambda h, x: torch.tanh(x @ OUTER - 0.5 * h),
        pairs(UNITS),
    ),
}


def relaxed(step: Any, example: Any, steps: int) -> list[list[Tensor]]:
    """The states of each step, as PyTorch computes them."""
    modules = [step] if isinstance(step, nn.Module) else []
    for module in modules:
        module.eval()
    state, *inputs = example.values() if isinstance(example, dict) else example
    states = []
    with torch.no_grad():
        for _ in range(steps):
            state = step(state, *inputs)
            states.append([state] if isinstance(state, Tensor) else list(state))
    return states
