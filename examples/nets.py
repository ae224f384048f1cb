"""Four small equilibrium networks, and a feed-forward one to compare them with.

They have the parameter names and update rules of the research code's `models` package.

Three of them are one circuit, `h <- tanh(W_in x + b + W_rec h)` from `h = 0` for `steps` steps, then
`logits = W_out h + c`; they differ in how the circuit's weights come from the stored parameters (`circuit()`):

- `LoopedMLP`: each matrix divided by its largest singular value (spectral norm, estimated by power iteration);
- `TernaryEqProp`: each shadow weight w replaced by +1 if w > threshold, -1 if w < -threshold, else 0, no scale;
- `NeuralCube`: N = n^3 units, each connected to its 26 neighbours and itself (`W_rec` has 27 entries per row at most).

`LazyEqProp` is a chain of layers whose update is gated by the change of their input.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = [
    "NETS",
    "BackpropMLP",
    "Circuit",
    "CircuitNet",
    "LazyEqProp",
    "LoopedMLP",
    "Net",
    "NeuralCube",
    "TernaryEqProp",
    "relax",
]

STEPS = 30


class Circuit(NamedTuple):
    """Deployed weights: w_in [H, I], bias [H], w_rec [H, H], w_out [O, H], c [O]."""

    w_in: Tensor
    bias: Tensor
    w_rec: Tensor
    w_out: Tensor
    c: Tensor

    def drive(self, x: Tensor) -> Tensor:
        """W_in x + b, [batch, H]: constant during a relaxation."""
        return x @ self.w_in.T + self.bias

    def step(self, h: Tensor, drive: Tensor) -> Tensor:
        return torch.tanh(drive + h @ self.w_rec.T)

    def logits(self, h: Tensor) -> Tensor:
        return h @ self.w_out.T + self.c


def relax(circuit: Circuit, x: Tensor, steps: int) -> list[Tensor]:
    """The states h_0 = 0, h_1, .. h_steps of one relaxation, each [batch, H]."""
    drive = circuit.drive(x)
    states = [torch.zeros_like(drive)]
    for _ in range(steps):
        states.append(circuit.step(states[-1], drive))
    return states


class Net(nn.Module):
    """A network that can be trained here: `config` holds the constructor arguments of the research code's class."""

    config: dict[str, Any]
    steps = STEPS
    """Ticks that inference makes."""

    def trace(self, x: Tensor, steps: int = STEPS, bits: int | None = None) -> list[Tensor]:
        """States of all layers side by side, [batch, units], from the initial one on; `bits` rounds each to a signed
        fixed-point number of that width with the point behind the sign."""
        raise NotImplementedError

    def readout(self, h: Tensor) -> Tensor:
        """Logits [batch, classes] from the last entry of `trace`."""
        raise NotImplementedError

    def forward(self, x: Tensor, steps: int = STEPS) -> Tensor:
        return self.readout(self.trace(x, steps)[-1])


class CircuitNet(Net):
    """A network whose relaxation is a `Circuit`."""

    def circuit(self) -> Circuit:
        """The deployed weights, differentiable with respect to the parameters."""
        raise NotImplementedError

    def symmetrise(self) -> None:
        """Make the recurrent parameters symmetric in place, so that w_rec equals its transpose; only for nets that
        equilibrium propagation trains."""
        raise NotImplementedError

    def trace(self, x: Tensor, steps: int = STEPS, bits: int | None = None) -> list[Tensor]:
        circuit = self.circuit()
        if bits is None:
            return relax(circuit, x, steps)
        drive = circuit.drive(x)
        states = [torch.zeros_like(drive)]
        for _ in range(steps):
            states.append(_fixed_point(circuit.step(states[-1], drive), bits))
        return states

    def readout(self, h: Tensor) -> Tensor:
        return self.circuit().logits(h)


def _fixed_point(h: Tensor, bits: int) -> Tensor:
    one = 2 ** (bits - 1)
    return torch.clamp(torch.round(h * one), -one, one - 1) / one


