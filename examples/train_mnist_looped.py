"""Train the float equilibrium network LoopedMLP 784-256-10 on MNIST, from a file that you give.

    python examples/train_mnist_looped.py --data mnist.npz -o mnist_looped.npz

The net is the one of the research code: each of its three matrices is divided by its spectral norm. It is trained for
no integer and no ternary weight: it is what post-training quantization and fine-tuning are measured on. The stored
matrices are rounded to float16 before the accuracy is measured, so the file holds exactly the net that was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import STEPS, LoopedMLP, relax
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from train_mnist import CLASSES, SIDE, Mnist, exit_status, load_mnist, write_npz

__all__ = ["Settings", "accuracy", "main", "rounded", "save", "train"]

LAYERS = ("W_in", "W_rec", "W_out")
POWER_ITERATIONS = 300


@dataclass(frozen=True)
class Settings:
    """`gain` multiplies the logits in the loss, never at inference: logits of a matrix of norm 1 are small. `steps`:
    relaxation steps in training; the net is measured with the 30 of its source."""

    hidden: int = 256
    batch: int = 256
    rate: float = 3e-3
    gain: float = 4.0
    steps: int = 12


def train(data: Mnist, settings: Settings, *, seed: int, epochs: int, progress: bool = True) -> LoopedMLP:
    """A net trained by backpropagation through the relaxation with Adam, the learning rate rising over 10 % of the
    updates and then falling to zero along a cosine. There is no choice among epochs: the last is the result."""
    torch.manual_seed(seed)
    net = LoopedMLP(SIDE * SIDE, settings.hidden, CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.rate)
    batches = len(data.y) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.rate, total_steps=epochs * batches, pct_start=0.1, cycle_momentum=False
    )
    x = data.x.flatten(1)
    net.train()
    with tqdm(range(epochs), unit="epoch", disable=not progress) as bar:
        for _ in bar:
            total = 0.0
            order = torch.randperm(len(data.y))
            for chosen in order[: batches * settings.batch].split(settings.batch):
                optimizer.zero_grad()
                circuit = net.circuit()
                logits = circuit.logits(relax(circuit, x[chosen], settings.steps)[-1])
                loss = functional.cross_entropy(settings.gain * logits, data.y[chosen])
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) / batches
            bar.set_postfix(loss=f"{total:.4f}")
    return net.requires_grad_(False)


@torch.no_grad()
def rounded(net: LoopedMLP) -> LoopedMLP:
    """The net with its matrices deployed, rounded to float16 and normalised anew by a converged power iteration."""
    for name in LAYERS:
        layer = getattr(net, name)
        original = layer.parametrizations.weight.original
        original.copy_(layer.weight.half().float())
    net.train()
    for _ in range(POWER_ITERATIONS):
        for name in LAYERS:
            _ = getattr(net, name).weight
    return net.eval()


@torch.no_grad()
def accuracy(net: LoopedMLP, x: Tensor, y: Tensor) -> float:
    """Fraction of images told right after the steps of the source, in float32."""
    return float((net(x.flatten(1), STEPS).argmax(dim=1) == y).double().mean())


def save(net: LoopedMLP, path: Path, **training: Any) -> None:
    """Write a checkpoint of a net that `rounded` returned; `training` is kept in it as a note (JSON)."""
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    halves = {name: a.astype(np.float16) for name, a in state.items() if name.endswith(".original")}
    notes = {"family": "models.LoopedMLP", "config": json.dumps(net.config), "training": json.dumps(training)}
    write_npz(path, {f"__{name}__": np.array(text) for name, text in notes.items()} | state | halves)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the float LoopedMLP 784-256-10 on MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("-o", "--output", type=Path, default=Path("mnist_looped.npz"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=35, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _run(options: argparse.Namespace) -> None:
    data = load_mnist(options.data, "cpu")
    net = rounded(train(data, Settings(), seed=options.seed, epochs=options.epochs))
    held = accuracy(net, data.held_x, data.held_y)
    reached = accuracy(net, data.test_x, data.test_y)
    save(net, options.output, rule="bptt", seed=options.seed, epochs=options.epochs, held_out_accuracy=held)
    sys.stdout.write(f"float32: held-out accuracy {held:.4f}, test accuracy {reached:.4f}\n{options.output}\n")


def main(arguments: list[str] | None = None) -> int:
    torch.set_num_threads(1)
    return exit_status(_run, _parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
