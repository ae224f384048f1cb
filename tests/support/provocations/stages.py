"""The Python interface: what its functions are handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import eqcompile as eq

from .case import CHECKPOINTS, SAMPLES, Case, Provocations

LOOPED = CHECKPOINTS / "digits_looped.pt"


def configured(config: Mapping[str, object]) -> Callable[[Case], Any]:
    """The looped digits net with these integers."""
    return lambda case: eq.quantize(eq.load(LOOPED), config=config)


def floats(case: Case) -> Any:
    net = eq.load(LOOPED)
    run = net.run(SAMPLES, limit=1)
    return eq.compare(run, run)


def panels(case: Case) -> Any:
    return eq.load(LOOPED).run(SAMPLES, limit=1).plot().save(case.folder / "picture.svg")


def reported(case: Case) -> Any:
    eq.compile(eq.quantize(eq.load(LOOPED)), target="numpy", out=case.folder / "out", verify=False, samples=1)
    return eq.open(case.folder / "out").report(case.folder / "report")


STAGES: Provocations = {
    "compare-floats": floats,
    "config-entry": configured({"weights": {"W_rec_weight": "int9"}}),
    "config-unknown": configured({"states": {"h": {"width": 8}}}),
    "no-report": reported,
    "picture-panels": panels,
    "unknown-keyword": lambda case: eq.quantize(eq.load(LOOPED), wieghts="int4"),
}
