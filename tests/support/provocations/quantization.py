"""Quantization, the search for widths, and training for the integers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from quantize_nets import loop, net

from eqcompile.quantization.lower import lower
from eqcompile.quantization.qat.stage import tune
from eqcompile.quantization.search import search
from eqcompile.toolchain import registry
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.config import settings_from_config
from eqcompile.toolchain.importers.family import Family
from eqcompile.toolchain.interfaces import Imported, QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Schedule, State, ops
from eqcompile.toolchain.options import TuneOptions

from .case import CHECKPOINTS, ROOT, Case, Provocations


def plain() -> EqNet:
    """A loop that is quantized without trouble."""
    return loop(np.random.default_rng(0)).net


def lowered(
    source: EqNet | None = None, *, ranges: Mapping[str, Any] | None = None, x: Any = None, **options: Any
) -> Any:
    """A net, by default `plain`, quantized with these options."""
    calibration = None if x is None else {"x": np.asarray(x)}
    return lower(source or plain(), QuantizeOptions(**options), calibration=calibration, ranges=ranges)


def leaky() -> EqNet:
    """A linear state: no interval of it stays inside itself."""
    return net(
        {"W": 0.9 * np.eye(3) + 0.2},
        x=(3,),
        states=[State("h", (3,), "next")],
        step=[
            ops.Linear(out="recurrent", x="h", weight="W"),
            ops.Add(out="new", a="x", b="recurrent"),
            ops.Damp(out="next", old="h", new="new", alpha=0.25),
        ],
        output="h",
        steps=8,
    )


def huge() -> EqNet:
    """A bias of absurd size."""
    source = plain()
    return replace(
        source, params=tuple(replace(p, value=p.value * 1e30) if p.name == "b" else p for p in source.params)
    )


def widening() -> EqNet:
    """A product with a constant of more entries than the value."""
    return net(
        {"gain": np.ones((4, 4))},
        x=(4,),
        states=[State("h", (4,), "h"), State("g", (4, 4), "grown")],
        step=[ops.Mul(out="grown", a="h", b="gain")],
        output="h",
        steps=2,
    )


def searched(samples: int, target: float, *, classes: bool = True) -> Any:
    """The widths of `plain`."""
    source = plain()
    source = replace(source, outputs=(replace(source.outputs[0], kind="classes" if classes else "values"),))
    inputs = {"x": np.random.default_rng(0).normal(size=(samples, *source.inputs[0].shape))}
    return search(
        source, QuantizeOptions(weights="ternary", state_bits=2), calibration=None, inputs=inputs, target=target
    )


def kept(*, calibrated: bool) -> Any:
    """A lowering that is to keep labels."""
    source = plain()
    source = replace(source, outputs=(replace(source.outputs[0], kind="classes"),))
    inputs = {"x": np.random.default_rng(0).normal(size=(8, *source.inputs[0].shape))}
    return lower(source, QuantizeOptions(keep_labels=0.9), calibration=inputs if calibrated else None)


def digits(name: str = "digits_looped.pt") -> Imported:
    """A trained checkpoint."""
    return import_model(CHECKPOINTS / name)


def tuned(imported: Imported, *, labels: Any = (0, 1, 2, 3), frames: tuple[int, ...] = (), **options: Any) -> Any:
    """An epoch of training on four samples."""
    samples = np.random.default_rng(0).normal(size=(4, *frames, *imported.net.inputs[0].shape))
    data = Inputs({imported.net.inputs[0].name: samples}, None if labels is None else np.array(labels))
    return tune(imported, data, TuneOptions(quantize=QuantizeOptions(), **{"epochs": 1, "hold_out": 0.0, **options}))


def zoo(case: Case, name: str) -> Imported:
    """A checkpoint of the zoo as a file of its own."""
    with np.load(ROOT / "tests" / "data" / "zoo" / f"{name}.npz", allow_pickle=False) as file:
        stored = {key: file[key] for key in file.files}
    meta = json.loads(str(stored["meta"]))
    family = registry.find("families", meta["family"], Family)
    settings = {**settings_from_config(family, meta["config"], meta["forward_kwargs"]), **meta["size"]}
    weights = {key.removeprefix("weights/"): a for key, a in stored.items() if key.startswith("weights/")}
    return import_model(case.arrays("model.npz", **weights), family=family.key, settings=settings)


def graph() -> Imported:
    """A net that comes from a graph."""
    return replace(digits(), family="nir.NIRGraph")


def doubled() -> Imported:
    """A net that is not what its file holds."""
    imported = digits()
    params = tuple(replace(p, value=p.value * 2.0) for p in imported.net.params)
    return replace(imported, net=replace(imported.net, params=params))


QUANTIZATION: Provocations = {
    "calibration-zero": lambda case: lowered(x=np.zeros((2, 5))),
    "contract-impossible": lambda case: lowered(max_lipschitz=1e-9),
    "dither-frames": lambda case: lowered(replace(plain(), schedule=Schedule(30, frames=True)), dither=2),
    "dither-scale": lambda case: lowered(dither=2),
    "dither-ticks": lambda case: lowered(dither=30),
    "few-inputs": lambda case: searched(1, 0.9),
    "keep-labels-data": lambda case: kept(calibrated=False),
    "no-labels": lambda case: searched(8, 0.9, classes=False),
    "option-range": lambda case: lowered(input_range=(1.0, 1.0)),
    "option-together": lambda case: lowered(keep_labels=0.9, max_lipschitz=0.9),
    "option-value": lambda case: lowered(state_bits=1),
    "option-weights": lambda case: lowered(weights="int9"),
    "range-name": lambda case: lowered(ranges={"q": (0.0, 1.0)}),
    "range-unknown": lambda case: lowered(leaky()),
    "range-value": lambda case: lowered(ranges={"x": (1.0, 0.0)}),
    "target-unreachable": lambda case: searched(400, 1.0),
    "too-wide": lambda case: lowered(huge()),
    "tune-data": lambda case: tuned(digits(), hold_out=0.1),
    "tune-diverged": lambda case: tuned(digits(), lr=1e30, epochs=3),
    "tune-family": lambda case: tuned(graph()),
    "tune-labels": lambda case: tuned(digits(), labels=None),
    "tune-nothing": lambda case: tuned(zoo(case, "TernaryEqProp_release_t0.5")),
    "tune-source": lambda case: tuned(doubled()),
    "tune-unsupported": lambda case: tuned(zoo(case, "TemporalResonanceEqProp_release_sn"), frames=(3,)),
    "unknown-state": lambda case: lowered(states={"g": 9}, guards={"h": 2, "g": 1}),
    "unknown-weight": lambda case: lowered(widths={"W_nothing": "int4"}, states={"g": 99}),
    "unsupported-op": lambda case: lowered(widening()),
}
