"""Train the feed-forward net that mnist_layered is compared with: as many ternary weights, no recurrence.

    python examples/train_two_layer.py --data mnist.npz --device cuda --seed 0

242 tanh units, each of which the input reaches and the readout sees: 192,148 places for a weight, of which 80,142 are
not 0 (mnist_layered: 191,936 and 80,147). Loss, images and updates are those of `contracting.py`, with W_rec held at
0. The checkpoint is a `models.BackpropMLP`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contracting import SETTINGS, ContractingMLP, Images, train
from torch import Tensor
from train_mnist import exit_status, load_mnist, write_npz

__all__ = ["SETTING", "accuracy", "main", "save"]

UNITS = 242
SETTING = replace(
    SETTINGS["mnist_layered"],
    units=UNITS,
    inputs=UNITS,
    readouts=UNITS,
    lipschitz=0.0,
    density=(0.41604, 0.45, 0.5),
)


@torch.no_grad()
def accuracy(net: ContractingMLP, x: Tensor, y: Tensor) -> float:
    """With 8-bit states; x [samples, side, side], y [samples]."""
    circuit = net.circuit()
    h = torch.tanh(circuit.drive(x.flatten(1)))
    codes = torch.clamp(torch.round(h * 128), -128, 127) / 128
    return float((circuit.logits(codes).argmax(dim=1) == y).double().mean())


def save(net: ContractingMLP, path: Path, **training: Any) -> None:
    """Write a `models.BackpropMLP` completely or not at all; `training` is kept in it as a note."""
    circuit = net.circuit()
    arrays: dict[str, Any] = {"__family__": np.array("models.BackpropMLP")}
    arrays["__training__"] = np.array(json.dumps(training))
    layers = {"net.0": (circuit.w_in, circuit.bias), "net.2": (circuit.w_out, circuit.c)}
    for name, (weight, bias) in layers.items():
        arrays |= {f"{name}.weight": weight.cpu().numpy(), f"{name}.bias": bias.cpu().numpy()}
    write_npz(path, arrays)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a two-layer ternary net for MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("-o", "--output", type=Path, default=Path("mnist_two_layer.npz"), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    return parser


def _run(options: argparse.Namespace) -> None:
    data = load_mnist(options.data, options.device)
    net = train(Images(data.x, data.y), SETTING, seed=options.seed)
    results = {
        "test": accuracy(net, data.test_x, data.test_y),
        "held_out": accuracy(net, data.held_x, data.held_y),
        "weights_not_0": sum(int((w != 0).sum()) for w in (net.circuit().w_in, net.circuit().w_out)),
    }
    save(net, options.output, rule="bptt", seed=options.seed, **results)
    sys.stdout.write(f"{json.dumps(results)}\n{options.output}\n")


def main(arguments: list[str] | None = None) -> int:
    return exit_status(_run, _parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
