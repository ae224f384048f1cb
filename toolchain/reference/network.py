"""Float64 interpreter of an EqNet: what the source model computes in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..arrays import Array, Reals
from ..diagnostics import Diagnostic, UsageError
from ..inputs import check_inputs
from ..interfaces import FloatRun
from ..ir import EqNet
from ..ir.ops import Op, Repeat
from ..ir.parts import State
from .operations import evaluate

__all__ = ["run_reference"]

Watch = Callable[[Op, Callable[[str], Reals]], None]


def run_reference(
    net: EqNet,
    inputs: Mapping[str, Array],
    *,
    trace: bool = False,
    ranges: bool = False,
    watch: Watch | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FloatRun:
    """Evaluate a verified net in float64 on `inputs[name]` of shape `[batch, (frame,) *shape]`.

    Numbers may have any real dtype, indices any integer one. `trace` keeps every state after every tick; `ranges`
    records the smallest and largest entry of every input, state (its initial value included) and operation value that
    is a number. `watch(op, operand)` is called before each evaluation of an operation (those in the body of a repeat
    included); `operand(name)` is the value it reads, batch axis first. `progress(done, total)` is called after each
    tick.

    Raises UsageError with every fault of the inputs, or when a state stops being finite.
    """
    arrays, frames = _checked(net, inputs)
    batch = len(next(iter(arrays.values())))
    run = _Run(net, batch, ranges, watch)
    total = net.schedule.steps * frames
    history: dict[str, list[Reals]] = {s.name: [] for s in net.states}
    emitted: list[dict[str, Reals]] = []
    ticks = 0
    # A diverging state is reported with its name and tick, not as a warning of NumPy.
    with np.errstate(over="ignore", invalid="ignore"):
        for frame in range(frames):
            run.clamp({n: a[:, frame] if net.schedule.frames else a for n, a in arrays.items()})
            if frame == 0:
                run.initialise()
            for made in range(1, net.schedule.steps + 1):
                old = run.states
                run.tick()
                ticks += 1
                _check_finite(run.states, ticks)
                if trace:
                    for name, value in run.states.items():
                        history[name].append(value)
                if progress is not None:
                    progress(ticks, total)
                if _stops(net, old, run.states, made):
                    break
            if net.schedule.emit == "every" or frame == frames - 1:
                emitted.append(run.read())
    every = net.schedule.emit == "every"
    return FloatRun(
        states=run.states,
        outputs={
            o.name: np.stack([e[o.name] for e in emitted], axis=1) if every else emitted[-1][o.name]
            for o in net.outputs
        },
        steps=np.full(batch, ticks, np.int64),
        trace={n: np.stack(h) for n, h in history.items()} if trace else None,
        ranges=run.seen,
    )


@dataclass
class _Run:
    """Values of one evaluation, float64 but for indices and comparisons. `drive` holds inputs and drive values; step
    and readout values live for one call."""

    net: EqNet
    batch: int
    record: bool
    watch: Watch | None
    states: dict[str, Reals] = field(default_factory=dict)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    drive: dict[str, Reals] = field(default_factory=dict)
    _params: dict[str, Reals] = field(init=False)

    def __post_init__(self) -> None:
        self._params = {p.name: cast("Reals", p.value) for p in self.net.params}

    def clamp(self, inputs: Mapping[str, Reals]) -> None:
        self.drive = dict(inputs)
        for name, value in inputs.items():
            if value.dtype.kind == "f":
                self._note(name, value)
        self._evaluate(self.net.drive, self.drive)

    def initialise(self) -> None:
        for s in self.net.states:
            self.states[s.name] = self._initial(s)
            self._note(s.name, self.states[s.name])

    def tick(self) -> None:
        scope = self.drive | self.states
        self._evaluate(self.net.step, scope)
        latched = {s.name: self._full(self._value(scope, s.update), s.shape) for s in self.net.states}
        for name, value in latched.items():
            self._note(name, value)
        self.states = latched

    def read(self) -> dict[str, Reals]:
        scope = self.drive | self.states
        self._evaluate(self.net.readout, scope)
        results = {o.name: self._value(scope, o.value) for o in self.net.outputs}
        return {n: self._full(v, v.shape[1:]) for n, v in results.items()}

    def _initial(self, state: State) -> Reals:
        if state.init is None:
            return np.zeros((self.batch, *state.shape))
        value = self._value(self.drive, state.init)
        missing = (1,) * (1 + len(state.shape) - value.ndim)
        return self._full(value.reshape(value.shape[:1] + missing + value.shape[1:]), state.shape)

    def _full(self, value: Reals, shape: tuple[int, ...]) -> Reals:
        """A value that only depends on parameters has a batch axis of size 1: repeat it."""
        return np.array(np.broadcast_to(value, (self.batch, *shape)))

    def _value(self, scope: Mapping[str, Reals], name: str) -> Reals:
        return scope[name] if name in scope else self._params[name][None]

    def _evaluate(self, block: Iterable[Op], scope: dict[str, Reals]) -> None:
        for op in block:
            if isinstance(op, Repeat):
                value = self._value(scope, op.init)
                inner = dict(scope)
                for _ in range(op.count):
                    inner[op.carry] = value
                    self._note(op.carry, value)
                    self._evaluate(op.body, inner)
                    value = self._value(inner, op.result)
            else:
                if self.watch is not None:
                    self.watch(op, lambda name: self._value(scope, name))
                value = evaluate(op, lambda name: self._value(scope, name), self._params.__getitem__)
            scope[op.out] = value
            self._note(op.out, value)

    def _note(self, name: str, value: Reals) -> None:
        if not self.record or value.dtype.kind == "b":
            return
        lo, hi = float(value.min()), float(value.max())
        before = self.seen.get(name, (lo, hi))
        self.seen[name] = (min(lo, before[0]), max(hi, before[1]))


def _stops(net: EqNet, old: Mapping[str, Reals], new: Mapping[str, Reals], made: int) -> bool:
    stop = net.schedule.stop
    if stop is None:
        return False
    moved = (new[stop.state] - old[stop.state]).reshape(len(new[stop.state]), -1)
    bound = stop.epsilon * (stop.loose if made > stop.loose_after else 1.0)
    return bool(np.sqrt((moved * moved).sum(axis=1)).max() < bound)


def _check_finite(states: Mapping[str, Reals], tick: int) -> None:
    faults = [
        Diagnostic(
            "diverged",
            f"{int((~np.isfinite(value)).sum())} of {value.size} entries of state {name} are not finite after "
            f"{tick} ticks",
            name,
            "the float model itself diverges on this input: check the settings of its family and the input's scale",
        )
        for name, value in states.items()
        if not np.isfinite(value).all()
    ]
    if faults:
        raise UsageError(faults)


def _checked(net: EqNet, inputs: Mapping[str, Array]) -> tuple[dict[str, Reals], int]:
    """The inputs as float64 or int64, and the number of frames (1 without frames)."""
    arrays, faults = check_inputs(net, inputs, content="reals", where=net.name)
    if faults:
        raise UsageError(faults)
    return cast("dict[str, Reals]", arrays), next(iter(arrays.values())).shape[1] if net.schedule.frames else 1
