"""How many labels the float net and the integers get right, where the inputs have labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqcompile.toolchain.data import Inputs, encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.reference import run_reference

__all__ = ["Accuracy", "accuracy_of"]


@dataclass(frozen=True)
class Accuracy:
    """Correct labels of `samples` labels: by the float64 reference, and by the integers (golden)."""

    samples: int
    float_correct: int
    int_correct: int
    source: str


def accuracy_of(net: EqNet, integers: IntNet, inputs: Inputs, source: str) -> Accuracy | None:
    """Run both nets on labelled inputs (`source` says which); None if there are no labels or several outputs of
    classes."""
    classes = [o.name for o in integers.outputs if o.kind == "classes"]
    if inputs.labels is None or len(classes) != 1:
        return None
    real = run_reference(net, inputs).outputs[classes[0]].argmax(axis=-1)
    codes = run_golden(integers, encode(integers, inputs)[0], trace=False).outputs[classes[0]].argmax(axis=-1)
    right = (int(np.sum(labels == inputs.labels)) for labels in (real, codes))
    return Accuracy(inputs.labels.size, next(right), next(right), source)
