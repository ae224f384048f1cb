"""The training of a checkpoint: batches, loss, schedule, and the choice of the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Alternative, StageProgress, Tuned, TuneOptions
from eqcompile.toolchain.reference import run_reference

from ...toolchain import data
from ...toolchain.arrays import Codes, Numbers, Reals
from ...toolchain.certificate import certify
from ...toolchain.data import Inputs
from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import EqNet, IntNet
from ...toolchain.typed_json import JSON, JsonObject
from ..lower import lower
from .checkpoint import Checkpoint
from .constraint import ContractionConstraint
from .learner import Learner
from .network import relax

__all__ = ["calibrated_gain", "train"]

N = TypeVar("N", Codes, Reals)

_CHUNK = 512
"""Samples evaluated at a time."""


def train(
    checkpoint: Checkpoint, samples: Inputs, options: TuneOptions, *, test: Inputs | None, progress: StageProgress
) -> Tuned:
    """Train `checkpoint` on labelled `samples`; see `TuneOptions` and `Tuned`. Never looks at `test` before the end.

    The same arguments give the same checkpoint on the same machine. Raises what `Learner` and `lower` raise, and
    UsageError if too little data is left to train on or the loss stops being finite.
    """
    kept, held = _split(samples, options)
    sets = {} if held is None else {"held-out": held}
    if test is not None and test.labels is not None:
        sets["test"] = _Labelled(test.arrays, test.labels)
    weaker = None
    if options.max_lipschitz is not None:
        scaled = replace(options.quantize, max_lipschitz=options.max_lipschitz)
        weaker = lower(checkpoint.net, scaled, calibration=samples.arrays).net
    result = _fit(checkpoint, samples, options, kept, held, lambda done, total: progress("train", done, total))
    output = result.learner.output
    others: dict[str, Alternative] = {}
    for name, other in _without_demands(options).items():
        try:
            fit = _fit(checkpoint, samples, other, kept, held, _under(progress, name))
            others[name] = _measured(fit.net, output, sets)
        except UsageError:
            # What it is compared with is done: it must not be lost because this training diverged.
            others[name] = Alternative({}, math.inf)
    if weaker is not None:
        others["weaker weights, no training"] = _measured(weaker, output, sets)
    return _finished(checkpoint, result, options, samples, sets, others)


@dataclass(frozen=True)
class _Fit:
    """A training: the values of the chosen epoch, and the net that the checkpoint with them lowers to."""

    learner: Learner
    values: Mapping[str, Reals]
    epoch: int
    history: list[JsonObject]
    net: IntNet


def _fit(
    checkpoint: Checkpoint,
    samples: Inputs,
    options: TuneOptions,
    kept: _Labelled,
    held: _Labelled | None,
    progress: Callable[[int, int], None],
) -> _Fit:
    """Train once; a bound of the contraction holds before the first batch and after each."""
    learner = Learner(checkpoint, options.quantize, samples.arrays, scales=options.max_lipschitz is not None)
    constraint = None if options.max_lipschitz is None else ContractionConstraint(learner, options.max_lipschitz)
    state = _State(learner, options, kept)
    order = np.random.default_rng(options.seed)
    history: list[JsonObject] = []
    if constraint is not None:
        constraint.enforce()
    best = _score(learner, held, 0)
    values, chosen = learner.arrays(), 0
    for epoch in range(1, options.epochs + 1):
        shuffled = order.permutation(len(kept.labels))
        losses, bounds = [], []
        for start in range(0, len(shuffled), options.batch):
            rows = shuffled[start : start + options.batch]
            losses.append(state.learn(kept, rows))
            if constraint is not None:
                bounds.append(constraint.enforce())
            progress(state.made, state.total)
        row: dict[str, JSON] = {
            "epoch": epoch,
            "loss": float(np.mean(losses)),
            "lr": float(state.schedule.get_last_lr()[0]),
        }
        if bounds:
            row["bound"] = max(bounds)
        score = _score(learner, held, epoch)
        if held is not None:
            row["held_out_accuracy"], row["held_out_loss"] = score[0], -score[1]
        history.append(row)
        if score > best:
            best, values, chosen = score, learner.arrays(), epoch
    net = lower(checkpoint.rebuilt(values), options.quantize, calibration=samples.arrays).net
    return _Fit(learner, values, chosen, history, net)


def _under(progress: StageProgress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"train {name}", done, total)


def _without_demands(options: TuneOptions) -> dict[str, TuneOptions]:
    """The trainings beside which the bound and the margin are priced, by what each of them leaves out."""
    bound, margin = options.max_lipschitz is not None, options.margin > 0.0
    free = replace(options, max_lipschitz=None, margin=0.0)
    match bound and not options.skip_cost, margin and not options.skip_cost:
        case True, True:
            return {"without the margin": replace(options, margin=0.0), "without bound and margin": free}
        case True, False:
            return {"without the bound": free}
        case False, True:
            return {"without the margin": free}
    return {}


def _measured(net: IntNet, output: str, sets: Mapping[str, _Labelled]) -> Alternative:
    return Alternative({name: _judge(net, output, part)[0] for name, part in sets.items()}, certify(net).bound)


def _score(learner: Learner, held: _Labelled | None, epoch: int) -> tuple[float, float]:
    """What ranks an epoch (0: before training): held-out accuracy, then loss; without held-out data the last wins."""
    if held is None:
        return 0.0, float(epoch)
    accuracy, loss = _judge(learner.lowered(), learner.output, held)
    return accuracy, -loss


@dataclass(frozen=True)
class _Labelled:
    arrays: Mapping[str, Numbers]
    labels: Codes

    def rows(self, rows: Codes) -> dict[str, Numbers]:
        return {n: a[rows] for n, a in self.arrays.items()}


class _State:
    """Optimizer and learning rate: Adam, cosine to 0."""

    def __init__(self, learner: Learner, options: TuneOptions, kept: _Labelled) -> None:
        self.learner, self.options = learner, options
        self.optimizer = torch.optim.Adam(learner.parameters(), lr=options.lr)
        self.total = options.epochs * math.ceil(len(kept.labels) / options.batch)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.total)
        self.made = 0
        self.noise = np.random.default_rng((options.seed, 1))
        self.gain = calibrated_gain(_teach(learner, kept.arrays), kept.labels)
        self.spread = {name: options.noise * spread for name, spread in learner.spread.items()}

    def learn(self, kept: _Labelled, rows: Codes) -> float:
        """One step of the optimizer; the loss before it."""
        inputs = {name: self._varied(name, array) for name, array in kept.rows(rows).items()}
        logits = self.learner(inputs, self.options.ticks).logits
        teacher = relax(self.learner.source, inputs)[self.learner.output]
        labels = torch.tensor(kept.labels[rows])
        loss = _loss(logits, labels, teacher, self.options.distill, self.gain)
        if self.options.margin > 0.0:
            loss = loss + _lack(logits, labels, self.options.margin)
        if not torch.isfinite(loss):
            what = f"the loss is {float(loss)} after {self.made} batches"
            raise UsageError(
                Diagnostic("tune-diverged", what, "--lr", f"lower it, for example {self.options.lr / 4:g}")
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.made += 1
        return float(loss.detach())

    def _varied(self, name: str, array: Numbers) -> Numbers:
        """The inputs with noise; indices as they are."""
        spread = self.spread.get(name, 0.0)
        return array + self.noise.normal(0.0, spread, array.shape) if spread > 0.0 else array


def _loss(logits: Tensor, labels: Tensor, teacher: Tensor, distill: float, gain: float) -> Tensor:
    """Cross-entropy with the labels, of logits times `gain`, and with the float net's probabilities (Hinton, Vinyals,
    Dean 2015, arXiv:1503.02531), of plain logits, mixed.

    Logits of nets of small norm are small. The labels see them as sharp as fits them; the probabilities, which tell
    more the softer they are, as they are.
    """
    found = logits.flatten(0, -2)
    told = functional.cross_entropy(gain * found, labels.flatten())
    return (1.0 - distill) * told + distill * functional.cross_entropy(found, teacher.flatten(0, -2).softmax(dim=-1))


def _lack(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean square of what the label's logit lacks of leading all others by `margin`, in units of it."""
    flat, label = logits.flatten(0, -2), labels.flatten()[:, None]
    lead = flat.gather(1, label)[:, 0] - flat.scatter(1, label, -math.inf).amax(dim=1)
    return functional.relu(1.0 - lead / margin).square().mean()


