"""A net of every family: trained where there is a file, else one with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from class_nets import example
from numpy.typing import NDArray
from published_nets import NETS, published_net
from untrained_nets import UNTRAINED, untrained_net
from zoo_classes import CASES
from zoo_nets import NAMES, zoo_net

from eqcompile.toolchain.ir import EqNet

__all__ = ["FAMILY_NETS", "TRAINED", "FamilyNet", "family_net"]

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FamilyNet:
    """A net, its test inputs, and the inputs that it is calibrated with: of the zoo the same two samples for both."""

    net: EqNet
    inputs: Inputs
    calibration: Inputs


def _modules() -> dict[str, str]:
    """The first case of each class that no other net stands for, by the name that its net has here."""
    first: dict[str, str] = {}
    for case_name, case in CASES.items():
        first.setdefault(f"random {case.family}", case_name)
    return first


_MODULES = _modules()
_READ_AS = {
    f"{name} as {key}": (name, key)
    for key, name in (
        ("models.CHLAutoencoder", "ContrastiveHebbianLearning_release_sn"),
        ("models.FullEqPropLM", "CausalTransformerEqProp_release"),
    )
}
"""Files of a class whose update is that of another, read as that one."""
TRAINED = (*NAMES, *NETS)
FAMILY_NETS = (*TRAINED, *_READ_AS, *(f"random {key}" for key in UNTRAINED), *_MODULES)


@cache
def family_net(name: str) -> FamilyNet:
    """The net of a name of `FAMILY_NETS`."""
    if name in NETS:
        return FamilyNet(*published_net(name))
    if name in NAMES or name in _READ_AS:
        net, inputs = zoo_net(*_READ_AS.get(name, (name,)))
        return FamilyNet(net, inputs, inputs)
    if name in _MODULES:
        module = example(_MODULES[name])
        inputs = {"x": module.x if module.x.dtype.kind == "i" else module.x.astype(np.float64)}
        return FamilyNet(module.net(), inputs, inputs)
    net, inputs = untrained_net(name.removeprefix("random "))
    return FamilyNet(net, inputs, inputs)
