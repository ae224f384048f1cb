"""Nets with dense weights whose recurrence is kept a contraction while equilibrium propagation trains them.

`SymmetricLoop` is `h <- tanh(W_in x + b + W_rec h)` with a dense symmetric W_rec; `SymmetricCube` is the lattice of
`nets.NeuralCube`. After each update W_rec is scaled back to a spectral norm of `lipschitz` where it exceeds that. So
the free relaxation converges geometrically from wherever it starts, and the two equilibria that equilibrium propagation
contrasts exist and are reached: what `rules.py` has to assume of other nets is true of these by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from contracting import LABELS, Images, MaskedNet, Shape
from nets import STEPS, Circuit, CircuitNet, NeuralCube
from rules import bptt, eqprop
from torch import Tensor, nn
from tqdm import tqdm
from train_mnist import warped

__all__ = ["SETTINGS", "Settings", "SymmetricCube", "SymmetricLoop", "build", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings(Shape):
    """Architecture and training; chosen on held-out parts of the training sets.

    `side`: of a cube, 0 for a loop. `lipschitz`: largest spectral norm of W_rec. `first_norm`:
    that it starts with. `beta`, `gain`, `free_steps`, `nudged_steps`: see `rules.py`; `gain` multiplies the logits in
    the loss, never at inference. `warp`: size of the random distortions of images; 0 takes inputs as they are.
    `labels`: classes.
    """

    side: int = 0
    lipschitz: float = 0.9
    first_norm: float = 0.5
    beta: float = 0.2
    gain: float = 2.0
    free_steps: int = STEPS
    nudged_steps: int = 20
    warp: float
    rate: float
    batch: int
    epochs: int
    labels: int = LABELS


_MNIST = Settings(units=256, inputs=256, readouts=256, gain=4, warp=0.4, rate=4e-3, batch=512, epochs=40)
_DIGITS = Settings(units=96, inputs=96, readouts=96, gain=4, warp=0.5, rate=4e-3, batch=64, epochs=200)
SETTINGS = {
    "mnist_eqprop": _MNIST,
    "mnist_eqprop_layered": replace(
        _MNIST, inputs=160, readouts=96, first_norm=0.9, beta=0.1, gain=2, nudged_steps=30, warp=0.3
    ),
    "digits_eqprop": _DIGITS,
    "digits_eqprop_layered": replace(_DIGITS, units=128, inputs=72, readouts=56, gain=1),
    "digits_eqprop_cube": replace(_DIGITS, units=0, side=5, inputs=125, readouts=125, gain=2, epochs=150),
}


@torch.no_grad()
def scale_back(net: CircuitNet, weight: nn.Parameter, lipschitz: float) -> None:
    """Scale the stored recurrent weights so that the spectral norm of W_rec, exact in float64, is at most that."""
    norm = float(torch.linalg.eigvalsh(net.circuit().w_rec.double()).abs().max())
    if norm > lipschitz:
        weight.mul_(lipschitz / norm)


class SymmetricLoop(MaskedNet):
    """Stored as they are deployed: w_in [units, inputs], w_rec symmetric [units, units], w_out [labels, units]."""

    def __init__(self, inputs: int, settings: Settings) -> None:
        super().__init__(inputs, settings, settings.labels)
        units = settings.units
        self.settings = settings
        self.w_in = nn.Parameter(torch.randn(units, inputs) / math.sqrt(inputs))
        symmetric = torch.randn(units, units)
        symmetric = symmetric + symmetric.T
        norm = torch.linalg.matrix_norm(symmetric, 2)
        self.w_rec = nn.Parameter(symmetric * (settings.first_norm / norm))
        self.w_out = nn.Parameter(torch.randn(settings.labels, units) / math.sqrt(units))
        self.bias = nn.Parameter(torch.zeros(units))
        self.c = nn.Parameter(torch.zeros(settings.labels))

    def circuit(self) -> Circuit:
        return Circuit(self.w_in * self.reached, self.bias, self.w_rec, self.w_out * self.read, self.c)

    @torch.no_grad()
    def symmetrise(self) -> None:
        self.w_rec.copy_((self.w_rec + self.w_rec.T) / 2)

    def bound(self) -> None:
        scale_back(self, self.w_rec, self.settings.lipschitz)


class SymmetricCube(NeuralCube):
    """A cube of `side` units a side; symmetric where `symmetrise` was called."""

    def __init__(self, inputs: int, settings: Settings) -> None:
        super().__init__(settings.side, inputs, settings.labels)
        self.settings = settings

    def bound(self) -> None:
        scale_back(self, self.W_local, self.settings.lipschitz)


def build(inputs: int, settings: Settings) -> SymmetricLoop | SymmetricCube:
    """The net of these settings for images of `inputs` pixels."""
    return (SymmetricCube if settings.side else SymmetricLoop)(inputs, settings)


def train(
    data: Images, settings: Settings, *, seed: int, rule: str = "eqprop", progress: bool = True
) -> SymmetricLoop | SymmetricCube:
    """A net trained with Adam, the learning rate rising over 10 % of the updates and then falling to zero along a
    cosine. `rule`: `eqprop`, or `bptt` for the same net by backpropagation, W_rec symmetric and bounded as well. There
    is no choice among epochs: the last is the result."""
    torch.manual_seed(seed)
    net = build(data.x[0].numel(), settings).to(data.x.device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.rate)
    batches = len(data.y) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.rate, total_steps=settings.epochs * batches, pct_start=0.1, cycle_momentum=False
    )

    def learn(x: Tensor, y: Tensor) -> float:
        if rule == "bptt":
            return bptt(net, x, y, gain=settings.gain)
        phases = {"free_steps": settings.free_steps, "nudged_steps": settings.nudged_steps}
        return eqprop(net, x, y, beta=settings.beta, gain=settings.gain, **phases)

    net.symmetrise()
    net.bound()
    with tqdm(range(settings.epochs), unit="epoch", disable=not progress) as bar:
        for _ in bar:
            total = 0.0
            order = torch.randperm(len(data.y), device=data.x.device)
            for chosen in order[: batches * settings.batch].split(settings.batch):
                optimizer.zero_grad()
                x = warped(data.x[chosen], settings.warp) if settings.warp else data.x[chosen]
                total += learn(x.flatten(1), data.y[chosen]) / batches
                optimizer.step()
                schedule.step()
                net.symmetrise()
                net.bound()
            bar.set_postfix(loss=f"{total:.4f}", refresh=False)
    return net.requires_grad_(False).eval()
