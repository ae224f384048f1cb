"""Input data files: samples for calibration and evaluation, checked against the net that will read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Numbers, Reals
from .diagnostics import Diagnostic, ImportFileError, UsageError
from .importers.files.arrays import NPY_MAGIC, NpzFile, read_npy
from .importers.files.containers import regular_file
from .inputs import check_inputs
from .ir import IntNet, Net
from .passes import Analysis

__all__ = ["Inputs", "encode", "read_inputs", "take_inputs"]

_SAVE = "save the samples with numpy.savez(path, x=samples, labels=classes)"


@dataclass(frozen=True, eq=False)
class Inputs(Mapping[str, Numbers]):
    """Arrays by input name, `[batch, (frame,) *shape]`: float64 for numbers, int64 for indices.

    `labels` is int64 and shaped as the net's labels, None if the file holds none or the net tells no classes.
    `outputs`: what the network that was trained gives for the samples, by output, as far as the file holds it; shaped
    as the output.
    """

    arrays: Mapping[str, Numbers]
    labels: NDArray[np.int64] | None = None
    outputs: Mapping[str, Reals] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Numbers:
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def count(self) -> int:
        """Samples."""
        return len(next(iter(self.arrays.values())))

    def first(self, count: int) -> Inputs:
        """The first `count` samples, all if there are fewer."""
        labels = None if self.labels is None else self.labels[:count]
        outputs = {name: array[:count] for name, array in self.outputs.items()}
        return Inputs({name: array[:count] for name, array in self.arrays.items()}, labels, outputs)


def read_inputs(path: Path, net: Net, *, limit: int | None = None) -> Inputs:
    """Samples for `net` from an `.npz` (key: the input's name, or `x` if there is one input; `labels` if the net tells
    classes; the name of an output, or `logits` or `outputs` if there is one, for what the trained network gives) or,
    for a net with one input, an `.npy`; the first `limit` of them.

    Other keys of the file are not read. Raises ImportFileError with every fault: damaged or oversized file, missing
    key, wrong shape or type, NaN or infinite entries, indices or labels out of range; UsageError for a limit below 1.
    """
    size = regular_file(path)
    try:
        with path.open("rb") as handle:
            start = handle.read(len(NPY_MAGIC))
            handle.seek(0)
            if start == NPY_MAGIC:
                held = {"x": read_npy(handle, size, path.name)}
            elif start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                file = NpzFile(handle, size, path.name)
                wanted = {"x", "labels", *_output_keys(net), *(i.name for i in net.inputs)}
                held = {key: file.read(key) for key in file.headers if key in wanted}
            else:
                what = f"this is not an .npz or .npy file: its {size} bytes begin with {start!r}"
                raise ImportFileError(Diagnostic("file-format", what, path.name, _SAVE))
    except OSError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error.strerror}", str(path))) from error
    return take_inputs(held, net, where=path.name, limit=limit)


def take_inputs(arrays: Mapping[str, Array], net: Net, *, where: str, limit: int | None = None) -> Inputs:
    """Samples for `net` from arrays of numbers `[samples, (frame,) *shape]`, under the keys that `read_inputs` reads.

    `where`: what they are from; the first `limit` of them. Raises ImportFileError with every fault, and UsageError for
    a limit below 1, as `read_inputs`.
    """
    if limit is not None and limit < 1:
        raise UsageError(Diagnostic("limit", f"the limit is {limit} samples, must be at least 1"))
    held = dict(arrays)
    labels = held.pop("labels") if "labels" in held and "labels" not in {i.name for i in net.inputs} else None
    outputs = {key: held.pop(key) for key in _output_keys(net) if key in held}
    if len(net.inputs) == 1 and net.inputs[0].name not in held and "x" in held:
        held = {net.inputs[0].name: held["x"]}
    first = {key: array[:limit] if array.ndim else array for key, array in held.items()}
    fit, faults = check_inputs(net, first, content="reals", where=where, others=True, hint=_SAVE)
    told = None
    expected: dict[str, Reals] = {}
    if not faults:
        lead = next(iter(fit.values())).shape[: 2 if net.schedule.emit == "every" else 1]
        if labels is not None:
            told, faults = _labels(net, labels[:limit] if labels.ndim else labels, lead, where)
        expected, more = _outputs(net, {k: v[:limit] if v.ndim else v for k, v in outputs.items()}, lead, where)
        faults = [*faults, *more]
    if faults:
        raise ImportFileError(faults)
    return Inputs(fit, told, expected)


def encode(net: IntNet, inputs: Mapping[str, Array]) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Codes `clip(rint(x / scale), lo, hi)` of every input (indices as they are), and how many entries were clipped.

    IEEE double division, round half to even. Raises ImportFileError as `read_inputs` does.

    Inputs are `[batch, (frame,) *shape]`, codes int64 of the same shape.
    """
    arrays, faults = check_inputs(net, inputs, content="reals", where="inputs", others=True, hint=_SAVE)
    if faults:
        raise ImportFileError(faults)
    codes: dict[str, NDArray[np.int64]] = {}
    saturated = 0
    for i in net.inputs:
        if i.encoding is None:
            codes[i.name] = arrays[i.name].astype(np.int64, copy=False)
            continue
        with np.errstate(over="ignore"):
            real = np.rint(arrays[i.name] / i.encoding.scale)
        lo, hi = i.encoding.format.lo, i.encoding.format.hi
        saturated += int(((real < lo) | (real > hi)).sum())
        codes[i.name] = np.clip(real, lo, hi).astype(np.int64)
    return codes, saturated


