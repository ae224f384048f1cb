"""Claims of training: what spectral normalisation gives, credit through layers, and parity with backpropagation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Claim, Reals, Row, integers, interval, net, percent

from eqcompile.toolchain.certificate import certify

# Beside the examples, whose folder `common` puts on the path.
from bounded import Settings, train  # isort: skip
from cartpole_train import lessons  # isort: skip
from contracting import Images  # isort: skip
from digits import Split  # isort: skip

__all__ = ["contraction", "credit", "parity"]

RECORD = Path(__file__).with_name("trainings.json")
POINTS = 0.03
SEEDS = (0, 1, 2)
CONTROL = Settings(
    units=16, inputs=16, readouts=16, gain=2, beta=0.02, warp=0, rate=2e-2, batch=128, epochs=24, labels=3
)
"""Chosen for equilibrium propagation on a fifth of the lessons: with beta 0.1 and gain 8 it agreed with the teacher of
CartPole 15 points less there than backpropagation did."""
LESSONS, EPISODES, PUSHES = 4000, 20, 500


def contraction() -> Claim:
    """Nets whose matrices are divided by their spectral norms, and those whose norm training held at 0.9."""
    rows = []
    for name in ("digits_looped", "mnist_looped"):
        norm = float(np.linalg.norm(net(name).param("W_rec_weight"), 2))
        float_, integer = certify(net(name)).bound, certify(integers(name)).bound
        words = f"||W_rec|| {norm:.6f}; proved L <= {float_:.6f}, as integers L <= {integer:.4f}"
        rows.append(Row(f"{name}, spectral norm", words, max(float_, integer) < 1, {"norm": norm, "L": integer}))
    return Claim("L < 1 after spectral normalisation", "the proved bounds are below 1", "proved", rows)


def credit() -> Claim:
    """Chains of layers of spectral norm 1 without a relaxation, trained by backpropagation; see trainings.py."""
    rows = []
    found = [t for t in _trainings() if t["net"] == "chain"]
    depths = sorted({t["depth"] for t in found})
    short = np.mean([t["accuracy"] for t in found if t["depth"] == depths[0]])
    for depth in depths[1:]:
        some = [t for t in found if t["depth"] == depth]
        signal, left = (np.mean([t[k] for t in some]) for k in ("signal_left", "credit_left"))
        right = interval(t["accuracy"] for t in some)
        words = (
            f"accuracy {percent(right)}, with {depths[0]} layers {short:.1%}; left at the end {signal:.2g} of the "
            f"signal and at the start {left:.2g} of the gradient"
        )
        data = {"accuracy": right, "signal_left": float(signal), "credit_left": float(left)}
        rows.append(Row(f"{depth} layers, {len(some)} seeds", words, bool(right[0] >= short - POINTS), data))
    rule = f"accuracy within 3 points of a chain of {depths[0]} layers"
    return Claim("Credit passes 100 layers", rule, "measured", rows)


def _trainings() -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads(RECORD.read_text())
    found: list[dict[str, Any]] = document["trainings"]
    return found


def parity() -> Claim:
    """The same net by both rules, seed by seed; control tasks by imitation of a teacher."""
    rows = []
    trained = [t for t in _trainings() if t["net"] != "chain"]
    for name in dict.fromkeys(t["net"] for t in trained):
        by = {
            rule: [t["accuracy"] for t in trained if (t["net"], t["rule"]) == (name, rule)]
            for rule in ("eqprop", "bptt")
        }
        rows.append(_compared(name, "accuracy", by))
    for task, teach, play in (("CartPole", _cartpole, _balance), ("Acrobot", _acrobot, _swing)):
        lesson, held = teach()
        agreed: dict[str, list[float]] = {"eqprop": [], "bptt": []}
        returns: dict[str, list[float]] = {"eqprop": [], "bptt": []}
        for rule, seed in ((rule, seed) for rule in agreed for seed in SEEDS):
            made = train(Images(lesson.x.float(), lesson.y), CONTROL, seed=seed, rule=rule, progress=False)
            with torch.no_grad():
                agreed[rule].append(float((made(held.x.float()).argmax(dim=1) == held.y).double().mean()))
            returns[rule].append(play(made, seed))
        words = ", ".join(f"{rule} {np.mean(values):.1f}" for rule, values in returns.items())
        row = _compared(f"{task}, behaviour cloning", "agreement with the teacher", agreed)
        rows.append(replace(row, measured=f"{row.measured}; mean return of {EPISODES} episodes a seed: {words}"))
    return Claim("Within 3 points of backpropagation", "the mean is at most 3 points lower", "measured", rows)


def _compared(case: str, what: str, by: dict[str, list[float]]) -> Row:
    mean, low, high = interval(a - b for a, b in zip(by["eqprop"], by["bptt"], strict=True))
    words = (
        f"{what} {np.mean(by['eqprop']):.2%} by equilibrium propagation, {np.mean(by['bptt']):.2%} by backpropagation: "
        f"{100 * mean:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), {len(by['bptt'])} seeds"
    )
    return Row(case, words, mean >= -POINTS, {"difference": [mean, low, high], **by})


def _cartpole() -> tuple[Split, Split]:
    kept, held = lessons(0)
    return Split(kept.x[:LESSONS], kept.y[:LESSONS]), held


def _acrobot() -> tuple[Split, Split]:
    """The teacher pushes the second joint the way it turns; a fifth of its pushes is random, so that mistakes occur."""
    observations = np.concatenate([_run_acrobot(_turning, seed, slip=0.2)[1] for seed in range(60)])
    observations = np.random.default_rng(0).permutation(observations)
    x, y = torch.tensor(_scaled(observations)), torch.tensor(_turning(observations))
    return Split(x[:LESSONS], y[:LESSONS]), Split(x[LESSONS:], y[LESSONS:])


def _turning(observations: Reals) -> Any:
    return np.where(observations[..., 5] > 0, 2, 0)


def _scaled(observations: Reals) -> Reals:
    return observations / np.array([1.0, 1.0, 1.0, 1.0, 4 * np.pi, 9 * np.pi])


def _run_acrobot(policy: Callable[[Reals], Any], seed: int, *, slip: float = 0.0) -> tuple[float, Reals]:
    """The return of an episode, and its observations."""
    import gymnasium

    env: Any = gymnasium.make("Acrobot-v1")
    rng = np.random.default_rng(seed)
    observed, _ = env.reset(seed=seed)
    observations, total, over = [], 0.0, False
    while not over:
        observations.append(observed.astype(np.float64))
        push = int(rng.integers(0, 3)) if rng.random() < slip else int(policy(observations[-1]))
        observed, reward, ended, cut, _ = env.step(push)
        total, over = total + float(reward), ended or cut
    return total, np.array(observations)


def _swing(made: torch.nn.Module, seed: int) -> float:
    def policy(observations: Reals) -> int:
        with torch.no_grad():
            return int(made(torch.tensor(_scaled(observations), dtype=torch.float32)[None]).argmax())

    return float(np.mean([_run_acrobot(policy, 1000 * (seed + 1) + k)[0] for k in range(EPISODES)]))


def _balance(made: torch.nn.Module, seed: int) -> float:
    from cartpole import episodes
    from cartpole_train import network_input

    def policy(observations: Reals, running: Any) -> Any:
        with torch.no_grad():
            # The third class is Acrobot's alone.
            return made(torch.tensor(network_input(observations), dtype=torch.float32))[:, :2].argmax(dim=1).numpy()

    starts = np.random.default_rng(seed).uniform(-0.05, 0.05, (EPISODES, 4))
    return float(episodes(policy, starts, PUSHES, "balance").mean())
