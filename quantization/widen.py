"""Precision where labels need it: guard bits first, then the values whose rounding moves the outputs most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eqcompile.toolchain.interfaces import FloatRun, Progress, QuantizeOptions
from eqcompile.toolchain.options import MOST_BITS, MOST_GUARD_BITS
from eqcompile.toolchain.reference import run_reference

from ..toolchain.agreement import labels_equal
from ..toolchain.arrays import Array
from ..toolchain.data import encode
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.golden import run as run_golden
from ..toolchain.ir import EqNet
from ..toolchain.kept_labels import KeptLabels
from ..toolchain.typed_json import JSON
from .bounds import whole_numbers
from .ground import Ground
from .hoist import hoist
from .options import kinds_of
from .precision import averages, read_by_weights

__all__ = ["Kept", "WideTrial", "Widening", "halves", "keep_labels", "widen", "with_margin"]

_STEP_BITS, _MOST_STEPS = 2, 4
"""All values are widened together by 2 bits, by 4, by 6 and by 8, until that suffices."""
_FEW = 32
"""Samples on which the error of a single value is measured: it ranks the values, labels are counted on all samples."""
_MOST_NARROWING = 24
"""Trials that take bits back from single values; those that are not reached keep theirs."""
_NEAR = 1.25
"""Where the labels sought are out of reach: times the least error of the outputs, up to which bits are given back."""
_ALL = "all values"
_GUARD = "guard bits"


@dataclass(frozen=True)
class WideTrial:
    """One setting that was run: what it `changed` from the one before, to how many bits. `equal` of `labels` are the
    float64 net's; `error`: root of the mean square of its outputs' error. `accepted`: the search went on from here."""

    changed: str
    bits: int
    equal: int
    labels: int
    error: float
    accepted: bool = False

    @property
    def share(self) -> float:
        """Labels kept, of all: compared as it stands, since `share * labels` may be a rounding above `equal`."""
        return self.equal / self.labels

    def to_json(self) -> dict[str, JSON]:
        """JSON values."""
        return {
            "changed": self.changed,
            "bits": self.bits,
            "labels_equal": self.equal,
            "labels": self.labels,
            "output_error": self.error,
            "accepted": self.accepted,
        }


@dataclass(frozen=True)
class Widening:
    """`options` with what was added. `required`: the share of labels sought in the end, `target` and a margin, or the
    most that was reached. `shares`: the outputs' mean squared error that comes back where a value alone loses the
    added bits, as a share of all such errors, the largest first; empty where no width was needed. `trials` in order;
    `final`: the one of `options`."""

    options: QuantizeOptions
    target: float
    required: float
    trials: tuple[WideTrial, ...]
    final: WideTrial
    shares: Mapping[str, float]

    @property
    def met(self) -> bool:
        """Whether the share of labels is at least `target`."""
        return self.final.share >= self.target

    def kept(self) -> KeptLabels:
        """What was added and what it brought."""
        first = self.trials[0]
        return KeptLabels(
            target=self.target,
            sought=self.required,
            labels=self.final.labels,
            equal_before=first.equal,
            equal=self.final.equal,
            met=self.met,
            guard_bits=self.options.guard_bits,
            guards=self.options.guards,
            states=self.options.states,
            output_error_before=first.error,
            output_error=self.final.error,
            error_shares=self.shares,
            settings=len(self.trials),
        )


def widen(
    net: EqNet,
    options: QuantizeOptions,
    *,
    calibration: Mapping[str, Array],
    inputs: Mapping[str, Array],
    target: float,
    progress: Progress | None = None,
) -> Widening:
    """Add precision to `options` until the labels on `inputs` that are those of the float64 net are a share of `target`
    and one standard error of a share of that size.

    Guard bits of the states that average come first: no weight reads them. Then all states, and all values that weights
    read, get more bits together, as many as suffice; with these, each in turn loses them alone, which shows how much of
    the outputs' error is its own. From the largest such error on, values then get the bits one after the other until
    enough labels are kept, and give back bits that turn out not to be needed. (Alone, a value that others follow in
    series would show no gain.) Both are found by halving, and the error of a value alone is measured on a few of the
    samples: n values take at most 10 + log2 n + 24 trials on all samples and n + 1 on the few. Where nothing suffices,
    the most labels that were kept are sought instead, with outputs whose error is near the least that came with them:
    widths that keep as many labels of a few samples need not keep as many of others. Nothing is random: the same data
    give the same widths.

    `calibration` and `inputs`: float64 `[samples, *shape]` by input; ranges and weights come from the first, labels are
    compared on the second. `progress` is told the trials so far and the most that there can be.
    """
    seeker = _Seeker(net, options, calibration, inputs, target, progress)
    seeker.try_guards()
    shares = {} if seeker.enough else seeker.try_widths()
    states = {n: bits for n, bits in seeker.options.states.items() if bits != seeker.options.state_bits}
    return Widening(
        replace(seeker.options, states=states), target, seeker.required, tuple(seeker.trials), seeker.now, shares
    )


@dataclass(frozen=True)
class Kept:
    """What `keep_labels` chose, and the data to calibrate with from here on."""

    widening: Widening
    calibration: Mapping[str, Array]


def keep_labels(
    net: EqNet,
    options: QuantizeOptions,
    calibration: Mapping[str, Array] | None,
    progress: Progress | None = None,
) -> Kept:
    """`widen` for `options.keep_labels` of the labels of all calibration samples; every other one gives the ranges.

    `calibration`: float64 `[samples, *shape]` by input. Raises UsageError without any, with fewer than two samples, or
    for a net without labels.
    """
    asked = options.keep_labels
    assert asked is not None
    check_labels(net)
    if calibration is None:
        what = "there are no samples to count labels on"
        raise UsageError(Diagnostic("keep-labels-data", what, "--keep-labels", "give inputs with --calibrate X.npz"))
    first, _ = halves(calibration)
    options = replace(options, keep_labels=None)
    widening = widen(net, options, calibration=first, inputs=calibration, target=asked, progress=progress)
    return Kept(widening, first)


def check_labels(net: EqNet) -> None:
    """Raise UsageError for a net that tells no classes."""
    if not any(o.kind == "classes" for o in net.outputs):
        raise UsageError(Diagnostic("no-labels", "the net tells no classes: there are no labels to keep", net.family))


def halves(inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every other sample from the first, and the rest. Raises UsageError if there are fewer than two.

    Each half: `[samples, *shape]` by input, of the dtype that it has in `inputs`.
    """
    if len(next(iter(inputs.values()))) < 2:
        raise UsageError(Diagnostic("few-inputs", "one input cannot be split into two halves"))
    first, second = ({n: np.asarray(a)[k::2] for n, a in inputs.items()} for k in (0, 1))
    return first, second


