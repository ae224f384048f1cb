"""The trained nets as integers on their whole test sets: how much they recur, whether they contract, what they know.

    python benchmarks/trained.py --data mnist.npz [--only digits_holding ...]

Eight-bit states; weights as the files hold them if they are ternary, int8 otherwise. `without W_rec`: the same integers
with their recurrent weights zero. `ticks until settled`: the last tick that moved a state, in the mean over the images.
The first rows recur densely and contract; those behind them hardly recur, or contract by no more than a hundredth.
README.md shows rows of this table. Nets that do not run keep the rows that they have in the record.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results
from healing import Case, load
from numpy.typing import NDArray
from tqdm import tqdm

from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import recurrent_weights
from eqcompile.toolchain.ir import IntNet

CONTRACTING = tuple(
    f"{data}_{kind}.npz"
    for kind in ("layered", "certified", "eqprop", "eqprop_layered")
    for data in ("mnist", "digits")
) + ("digits_holding.npz", "digits_eqprop_cube.npz")
SPARSE = ("mnist_ternary.npz", "digits_ternary.pt", "mnist_looped.npz", "digits_looped.pt", "mnist_two_layer.npz")
BATCH = 500

Row = dict[str, Any]


def alone(net: IntNet) -> IntNet:
    """The same net whose units do not hear each other."""
    recurrent = {net.param(name).tobytes() for name in recurrent_weights(net, [s.name for s in net.states])}
    params = tuple(
        replace(p, value=np.zeros_like(p.value)) if p.value.ndim == 2 and p.value.tobytes() in recurrent else p
        for p in net.params
    )
    return replace(net, params=params)


def measure(checkpoint: str, path: Path) -> tuple[Row, Row]:
    """The facts and the row of one net."""
    net, codes, labels = load(Case(checkpoint), path, None)
    ticks: list[NDArray[np.int64]] = []
    changes = 0
    right = {True: 0, False: 0}
    bare = alone(net)
    for at in range(0, len(labels), BATCH):
        part = {name: value[at : at + BATCH] for name, value in codes.items()}
        run = golden.run(net, part)
        states = np.concatenate([v.reshape(*v.shape[:2], -1) for v in run.states.values()], axis=2)
        moved = states != np.concatenate([np.zeros_like(states[:1]), states[:-1]])
        ticks.append(np.where(moved.any(axis=2), np.arange(1, len(moved) + 1)[:, None], 0).max(axis=0))
        changes += int(moved.sum())
        for whole, other in ((True, run), (False, golden.run(bare, part, trace=False))):
            right[whole] += int((golden.labels(other.outputs["logits"]) == labels[at : at + BATCH]).sum())
    facts = results.net_facts(Path(checkpoint).stem, net)
    row = {
        "net": facts["net"],
        "units": facts["units"],
        "density": facts["density"],
        "L": facts["L"],
        "images": len(labels),
        "accuracy": right[True] / len(labels),
        "alone": right[False] / len(labels),
        "ticks": float(np.concatenate(ticks).mean()),
        "changes": changes / len(labels),
    }
    return facts, row


def table(rows: list[Row]) -> results.Block:
    heads = {"net": "", "units": "", "W_rec not 0": "computed", "L": "proved", "accuracy": "simulated"}
    heads |= dict.fromkeys(("without W_rec", "ticks until settled", "state changes an image"), "simulated")
    return results.table(
        heads,
        [
            (f"`{r['net']}`", r["units"], f"{r['density']:.1%}", "none" if r["L"] is None else f"{r['L']:.4f}")
            + (f"{r['accuracy']:.4f}", f"{r['alone']:.4f}" if r["density"] else "-")
            + (f"{r['ticks']:.1f}", f"{r['changes']:.0f}")
            for r in rows
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    files = {Path(file).stem: file for file in (*CONTRACTING, *SPARSE)}
    parser.add_argument("--only", action="append", choices=files, help="only this net (may be repeated)")
    results.add_folder(parser)
    options = parser.parse_args()
    measured = [measure(files[name], options.data) for name in tqdm(options.only or files, unit="net")]
    every = {row["net"]: row for row in results.joined("trained", [row for _, row in measured], ("net",), options.out)}
    rows, others = ([every[n] for f in group if (n := Path(f).stem) in every] for group in (CONTRACTING, SPARSE))
    results.record(
        "trained",
        "The trained nets",
        [
            results.text("Whole test sets: 10,000 images of MNIST, 360 of the digits."),
            table(rows),
            results.text(
                "Nets that hardly recur, or contract by about a hundredth at most, and one of two layers without W_rec:"
            ),
            table(others),
        ],
        data=[*rows, *others],
        note=results.origins([*rows, *others]),
        folder=options.out,
    )


if __name__ == "__main__":
    main()
