"""scikit-learn's handwritten digits: the split used by every checkpoint here, and what is measured on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from nets import STEPS, Net
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

__all__ = ["Measured", "Split", "accuracy", "digits", "hold_out", "measure", "varied"]

SETTLED = 1e-6
LONG_RUN = 1000


class Split(NamedTuple):
    """x float32 [samples, 64] in 0..1 (multiples of 1/16), y int64 [samples]."""

    x: Tensor
    y: Tensor


def digits() -> tuple[Split, Split]:
    """Training (1437) and test (360) samples."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (x / 16).astype("float32"), y, test_size=0.2, random_state=0, stratify=y
    )
    return (
        Split(torch.from_numpy(x_train), torch.from_numpy(y_train)),
        Split(torch.from_numpy(x_test), torch.from_numpy(y_test)),
    )


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split a training set once more, stratified: choices are made on the second part, never on the test set."""
    keep, held = train_test_split(
        torch.arange(len(train.y)).numpy(), test_size=fraction, random_state=seed, stratify=train.y.numpy()
    )
    return Split(train.x[keep], train.y[keep]), Split(train.x[held], train.y[held])


def varied(x: Tensor) -> Tensor:
    """Training inputs [batch, 64] a little shifted, turned and scaled (up to a quarter of a pixel, 0.08 rad, 4 %), with
    Gaussian noise of 0.15: against overfitting. Draws from torch's global generator."""
    batch = len(x)
    across, along, turn, size = (torch.rand(4, batch) * 2 - 1) * torch.tensor([[0.0625], [0.0625], [0.08], [0.04]])
    cos, sin = (1 + size) * torch.cos(turn), (1 + size) * torch.sin(turn)
    maps = torch.stack([cos, -sin, across, sin, cos, along], dim=1).view(batch, 2, 3)
    shape = (batch, 1, 8, 8)
    grid = functional.affine_grid(maps, list(shape), align_corners=False)
    moved = functional.grid_sample(x.view(shape), grid, align_corners=False).view(batch, 64)
    return moved + 0.15 * torch.randn(moved.shape)


class Measured(NamedTuple):
    """Fractions of samples: `accuracy` in float32, `accuracy_8bit` with every state rounded to 8 bits; `settled_8bit`
    those whose 8-bit state does not change any more before the last step, `settled_long` those whose float state
    moves by less than 1e-6 after 1000 steps. `last_move`: the largest float change of a state in the last step."""

    accuracy: float
    accuracy_8bit: float
    last_move: float
    settled_8bit: float
    settled_long: float


def accuracy(net: Net, split: Split) -> float:
    with torch.no_grad():
        return _right(net(split.x), split.y)


def _right(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(dim=1) == y).double().mean())


@torch.no_grad()
def measure(net: Net, split: Split) -> Measured:
    states = net.trace(split.x)
    rounded = net.trace(split.x, bits=8)
    long_run = net.trace(split.x, steps=LONG_RUN)
    return Measured(
        _right(net.readout(states[-1]), split.y),
        _right(net.readout(rounded[-1]), split.y),
        float((states[STEPS] - states[STEPS - 1]).abs().max()),
        float((rounded[STEPS] == rounded[STEPS - 1]).all(dim=1).double().mean()),
        float(((long_run[-1] - long_run[-2]).abs().amax(dim=1) < SETTLED).double().mean()),
    )
