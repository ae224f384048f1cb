"""Train one of five nets with a dense ternary recurrence that contracts: mnist_layered, mnist_certified,
digits_layered, digits_certified, digits_holding.

    python examples/train_contracting.py mnist_layered --data mnist.npz --device cuda
    python examples/train_contracting.py digits_certified

The MNIST nets need `mnist.npz` (x_train, y_train, x_test, y_test, as Keras distributes it). The checkpoint is a
`models.LoopedMLP`, or an `examples.LazyLoop` where units hold small changes back; its matrices are ternary with scales,
and it says its family and settings, so that `eqcompile` needs no options to read it. `--hold-out` trains without a part
of the training set and measures on it: choices were made there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from contracting import SETTINGS, STATE_ONE, ContractingMLP, Images, held, train
from digits import digits, hold_out
from nets import STEPS, CircuitNet
from torch import Tensor
from train_mnist import exit_status, load_mnist, write_npz

__all__ = ["load", "main", "measure", "parser_of", "save", "train_and_save", "write"]

N = TypeVar("N", bound=CircuitNet)

DIGITS_SIDE = 8
DIGITS_HELD_OUT = 0.2


def load(name: str, path: Path | None, device: str, *, held: bool) -> tuple[Images, Images, Images]:
    """Training, held-out and test images. Raises ValueError where MNIST is needed and is not there.

    Of MNIST the held-out part is never trained on; of the digits, which are few, only where `held` asks for it.
    """
    if name.startswith("mnist"):
        if path is None:
            raise ValueError(f"{name} needs --data mnist.npz (x_train, y_train, x_test, y_test)")
        data = load_mnist(path, device)
        return Images(data.x, data.y), Images(data.held_x, data.held_y), Images(data.test_x, data.test_y)
    full, test = digits()
    kept, rest = hold_out(full, DIGITS_HELD_OUT, 0)
    parts = (kept if held else full, rest, test)
    train_images, held_images, test_images = (
        Images(p.x.view(-1, DIGITS_SIDE, DIGITS_SIDE).to(device), p.y.to(device)) for p in parts
    )
    return train_images, held_images, test_images


@torch.no_grad()
def measure(net: CircuitNet, images: Images, hold: int = 0) -> dict[str, float]:
    """With 8-bit states after 30 steps: accuracy, accuracy with W_rec set to 0, and the means of the steps and of the
    state changes until nothing moves. `hold`: as in `Settings`."""
    circuit = net.circuit()
    drive = circuit.drive(images.x.flatten(1))
    states = [torch.zeros_like(drive)]
    for _ in range(STEPS):
        states.append(held(_code(circuit.step(states[-1], drive)), states[-1], hold))
    alone = circuit._replace(w_rec=torch.zeros_like(circuit.w_rec))
    moved = torch.stack(states[1:]) != torch.stack(states[:-1])

    def accuracy(logits: Tensor) -> float:
        return float((logits.argmax(dim=1) == images.y).double().mean())

    return {
        "accuracy": accuracy(circuit.logits(states[-1])),
        "accuracy_without_recurrence": accuracy(
            alone.logits(held(_code(alone.step(states[0], drive)), states[0], hold))
        ),
        "steps": float(moved.any(dim=2).sum(dim=0).double().mean()),
        "changes": float(moved.sum(dim=(0, 2)).double().mean()),
    }


def _code(h: Tensor) -> Tensor:
    return torch.clamp(torch.round(h * 128), -128, 127) / 128


def write(path: Path, family: str, config: Mapping[str, Any], arrays: Mapping[str, Any], **training: Any) -> None:
    """Write a checkpoint completely or not at all; `training` is kept in it as a note (`__training__`, JSON)."""
    notes = {"family": family, "config": json.dumps(config), "training": json.dumps(training)}
    write_npz(path, {**{f"__{name}__": np.array(text) for name, text in notes.items()}, **arrays})


def save(net: ContractingMLP, path: Path, **training: Any) -> None:
    """Write the net as the family that it is; see `write`."""
    circuit = net.circuit()
    biases = {"W_in": circuit.bias, "W_rec": torch.zeros_like(circuit.bias), "W_out": circuit.c}
    weights = {"W_in": circuit.w_in, "W_rec": circuit.w_rec, "W_out": circuit.w_out}
    arrays: dict[str, Any] = {}
    for name, weight in weights.items():
        arrays |= {f"{name}.weight": weight.cpu().numpy(), f"{name}.bias": biases[name].cpu().numpy()}
    hold, family = net.settings.hold, "models.LoopedMLP"
    if hold:
        family, arrays["threshold"] = "examples.LazyLoop", np.full(len(net.bias), hold / STATE_ONE, np.float32)
    write(path, family, net.config, arrays, **training)


def parser_of(nets: Iterable[str], description: str) -> argparse.ArgumentParser:
    """The options of a script that trains one of some nets."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("net", choices=sorted(nets))
    parser.add_argument("--data", type=Path, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("-o", "--output", type=Path, help="default: NET.npz")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--hold-out", action="store_true", help="train without the held-out part of the digits")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    return parser


def train_and_save(
    options: argparse.Namespace, train: Callable[[Images], N], save: Callable[..., None], *, rule: str, hold: int = 0
) -> None:
    """Train on the images of the net that `options` name, measure, write the checkpoint, and print the figures."""
    output = options.output or Path(f"{options.net}.npz")
    images, held_out, test = load(options.net, options.data, options.device, held=options.hold_out)
    net = train(images)
    results = {"test": measure(net, test, hold)}
    if options.hold_out or options.net.startswith("mnist"):
        results["held_out"] = measure(net, held_out, hold)
    save(net, output, rule=rule, seed=options.seed, **results)
    sys.stdout.write(f"{json.dumps(results)}\n{output}\n")


def _run(options: argparse.Namespace) -> None:
    settings = SETTINGS[options.net]

    def trained(images: Images) -> ContractingMLP:
        return train(images, settings, seed=options.seed)

    train_and_save(options, trained, save, rule="bptt", hold=settings.hold)


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(SETTINGS, "Train a net whose dense ternary recurrence contracts.")
    return exit_status(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
