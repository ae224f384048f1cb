"""Claims of what a relaxation survives: noise on its states, and units that are gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from common import Claim, Reals, Row, accuracy, digits, integers, interval, net, percent, weights_of

from eqcompile.quantization.qat.network import Network, constants
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.ir import EqNet

__all__ = ["ablation", "noise"]

RECURRENT = (
    *("digits_looped", "digits_ternary", "digits_cube"),
    *("digits_eqprop", "digits_eqprop_layered", "digits_eqprop_cube", "digits_layered", "digits_certified"),
)
SEEDS, DRAWS = 5, 20
KEPT, POINTS = 0.995, 0.03


def noise() -> Claim:
    """Noise of sigma 1 on every unit of a relaxed state, and as many steps again."""
    rows = []
    for name in RECURRENT:
        left = [_left(net(name), seed) for seed in range(SEEDS)]
        exact = interval(_exact(name, seed) for seed in range(SEEDS))
        found = interval(1.0 - value for value in left)
        rows.append(
            Row(
                name,
                f"damped by {percent(found, 2)}; integers back to the bit in {percent(exact)} of the runs",
                min(1.0 - value for value in left) >= KEPT,
                {"damped": found, "exact": exact},
            )
        )
    rule = "the distance to the undisturbed run falls by 99.5 % or more in every seed, float"
    return Claim("Noise of sigma 1 on the states is damped by 100 %", rule, "simulated", rows)


def _left(of: EqNet, seed: int) -> float:
    """Distance of disturbed and undisturbed runs after as many steps, in that of the noise; mean of the samples."""
    network = Network(
        of, {name: value.double() if value.is_floating_point() else value for name, value in constants(of).items()}
    )
    x = torch.tensor(digits()[0])
    with torch.no_grad():
        drive = network.drive({"x": x})
        quiet = {name: value.double() for name, value in network.initial(drive, len(x)).items()}
        for _ in range(of.schedule.steps):
            quiet = network.step(drive, quiet)
        generator = torch.Generator().manual_seed(seed)
        moved = {n: s + torch.randn(s.shape, generator=generator, dtype=s.dtype) for n, s in quiet.items()}
        first = _distance(quiet, moved)
        for _ in range(of.schedule.steps):
            quiet, moved = network.step(drive, quiet), network.step(drive, moved)
        return float((_distance(quiet, moved) / first).mean())


def _distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(((a[n] - b[n]).flatten(1) ** 2).sum(dim=1) for n in a) ** 0.5  # type: ignore[return-value]


def _exact(name: str, seed: int) -> float:
    """Share of the samples whose integer run has the very states of the undisturbed one at the end, noise of sigma 1 in
    real units, saturated as the formats do."""
    of, rng = integers(name), np.random.default_rng(seed)
    codes = encode(of, {"x": digits()[0]})[0]
    clamped, batch, _ = golden.clamped_codes(of, codes)
    first = {key: value[:, 0] for key, value in clamped.items()}
    machine, every = golden.Machine(of, batch, "dense"), np.arange(batch)
    machine.evaluate(of.drive, first, every)
    run = golden.run(of, codes)
    quiet = {s.name: run.states[s.name][-1] for s in of.states}
    moved = {}
    for state in of.states:
        ends = of.formats[state.name]
        drawn = np.round(rng.normal(0.0, 2.0 ** (state.frac or 0), quiet[state.name].shape)).astype(np.int64)
        moved[state.name] = np.clip(quiet[state.name] + drawn, ends.lo, ends.hi)
    for _ in range(of.schedule.steps):
        quiet, _ = machine.tick(first, quiet, every)
        moved, _ = machine.tick(first, moved, every)
    same = [(quiet[n] == moved[n]).reshape(batch, -1).all(axis=1) for n in quiet]
    return float(np.logical_and.reduce(same).mean())


def ablation() -> tuple[Claim, Claim]:
    """Half of the units held at 0 throughout: what is read of them, and what they read, is gone."""
    finite, kept = [], []
    for name in RECURRENT:
        whole = accuracy(net(name))
        found = [_without_half(net(name), seed) for seed in range(DRAWS)]
        mean = interval(found)
        data = {"accuracy": whole, "ablated": mean}
        # The reference refuses states that are not finite: each of these runs ended.
        finite.append(Row(name, f"{DRAWS} of {DRAWS} runs finite", all(np.isfinite(found)), data))
        words = f"accuracy {whole:.1%} to {percent(mean)}"
        kept.append(Row(name, words, mean[0] >= whole - POINTS, data))
    return (
        Claim("Functional with 50 % of the units ablated: finite", "no state or logit overflows", "simulated", finite),
        Claim("Functional with 50 % of the units ablated: accurate", "within 3 points", "simulated", kept),
    )


def _without_half(of: EqNet, seed: int) -> float:
    """Accuracy with a random half of the units silenced: rows of weights and biases set to 0, whose tanh is 0."""
    (state,) = of.states
    units = state.shape[0]
    gone = np.random.default_rng(seed).permutation(units)[: units // 2]
    silenced = {"W_in_weight", "W_in_ternary", "W_in_bias", "W_rec_bias", weights_of(of)}

    def quiet(name: str, value: Reals) -> Reals:
        if name not in silenced:
            return value
        copy = value.copy()
        copy[gone] = 0.0
        return copy

    return accuracy(replace(of, params=tuple(replace(p, value=quiet(p.name, p.value)) for p in of.params)))
