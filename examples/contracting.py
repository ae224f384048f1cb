"""A network whose recurrence is dense, ternary and a contraction, and its training by backpropagation.

`h <- tanh(W_in x + b + W_rec h)` with `W_in = s * T_in` (a scale a row), `W_rec = L / ||T_rec|| * T_rec` (one scale,
set in each step of training from a power iteration, so that the spectral norm is L throughout) and `W_out = T_out`.
The entries of each T are -1, 0 or +1. A fixed share of each matrix is not 0: its largest shadow weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from nets import STEPS, Circuit, CircuitNet
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from train_mnist import warped

__all__ = [
    "LABELS",
    "SETTINGS",
    "STATE_ONE",
    "ContractingMLP",
    "Images",
    "MaskedNet",
    "Settings",
    "Shape",
    "held",
    "train",
]

STATE_ONE = 128
"""Code of 1.0 in an 8-bit state: states are rounded to multiples of 1/128 in training too."""
TRAINING_STEPS = 12
POWER_ITERATIONS = 4
"""Of each step of training; the vector is kept between them."""
FIRST_SCALE = 0.12
"""Of the rows of W_in."""
LABELS = 10


class Images(NamedTuple):
    """x float32 [samples, side, side] in 0..1, y int64 [samples]."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class Shape:
    """`inputs`: units that the input reaches, the first ones; `readouts`: units that the readout sees, the last ones.
    Where these are disjoint ("layered"), all that the readout gets has passed through W_rec."""

    units: int
    inputs: int
    readouts: int


@dataclass(frozen=True, kw_only=True)
class Settings(Shape):
    """Architecture and training; chosen on held-out parts of the training sets.

    `density`: share of W_in
    (within the rows that the input reaches), W_rec and W_out that is not 0. `lipschitz`: spectral norm of W_rec. `gain`
    multiplies the logits in the cross-entropy, never at inference. The loss has `margin_weight` times the mean square
    of what the logit of the label lacks of `margin` above the largest other one, in units of `margin`. `warp`: size of
    the random distortions of the images. `rate`: of biases and scales; shadow weights, which are of the order of 1,
    learn at 5 times that. `hold`: a unit moves only where it would move by more than so many codes, in training too.
    """

    lipschitz: float
    density: tuple[float, float, float] = (0.4, 0.45, 0.5)
    gain: float = 1.0
    margin: float
    margin_weight: float = 1.0
    warp: float
    rate: float
    batch: int
    epochs: int
    hold: int = 0


_MNIST = Settings(
    units=256, inputs=160, readouts=96, lipschitz=0.6, margin=6, warp=0.4, rate=2e-3, batch=512, epochs=110
)
_DIGITS = Settings(
    units=128,
    inputs=72,
    readouts=56,
    lipschitz=0.6,
    density=(0.6, 0.45, 0.5),
    margin=4,
    warp=0.6,
    rate=2e-3,
    batch=128,
    epochs=450,
)
SETTINGS = {
    "mnist_layered": _MNIST,
    "mnist_certified": replace(_MNIST, inputs=256, readouts=256, gain=0.5, margin=8, rate=4e-3),
    "digits_layered": _DIGITS,
    "digits_certified": replace(_DIGITS, units=96, inputs=96, readouts=96, margin=6, warp=0.5, epochs=500),
    "digits_holding": replace(_DIGITS, hold=2, margin=6),
}


class MaskedNet(CircuitNet):
    """A `LoopedMLP` without spectral norms. Masks of 0 and 1: `reached` [units, 1], `read` [1, units]."""

    reached: Tensor
    read: Tensor

    def __init__(self, inputs: int, shape: Shape, labels: int) -> None:
        super().__init__()
        units = shape.units
        self.config = {
            "input_dim": inputs,
            "hidden_dim": units,
            "output_dim": labels,
            "use_spectral_norm": False,
            "max_steps": STEPS,
        }
        self.register_buffer("reached", (torch.arange(units) < shape.inputs).float()[:, None])
        self.register_buffer("read", (torch.arange(units) >= units - shape.readouts).float()[None])


