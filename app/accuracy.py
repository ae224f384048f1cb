"""Against what the user knows of the samples: labels that the nets get right, and outputs of the network as trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.data import Inputs, encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import FloatRun
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.reference import run_reference

__all__ = ["Accuracy", "Deviation", "Judgement", "deviations", "judge", "warnings_of"]

CLOSE = 1e-6
"""Largest deviation, as a share of the largest output, that rounding explains."""
MOST_CLASSES = 64


@dataclass(frozen=True)
class Accuracy:
    """Correct labels of `samples` labels: by the float64 reference, and by the integers (golden). `confusion`
    `[classes, classes]` int64: samples by true label and by that of golden, None for more than 64 classes."""

    samples: int
    float_correct: int
    int_correct: int
    source: str
    confusion: NDArray[np.int64] | None


@dataclass(frozen=True)
class Deviation:
    """The float64 reference against what the file of samples says of an output: the largest difference of any entry,
    and the same as a share of the largest entry."""

    output: str
    samples: int
    largest: float
    relative: float
    source: str

    @property
    def close(self) -> bool:
        """Whether the imported net is the one whose outputs the file holds, up to rounding."""
        return self.relative <= CLOSE

    def warning(self) -> str:
        """For a reader of the result."""
        return (
            f"the imported net is NOT the one that gave the outputs in {self.source}: output {self.output} differs by "
            f"up to {self.largest:.3g} ({self.relative:.1e} of the largest); check the family, its settings (such as "
            "steps) and how the inputs are scaled"
        )


@dataclass(frozen=True)
class Judgement:
    """What the samples say of both nets; `accuracy` None without labels, or with several outputs of classes."""

    accuracy: Accuracy | None
    deviations: tuple[Deviation, ...]


def judge(net: EqNet, integers: IntNet, inputs: Inputs, source: str) -> Judgement:
    """Run both nets on the samples as far as these have labels or outputs; `source` says which samples."""
    classes = [o.name for o in integers.outputs if o.kind == "classes"]
    labelled = inputs.labels is not None and len(classes) == 1
    if not labelled and not inputs.outputs:
        return Judgement(None, ())
    reference = run_reference(net, inputs)
    compared = deviations(reference, inputs, source)
    if inputs.labels is None or not labelled:
        return Judgement(None, compared)
    codes = run_golden(integers, encode(integers, inputs)[0], trace=False).outputs[classes[0]]
    both = reference.outputs[classes[0]], codes
    float_right, int_right = (int(np.sum(o.argmax(axis=-1) == inputs.labels)) for o in both)
    confusion = _confusion(inputs.labels, codes.argmax(axis=-1), codes.shape[-1])
    return Judgement(Accuracy(inputs.labels.size, float_right, int_right, source, confusion), compared)


def _confusion(true: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64] | None:
    """Samples by true label and by label `[classes, classes]`; None for more classes than anybody reads."""
    if classes > MOST_CLASSES:
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (true.reshape(-1), labels.reshape(-1)), 1)
    return counts


def deviations(reference: FloatRun, inputs: Inputs, source: str) -> tuple[Deviation, ...]:
    """One for each output that the inputs hold."""
    rows = []
    for name, expected in inputs.outputs.items():
        largest = float(np.abs(reference.outputs[name] - expected).max(initial=0.0))
        scale = float(np.abs(expected).max(initial=0.0))
        rows.append(Deviation(name, len(expected), largest, largest / scale if scale else largest, source))
    return tuple(rows)


def warnings_of(rows: Sequence[Deviation]) -> list[str]:
    """One for each deviation that rounding does not explain."""
    return [row.warning() for row in rows if not row.close]
