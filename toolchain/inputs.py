"""The one check of what a net reads: the same faults have the same codes wherever inputs enter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from .arrays import Array, Numbers
from .diagnostics import Diagnostic
from .ir import Net
from .ir.parts import Input

__all__ = ["Content", "check_inputs"]

Content = Literal["reals", "codes"]
_KINDS = {"reals": ("biuf", "numbers"), "codes": ("iu", "integer codes"), "index": ("iu", "integer indices")}


def check_inputs(
    net: Net, inputs: Mapping[str, Array], *, content: Content, where: str, others: bool = False, hint: str = ""
) -> tuple[dict[str, Numbers], list[Diagnostic]]:
    """The fit inputs of a net, and every fault of the others.

    Args:
        net: what reads the inputs; frames of its schedule are an axis after the batch.
        inputs: arrays `[batch, (frame,) *shape]` by input name.
        content: `reals` in the units of the source model, or `codes` of the inputs' formats. Indices are integers
            either way.
        where: the file, or what else the inputs are from.
        others: arrays that are no inputs are ignored, as in a file that holds more.
        hint: what to do about an input that is missing.

    Returns:
        Arrays as float64 (reals) or int64 (codes, indices), and diagnostics with the codes `input-unknown`,
        `input-missing`, `input-shape`, `input-empty`, `input-dtype`, `input-not-finite`, `input-range` and
        `input-batch`.
    """
    names = ", ".join(i.name for i in net.inputs)
    unknown = [] if others else sorted(set(inputs) - {i.name for i in net.inputs})
    faults = [
        Diagnostic("input-unknown", f"{n!r} is no input of {net.name}", where, f"inputs: {names}") for n in unknown
    ]
    arrays: dict[str, Numbers] = {}
    for i in net.inputs:
        if i.name not in inputs:
            present = ", ".join(key[:40] for key in inputs) or "none"
            alias = " (or x)" if others and len(net.inputs) == 1 and i.name != "x" else ""
            what = f"there is no array {i.name}{alias}, the net reads it; there is {present}"
            faults.append(Diagnostic("input-missing", what, where, hint))
            continue
        array = np.asarray(inputs[i.name])
        fault = _fault(i, array, content=content, frames=net.schedule.frames)
        if fault is None:
            real = content == "reals" and i.kind == "number"
            arrays[i.name] = array.astype(np.float64) if real else array.astype(np.int64)
        else:
            faults.append(Diagnostic(fault[0], f"{i.name} {fault[1]}", f"{where}:{i.name}"))
    lead = 2 if net.schedule.frames else 1
    counts = {name: array.shape[:lead] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in counts.items())
        what = f"the inputs have different numbers of samples{' or frames' if lead == 2 else ''}: {shown}"
        faults.append(Diagnostic("input-batch", what, where))
    return arrays, faults


def _fault(i: Input, array: Array, *, content: Content, frames: bool) -> tuple[str, str] | None:
    """Code and text of the first fault of one input's array."""
    axes = ["batch", "frame"] if frames else ["batch"]
    want = f"[{', '.join([*axes, *map(str, i.shape)])}]"
    if array.ndim != len(axes) + len(i.shape) or array.shape[len(axes) :] != i.shape:
        return "input-shape", f"has shape {list(array.shape)}, the net wants {want}"
    if array.size == 0:
        return "input-empty", f"has shape {list(array.shape)}: there are no samples in it"
    kinds, nature = _KINDS["index" if i.kind == "index" else content]
    if array.dtype.kind not in kinds:
        return "input-dtype", f"has elements of type {array.dtype}, the net wants {nature}"
    if i.kind == "number" and content == "reals":
        if np.isfinite(array).all():
            return None
        nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        return "input-not-finite", f"has {nan} NaN and {inf} infinite of {array.size} entries"
    low, high = int(array.min()), int(array.max())
    least, most = (0, None if i.rows is None else i.rows - 1)
    if i.encoding is not None:
        least, most = i.encoding.format.lo, i.encoding.format.hi
    if low < least or (most is not None and high > most):
        top = "" if most is None else f" to {most}"
        return "input-range", f"has {nature.split()[-1]} {low} to {high}, the net wants {least}{top}"
    return None
