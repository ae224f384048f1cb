"""Two ways to obtain the gradient of the loss: equilibrium propagation, and backpropagation through the relaxation.

Equilibrium propagation (Scellier & Bengio 2017, doi:10.3389/fncom.2017.00024) for `h <- tanh(W_in x + b + W h)`. If W
is symmetric, the fixed points of this map are the stationary points of the energy

    E(h) = sum_i G(h_i) - h.W h / 2 - h.(W_in x + b),      G' = artanh,

because dE/dh = artanh(h) - W h - W_in x - b. With a cost C(h, y), here the cross-entropy of
softmax(gain * (W_out h + c)), stationary points of E + beta C are fixed points of the nudged map

    h <- tanh(W_in x + b + W h - beta dC/dh),      dC/dh = gain * W_out^T (p - y).

The gradient of the loss is then the limit, for beta to 0, of a contrast between two equilibria:

    dLoss/dtheta = (dE/dtheta at h(+beta) - dE/dtheta at h(-beta)) / (2 beta)

    dE/dW = -h h^T / 2 (as a symmetric matrix),    dE/dW_in = -h x^T,    dE/db = -h.

Each term is a product of activities at the two ends of one connection; no signal is propagated backwards through time.
The two-sided (centered) contrast has an error of order beta^2 instead of beta, and the readout, being no part of the
energy, learns by its own delta rule (p - y) h^T at the free state, as in Laborieux et al. 2021
(doi:10.3389/fnins.2021.633674).

What has to hold: W symmetric (`CircuitNet.symmetrise` restores it after each update); the relaxations close to their
fixed points (||W|| <= 1 makes the free map non-expansive, so that it converges wherever tanh' < 1; NeuralCube has no
such bound and is trusted to converge, which `train.py evaluate` measures); beta small; the feedback that nudges the
state uses the transpose of the readout weights. What is not local is the division of a stored weight by its spectral
norm, which is differentiated exactly.

Two networks are trained by backpropagation only. LazyEqProp is a directed, gated chain: its update belongs to no
energy. TernaryEqProp has weights of size 1 and so no bound on W: with a symmetric W half of the samples did not settle,
and the contrast is then not the gradient.
"""

from __future__ import annotations

import torch
from nets import Circuit, CircuitNet, Net, relax
from torch import Tensor
from torch.nn import functional

__all__ = ["bptt", "contrast", "eqprop"]


def _nudged(
    circuit: Circuit, drive: Tensor, free: Tensor, target: Tensor, *, beta: float, gain: float, steps: int
) -> Tensor:
    """The state after `steps` steps with the cost weighted by beta, from the free state on."""
    h = free
    for _ in range(steps):
        error = torch.softmax(gain * circuit.logits(h), dim=1) - target
        h = circuit.step(h, drive - beta * gain * (error @ circuit.w_out))
    return h


@torch.no_grad()
def contrast(
    circuit: Circuit, x: Tensor, y: Tensor, *, beta: float, gain: float, free_steps: int, nudged_steps: int
) -> tuple[Circuit, float]:
    """Equilibrium-propagation estimate of the gradient of the mean loss with respect to the deployed weights, and the
    loss at the free state. x [batch, I], y [batch] class indices; w_rec must be symmetric, and so is its gradient."""
    free = relax(circuit, x, free_steps)[-1]
    target = functional.one_hot(y, circuit.c.shape[0]).to(x.dtype)
    drive = circuit.drive(x)
    up = _nudged(circuit, drive, free, target, beta=beta, gain=gain, steps=nudged_steps)
    down = _nudged(circuit, drive, free, target, beta=-beta, gain=gain, steps=nudged_steps)
    scale = 1 / (2 * beta * len(x))
    logits = gain * circuit.logits(free)
    error = gain * (torch.softmax(logits, dim=1) - target) / len(x)
    gradient = Circuit(
        w_in=-scale * (up - down).T @ x,
        bias=-scale * (up - down).sum(dim=0),
        w_rec=-scale * (up.T @ up - down.T @ down) / 2,
        w_out=error.T @ free,
        c=error.sum(dim=0),
    )
    return gradient, float(functional.cross_entropy(logits, y))


def eqprop(
    net: CircuitNet, x: Tensor, y: Tensor, *, beta: float, gain: float, free_steps: int, nudged_steps: int
) -> float:
    """Add the equilibrium-propagation gradient to the parameters' `.grad`; returns the loss at the free state.

    Automatic differentiation is used only from the deployed weights to the stored parameters."""
    circuit = net.circuit()
    detached = Circuit(*(w.detach() for w in circuit))
    gradient, loss = contrast(detached, x, y, beta=beta, gain=gain, free_steps=free_steps, nudged_steps=nudged_steps)
    torch.autograd.backward(list(circuit), list(gradient))
    return loss


def bptt(net: Net, x: Tensor, y: Tensor, *, gain: float, late_movement: float = 0.0) -> float:
    """Add the gradient of the loss after the relaxation, by backpropagation through all its steps, to `.grad`; returns
    the loss.

    `late_movement` weights a penalty on the mean squared change of the state in the last third of the steps, which
    keeps a network whose weights are not bounded from oscillating."""
    states = net.trace(x)
    loss = functional.cross_entropy(gain * net.readout(states[-1]), y)
    total = loss
    if late_movement:
        late = torch.stack(states[-len(states) // 3 :])
        total = loss + late_movement * (late[1:] - late[:-1]).square().sum(dim=2).mean()
    total.backward()
    return float(loss.detach())
