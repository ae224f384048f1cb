"""A nudged phase of the float net, as Equilibrium Propagation trains with: the loss pulls states towards the label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from eqcompile.toolchain.arrays import Array, Reals
from eqcompile.toolchain.ir import EqNet, Input, State, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.reference import run_reference

__all__ = ["BETA", "TICKS", "Nudged", "nudged_phase"]

BETA = 0.1
TICKS = 15
_PUSH, _START, _PUSHED = "push of the nudge", "start of the nudge", "pushed"


@dataclass(frozen=True)
class Nudged:
    """`states` `[ticks + 1, batch, units]`: the free equilibrium, then after each nudged tick; `push` `[ticks, batch,
    units]`: what was added to the argument of the nonlinearity in that tick; `loss` `[ticks + 1, batch]`:
    cross-entropy."""

    states: Reals
    push: Reals
    loss: Reals


def nudged_phase(
    net: EqNet, inputs: Mapping[str, Array], labels: Array, *, beta: float = BETA, ticks: int = TICKS
) -> Nudged | None:
    """The free phase, then `ticks` ticks of `h <- phi(F(h, x) - beta W_out^T (softmax(W_out h + c) - y))`.

    B. Scellier, Y. Bengio, Equilibrium Propagation, Frontiers in Computational Neuroscience 11 (2017), with the
    cross-entropy as the loss. `inputs[name]`: `[batch, *shape]` float64; `labels`: `[batch]`, class indices. None for
    nets of frames, and for those that are not one vector of states behind one nonlinearity that one linear map reads
    as classes.
    """
    parts = _parts(net)
    if parts is None:
        return None
    state, weight = parts
    one = _stepped(net, state)
    free = run_reference(net, inputs)
    [logits], h = free.outputs.values(), free.states[state.name]
    target = np.eye(logits.shape[1])[np.asarray(labels, np.int64)]
    states, pushes, losses = [h], [], [_loss(logits, target)]
    for _ in range(ticks):
        push = -beta * (_softmax(logits) - target) @ weight
        after = run_reference(one, {**inputs, _START: h, _PUSH: push})
        [logits], h = after.outputs.values(), after.states[state.name]
        states.append(h)
        pushes.append(push)
        losses.append(_loss(logits, target))
    return Nudged(np.stack(states), np.stack(pushes), np.stack(losses))


def _parts(net: EqNet) -> tuple[State, Reals] | None:
    """The only state and the weights of the readout `[classes, units]`; None for another kind of net."""
    if net.schedule.frames or len(net.states) != 1 or len(net.outputs) != 1 or len(net.readout) != 1:
        return None
    [state], [output], [readout] = net.states, net.outputs, net.readout
    read = isinstance(readout, ops.Linear) and readout.x == state.name and output.value == readout.out
    if not read or output.kind != "classes" or len(state.shape) != 1 or _nonlinearity(net, state) is None:
        return None
    assert isinstance(readout, ops.Linear)
    return state, np.asarray(net.param(readout.weight), np.float64)


def _nonlinearity(net: EqNet, state: State) -> ops.Activation | None:
    """The operation that makes the next state."""
    made = [op for op in net.step if op.out == state.update]
    return made[0] if made and isinstance(made[0], ops.Activation) else None


def _stepped(net: EqNet, state: State) -> EqNet:
    """One step from a state that is an input, with another input added to the argument of the nonlinearity."""
    phi = _nonlinearity(net, state)
    assert phi is not None
    pushed = ops.Add(out=_PUSHED, a=phi.x, b=_PUSH)
    step: list[Op] = []
    for op in net.step:
        step += [pushed, replace(phi, x=_PUSHED)] if op is phi else [op]
    added = (Input(_START, state.shape), Input(_PUSH, state.shape))
    return replace(
        net,
        inputs=(*net.inputs, *added),
        states=(replace(state, init=_START),),
        step=tuple(step),
        schedule=replace(net.schedule, steps=1, stop=None),
    )


def _softmax(logits: Reals) -> Reals:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Reals = shifted / shifted.sum(axis=1, keepdims=True)
    return share


def _loss(logits: Reals, target: Reals) -> Reals:
    top = logits.max(axis=1)
    loss: Reals = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - (logits * target).sum(axis=1)
    return loss