def _output_keys(net: Net) -> dict[str, str]:
    """Output by the key of a file that may hold it."""
    keys = {o.name: o.name for o in net.outputs}
    if len(net.outputs) == 1:
        keys |= dict.fromkeys(("logits", "outputs"), net.outputs[0].name)
    inputs = {i.name for i in net.inputs}
    return {key: name for key, name in keys.items() if key not in {*inputs, "x", "labels"}}


def _outputs(
    net: Net, arrays: Mapping[str, Array], lead: tuple[int, ...], where: str
) -> tuple[dict[str, Reals], list[Diagnostic]]:
    """What the file says of the outputs `[*lead, *shape]` as float64, and what is wrong with it."""
    values = {o.name: o.value for o in net.outputs}
    expected: dict[str, Reals] = {}
    faults: list[Diagnostic] = []
    for key, array in arrays.items():
        name, place = _output_keys(net)[key], f"{where}:{key}"
        want = (*lead, *Analysis.of(net).shapes[values[name]])
        if array.shape != want:
            what = f"{key} has shape {list(array.shape)}, output {name} of these samples has {list(want)}"
            faults.append(Diagnostic("outputs-shape", what, place))
        elif array.dtype.kind != "f" or not np.isfinite(array).all():
            what = _not_finite(array) or f"elements of type {array.dtype}"
            faults.append(Diagnostic("outputs-type", f"{key} has {what}, must be finite real numbers", place))
        else:
            expected[name] = array.astype(np.float64)
    return expected, faults


def _labels(
    net: Net, labels: Array, lead: tuple[int, ...], where: str
) -> tuple[NDArray[np.int64] | None, list[Diagnostic]]:
    """Labels as int64 (None if no output tells classes), and what is wrong with them."""
    told = [o for o in net.outputs if o.kind == "classes"]
    if not told:
        return None, []
    *axes, classes = Analysis.of(net).shapes[told[0].value]
    want, place = (*lead, *axes), f"{where}:labels"
    if labels.shape != want:
        what = f"labels has shape {list(labels.shape)}, these samples want {list(want)}"
        return None, [Diagnostic("labels-shape", what, place)]
    if labels.dtype.kind not in "iu":
        what = _not_finite(labels) or f"elements of type {labels.dtype}"
        return None, [Diagnostic("labels-type", f"labels has {what}, must be integers", place)]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        what = f"labels go from {low} to {high}, the net tells classes 0 to {classes - 1}"
        return None, [Diagnostic("labels-range", what, place)]
    return labels.astype(np.int64), []


def _not_finite(array: Array) -> str:
    """How many entries `[*shape]` are NaN or infinite, in words; empty if none is."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    return f"{int(np.isnan(array).sum())} NaN and {int(np.isinf(array).sum())} infinite of {array.size} entries"
