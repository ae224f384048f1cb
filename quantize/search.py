"""The smallest widths with which the integer net still tells the labels of the float64 net: a greedy search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import FloatRun, QuantizeOptions
from eqcompile.toolchain.reference import run_reference

from ..toolchain.agreement import labels_agreeing
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet
from .exact import kind_of, on_grid, top_code
from .ground import Ground
from .lower import check_supported
from .options import check_options, kinds_of
from .plan import uses

__all__ = ["Found", "Trial", "search"]

Array = NDArray[Any]

_LADDER = ("int8", "int7", "int6", "int5", "int4", "int3", "ternary")
"""From wide to narrow; the codes of int2 are those of ternary."""
_FEWEST_BITS = 2
_STATES, _INPUTS = "state bits", "input bits"


@dataclass(frozen=True)
class Trial:
    """One setting that was run. `bits`: of all weights, states and inputs together; `equal` of `labels` on the search
    half; `accepted`: whether the search went on from here."""

    kinds: Mapping[str, str]
    state_bits: int
    input_bits: int
    changed: str
    bits: int
    equal: int
    labels: int
    accepted: bool

    @property
    def agreement(self) -> float:
        return self.equal / self.labels

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "weights": dict(self.kinds),
            "state_bits": self.state_bits,
            "input_bits": self.input_bits,
            "changed": self.changed,
            "bits": self.bits,
            "labels_equal": self.equal,
            "labels": self.labels,
            "agreement": self.agreement,
            "accepted": self.accepted,
        }


@dataclass(frozen=True)
class Found:
    """The last accepted trial, and the same widths on the validation half, which no choice has seen."""

    target: float
    trials: tuple[Trial, ...]
    kept: tuple[str, ...]
    validation_equal: int
    validation_labels: int

    @property
    def best(self) -> Trial:
        return [t for t in self.trials if t.accepted][-1]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        held = self.validation_equal / self.validation_labels
        return {
            "kind": "simulated",
            "how": "golden against the float64 reference; widths chosen on the search half alone",
            "target_agreement": self.target,
            "widest": self.trials[0].to_json(),
            "best": self.best.to_json(),
            "exact_tensors": list(self.kept),
            "validation": {
                "labels_equal": self.validation_equal,
                "labels": self.validation_labels,
                "agreement": held,
                "meets_target": held >= self.target,
            },
            "trials": [t.to_json() for t in self.trials],
        }


def search(
    net: EqNet,
    options: QuantizeOptions,
    *,
    calibration: Mapping[str, Array] | None,
    inputs: Mapping[str, Array],
    target: float,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Narrow one width after the other, the one that saves most bits first, as long as the share of labels equal to
    those of the float64 net is at least `target` on every other of `inputs`. A width that fails is not narrowed again.

    It starts from `options` (their widths are the widest) and never sees the other half of the inputs, on which the
    result is judged at the end. Without `calibration` the search half is that too. Tensors that hold codes already
    keep them. Raises UsageError if the net tells no labels, there are fewer than two inputs, or the widest setting
    misses the target.
    """
    check_options(options)
    check_supported(net)
    if not any(o.kind == "classes" for o in net.outputs):
        raise UsageError(Diagnostic("no-labels", "the net tells no classes: there are no labels to keep", net.family))
    if len(next(iter(inputs.values()))) < 2:
        raise UsageError(Diagnostic("few-inputs", "one input cannot be split into a search and a validation half"))
    first, second = ({n: np.asarray(a)[k::2] for n, a in inputs.items()} for k in (0, 1))
    seeker = _Seeker(net, options, first if calibration is None else calibration, first)
    trials = [seeker.trial(seeker.widest, "", accepted=True)]
    if trials[0].agreement < target:
        what = (
            f"at the widest setting {trials[0].equal} of {trials[0].labels} labels are equal, asked for is {target:g}"
        )
        raise UsageError(Diagnostic("target-unreachable", what, net.family, "lower the target or widen --state-bits"))
    now, frozen = seeker.widest, set[str]()
    total = sum(1 for _ in seeker.ladders())
    while True:
        steps = sorted(seeker.steps(now, frozen), key=lambda step: seeker.bits(step[1]))
        if progress is not None:
            progress(total - sum(1 for _ in seeker.remaining(now, frozen)), total)
        if not steps:
            break
        changed, setting = steps[0]
        trial = seeker.trial(setting, changed, accepted=False)
        if trial.agreement >= target:
            trial, now = replace(trial, accepted=True), setting
        else:
            frozen.add(changed)
        trials.append(trial)
    equal, labels = labels_agreeing(seeker.lowered(now), second, run_reference(net, second))
    return Found(target, tuple(trials), seeker.kept, equal, labels)


