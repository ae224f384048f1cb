"""Networks of the model families as EqNets, from the small trained checkpoints in `data/zoo`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.importers.config import settings_from_config
from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.importers.settings import resolve
from eqcompile.toolchain.ir import EqNet

ZOO = Path(__file__).parents[1] / "data" / "zoo"
NAMES = tuple(sorted(path.stem for path in ZOO.glob("*.npz")))


@cache
def zoo_net(name: str, key: str = "") -> tuple[EqNet, dict[str, NDArray[Any]]]:
    """A net and two samples of its input; `key`: the family that reads the file, if not its own."""
    with np.load(ZOO / f"{name}.npz", allow_pickle=False) as file:
        stored = {key: file[key] for key in file.files}
    meta = json.loads(str(stored["meta"]))
    family = all_families()[key or meta["family"]]
    stated = settings_from_config(family, meta["config"], meta["forward_kwargs"])
    settings = resolve(family, user=meta["size"], config={}, stated=stated, label=name).values
    weights = {key.removeprefix("weights/"): a for key, a in stored.items() if key.startswith("weights/")}
    net = family.build(Tensors(name, weights), settings)
    return net, {net.inputs[0].name: stored["x"][:2]}
