"""Small float nets made from a seed, for the tests of quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Input, IntNet, Output, Param, Schedule, State, ops, verify
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.reference import run_reference

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Loop:
    """`h <- (1-a) h + a tanh(A x + b + W h + c)`, logits `R h + r`, and its tensors."""

    net: EqNet
    A: Array
    b: Array
    W: Array
    c: Array
    R: Array
    r: Array
    alpha: float


def ternary(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return scale * rng.integers(-1, 2, shape).astype(np.float64)


def loop(
    rng: np.random.Generator,
    *,
    units: int = 8,
    inputs: int = 5,
    alpha: float = 1.0,
    steps: int = 3,
    gain: float = 0.9,
    ternary_scale: float | None = None,
    tolerance: int = 0,
) -> Loop:
    """A loop whose recurrent map has the largest row sum `gain`; ternary weights if a scale is given."""
    if ternary_scale is None:
        a, w, r = rng.normal(size=(units, inputs)), rng.normal(size=(units, units)), rng.normal(size=(3, units))
    else:
        a, w, r = (ternary(rng, s, 1.0) for s in ((units, inputs), (units, units), (3, units)))
        w = w * ternary_scale
    if ternary_scale is None:
        w *= gain / np.abs(w).sum(axis=1).max()
    b, c, offset = rng.normal(size=units) / 4, rng.normal(size=units) / 4, rng.normal(size=3)
    step: list[Op] = [
        ops.Linear(out="recurrent", x="h", weight="W", bias="c"),
        ops.Add(out="pre", a="drive", b="recurrent"),
        ops.Activation(out="new", x="pre", kind="tanh"),
    ]
    if alpha < 1.0:
        step.append(ops.Damp(out="next", old="h", new="new", alpha=alpha))
    made = net(
        {"A": a, "b": b, "W": w, "c": c, "R": r, "r": offset},
        x=(inputs,),
        states=[State("h", (units,), step[-1].out)],
        drive=[ops.Linear(out="drive", x="x", weight="A", bias="b")],
        step=step,
        readout=[ops.Linear(out="logits", x="h", weight="R", bias="r")],
        output="logits",
        steps=steps,
    )
    return Loop(made, a, b, w, c, r, offset, alpha)


def holding(of: EqNet, threshold: float) -> EqNet:
    """The same net of one state, each unit of which moves only where it would move by more than `threshold`."""
    (state,) = of.states
    step = (
        *of.step,
        ops.Sub(out="difference", a=state.update, b=state.name),
        ops.Abs(out="change", x="difference"),
        ops.Greater(out="moves", a="change", b="threshold"),
        ops.Select(out="held", condition="moves", a=state.update, b=state.name),
    )
    limit = Param("threshold", np.full(state.shape, threshold), "test")
    return replace(of, params=(*of.params, limit), step=step, states=(replace(state, update="held"),))


def net(
    params: dict[str, Any],
    *,
    x: tuple[int, ...] | Input,
    states: Sequence[State],
    drive: Sequence[Op] = (),
    step: Sequence[Op],
    readout: Sequence[Op] = (),
    output: str,
    steps: int = 3,
    **schedule: Any,
) -> EqNet:
    """A verified net; params are float64 unless they hold integers."""
    arrays = {n: np.asarray(v) for n, v in params.items()}
    made = EqNet(
        name="test",
        family="test.Net",
        inputs=(x if isinstance(x, Input) else Input("x", x),),
        params=tuple(
            Param(n, v if v.dtype == np.int64 else v.astype(np.float64), f"seed:{n}") for n, v in arrays.items()
        ),
        states=tuple(states),
        drive=tuple(drive),
        step=tuple(step),
        readout=tuple(readout),
        outputs=(Output("out", output, "classes" if output == "logits" else "values"),),
        schedule=Schedule(steps, **schedule),
    )
    verify(made)
    return made


def latch(steps: int = 30) -> IntNet:
    """Two units that hold whichever sign they have: two fixed points and no label that survives any upset."""
    made = loop(np.random.default_rng(0), units=2, steps=steps, gain=3.0)
    values = {"W": 2.5 * np.eye(2), "A": 0.02 * np.ones((2, 5)), "b": np.array([0.3, 0.2]), "c": np.zeros(2)}
    values |= {"R": np.array([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]), "r": np.zeros(3)}
    changed = tuple(Param(p.name, values.get(p.name, p.value), p.source) for p in made.net.params)
    return lower(replace(made.net, params=changed), QuantizeOptions(state_bits=5), calibration=None).net


def inputs_of(rng: np.random.Generator, made: EqNet, batch: int = 8) -> dict[str, Array]:
    """Samples of every input, uniform in [-1, 1]."""
    return {i.name: rng.uniform(-1.0, 1.0, (batch, *i.shape)) for i in made.inputs}


def state_errors(lowered: IntNet, reference: EqNet, inputs: dict[str, Array]) -> dict[str, Array]:
    """Largest error of each state over the batch: `[ticks, *shape]`."""
    codes, saturated = encode(lowered, inputs)
    assert saturated == 0
    golden = run(lowered, codes, trace=True)
    real = run_reference(reference, inputs, trace=True)
    assert real.trace is not None
    errors = {}
    for s in lowered.states:
        assert s.frac is not None
        errors[s.name] = np.abs(golden.states[s.name] * 2.0**-s.frac - real.trace[s.name]).max(axis=1)
    return errors
