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
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bounded import SETTINGS, SymmetricCube, SymmetricLoop, train
from contracting import Images
from train_contracting import parser_of, train_and_save, write
from train_mnist import exit_status

__all__ = ["main", "rounded", "save"]


@torch.no_grad()
def rounded(net: SymmetricLoop | SymmetricCube) -> SymmetricLoop | SymmetricCube:
    """The net with every parameter rounded to float16."""
    for parameter in net.parameters():
        parameter.copy_(parameter.half().float())
    return net


def save(net: SymmetricLoop | SymmetricCube, path: Path, **training: Any) -> None:
    """Write the net in float16 as the family that it is; see `train_contracting.write`."""
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
    write(path, family, net.config, halves, **training)


def _run(options: argparse.Namespace) -> None:
    settings = SETTINGS[options.net]

    def trained(images: Images) -> SymmetricLoop | SymmetricCube:
        return rounded(train(images, settings, seed=options.seed, rule=options.rule))

    train_and_save(options, trained, save, rule=options.rule)


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(SETTINGS, "Train a contracting net by equilibrium propagation.")
    parser.add_argument("--rule", choices=("eqprop", "bptt"), default="eqprop", help="default: %(default)s")
    return exit_status(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
