"""Trained nets of other research codes: the files that those codes wrote, and what they computed from them in float64.

`tests/data/published/README.md` says what each file is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import EqNet

__all__ = ["NETS", "PUBLISHED", "UPDATES", "PublishedNet", "published_net"]

PUBLISHED = Path(__file__).parents[1] / "data" / "published"


def loaded(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@dataclass(frozen=True)
class PublishedNet:
    """A file, the class that wrote it and what it was trained with; `out` names the stored outputs of that class."""

    name: str
    file: str
    family: str
    settings: Mapping[str, str]
    out: str = "out"

    @property
    def path(self) -> Path:
        return PUBLISHED / f"{self.file}.pt"

    @property
    def options(self) -> list[str]:
        """The settings as a user types them."""
        return [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]

    def build(self, **settings: str) -> EqNet:
        return import_model(self.path, family=self.family, settings={**self.settings, **settings}).net

    def data(self) -> dict[str, NDArray[Any]]:
        """`x`, `labels`, what the source code computed (`out`), and perhaps its states (`states/h0`)."""
        stored = loaded(PUBLISHED / f"{self.file}.npz")
        return {**stored, "out": stored[self.out]}


NETS = {
    net.name: net
    for net in (
        PublishedNet("P_MLP", "laborieux_pmlp", "laborieux.P_MLP", {"act": "mysig", "loss": "mse", "steps": "30"}),
        PublishedNet(
            "P_CNN",
            "laborieux_pcnn",
            "laborieux.P_CNN",
            {
                **{"act": "hard_sigmoid", "loss": "mse", "steps": "60", "height": "8", "width": "8", "pools": "aa"},
                **{"strides": "1", "paddings": "1", "softmax": "false"},
            },
        ),
        PublishedNet("binary weights", "laydevant_fc", "laydevant.Network_fc_bin_W", {"steps": "30"}),
        PublishedNet(
            "deep Hopfield",
            "hopfield_dhn",
            "hopfield.DeepHopfieldEnergy",
            {"mode": "asynchronous", "steps": "30"},
        ),
        PublishedNet(
            "monDEQ, forward-backward",
            "mondeq_fc",
            "mondeq.SingleFcNet",
            {"solver": "forward-backward", "alpha": "0.125", "m": "1.0", "steps": "60"},
            "out_fb",
        ),
        PublishedNet(
            "monDEQ, Peaceman-Rachford",
            "mondeq_fc",
            "mondeq.SingleFcNet",
            {"solver": "peaceman-rachford", "alpha": "1.0", "m": "1.0", "steps": "20"},
            "out_pr",
        ),
        PublishedNet("torchdeq", "torchdeq_tanh", "torchdeq.TanhCell", {"steps": "40", "tau": "1.0"}),
    )
}


UPDATES = (
    "hopfield.ConvHopfieldEnergy32",
    "hopfield.ConvHopfieldResEnergy32",
    "laborieux.VF_CNN",
    "laborieux.VF_MLP",
    "laydevant.Network_fc_bin_W_N",
)
"""Families without a stored file; `tests/importers/test_published_updates.py` has their published updates."""


@cache
def published_net(name: str) -> tuple[EqNet, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """A net, its test inputs and its calibration inputs."""
    case = NETS[name]
    return case.build(), {"x": case.data()["x"]}, loaded(PUBLISHED / f"{case.file}_calibration.npz")