class _Dense(CircuitNet):
    """Three linear layers W_in, W_rec, W_out."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.W_in = nn.Linear(input_dim, hidden_dim)
        self.W_rec = nn.Linear(hidden_dim, hidden_dim)
        self.W_out = nn.Linear(hidden_dim, output_dim)


class LoopedMLP(_Dense):
    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, hidden_dim, output_dim)
        self.config = {
            "input_dim": input_dim,
            "hidden_dim": hidden_dim,
            "output_dim": output_dim,
            "use_spectral_norm": True,
            "max_steps": STEPS,
        }
        for layer in (self.W_in, self.W_rec, self.W_out):
            spectral_norm(layer)

    @torch.no_grad()
    def symmetrise(self) -> None:
        w = self.get_parameter("W_rec.parametrizations.weight.original")
        w.copy_((w + w.T) / 2)

    def circuit(self) -> Circuit:
        return Circuit(
            self.W_in.weight,
            self.W_in.bias + self.W_rec.bias,
            self.W_rec.weight,
            self.W_out.weight,
            self.W_out.bias,
        )


class TernaryEqProp(_Dense):
    """Initial densities (fraction of non-zero ternary weights) are arguments: with the usual small initialisation no
    shadow weight is above the threshold, every activity is zero and so is every gradient."""

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        threshold: float = 0.5,
        density: tuple[float, float, float] = (0.2, 0.03, 0.4),
    ) -> None:
        super().__init__(input_dim, hidden_dim, output_dim)
        self.threshold = threshold
        self.config = {
            "input_dim": input_dim,
            "hidden_dim": hidden_dim,
            "output_dim": output_dim,
            "threshold": threshold,
            "max_steps": STEPS,
        }
        for layer, share in zip((self.W_in, self.W_rec, self.W_out), density, strict=True):
            # P(|N(0, s)| > threshold) = share
            quantile = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - share / 2))
            nn.init.normal_(layer.weight, std=float(threshold / quantile))
            nn.init.zeros_(layer.bias)

    def ternary(self, w: Tensor) -> Tensor:
        """-1, 0 or +1 in the forward pass; the gradient passes straight through to the shadow weight."""
        q = (w > self.threshold).to(w.dtype) - (w < -self.threshold).to(w.dtype)
        return q + (w - w.detach())

    def circuit(self) -> Circuit:
        return Circuit(
            self.ternary(self.W_in.weight),
            self.W_in.bias + self.W_rec.bias,
            self.ternary(self.W_rec.weight),
            self.ternary(self.W_out.weight),
            self.W_out.bias,
        )


class NeuralCube(CircuitNet):
    neighbor_indices: Tensor

    def __init__(self, cube_size: int, input_dim: int, output_dim: int) -> None:
        super().__init__()
        n = cube_size**3
        self.config = {
            "cube_size": cube_size,
            "input_dim": input_dim,
            "output_dim": output_dim,
            "max_steps": STEPS,
        }
        self.W_in = nn.Linear(input_dim, n)
        self.W_local = nn.Parameter(torch.randn(n, 27) * 0.1)
        self.W_out = nn.Linear(n, output_dim)
        self.register_buffer("neighbor_indices", _neighbours(cube_size))

    def circuit(self) -> Circuit:
        n = self.W_local.shape[0]
        # a spare column takes the weights of absent neighbours (index -1) and is cut off
        columns = torch.where(self.neighbor_indices < 0, n, self.neighbor_indices)
        w_rec = self.W_local.new_zeros(n, n + 1).scatter(1, columns, self.W_local)[:, :n]
        return Circuit(self.W_in.weight, self.W_in.bias, w_rec, self.W_out.weight, self.W_out.bias)

    @torch.no_grad()
    def symmetrise(self) -> None:
        w_rec = self.circuit().w_rec
        symmetric = (w_rec + w_rec.T) / 2
        inside = self.neighbor_indices >= 0
        rows = torch.arange(len(symmetric), device=symmetric.device)[:, None].expand_as(inside)
        self.W_local[inside] = symmetric[rows[inside], self.neighbor_indices[inside]]


def _neighbours(cube_size: int) -> Tensor:
    """int64 [n^3, 27]: index of each unit's neighbour at offsets (-1, -1, -1) .. (1, 1, 1), -1 outside the cube."""
    table = []
    for z, y, x in product(range(cube_size), repeat=3):
        row = []
        for dz, dy, dx in product((-1, 0, 1), repeat=3):
            at = (z + dz, y + dy, x + dx)
            inside = all(0 <= a < cube_size for a in at)
            row.append((at[0] * cube_size + at[1]) * cube_size + at[2] if inside else -1)
        table.append(row)
    return torch.tensor(table)


