"""Samples that a user hands over: a file, arrays in memory, or what was read already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.data import Inputs, read_inputs, take_inputs
from eqcompile.toolchain.ir import Net

__all__ = ["MEMORY", "SampleSource", "name_of", "samples_of"]

SampleSource: TypeAlias = str | Path | Array | Mapping[str, Array] | Inputs
"""An `.npz` or `.npy`; an array `[samples, (frame,) *shape]` for a net with one input; arrays by input name, with
`labels` and outputs as in a file; or `Inputs`."""
MEMORY = "the samples in memory"
"""How samples are called that come from no file."""


def samples_of(source: SampleSource, net: Net, *, limit: int | None = None) -> Inputs:
    """The samples as float64 `[samples, (frame,) *shape]` by input; the first `limit` of them.

    Raises ImportFileError with every fault, as `read_inputs`.
    """
    if isinstance(source, (str, Path)):
        return read_inputs(Path(source), net, limit=limit)
    if isinstance(source, Inputs):
        return source if limit is None else source.first(limit)
    arrays = source if isinstance(source, Mapping) else {"x": source}
    return take_inputs({name: np.asarray(array) for name, array in arrays.items()}, net, where=MEMORY, limit=limit)


def name_of(source: SampleSource) -> str:
    """The name of the file, or that there is none."""
    return Path(source).name if isinstance(source, (str, Path)) else MEMORY