@dataclass(frozen=True)
class _Setting:
    kinds: Mapping[str, str]
    state_bits: int
    input_bits: int


class _Seeker:
    """Runs settings; what does not depend on the weights' widths is prepared once for each pair of other bits."""

    def __init__(
        self, net: EqNet, options: QuantizeOptions, calibration: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> None:
        self.net, self.options, self.calibration, self.inputs = net, options, calibration, inputs
        self.reference: FloatRun = run_reference(net, inputs)
        kinds = kinds_of(net, options)
        self.sizes = {name: net.param(name).size for name in kinds}
        per_row = {use[0]: use[1] for _, use in uses(net, per_row=options.per_row)}
        held = {n: _held_kind(net.param(n), kind, per_row=per_row[n]) for n, kind in kinds.items()}
        self.kept = tuple(n for n, kind in held.items() if kind is not None)
        kinds |= {n: kind for n, kind in held.items() if kind is not None}
        self.widest = _Setting(kinds, options.state_bits, options.input_bits)
        self.units = sum(int(np.prod(s.shape)) for s in net.states)
        self.entries = sum(int(np.prod(i.shape)) for i in net.inputs if i.kind == "number")
        self._grounds: dict[tuple[int, int], Ground] = {}

    def lowered(self, setting: _Setting) -> Any:
        key = (setting.state_bits, setting.input_bits)
        if key not in self._grounds:
            options = replace(self.options, state_bits=key[0], input_bits=key[1])
            self._grounds[key] = Ground.of(self.net, options, calibration=self.calibration, ranges={})
        return self._grounds[key].lowered(setting.kinds).net

    def trial(self, setting: _Setting, changed: str, *, accepted: bool) -> Trial:
        equal, labels = labels_agreeing(self.lowered(setting), self.inputs, self.reference)
        bits = self.bits(setting)
        return Trial(setting.kinds, setting.state_bits, setting.input_bits, changed, bits, equal, labels, accepted)

    def bits(self, setting: _Setting) -> int:
        """Memory of the weights (two bits for a ternary one), states and inputs."""
        weights = sum(size * _bits(setting.kinds[name]) for name, size in self.sizes.items())
        return weights + self.units * setting.state_bits + self.entries * setting.input_bits

    def ladders(self) -> Iterator[str]:
        """Every step that there is below the widest setting."""
        return self.remaining(self.widest, set())

    def remaining(self, setting: _Setting, frozen: set[str]) -> Iterator[str]:
        for name in self.sizes:
            if name not in frozen and name not in self.kept:
                yield from (name for _ in _below(setting.kinds[name]))
        for name, bits in ((_STATES, setting.state_bits), (_INPUTS, setting.input_bits)):
            if name not in frozen:
                yield from (name for _ in range(bits - _FEWEST_BITS))

    def steps(self, setting: _Setting, frozen: set[str]) -> Iterator[tuple[str, _Setting]]:
        """Each setting that is one step narrower in one thing, and which."""
        left = set(self.remaining(setting, frozen))
        for name in self.sizes:
            if name in left:
                narrower = next(iter(_below(setting.kinds[name])))
                yield name, replace(setting, kinds={**setting.kinds, name: narrower})
        if _STATES in left:
            yield _STATES, replace(setting, state_bits=setting.state_bits - 1)
        if _INPUTS in left:
            yield _INPUTS, replace(setting, input_bits=setting.input_bits - 1)


def _below(kind: str) -> tuple[str, ...]:
    return tuple(k for k in _LADDER if _bits(k) < _bits(kind))


def _bits(kind: str) -> int:
    return 2 if kind == "ternary" else int(kind.removeprefix("int"))


def _held_kind(weight: Array, kind: str, *, per_row: bool) -> str | None:
    """The kind of the codes that a weight holds, none of which `kind` would round; None if it would."""
    rows = weight.reshape(len(weight), -1) if per_row else weight.reshape(1, -1)
    found = [on_grid(row, top_code(kind)) for row in rows]
    codes = [held[0] for held in found if held is not None]
    return kind_of(np.stack(codes).astype(np.int64)) if len(codes) == len(found) else None
