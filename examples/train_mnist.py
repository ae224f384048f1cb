"""Train the ternary equilibrium network 784-256-10 on MNIST, from a file that you give.

    python examples/train_mnist.py --data mnist.npz -o mnist_ternary.npz --device cuda

`mnist.npz` holds x_train, y_train, x_test, y_test (uint8 images 28x28 and labels), as Keras distributes it. The network
reads pixels / 255. The checkpoint holds the ternary weights themselves as -1, 0, +1 (float16) and the biases (float32),
and says its family and settings, so that `eqcompile` needs no options to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import Circuit, TernaryEqProp
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

__all__ = ["HELD_OUT", "Mnist", "Settings", "exit_status", "load_mnist", "main", "save", "train", "warped", "write_npz"]

SIDE = 28
CLASSES = 10
HELD_OUT = 5000
STATE_ONE = 128
"""Code of 1.0 in an 8-bit state: states are rounded to multiples of 1/128 in training too."""


@dataclass(frozen=True)
class Settings:
    """What training depends on besides data and seed; chosen on the held-out part of the training set.

    `density`: initial fraction of non-zero weights of W_in, W_rec, W_out. `recurrent_rate` multiplies the learning rate
    of W_rec, whose few +-1 decide whether the relaxation settles. `decay` pulls shadow weights to 0, so that weights
    which do little become 0. `gain` multiplies the logits in the loss, never at inference. `steps`: relaxation steps
    in training; `movement` weights the motion of the states, late motion most. `warp` is the size of the random
    distortions of the images.
    """

    hidden: int = 256
    batch: int = 512
    rate: float = 2e-3
    recurrent_rate: float = 0.4
    density: tuple[float, float, float] = (0.04, 0.03, 0.4)
    shadow_limit: float = 1.5
    gain: float = 0.6
    steps: int = 12
    movement: float = 1.0
    gradient_limit: float = 0.3
    decay: float = 0.03
    warp: float = 0.7


@dataclass(frozen=True)
class Mnist:
    """Images float32 [samples, 28, 28] in 0..1, labels int64. `held` is cut off the training set for choices."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_mnist(path: Path, device: str) -> Mnist:
    """The data set in the file; ValueError if that is not MNIST as Keras distributes it."""
    parts: dict[str, Tensor] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in ("x_train", "y_train", "x_test", "y_test"):
                parts[name] = torch.from_numpy(file[name]).to(device)
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot read x_train, y_train, x_test, y_test: {error}") from error
    for part in ("train", "test"):
        x, y = parts[f"x_{part}"], parts[f"y_{part}"]
        if x.dtype != torch.uint8 or x.shape[1:] != (SIDE, SIDE) or y.shape != x.shape[:1]:
            raise ValueError(f"{path}: {part} set is {x.dtype}{list(x.shape)}, labels {list(y.shape)}; not MNIST")
    if len(parts["x_train"]) <= HELD_OUT:
        raise ValueError(f"{path}: {len(parts['x_train'])} training images, needed are more than {HELD_OUT}")
    order = np.random.default_rng(0).permutation(len(parts["x_train"]))  # one split for every seed of the training
    kept, held = torch.from_numpy(order[:-HELD_OUT]).to(device), torch.from_numpy(order[-HELD_OUT:]).to(device)
    x, y = parts["x_train"].float() / 255, parts["y_train"].long()
    test_x, test_y = parts["x_test"].float() / 255, parts["y_test"].long()
    return Mnist(x[kept], y[kept], x[held], y[held], test_x, test_y)


