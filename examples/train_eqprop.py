"""Train one of five contracting nets by equilibrium propagation: mnist_eqprop, mnist_eqprop_layered, digits_eqprop,
digits_eqprop_layered, digits_eqprop_cube.

    python examples/train_eqprop.py mnist_eqprop --data mnist.npz --device cuda
    python examples/train_eqprop.py digits_eqprop

The MNIST nets need `mnist.npz` (x_train, y_train, x_test, y_test, as Keras distributes it). Each gradient is the
contrast of two nudged equilibria (`rules.py`); `--rule bptt` trains the same net by backpropagation, to compare. The
matrices are rounded to float16 before anything is measured, so the file holds exactly the net that was measured: a
`models.LoopedMLP` or `models.NeuralCube`, with family and settings, so that `eqcompile` needs no options to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bounded import SETTINGS, SymmetricCube, SymmetricLoop, train
from train_contracting import load, measure
from train_mnist import exit_status, write_npz

__all__ = ["main", "rounded", "save"]


@torch.no_grad()
def rounded(net: SymmetricLoop | SymmetricCube) -> SymmetricLoop | SymmetricCube:
    """The net with every parameter rounded to float16."""
    for parameter in net.parameters():
        parameter.copy_(parameter.half().float())
    return net


def save(net: SymmetricLoop | SymmetricCube, path: Path, **training: Any) -> None:
    """Write a checkpoint completely or not at all; `training` is kept in it as a note (`__training__`, JSON)."""
    circuit = net.circuit()
    arrays: dict[str, Any]
    if isinstance(net, SymmetricCube):
        family = "models.NeuralCube"
        arrays = {"W_local": net.W_local, "neighbor_indices": net.neighbor_indices}
    else:
        family = "models.LoopedMLP"
        arrays = {"W_rec.weight": circuit.w_rec, "W_rec.bias": torch.zeros_like(circuit.bias)}
    arrays |= {"W_in.weight": circuit.w_in, "W_in.bias": circuit.bias}
    arrays |= {"W_out.weight": circuit.w_out, "W_out.bias": circuit.c}
    files = {name: t.detach().cpu().numpy() for name, t in arrays.items()}
    halves = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in files.items()}
    notes = {"family": family, "config": json.dumps(net.config), "training": json.dumps(training)}
    write_npz(path, {f"__{name}__": np.array(text) for name, text in notes.items()} | halves)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a contracting net by equilibrium propagation.")
    parser.add_argument("net", choices=sorted(SETTINGS))
    parser.add_argument("--data", type=Path, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("-o", "--output", type=Path, help="default: NET.npz")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--rule", choices=("eqprop", "bptt"), default="eqprop", help="default: %(default)s")
    parser.add_argument("--hold-out", action="store_true", help="train without the held-out part of the digits")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    return parser


def _run(options: argparse.Namespace) -> None:
    output = options.output or Path(f"{options.net}.npz")
    images, held, test = load(options.net, options.data, options.device, held=options.hold_out)
    net = rounded(train(images, SETTINGS[options.net], seed=options.seed, rule=options.rule))
    results = {"test": measure(net, test)}
    if options.hold_out or options.net.startswith("mnist"):
        results["held_out"] = measure(net, held)
    save(net, output, rule=options.rule, seed=options.seed, **results)
    sys.stdout.write(f"{json.dumps(results)}\n{output}\n")


def main(arguments: list[str] | None = None) -> int:
    return exit_status(_run, _parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
