"""Files of inputs and results of a network. Emitted as it stands into artifacts that a Python script runs."""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

__all__ = ["DETAILS", "InputError", "command", "read_codes"]

DETAILS = "details.json"
"""Name in a file of results of what is no output, state or step count: a JSON object as text."""

Described = tuple[Sequence[int], int, int, float | None]
"""Shape, lowest and highest code, and the value of one code; None for indices."""


class InputError(ValueError):
    """The input file is not what the network takes."""


def read_codes(path: Path, inputs: Mapping[str, Described], *, framed: bool) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Codes `[batch, frames, *shape]` int64 by input; without `framed` there is one frame.

    The file holds each input `[batch, (frames,) *shape]`: codes or indices under `codes.NAME`, or under NAME real
    values (or indices), encoded as `clip(rint(value / scale), lowest, highest)`, half to even. A single input may also
    be called `x`, its codes `codes` or `codes.x`. Raises InputError.
    """
    arrays = _arrays(path)
    codes = {}
    for name, (shape, lowest, highest, scale) in inputs.items():
        single = len(inputs) == 1
        names = [f"codes.{name}", *(["codes.x", "codes"] if single else []), name, *(["x"] if single else [])]
        key = next((n for n in names if n in arrays), None)
        if key is None:
            raise InputError(f"{path} has {sorted(arrays)}, needs {name!r} (real values) or 'codes.{name}'")
        value, lead = arrays[key], 2 if framed else 1
        if value.ndim != lead + len(shape) or value.shape[lead:] != tuple(shape) or 0 in value.shape:
            axes = ["batch", *(["frames"] if framed else []), *map(str, shape)]
            raise InputError(f"{key} has shape {value.shape}, the network takes [{', '.join(axes)}]")
        if not key.startswith("codes") and scale is not None:
            value = _encoded(key, value, lowest, highest, scale)
        if value.dtype.kind not in "iu":
            raise InputError(f"{key} is {value.dtype}, must be integer codes")
        if value.min() < lowest or value.max() > highest:
            raise InputError(f"{key} has codes {value.min()} to {value.max()}, must be {lowest} to {highest}")
        codes[name] = (value if framed else value[:, np.newaxis]).astype(np.int64)
    if len({array.shape[:2] for array in codes.values()}) != 1:
        raise InputError(f"inputs differ in batch or frames: { ({n: a.shape for n, a in codes.items()}) }")
    return codes


def _arrays(path: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no .npz file that can be read: {error or 'it is empty'}") from error


def _encoded(key: str, value: np.ndarray, lowest: int, highest: int, scale: float) -> np.ndarray:  # type: ignore[type-arg]
    if value.dtype.kind not in "fiu":
        raise InputError(f"{key} is {value.dtype}, must be numbers")
    finite = np.isfinite(value)
    if not finite.all():
        raise InputError(f"{key}: {int((~finite).sum())} of {value.size} values are NaN or infinite")
    rounded: np.ndarray = np.clip(np.rint(value.astype(np.float64) / scale), lowest, highest)  # type: ignore[type-arg]
    return rounded.astype(np.int64)


def command(
    run: Callable[[dict[str, np.ndarray], argparse.Namespace], Mapping[str, np.ndarray]],  # type: ignore[type-arg]
    inputs: Mapping[str, Described],
    *,
    framed: bool,
    about: str,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """The program `run.py -i x.npz -o y.npz [--trace]`; its exit status, 2 if a file is wrong.

    `run(codes, arguments)` takes what `read_codes` returns and gives the arrays of y.npz: each output under its name,
    `steps`, with --trace `state.NAME` `[ticks, batch, *shape]`, and under DETAILS what else it has to say, as JSON.
    `options` adds options of this program's own.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("-i", "--input", type=Path, required=True, help="npz file of inputs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="npz file to write")
    parser.add_argument("--trace", action="store_true", help="also write every state after every tick")
    if options is not None:
        options(parser)
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    try:
        results = run(read_codes(arguments.input, inputs, framed=framed), arguments)
        with output.open("wb") as file:
            np.savez(file, **results)
    except (InputError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