def warped(x: Tensor, size: float) -> Tensor:
    """Images [batch, side, side] shifted, turned, scaled and sheared at random; `size` 1 is a twentieth of the side,
    0.15 rad, 10 %. Draws from torch's global generator."""
    across, along, turn, scale, shear = (torch.rand(5, len(x), device=x.device) * 2 - 1) * size
    scale, turn = 1 + 0.1 * scale, 0.15 * turn
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    maps = torch.stack([cos, 0.15 * shear - sin, 0.1 * across, sin, cos, 0.1 * along], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(maps, [len(x), 1, *x.shape[1:]], align_corners=False)
    return functional.grid_sample(x[:, None], grid, align_corners=False)[:, 0]


def _loss(circuit: Circuit, x: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy after the relaxation, and the motion in it: the mean squared change of a state in step t (the first
    is 0) weighs 3 (t / steps)^2. That leaves the early steps free to compute and makes the late ones stand still.

    States are rounded as in 8-bit hardware; the gradient passes the rounding unchanged."""
    drive = circuit.drive(x)
    h = torch.zeros_like(drive)
    moved = torch.zeros((), device=x.device)
    for step in range(settings.steps):
        before = h
        h = circuit.step(before, drive)
        codes = torch.clamp(torch.round(h * STATE_ONE), -STATE_ONE, STATE_ONE - 1)
        h = h + (codes / STATE_ONE - h).detach()
        moved = moved + 3 * (step / settings.steps) ** 2 * (h - before).square().mean()
    loss = functional.cross_entropy(settings.gain * circuit.logits(h), y)
    return loss + settings.movement * moved


def train(data: Mnist, settings: Settings, *, seed: int, epochs: int, progress: bool = True) -> TernaryEqProp:
    """A net trained by backpropagation through the relaxation with AdamW, the learning rate rising over 5 % of
    the updates and then falling to zero along a cosine. There is no choice among epochs: the last is the result."""
    torch.manual_seed(seed)
    device = data.x.device
    net = TernaryEqProp(SIDE * SIDE, settings.hidden, CLASSES, density=settings.density).to(device)
    rest = [p for p in net.parameters() if p is not net.W_rec.weight]
    recurrent = {"params": [net.W_rec.weight], "lr": settings.rate * settings.recurrent_rate}
    optimizer = torch.optim.AdamW([{"params": rest, "lr": settings.rate}, recurrent], weight_decay=settings.decay)
    batches = len(data.y) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[g["lr"] for g in optimizer.param_groups],
        total_steps=epochs * batches,
        pct_start=0.05,
        cycle_momentum=False,
    )
    with tqdm(range(epochs), unit="epoch", disable=not progress) as bar:
        for epoch in bar:
            total = torch.zeros((), device=device)
            order = torch.randperm(len(data.y), device=device)
            for chosen in order[: batches * settings.batch].split(settings.batch):
                optimizer.zero_grad()
                x = warped(data.x[chosen], settings.warp).flatten(1)
                loss = _loss(net.circuit(), x, data.y[chosen], settings)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), settings.gradient_limit)
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    # A shadow weight far beyond the threshold would need many updates to come back.
                    for layer in (net.W_in, net.W_rec, net.W_out):
                        layer.weight.clamp_(-settings.shadow_limit, settings.shadow_limit)
                total += loss.detach() / batches
            if epoch % 10 == 0 or epoch == epochs - 1:
                right, settled, _ = measure(net, data.held_x, data.held_y)
                bar.set_postfix(loss=f"{float(total):.4f}", held_out=f"{right:.4f}", settled=f"{settled:.3f}")
    return net.requires_grad_(False).eval()


@torch.no_grad()
def measure(net: TernaryEqProp, x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """With 8-bit states: fraction of images told right, fraction settled within the steps, and the mean number of steps
    until no state moves (the last one, in which none does, counted)."""
    states = torch.stack(net.trace(x.flatten(1), bits=8))
    moved = (states[1:] != states[:-1]).any(dim=2)
    right = net.readout(states[-1]).argmax(dim=1) == y
    settled = ~moved[-1]
    steps = moved.sum(dim=0) + settled
    return float(right.double().mean()), float(settled.double().mean()), float(steps.double().mean())


def save(net: TernaryEqProp, path: Path, **training: Any) -> None:
    """Write a checkpoint completely or not at all; `training` is kept in it as a note (`__training__`, JSON)."""
    circuit = Circuit(*(value.detach().cpu() for value in net.circuit()))
    arrays = {
        "__family__": np.array("models.TernaryEqProp"),
        "__config__": np.array(json.dumps(net.config)),
        "__training__": np.array(json.dumps(training)),
        "W_in.weight": circuit.w_in.numpy().astype(np.float16),
        "W_in.bias": circuit.bias.numpy(),
        "W_rec.weight": circuit.w_rec.numpy().astype(np.float16),
        "W_rec.bias": np.zeros_like(circuit.bias.numpy()),
        "W_out.weight": circuit.w_out.numpy().astype(np.float16),
        "W_out.bias": circuit.c.numpy(),
    }
    write_npz(path, arrays)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a compressed .npz completely or not at all: a temporary file beside `path`, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            np.savez_compressed(f, **arrays)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the ternary equilibrium network 784-256-10 on MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("-o", "--output", type=Path, default=Path("mnist_ternary.npz"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    return parser


def _run(options: argparse.Namespace) -> None:
    data = load_mnist(options.data, options.device)
    net = train(data, Settings(), seed=options.seed, epochs=options.epochs)
    held, _, _ = measure(net, data.held_x, data.held_y)
    right, settled, steps = measure(net, data.test_x, data.test_y)
    save(net, options.output, rule="bptt", seed=options.seed, epochs=options.epochs, held_out_accuracy=held)
    sys.stdout.write(
        f"8-bit states: held-out accuracy {held:.4f}, test accuracy {right:.4f}; {settled:.4f} of the test images "
        f"settle, after {steps:.2f} steps on average\n{options.output}\n"
    )


def exit_status(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """0, 130 where Ctrl-C ended the work, 2 where it raised ValueError; what was wrong goes to standard error."""
    try:
        run(options)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing written\n")
        return 130
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def main(arguments: list[str] | None = None) -> int:
    return exit_status(_run, _parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
