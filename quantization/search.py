"""The smallest widths with which the integer net still tells the labels of the float64 net: a greedy search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from eqcompile.toolchain.interfaces import FloatRun, QuantizeOptions
from eqcompile.toolchain.options import bits_of
from eqcompile.toolchain.reference import run_reference

from ..toolchain.agreement import labels_agreeing
from ..toolchain.arrays import Array
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet, IntNet
from ..toolchain.typed_json import JSON, encode
from .exact import kind_of, on_grid, top_code
from .ground import Ground
from .hoist import hoist
from .lower import check_supported
from .options import check_options, kinds_of
from .plan import taken, uses
from .precision import averages
from .widen import Widening, check_labels, halves, widen, with_margin

__all__ = ["Judgement", "SearchResult", "Trial", "search"]

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

    def to_json(self) -> dict[str, JSON]:
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
class Judgement:
    """An accepted trial on the validation half, which no trial has seen."""

    trial: Trial
    equal: int
    labels: int
    digest: str
    """Of the integer net."""

    @property
    def agreement(self) -> float:
        return self.equal / self.labels


@dataclass(frozen=True)
class SearchResult:
    """All trials in order, and the judgements of accepted ones on the validation half, narrowest first.

    The last judgement counts: it is the first that meets `target`, or that of the widest trial if none does.
    `required` is the agreement that a trial needs on the search half to be accepted. `options` are those that the
    trials start from; where the ones asked for miss `target`, `widening` says what was added to them.
    """

    target: float
    required: float
    trials: tuple[Trial, ...]
    kept: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    options: QuantizeOptions
    widening: Widening | None

    @property
    def best(self) -> Trial:
        return self.validation.trial

    @property
    def validation(self) -> Judgement:
        return self.judgements[-1]

    @property
    def meets_target(self) -> bool:
        return self.validation.agreement >= self.target

    def to_json(self) -> dict[str, JSON]:
        """JSON values."""
        return {
            "kind": "simulated",
            "how": "golden against the float64 reference; trials see the search half alone, the narrowest accepted one "
            "that meets the target on the validation half is taken",
            "target_agreement": self.target,
            "required_agreement": self.required,
            "widest": self.trials[0].to_json(),
            "best": self.best.to_json(),
            "digest": self.validation.digest,
            "exact_tensors": list(self.kept),
            "states": dict(self.options.states),
            "guard_bits": self.options.guard_bits,
            "guards": dict(self.options.guards),
            "widening": None if self.widening is None else encode(self.widening.kept()),
            "widening_trials": [] if self.widening is None else [t.to_json() for t in self.widening.trials],
            "validation": {
                "labels_equal": self.validation.equal,
                "labels": self.validation.labels,
                "agreement": self.validation.agreement,
                "meets_target": self.meets_target,
                "judged": len(self.judgements),
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
) -> SearchResult:
    """Narrow one width after the other, the one that saves most bits first, as long as enough labels stay those of the
    float64 net on every other of `inputs`, the search half (`halves`). A width that fails is not narrowed again.

    Enough is `target` and one standard error of a share of that size: a share that lies at the target on one half lies
    below it on the other half of the time. The accepted trials are then judged on the other half, narrowest first,
    until one meets `target`; `SearchResult.judgements` has all that were judged.

    It starts from `options` (their widths are the widest); where these miss `target`, `widen` adds precision first.
    Without `calibration` the search half is that too. Tensors that hold codes already keep them. Raises UsageError if
    the net tells no labels, there are fewer than two inputs, or the widest setting misses the target on that half.

    `calibration` and `inputs`: float64 `[samples, *shape]` by input.
    """
    check_options(options)
    check_supported(net)
    check_labels(net)
    first, second = halves(inputs)
    data = first if calibration is None else calibration
    seeker, widening = _Seeker(net, options, data, first), None
    trials = [seeker.trial(seeker.widest, "", accepted=True)]
    if trials[0].agreement < target:
        widening = widen(net, options, calibration=data, inputs=first, target=target, progress=progress)
        seeker = _Seeker(net, widening.options, data, first)
        trials = [seeker.trial(seeker.widest, "", accepted=True)]
    if trials[0].agreement < target:
        what = (
            f"at the widest setting {trials[0].equal} of {trials[0].labels} labels are equal, "
            f"asked for is a share of {target:g}"
        )
        hint = "lower the target, or widen --input-bits or the weights: more bits of states did not do it"
        raise UsageError(Diagnostic("target-unreachable", what, net.family, hint))
    required = with_margin(target, trials[0].labels)
    now, frozen = seeker.widest, set[str]()
    accepted = [(now, trials[0])]
    total = sum(1 for _ in seeker.ladders())
    while True:
        steps = sorted(seeker.steps(now, frozen), key=lambda step: seeker.bits(step[1]))
        if progress is not None:
            progress(total - sum(1 for _ in seeker.remaining(now, frozen)), total)
        if not steps:
            break
        changed, setting = steps[0]
        trial = seeker.trial(setting, changed, accepted=False)
        if trial.agreement >= required:
            trial, now = replace(trial, accepted=True), setting
            accepted.append((now, trial))
        else:
            frozen.add(changed)
        trials.append(trial)
    judgements: list[Judgement] = []
    reference = run_reference(net, second)
    for setting, trial in reversed(accepted):
        lowered = seeker.lowered(setting)
        judgements.append(Judgement(trial, *labels_agreeing(lowered, second, reference), lowered.digest))
        if judgements[-1].agreement >= target:
            break
    return SearchResult(target, required, tuple(trials), seeker.kept, tuple(judgements), seeker.options, widening)


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
        maps = {use[0]: (op, use[1]) for op, use in uses(net, per_row=options.per_row)}
        held = {n: _held_kind(taken(net, maps[n][0]), kind, per_row=maps[n][1]) for n, kind in kinds.items()}
        self.kept = tuple(n for n, kind in held.items() if kind is not None)
        kinds |= {n: kind for n, kind in held.items() if kind is not None}
        self.widest = _Setting(kinds, options.state_bits, options.input_bits)
        self.units = {s.name: int(np.prod(s.shape)) for s in net.states}
        slow = averages(hoist(net)[0]) if options.guard_bits or options.guards else {}
        self.guards = {n: options.guards.get(n, options.guard_bits) for n in slow if n in self.units}
        self.entries = sum(int(np.prod(i.shape)) for i in net.inputs if i.kind == "number")
        self._grounds: dict[tuple[int, int], Ground] = {}

    def lowered(self, setting: _Setting) -> IntNet:
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
        weights = sum(size * bits_of(setting.kinds[name]) for name, size in self.sizes.items())
        states = sum(
            size * (self.options.states.get(name, setting.state_bits) + self.guards.get(name, 0))
            for name, size in self.units.items()
        )
        return weights + states + self.entries * setting.input_bits

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
    return tuple(k for k in _LADDER if bits_of(k) < bits_of(kind))


def _held_kind(weight: Array, kind: str, *, per_row: bool) -> str | None:
    """The kind of the codes that a weight holds, none of which `kind` would round; None if it would."""
    rows = weight.reshape(len(weight), -1) if per_row else weight.reshape(1, -1)
    found = [on_grid(row, top_code(kind)) for row in rows]
    codes = [held[0] for held in found if held is not None]
    return kind_of(np.stack(codes).astype(np.int64)) if len(codes) == len(found) else None
