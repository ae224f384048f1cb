"""State dicts of Brevitas layers: weights as their quantizer reads them, so that a family imports exact values.

A state dict holds the float weight of a layer and, if its scale is a parameter, that; never the kind of quantizer nor
its bits, which are stated by `weight_quant` (the name of Brevitas' class) and `weight_bit_width`:

| `weight_quant` | scale | codes |
|---|---|---|
| Int8WeightPerTensorFloat, Int8WeightPerChannelFloat | `max |w| / top` | `clip(round(w / scale), -top, top)` |
| Int8WeightPerTensorFloatMSE, ...PerChannelFloatMSE | the stored parameter `/ top` | as above |
| Int8WeightPerTensorFixedPoint | `2^ceil(log2 max |w|) / (top + 1)` | as above |
| SignedTernaryWeightPerTensorConst | `weight_scaling_const` | `clip(round(w / scale), -1, 1)` |
| SignedBinaryWeightPerTensorConst | `weight_scaling_const` | 1 where w >= 0, else -1 |

`top = 2^(bits-1) - 1`, rounding is half to even, everything in float32, as Brevitas 0.13 computes it. A scale that is
stored although the class takes statistics is what its subclasses with `scaling_impl_type = "parameter_from_stats"`
learn; `weight_scaling_log` says that it is kept as its logarithm to base 2 (LOG_FP).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..diagnostics import Diagnostic, ImportFileError, UsageError

__all__ = ["BREVITAS_SETTINGS", "is_brevitas", "quantized_state"]

Singles: TypeAlias = NDArray[np.float32]

BREVITAS_SETTINGS = (
    "weight_quant",
    "weight_bit_width",
    "weight_scaling_const",
    "weight_scaling_log",
    "act_quant",
)
_VALUE = "weight_quant.tensor_quant.scaling_impl.value"
_PROXY = re.compile(r"\.?(weight_quant|bias_quant|input_quant|output_quant|act_quant)\.")
_ACTIVATIONS = ("input_quant", "output_quant", "act_quant")
_LEAST = np.float32(1e-10)
"""Brevitas' `scaling_min_val` of these classes."""


@dataclass(frozen=True)
class _Kind:
    bits: int
    per_channel: bool = False
    learned: bool = False
    power_of_two: bool = False
    constant: bool = False


_KINDS: Mapping[str, _Kind] = {
    "Int8WeightPerTensorFloat": _Kind(8),
    "Int8WeightPerChannelFloat": _Kind(8, per_channel=True),
    "Int8WeightPerTensorFloatMSE": _Kind(8, learned=True),
    "Int8WeightPerChannelFloatMSE": _Kind(8, per_channel=True, learned=True),
    "Int8WeightPerTensorFixedPoint": _Kind(8, power_of_two=True),
    "SignedTernaryWeightPerTensorConst": _Kind(2, constant=True),
    "SignedBinaryWeightPerTensorConst": _Kind(1, constant=True),
}


@dataclass(frozen=True)
class _Options:
    name: str
    kind: _Kind
    bits: int
    constant: float
    log: bool


def is_brevitas(arrays: Mapping[str, Array], stated: Mapping[str, object]) -> bool:
    """Whether keys of a quantizer are there, or a quantizer is stated; shapes and dtypes do not matter."""
    return "weight_quant" in stated or any(_PROXY.search(key) for key in arrays)


def quantized_state(arrays: Mapping[str, Array], stated: Mapping[str, object], label: str) -> dict[str, Array]:
    """The state dict of plain layers: every matrix or kernel `weight` [out, ...] as its quantizer reads it, as
    float32, biases as they are.

    `stated`: the settings of this module that the user or the file states. Raises ImportFileError naming every key of
    a quantizer that is not understood, UsageError for missing or wrong settings.
    """
    faults = _unknown(arrays, stated, label)
    if faults:
        raise ImportFileError(faults)
    options = _options(stated, label)
    plain = {key: array for key, array in arrays.items() if not _PROXY.search(key)}
    for key, array in plain.items():
        if key.endswith("weight") and array.ndim >= 2 and array.dtype.kind == "f":
            scale = arrays.get(key.removesuffix("weight") + _VALUE)
            plain[key] = _quantized(np.asarray(array, np.float32), scale, options, f"{label}:{key[:80]}")
    return plain


