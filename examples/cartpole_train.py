"""Train the controllers of examples/cartpole.py to imitate a linear regulator.

    python examples/cartpole_train.py

Writes `checkpoints/cartpole/looped.pt` and `certified.npz`, both trained by equilibrium propagation, `mlp.pt`, a
feed-forward net trained by backpropagation, and `data/cartpole_calibration.npz`, observations to calibrate with. The
spectral norm of the recurrence of `certified.npz` is held at 0.5 in training, so that its relaxation contracts.

The teacher pushes to the right where `K s > 0`, s = (position, velocity, angle, angular velocity) and K the gain of the
linear-quadratic regulator of the pole's linearised motion. Observations come from its own episodes, with a share of
random pushes and from scattered starts, so that the nets also learn what to do after a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bounded
import numpy as np
import torch
import train_eqprop
from contracting import Images
from digits import Split, accuracy
from nets import BackpropMLP, LoopedMLP, Net
from numpy.typing import NDArray
from train import Recipe, save, train, write

__all__ = [
    "CALIBRATION",
    "CERTIFIED",
    "CHECKPOINTS",
    "RECIPES",
    "main",
    "network_input",
    "observations",
    "regulator",
    "teacher",
]

Floats = NDArray[np.float64]
Policy = Callable[[Floats], NDArray[np.int64]]

HERE = Path(__file__).parent
CHECKPOINTS, CALIBRATION = HERE / "checkpoints" / "cartpole", HERE / "data" / "cartpole_calibration.npz"
RANGES = np.array([0.6, 1.0, 0.1, 1.0])
"""What counts as 1 in a network's input: m, m/s, rad, rad/s. Larger observations are clipped."""
SLIPS = (0.0, 0.2, 0.4, 0.4)
"""Shares of random pushes in the episodes that are learned from."""
TRAINED, HELD_OUT = 12_000, 3_000
HIDDEN = 16
RECIPES = {
    # The states stay small and W_rec's largest eigenvalue is 1, so the nudged phase moves far for little: `beta` and
    # the rounding of its difference have to be small.
    "looped": Recipe(
        lambda: LoopedMLP(4, HIDDEN, 2).double(), ("eqprop",), epochs=10, lr=1e-2, gain=10.0, beta=1e-3, nudged_steps=30
    ),
    "mlp": Recipe(lambda: BackpropMLP(4, HIDDEN, 2).double(), ("bptt",), epochs=10, lr=1e-2, gain=1.0),
}
CERTIFIED = bounded.Settings(
    units=HIDDEN,
    inputs=HIDDEN,
    readouts=HIDDEN,
    lipschitz=0.5,
    gain=2,
    beta=0.02,
    warp=0,
    rate=2e-2,
    batch=128,
    epochs=12,
    labels=2,
)


def regulator() -> Floats:
    """K [4]: the gain of the regulator for gymnasium's CartPole at rest, `force = K s`.

    The motion is that of Florian (2007), "Correct equations for the dynamics of the cart-pole system", as gymnasium has
    it, linearised; costs 1, 1, 10, 1 for the squares of s and 0.01 for that of the force.
    """
    from scipy.linalg import solve_discrete_are

    cart, pole, length, gravity, tau = 1.0, 0.1, 0.5, 9.8, 0.02
    total = cart + pole
    inertia = length * (4 / 3 - pole / total)
    # Accelerations per radian and per newton.
    angle = np.array([gravity, -1 / total]) / inertia
    position = np.array([0.0, 1 / total]) - pole * length / total * angle
    a = np.eye(4)
    a[0, 1] = a[2, 3] = tau
    a[1, 2], a[3, 2] = tau * position[0], tau * angle[0]
    b = tau * np.array([[0.0], [position[1]], [0.0], [angle[1]]])
    q, r = np.diag([1.0, 1.0, 10.0, 1.0]), np.array([[0.01]])
    p = solve_discrete_are(a, b, q, r)
    return np.asarray(-np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0])


def teacher(gain: Floats) -> Policy:
    """1, a push to the right, where `K s > 0`, else 0; observations [batch, 4]."""
    return lambda seen: (seen @ gain > 0).astype(np.int64)


def network_input(seen: Floats) -> Floats:
    """Observations [batch, 4] as the networks take them, within -1 and 1."""
    return np.clip(seen / RANGES, -1.0, 1.0)


def observations(policy: Policy, *, episodes: int, slip: float, spread: float, seed: int) -> Floats:
    """What a policy sees in episodes of at most 500 pushes, a share `slip` of them random, from starts that are uniform
    within `spread` times RANGES."""
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

    env: Any = CartPoleVectorEnv(num_envs=episodes)
    generator = np.random.default_rng(seed)
    env.reset(seed=seed)
    env.state = generator.uniform(-spread, spread, (episodes, 4)).T * RANGES[:, np.newaxis]
    seen, standing, found = env.state.T, np.ones(episodes, bool), []
    while standing.any():
        found.append(seen[standing])
        pushes = np.where(generator.random(episodes) < slip, generator.integers(0, 2, episodes), policy(seen))
        seen, _, fallen, ended, _ = env.step(pushes)
        standing &= ~(fallen | ended)
    return np.concatenate(found).astype(np.float64)


def lessons(seed: int) -> tuple[Split, Split]:
    """Inputs and the teacher's pushes: to learn from, and held out."""
    gain = regulator()
    runs = enumerate(SLIPS)
    seen = np.concatenate(
        [observations(teacher(gain), episodes=60, slip=slip, spread=float(i % 2), seed=seed + i) for i, slip in runs]
    )
    seen = np.random.default_rng(seed).permutation(seen)[: TRAINED + HELD_OUT]
    x, y = torch.tensor(network_input(seen)), torch.tensor(teacher(gain)(seen))
    return Split(x[:TRAINED], y[:TRAINED]), Split(x[TRAINED:], y[TRAINED:])


def taught(name: str, data: Split, *, seed: int, progress: bool = True) -> Net:
    """A net trained by its recipe, in float32."""
    recipe = RECIPES[name]
    net = train(recipe, recipe.rules[0], data, seed=seed, epochs=recipe.epochs, progress=progress, vary=lambda x: x)
    return net.float()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the controllers of examples/cartpole.py.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=CHECKPOINTS, help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data, held_out = lessons(options.seed)
    for name, recipe in RECIPES.items():
        net = taught(name, data, seed=options.seed)
        reached = accuracy(net, Split(held_out.x.float(), held_out.y))
        path = options.output / f"{name}.pt"
        rule = recipe.rules[0]
        if rule == "eqprop":
            rule = f"eqprop (free and nudged phases, beta={recipe.beta:g})"
        save(net, path, trained_with=rule, seed=options.seed, test_accuracy=reached)
        sys.stdout.write(f"{path}: agrees with the teacher in {reached:.4f} of {len(held_out.y)} held-out cases\n")
    images = Images(data.x.float(), data.y)
    loop = train_eqprop.rounded(bounded.train(images, CERTIFIED, seed=options.seed))
    reached = accuracy(loop, Split(held_out.x.float(), held_out.y))
    path = options.output / "certified.npz"
    train_eqprop.save(loop, path, rule="eqprop", seed=options.seed, test={"accuracy": reached})
    sys.stdout.write(f"{path}: agrees with the teacher in {reached:.4f} of {len(held_out.y)} held-out cases\n")
    few = data.x[:400].float().numpy()
    write(CALIBRATION, lambda f: np.savez_compressed(f, x=few, labels=data.y[:400].numpy()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