def calibrated_gain(logits: Reals, labels: Codes) -> float:
    """The factor in 1/16 .. 16 that makes float logits `[..., classes]` fit integer labels `[...]` best: the inverse of
    the temperature of Guo et al. 2017, arXiv:1706.04599."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    flat, told = torch.tensor(logits).flatten(0, -2).double(), torch.tensor(labels).flatten()
    found = minimize_scalar(
        lambda power: float(functional.cross_entropy(2.0**power * flat, told)), bounds=(-4.0, 4.0), method="bounded"
    )
    return float(2.0**found.x)


def _teach(learner: Learner, arrays: Mapping[str, Numbers]) -> Reals:
    """The float net's logits."""
    return _in_chunks(lambda x: np.asarray(relax(learner.source, x)[learner.output].numpy()), arrays)


def _split(samples: Inputs, options: TuneOptions) -> tuple[_Labelled, _Labelled | None]:
    """The samples to train on and, drawn by the seed, those held out."""
    if samples.labels is None:
        what = "the data has no labels"
        raise UsageError(Diagnostic("tune-labels", what, "--data", "numpy.savez(path, x=samples, labels=classes)"))
    count = len(samples.labels)
    away = round(options.hold_out * count)
    if count - away < 1 or (options.hold_out > 0.0 and away < 1):
        what = (
            f"{count} samples of which {options.hold_out:g} are held out leave {count - away} to train on, {away} out"
        )
        raise UsageError(Diagnostic("tune-data", what, "--hold-out", "give more data, or --hold-out 0"))
    drawn = np.random.default_rng(options.seed).permutation(count)
    everything = _Labelled(samples.arrays, samples.labels)
    parts = [_Labelled(everything.rows(np.sort(r)), samples.labels[np.sort(r)]) for r in (drawn[away:], drawn[:away])]
    return parts[0], parts[1] if away else None