def with_margin(target: float, labels: int) -> float:
    """`target` and one standard error of a share of `labels` labels (binomial), at most 1."""
    return min(1.0, target + math.sqrt(target * (1.0 - target) / labels))


@dataclass(frozen=True)
class _Samples:
    """`inputs` `[samples, *shape]` by input, and what the float64 net makes of them."""

    inputs: Mapping[str, Array]
    reference: FloatRun


class _Seeker:
    """The setting reached so far, `options` with its trial `now`, and all trials."""

    def __init__(
        self,
        net: EqNet,
        options: QuantizeOptions,
        calibration: Mapping[str, Array],
        inputs: Mapping[str, Array],
        target: float,
        progress: Progress | None,
    ) -> None:
        self.net, self.options, self.calibration = net, options, calibration
        self.kinds = kinds_of(net, options)
        self.progress = progress
        self.all = _Samples(inputs, run_reference(net, inputs))
        few = {n: a[:: math.ceil(len(a) / _FEW)] for n, a in inputs.items()}
        self.few = _Samples(few, run_reference(net, few))
        hoisted, _ = hoist(net)
        whole = whole_numbers(hoisted)
        self.slow = any(name not in whole for name in averages(hoisted))
        self.values = [n for n in (*(s.name for s in net.states), *read_by_weights(hoisted)) if n not in whole]
        count = len(self.values)
        self.most_trials = 1 + MOST_GUARD_BITS + _MOST_STEPS + count + 1 + count.bit_length() + _MOST_NARROWING
        self.trials: list[WideTrial] = []
        self.now = self._trial(options, "", 0)
        self.required, self.most_error = with_margin(target, self.now.labels), math.inf
        self._accept(options, self.now)

    @property
    def enough(self) -> bool:
        """Whether the setting reached keeps as many labels as are sought."""
        return self._enough(self.now)

    def _enough(self, trial: WideTrial) -> bool:
        return trial.share >= self.required and trial.error <= self.most_error

    def try_guards(self) -> None:
        """The fewest guard bits that suffice, else those with the most labels and the least error."""
        for bits in range(self.options.guard_bits + 1, MOST_GUARD_BITS + 1) if self.slow else ():
            if self.enough:
                return
            options = replace(self.options, guard_bits=bits)
            trial = self._trial(options, _GUARD, bits)
            if _better(trial, self.now):
                self._accept(options, trial)

    def try_widths(self) -> dict[str, float]:
        """Widths for the values that need them; their shares of the error that rounding to the first widths brings."""
        first = self.options
        narrow = {n: first.states.get(n, first.state_bits) for n in self.values}
        for step in range(1, _MOST_STEPS + 1) if narrow else ():
            wide = {n: min(bits + step * _STEP_BITS, MOST_BITS) for n, bits in narrow.items()}
            options = replace(first, states={**first.states, **wide})
            trial = self._trial(options, _ALL, max(wide.values()))
            if _better(trial, self.now):
                self._accept(options, trial)
            if self.enough:
                break
        if not self.enough:
            self.required, self.most_error = self.now.share, _NEAR * self.now.error
        wide = {n: self.options.states.get(n, bits) for n, bits in narrow.items()}
        if wide == narrow:
            return {}
        floor = self._trial(self.options, _ALL, max(wide.values()), self.few).error ** 2
        gains = {}
        for name, bits in narrow.items():
            options = replace(self.options, states={**self.options.states, name: bits})
            gains[name] = self._trial(options, name, bits, self.few).error ** 2 - floor
        order = sorted(narrow, key=lambda n: -gains[n])
        count = len(order)
        for half in _halvings(count - 1):
            few = count - half
            if few < 1:
                continue
            options = replace(first, states={**first.states, **{n: wide[n] for n in order[:few]}})
            trial = self._trial(options, order[few - 1], wide[order[few - 1]])
            if self._enough(trial):
                self._accept(options, trial)
                count = few
        self._narrow([n for n in reversed(order) if self.options.states.get(n) == wide[n]], narrow)
        total = sum(max(g, 0.0) for g in gains.values())
        return {n: max(gains[n], 0.0) / total for n in order} if total > 0.0 else {}

    def _narrow(self, names: Sequence[str], least: Mapping[str, int]) -> None:
        """Take back bits that the labels do not need, half of what is left first."""
        most = len(self.trials) + _MOST_NARROWING
        for name in names:
            for fewer in _halvings(self.options.states[name] - least[name]):
                bits = self.options.states[name] - fewer
                if bits < least[name]:
                    continue
                if len(self.trials) == most:
                    return
                options = replace(self.options, states={**self.options.states, name: bits})
                trial = self._trial(options, name, bits)
                if self._enough(trial):
                    self._accept(options, trial)

    def _accept(self, options: QuantizeOptions, trial: WideTrial) -> None:
        self.options, self.now = options, replace(trial, accepted=True)
        self.trials[-1] = self.now

    def _trial(self, options: QuantizeOptions, changed: str, bits: int, samples: _Samples | None = None) -> WideTrial:
        samples = samples or self.all
        lowered = Ground.of(self.net, options, calibration=self.calibration, ranges={}).lowered(self.kinds).net
        run = run_golden(lowered, encode(lowered, samples.inputs)[0], trace=False)
        equal, labels = labels_equal(lowered, run, samples.reference)
        squares = [
            np.square(run.outputs[o.name] * (o.scale or 1.0) - samples.reference.outputs[o.name]).mean()
            for o in lowered.outputs
            if o.kind == "classes"
        ]
        self.trials.append(WideTrial(changed, bits, equal, labels, math.sqrt(float(np.mean(squares)))))
        if self.progress is not None:
            self.progress(len(self.trials), self.most_trials)
        return self.trials[-1]


def _halvings(span: int) -> Iterator[int]:
    """Steps of a search by halving that reaches every one of `span` values below where it starts."""
    step = 1 << max(span.bit_length() - 1, 0) if span > 0 else 0
    while step > 0:
        yield step
        step //= 2


def _better(trial: WideTrial, than: WideTrial) -> bool:
    return (trial.equal, -trial.error) > (than.equal, -than.error)