def _unknown(arrays: Mapping[str, Array], stated: Mapping[str, object], label: str) -> list[Diagnostic]:
    faults = []
    dropped = stated.get("act_quant") == "ignore"
    for key in arrays:
        match = _PROXY.search(key)
        if match is None or key.endswith(_VALUE):
            continue
        if match[1] in _ACTIVATIONS and dropped:
            continue
        what = f"{key[:120]} belongs to a quantizer that is not read"
        hint = "read are the scales of weights: " + ", ".join(_KINDS)
        if match[1] in _ACTIVATIONS:
            what = f"{key[:120]} belongs to a quantizer of activations, which a float net cannot hold"
            hint = "states are rounded by --state-bits; --set act_quant=ignore leaves this one out"
        faults.append(Diagnostic("brevitas-key", what, label, hint))
    return faults


def _options(stated: Mapping[str, object], label: str) -> _Options:
    faults = []
    name = stated.get("weight_quant")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        state = "is not stated" if name is None else f"is {str(name)[:60]!r}"
        what = f"the layers have Brevitas quantizers, but which ones {state}: a state dict does not hold it"
        hint = f"--set weight_quant=Q, Q one of {', '.join(_KINDS)}"
        raise UsageError(Diagnostic("brevitas-quantizer", what, label, hint))
    bits = _number(stated.get("weight_bit_width", kind.bits))
    if bits is None or bits != int(bits) or not (2 <= bits <= 8 or bits == kind.bits):
        what = f"weight_bit_width is {str(stated['weight_bit_width'])[:40]}, must be 2 to 8"
        faults.append(Diagnostic("brevitas-setting", what, label))
    if kind.constant and bits is not None and bits != kind.bits:
        what = f"{name} has {kind.bits} bits, weight_bit_width is {bits:g}"
        faults.append(Diagnostic("brevitas-setting", what, label, "leave it out"))
    constant = _number(stated.get("weight_scaling_const", 0.1))
    if constant is None or constant <= 0.0:
        what = f"weight_scaling_const is {str(stated['weight_scaling_const'])[:40]}, must be a positive number"
        faults.append(Diagnostic("brevitas-setting", what, label))
    log = str(stated.get("weight_scaling_log", False)).lower()
    if log not in ("true", "false"):
        faults.append(Diagnostic("brevitas-setting", f"weight_scaling_log is {log[:40]}, must be true or false", label))
    if faults or bits is None or constant is None:
        raise UsageError(faults)
    return _Options(str(name), kind, int(bits), constant, log == "true")


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _quantized(weight: Singles, stored: Array | None, options: _Options, where: str) -> Singles:
    """`scale * codes` in float32."""
    if options.bits == 1:
        constant = np.float32(options.constant)
        return np.asarray(np.where(weight >= 0.0, constant, -constant))
    top = (1 << (options.bits - 1)) - 1
    scale = _scale(weight, stored, options, top, where)
    if not (scale > 0.0).all():
        what = f"{int((scale <= 0.0).sum())} of {scale.size} scales are not positive"
        raise ImportFileError(
            Diagnostic("brevitas-scale", what, where, "--set weight_scaling_log=true, if they are logs")
        )
    codes = np.clip(np.rint(weight / scale), -top, top)
    return np.asarray(codes * scale, np.float32)


def _scale(weight: Singles, stored: Array | None, options: _Options, top: int, where: str) -> Singles:
    kind = options.kind
    if kind.constant:
        return np.asarray(np.float32(options.constant))
    if stored is not None:
        value = np.asarray(stored, np.float32)
        if value.ndim and value.shape not in ((len(weight), *(1,) * (weight.ndim - 1)), (1,) * weight.ndim, (1,)):
            what = f"the scale has shape {list(value.shape)}, the weight {list(weight.shape)}"
            raise ImportFileError(Diagnostic("brevitas-scale", what, where))
        value = value.reshape(()) if value.size == 1 else value
        return np.asarray(np.maximum(np.exp2(value) if options.log else value, _LEAST) / np.float32(top))
    if kind.learned:
        what = f"{options.name} learns its scale, but the file has no {_VALUE} beside the weight"
        raise ImportFileError(Diagnostic("brevitas-scale", what, where, "save the whole state_dict of the model"))
    axes = tuple(range(1, weight.ndim)) if kind.per_channel else None
    largest = np.asarray(np.abs(weight).max(axis=axes, keepdims=kind.per_channel), np.float32)
    if kind.power_of_two:
        return np.asarray(np.exp2(np.ceil(np.log2(np.maximum(largest, _LEAST)))) / np.float32(top + 1))
    return np.asarray(np.maximum(largest, _LEAST) / np.float32(top))
