"""Weights in training: Brevitas quantizers whose values are exactly `scale * codes` in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
from brevitas.core.quant import IntQuant, RescalingIntQuant
from brevitas.core.restrict_val import LogFloatRestrictValue
from brevitas.core.scaling import ConstScaling, IntScaling, ParameterScaling
from brevitas.core.zero_point import ZeroZeroPoint
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["QuantizedWeight", "straight"]

_SCALE_BITS = 16
"""Significant bits of a scale: with the 8 bits of a code a product has at most 24, which float32 holds exactly."""
_CLIPPINGS = np.linspace(0.2, 1.0, 41)
"""Fractions of the largest magnitude at which the search for the first scale clips."""


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def straight(soft: Tensor, hard: Tensor) -> Tensor:
    """`hard`, whose gradient is that of `soft` (the straight-through estimator; Bengio, Leonard, Courville 2013,
    arXiv:1308.3432). `soft + (hard - soft).detach()` would not give `hard` to the last bit."""
    found: Tensor = _Straight.apply(soft, hard)  # type: ignore[no-untyped-call]
    return found


class QuantizedWeight(nn.Module):
    """A latent float weight that is read as signed codes of `bits` bits (2: ternary) times a scale.

    Codes are `clip(round(latent / scale), -top, top)` with `top = 2**(bits-1) - 1`, by Brevitas' `IntQuant`. The scale,
    of each output row or of the tensor, starts where the squared error is least and learns (in its logarithm, so that
    it stays positive; the gradient is that of learned step sizes, Esser et al. 2020, arXiv:1902.08153). With `fixed`
    it is that one number for ever. `kept` masks entries that are not read and stay 0.
    """

    def __init__(
        self,
        weight: NDArray[np.float64],
        bits: int,
        *,
        per_row: bool,
        fixed: float | None = None,
        kept: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__()
        shown = weight if kept is None else np.where(kept, weight, 0.0)
        self.latent = nn.Parameter(torch.tensor(shown, dtype=torch.float32))
        self.kept = None if kept is None else torch.tensor(kept)
        top = (1 << (bits - 1)) - 1
        if fixed is None:
            start = torch.tensor(_least_error(shown, top, per_row=per_row) * top, dtype=torch.float32)
            scaling: Any = ParameterScaling(start, restrict_scaling_impl=LogFloatRestrictValue())
        else:
            scaling = ConstScaling(fixed * top)
        self.quantizer = RescalingIntQuant(
            int_quant=IntQuant(
                narrow_range=True,
                signed=True,
                input_view_impl=Identity(),
                float_to_int_impl=RoundSte(),
                tensor_clamp_impl=TensorClamp(),
            ),
            scaling_impl=scaling,
            int_scaling_impl=IntScaling(signed=True, narrow_range=True),
            zero_point_impl=ZeroZeroPoint(),
            bit_width_impl=BitWidthConst(bits),
        )

    def forward(self) -> Tensor:
        """`scale * codes`, exact in float32."""
        latent = self.latent if self.kept is None else self.latent * self.kept
        value, scale, _, _ = self.quantizer(latent)
        with torch.no_grad():
            exact = torch.round(value / scale) * _shortened(scale)
        return straight(value, exact)


def _shortened(scale: Tensor) -> Tensor:
    """The scale with 16 significant bits."""
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.round(mantissa * 2.0**_SCALE_BITS) / 2.0**_SCALE_BITS, exponent)


def _least_error(weight: NDArray[np.float64], top: int, *, per_row: bool) -> NDArray[np.float64]:
    """The scale of each row (`[rows, 1, ...]`), or of the tensor (the same number in each row), with the least squared
    error of codes up to `top`, among clippings at 20 to 100 % of the largest magnitude."""
    rows = weight.reshape(len(weight), -1) if per_row else weight.reshape(1, -1)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    largest = np.where(largest > 0.0, largest, 1.0)
    scales = largest * (_CLIPPINGS / top)
    errors = [
        np.square(rows - np.clip(np.rint(rows / scales[:, k : k + 1]), -top, top) * scales[:, k : k + 1]).sum(axis=1)
        for k in range(len(_CLIPPINGS))
    ]
    best = np.take_along_axis(scales, np.argmin(np.stack(errors, axis=1), axis=1)[:, None], axis=1)
    return np.asarray(best.reshape(-1, *(1,) * (weight.ndim - 1)) if per_row else best[0, 0])