class ContractingMLP(MaskedNet):
    """Shadow weights of three ternary matrices, a scale for each row of W_in, and two biases."""

    singular: Tensor

    def __init__(self, inputs: int, settings: Settings) -> None:
        super().__init__(inputs, settings, LABELS)
        units = settings.units
        self.settings = settings
        self.w_in = nn.Parameter(torch.randn(units, inputs))
        self.w_rec = nn.Parameter(torch.randn(units, units))
        self.w_out = nn.Parameter(torch.randn(LABELS, units))
        self.log_scale = nn.Parameter(torch.full((units,), math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.zeros(units))
        self.c = nn.Parameter(torch.zeros(LABELS))
        self.register_buffer("singular", torch.randn(units))

    def circuit(self) -> Circuit:
        of_in, of_rec, of_out = self.settings.density
        ternary = _ternary(self.w_rec, of_rec, torch.ones_like(self.w_rec))
        return Circuit(
            torch.exp(self.log_scale)[:, None] * _ternary(self.w_in, of_in, self.reached.expand_as(self.w_in)),
            self.bias,
            self.settings.lipschitz / self._norm(ternary.detach()) * ternary,
            _ternary(self.w_out, of_out, self.read.expand_as(self.w_out)),
            self.c,
        )

    @torch.no_grad()
    def _norm(self, matrix: Tensor) -> Tensor:
        """Spectral norm: in training from a few power iterations, which is a little low, else exact."""
        if not self.training:
            return torch.linalg.matrix_norm(matrix.double(), 2).float()
        v, sigma = self.singular, torch.ones(())
        for _ in range(POWER_ITERATIONS):
            v = matrix.T @ functional.normalize(matrix @ v, dim=0)
            sigma = v.norm()
            v = v / sigma
        self.singular.copy_(v)
        return sigma


def _ternary(shadow: Tensor, density: float, mask: Tensor) -> Tensor:
    """The signs of the largest entries where `mask` is 1, as many as `density` says; the gradient passes straight
    through to the shadow weights."""
    size = shadow.abs() * mask
    kept = int(density * float(mask.sum()))
    limit = size.flatten().kthvalue(size.numel() - kept).values
    through = shadow * mask
    return through + ((size > limit) * shadow.sign() - through).detach()


def _rounded(h: Tensor) -> Tensor:
    """8-bit states; the gradient passes the rounding unchanged."""
    codes = torch.clamp(torch.round(h * STATE_ONE), -STATE_ONE, STATE_ONE - 1)
    return h + (codes / STATE_ONE - h).detach()


def held(new: Tensor, old: Tensor, hold: int) -> Tensor:
    """Of states in multiples of 1/128: the new one where it differs by more than `hold` of these, else the old one."""
    return torch.where((new - old).abs() * STATE_ONE > hold, new, old) if hold else new


def _loss(net: ContractingMLP, x: Tensor, y: Tensor) -> Tensor:
    settings, circuit = net.settings, net.circuit()
    drive = circuit.drive(x)
    h = torch.zeros_like(drive)
    for _ in range(TRAINING_STEPS if settings.lipschitz else 1):  # without a recurrence one step is all
        h = held(_rounded(circuit.step(h, drive)), h, settings.hold)
    logits = circuit.logits(h)
    of_label = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -math.inf).amax(dim=1)
    lack = functional.relu(1 - (of_label - others) / settings.margin)
    return functional.cross_entropy(settings.gain * logits, y) + settings.margin_weight * lack.square().mean()


def train(data: Images, settings: Settings, *, seed: int, progress: bool = True) -> ContractingMLP:
    """A net trained with AdamW, the learning rates rising over 5 % of the updates and then falling to zero along a
    cosine. There is no choice among epochs: the last is the result."""
    torch.manual_seed(seed)
    net = ContractingMLP(data.x[0].numel(), settings).to(data.x.device).train()
    shadows = [net.w_in, net.w_rec, net.w_out]
    groups = [
        {"params": shadows, "lr": 5 * settings.rate},
        {"params": [net.log_scale, net.bias, net.c], "lr": settings.rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    batches = len(data.y) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[g["lr"] for g in optimizer.param_groups],
        total_steps=settings.epochs * batches,
        pct_start=0.05,
        cycle_momentum=False,
    )
    with tqdm(range(settings.epochs), unit="epoch", disable=not progress) as bar:
        for _ in bar:
            total = torch.zeros((), device=data.x.device)
            order = torch.randperm(len(data.y), device=data.x.device)
            for chosen in order[: batches * settings.batch].split(settings.batch):
                optimizer.zero_grad()
                loss = _loss(net, warped(data.x[chosen], settings.warp).flatten(1), data.y[chosen])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += loss.detach() / batches
            bar.set_postfix(loss=f"{float(total):.4f}", refresh=False)
    return net.requires_grad_(False).eval()
