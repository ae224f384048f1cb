"""A campaign of toy faults on a toy net: defined, written to a folder, and its stored rows read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from strategies import small_net

from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.definition import STORE
from eqcompile.sim.campaign.store import open_store

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
CODES = {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0], [2, 2, 2]])}


def define(codes: Any = CODES, **changes: Any) -> api.Campaign:
    given: dict[str, Any] = {
        "model": "toy",
        "options": {},
        "engine": "toy",
        "near": 1,
        "count": "auto",
        "seed": 3,
        "margin": 0.01,
        "confidence": 0.95,
        "stop_at_margin": None,
        "notes": {},
    }
    return api.define(NET, codes, **{**given, **changes})


def made(folder: Path, **changes: Any) -> Path:
    api.create(define(**changes), folder, force=False)
    return folder


def rows(folder: Path) -> dict[str, Any]:
    with open_store(folder / STORE, write=False) as store:
        return {name: column.tolist() for name, column in store.table().items()}