def _in_chunks(function: Callable[[Mapping[str, Numbers]], N], arrays: Mapping[str, Numbers]) -> N:
    count = len(next(iter(arrays.values())))
    parts = [function({n: a[s : s + _CHUNK] for n, a in arrays.items()}) for s in range(0, count, _CHUNK)]
    return cast("N", np.concatenate(parts))


def _judge(net: IntNet, output: str, samples: _Labelled) -> tuple[float, float]:
    """Accuracy and cross-entropy of the integers, by golden."""
    golden = run_golden
    scale = next(o.scale for o in net.outputs if o.name == output) or 1.0
    codes = _in_chunks(lambda x: golden(net, data.encode(net, x)[0], trace=False).outputs[output], samples.arrays)
    return _right(codes, samples.labels), float(
        functional.cross_entropy(torch.tensor(codes * scale).flatten(0, -2), torch.tensor(samples.labels).flatten())
    )


def _float_accuracy(net: EqNet, output: str, samples: _Labelled) -> float:
    return _right(_in_chunks(lambda x: run_reference(net, x).outputs[output], samples.arrays), samples.labels)


def _right(logits: Numbers, labels: Codes) -> float:
    return float((logits.argmax(axis=-1) == labels).mean())


def _finished(
    checkpoint: Checkpoint,
    result: _Fit,
    options: TuneOptions,
    samples: Inputs,
    sets: Mapping[str, _Labelled],
    others: Mapping[str, Alternative],
) -> Tuned:
    output = result.learner.output
    before = lower(checkpoint.net, options.quantize, calibration=samples.arrays).net
    held = sets.get("held-out")
    return Tuned(
        checkpoint=checkpoint.content(result.values),
        net=result.net,
        accuracy={
            name: {
                "float": _float_accuracy(checkpoint.net, output, part),
                "before": _judge(before, output, part)[0],
                "after": _judge(result.net, output, part)[0],
            }
            for name, part in sets.items()
        },
        samples={"trained": len(samples.labels) - (0 if held is None else len(held.labels))}  # type: ignore[arg-type]
        | {name: len(part.labels) for name, part in sets.items()},
        history=result.history,
        epoch=result.epoch,
        frozen=result.learner.frozen,
        bound=certify(result.net).bound,
        others=others,
    )
