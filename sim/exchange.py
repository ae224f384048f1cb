"""What runners of programs share: codes in a file, results in a file, and what is not installed."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..toolchain.diagnostics import Diagnostic, MissingToolError, SimulatorError

__all__ = ["STATE", "demand", "read_results", "states_of", "unreadable", "write_codes"]

STATE = "state."
"""Prefix of the states in a file of results: `[ticks, batch, *shape]`."""


def demand(name: str, *, packages: Mapping[str, str], programs: Mapping[str, str]) -> None:
    """Raise MissingToolError for the simulator `name`, with the install command that each absent Python package and
    program maps to."""
    absent = {p: how for p, how in packages.items() if find_spec(p) is None}
    absent |= {p: how for p, how in programs.items() if shutil.which(p) is None}
    if absent:
        raise MissingToolError(
            [Diagnostic("missing-tool", f"{tool} is not installed", name, how) for tool, how in absent.items()]
        )


def write_codes(path: Path, inputs: Mapping[str, NDArray[np.int64]]) -> Path:
    """Write codes `[samples, (frame,) *shape]` of every input under `codes.<name>`."""
    with path.open("wb") as file:
        np.savez(file, **{f"codes.{name}": codes for name, codes in inputs.items()})
    return path


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """Turns what reading results raises into a SimulatorError that names the artifact."""
    try:
        yield
    except (OSError, KeyError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        what = f"no readable results: {error or 'they end too early'}"
        raise SimulatorError(Diagnostic("simulator-output", what, str(folder))) from error


def read_results(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a file of results, by name, in the shape and dtype that it was written; within `unreadable`."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def states_of(found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The states among results, codes `[ticks, samples, *shape]` of an integer type."""
    return {n.removeprefix(STATE): v for n, v in found.items() if n.startswith(STATE)}
