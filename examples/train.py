"""Train a small equilibrium network on scikit-learn's digits, or measure trained ones.

    python examples/train.py looped --rule eqprop --seed 0 -o looped.pt
    python examples/train.py evaluate examples/checkpoints/*.pt
    python examples/train.py data

A checkpoint is a dict of primitives and tensors (`torch.load(path, weights_only=True)`), in the form in which the
research code's checkpoints are passed on: model_class, module, package, key, config, forward_kwargs, state_dict; and
trained_with (the rule), seed, test_accuracy.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits import Split, accuracy, digits, hold_out, measure, varied
from nets import NETS, STEPS, BackpropMLP, CircuitNet, LazyEqProp, LoopedMLP, Net, NeuralCube, TernaryEqProp
from rules import bptt, eqprop
from tqdm import tqdm

__all__ = ["RECIPES", "Recipe", "load", "main", "save", "train", "write"]

MODULES = {
    "LoopedMLP": "models.looped_mlp",
    "TernaryEqProp": "models.ternary",
    "LazyEqProp": "models.lazy_eqprop",
    "NeuralCube": "models.neural_cube",
    "BackpropMLP": "models",
}
BATCH = 64
CALIBRATION_SAMPLES = 200
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Recipe:
    """How one network is trained. `gain` multiplies the logits in the loss, never at inference; `beta` is the strength
    of the nudge, `free_steps` and `nudged_steps` the lengths of the two phases (rule eqprop); `late_movement` the
    weight of the penalty on motion in the last third of the relaxation (rule bptt)."""

    build: Callable[[], Net]
    rules: tuple[str, ...]
    epochs: int
    lr: float
    gain: float
    beta: float = 0.2
    free_steps: int = STEPS
    nudged_steps: int = 15
    late_movement: float = 0.0


RECIPES = {
    "looped": Recipe(lambda: LoopedMLP(64, 64, 10), ("eqprop", "bptt"), epochs=100, lr=1e-2, gain=2.0),
    "ternary": Recipe(
        lambda: TernaryEqProp(64, 96, 10, density=(0.1, 0.01, 0.4)),
        ("bptt",),
        epochs=300,
        lr=3e-3,
        gain=1.0,
        late_movement=1.0,
    ),
    "lazy": Recipe(lambda: LazyEqProp(64, 64, 10), ("bptt",), epochs=150, lr=1e-2, gain=8.0),
    "cube": Recipe(
        lambda: NeuralCube(5, 64, 10), ("bptt", "eqprop"), epochs=100, lr=1e-2, gain=1.0, late_movement=10.0
    ),
    "mlp": Recipe(lambda: BackpropMLP(64, 64, 10), ("bptt",), epochs=100, lr=1e-2, gain=1.0),
}


def train(
    recipe: Recipe,
    rule: str,
    data: Split,
    *,
    seed: int,
    epochs: int,
    progress: bool = True,
    vary: Callable[[torch.Tensor], torch.Tensor] = varied,
) -> Net:
    """A net trained on `data` with Adam, the learning rate rising and then falling to zero; deterministic in `seed`.
    `vary` makes of a batch of inputs what is learned from.

    There is no choice among epochs: the last one is the result. Leaves the net in eval mode, its parameters frozen.
    """
    torch.manual_seed(seed)
    net = recipe.build()
    symmetric = isinstance(net, CircuitNet) and rule == "eqprop"
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr)
    batches = -(-len(data.y) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=epochs * batches, pct_start=0.1, cycle_momentum=False
    )

    def learn(x: torch.Tensor, y: torch.Tensor) -> float:
        if isinstance(net, CircuitNet) and symmetric:
            return eqprop(
                net,
                x,
                y,
                beta=recipe.beta,
                gain=recipe.gain,
                free_steps=recipe.free_steps,
                nudged_steps=recipe.nudged_steps,
            )
        return bptt(net, x, y, gain=recipe.gain, late_movement=recipe.late_movement)

    net.train()
    if isinstance(net, CircuitNet) and symmetric:
        net.symmetrise()
    with tqdm(range(epochs), unit="epoch", disable=not progress) as bar:
        for _ in bar:
            loss = 0.0
            for chosen in torch.randperm(len(data.y)).split(BATCH):
                optimizer.zero_grad()
                loss += learn(vary(data.x[chosen]), data.y[chosen]) / batches
                optimizer.step()
                schedule.step()
                if isinstance(net, CircuitNet) and symmetric:
                    net.symmetrise()
            bar.set_postfix(loss=f"{loss:.4f}")
    return _finished(net)


def _finished(net: Net) -> Net:
    """Let the power iteration of each spectral norm catch up with the final weights, then freeze the net."""
    net.requires_grad_(False)
    for _ in range(200):
        for module in net.modules():
            if torch.nn.utils.parametrize.is_parametrized(module):
                _ = module.weight
    return net.eval()


def save(net: Net, path: Path, *, trained_with: str, seed: int, test_accuracy: float) -> None:
    """Write a checkpoint completely or not at all: a temporary file beside `path`, then a rename."""
    name = type(net).__name__
    content = {
        "model_class": name,
        "module": MODULES[name],
        "package": "models",
        "key": f"models.{name}",
        "config": net.config,
        "forward_kwargs": {"steps": net.steps},
        "state_dict": net.state_dict(),
        "trained_with": trained_with,
        "seed": seed,
        "test_accuracy": test_accuracy,
    }
    write(path, lambda f: torch.save(content, f))


def write(path: Path, content: Callable[[Any], None]) -> None:
    """Write a file completely or not at all; `content` is given the open file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            content(f)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[Net, dict[str, Any]]:
    """The net of a checkpoint written by `save`, in eval mode, and the checkpoint itself.

    Raises ValueError for a file that is no checkpoint or holds another class of network."""
    try:
        content = torch.load(path, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("key") not in NETS:
        raise ValueError(f"{path}: not a checkpoint of {', '.join(NETS)}")
    fixed = ("max_steps", "use_spectral_norm", "alpha", "epsilon")
    arguments = {k: v for k, v in content["config"].items() if k not in fixed}
    net = NETS[content["key"]](**arguments)
    net.load_state_dict(content["state_dict"])
    return net.requires_grad_(False).eval(), content


def _write_data(folder: Path) -> None:
    train_set, test_set = digits()
    few = torch.randperm(len(train_set.y), generator=torch.Generator().manual_seed(0))[:CALIBRATION_SAMPLES]
    for name, split in (("test", test_set), ("calibration", Split(train_set.x[few], train_set.y[few]))):
        x, y = split.x.numpy(), split.y.numpy()
        write(folder / f"digits_{name}.npz", lambda f, x=x, y=y: np.savez_compressed(f, x=x, labels=y))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train small equilibrium networks on digits, or measure trained ones.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, recipe in RECIPES.items():
        command = commands.add_parser(name, help=f"train a {name} net")
        command.add_argument(
            "--rule", choices=recipe.rules, default=recipe.rules[0], help="learning rule (default: %(default)s)"
        )
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--epochs", type=int, default=recipe.epochs, help="default: %(default)s")
        command.add_argument(
            "--hold-out",
            type=float,
            metavar="FRACTION",
            help="train without this part of the training set and report the accuracy on it, not on the test set",
        )
        command.add_argument("-o", "--output", type=Path, help="checkpoint to write (default: digits_NET.pt)")
    evaluate = commands.add_parser("evaluate", help="accuracy and settling of checkpoints on the test set")
    evaluate.add_argument("files", nargs="+", type=Path)
    data = commands.add_parser("data", help="write the test set and calibration inputs as .npz")
    data.add_argument("-o", "--output", type=Path, default=DATA, help="folder (default: %(default)s)")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _train_command(options: argparse.Namespace) -> None:
    recipe = RECIPES[options.command]
    data, test = digits()
    name = "test"
    if options.hold_out is not None:
        data, test = hold_out(data, options.hold_out, options.seed)
        name = "held-out"
    net = train(recipe, options.rule, data, seed=options.seed, epochs=options.epochs)
    reached = accuracy(net, test)
    _say(f"accuracy: train {accuracy(net, data):.4f}, {name} {reached:.4f} ({len(test.y)} samples)")
    if options.hold_out is not None:
        return
    rule = "bptt"
    if options.rule == "eqprop":
        rule = f"eqprop (free and nudged phases, beta={recipe.beta})"
    path = options.output or Path(f"digits_{options.command}.pt")
    save(net, path, trained_with=rule, seed=options.seed, test_accuracy=reached)
    _say(str(path))


def _evaluate_command(files: list[Path]) -> None:
    _, test = digits()
    _say("| file | rule | accuracy | 8-bit states | last move | settled, 8 bit | settled, 1000 steps |")
    _say("|---|---|---|---|---|---|---|")
    for path in files:
        net, content = load(path)
        m = measure(net, test)
        _say(
            f"| {path.name} | {content['trained_with']} | {m.accuracy:.4f} | {m.accuracy_8bit:.4f} | {m.last_move:.1e} "
            f"| {m.settled_8bit:.4f} | {m.settled_long:.4f} |"
        )


def main(arguments: list[str] | None = None) -> int:
    torch.set_num_threads(1)
    options = _parser().parse_args(arguments)
    try:
        if options.command == "evaluate":
            _evaluate_command(options.files)
        elif options.command == "data":
            _write_data(options.output)
        else:
            _train_command(options)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing written\n")
        return 130
    except (OSError, ValueError) as error:
        sys.stderr.write(f"train.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