class LazyEqProp(Net):
    """`in_0 = embed x`, `in_i = h_{i-1}` of the step before; layer i moves by
    `h_i <- (1 - alpha) h_i + alpha tanh(W_i in_i + b_i)` only in steps where the mean absolute change of its input,
    per sample, exceeds epsilon. W_i is spectrally normalised."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int = 3) -> None:
        super().__init__()
        self.alpha = 0.5
        self.epsilon = 0.01
        self.config = {
            "input_dim": input_dim,
            "hidden_dim": hidden_dim,
            "output_dim": output_dim,
            "num_layers": num_layers,
            "alpha": self.alpha,
            "epsilon": self.epsilon,
        }
        self.embed = nn.Linear(input_dim, hidden_dim)
        self.layers = nn.ModuleList(spectral_norm(nn.Linear(hidden_dim, hidden_dim)) for _ in range(num_layers))
        self.head = nn.Linear(hidden_dim, output_dim)

    def trace(self, x: Tensor, steps: int = STEPS, bits: int | None = None) -> list[Tensor]:
        embedded = self.embed(x)
        weights = [(layer.weight, layer.bias) for layer in self.layers]
        h = [torch.zeros_like(embedded) for _ in weights]
        before = [torch.zeros_like(embedded) for _ in weights]
        states = [torch.cat(h, dim=1)]
        for done in range(steps):
            inputs = [embedded, *h[:-1]]
            moved, firing = [], False
            for (w, b), state, now, last in zip(weights, h, inputs, before, strict=True):
                active = (now - last).abs().mean(dim=1, keepdim=True) > self.epsilon
                target = (1 - self.alpha) * state + self.alpha * torch.tanh(now @ w.T + b)
                if bits is not None:
                    target = _fixed_point(target, bits)
                moved.append(torch.where(active, target, state))
                firing = firing or bool(active.any())
            if not firing:
                # no state moved, so no input will change: each remaining step repeats this one
                return states + states[-1:] * (steps - done)
            h, before = moved, inputs
            states.append(torch.cat(h, dim=1))
        return states

    def readout(self, h: Tensor) -> Tensor:
        return self.head(h[:, -self.head.in_features :])


class BackpropMLP(Net):
    """`h = tanh(W_2 tanh(W_0 x + b_0) + b_2)`: nothing relaxes. What equilibrium networks are compared with under
    faults."""

    steps = 1

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.config = {"input_dim": input_dim, "hidden_dim": hidden_dim, "output_dim": output_dim}
        sizes = (input_dim, hidden_dim, hidden_dim, output_dim)
        linear = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.net = nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])

    def trace(self, x: Tensor, steps: int = STEPS, bits: int | None = None) -> list[Tensor]:
        h = self.net[:4](x)
        if bits is not None:
            h = _fixed_point(h, bits)
        return [torch.zeros_like(h), *([h] * steps)]

    def readout(self, h: Tensor) -> Tensor:
        logits: Tensor = self.net[4](h)
        return logits


NETS: dict[str, type[Net]] = {
    f"models.{net.__name__}": net for net in (LoopedMLP, TernaryEqProp, LazyEqProp, NeuralCube, BackpropMLP)
}
