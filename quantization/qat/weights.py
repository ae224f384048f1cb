"""Weights in training: Brevitas quantizers whose values are exactly `scale * codes` in float32."""

from __future__ import annotations

import math
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
_INSIDE = 0.49
"""How far a latent starts from its code at most, in scales: just inside what rounds to it."""


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

    Codes are `clip(round(latent / scale), -top, top)` with `top = 2**(bits-1) - 1`, by Brevitas' `IntQuant`. `codes`
    (shaped as `weight`) and `scale` (`[]` or `[rows]`) are those to start with: the latent is what rounds to these
    codes and is nearest to `weight`. It is kept in units of the first scale, so that one learning rate fits weights of
    any size. The scale learns in its logarithm, so that it stays positive; its gradient is that of learned step sizes
    (Esser et al. 2020, arXiv:1902.08153). With `fixed` it stays.
    """

    unit: Tensor

    def __init__(
        self,
        weight: NDArray[np.float64],
        codes: NDArray[np.int64],
        scale: NDArray[np.float64],
        bits: int,
        *,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self.fixed = fixed
        top = (1 << (bits - 1)) - 1
        shape = (-1, *(1,) * (weight.ndim - 1)) if scale.ndim else ()
        start = np.where(scale > 0.0, scale, 1.0).reshape(shape)
        # Two's complement may hold one code more than a symmetric range.
        held = np.clip(codes, -top, top)
        nearest = np.clip(weight / start, held - _INSIDE, held + _INSIDE)
        self.latent = nn.Parameter(torch.tensor(nearest, dtype=torch.float32))
        self.register_buffer("unit", torch.tensor(start, dtype=torch.float32))
        first = torch.tensor(start * top, dtype=torch.float32)
        scaling: Any = (
            ConstScaling(first) if fixed else ParameterScaling(first, restrict_scaling_impl=LogFloatRestrictValue())
        )
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

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the scale, and the latent with it, so that the codes stay; not for a weight that is `fixed`."""
        self.latent.mul_(factor)
        self.quantizer.scaling_impl.value.add_(math.log2(factor))

    def forward(self) -> Tensor:
        """`scale * codes`, exact in float32."""
        value, scale, _, _ = self.quantizer(self.latent * self.unit)
        with torch.no_grad():
            # Adding 0 makes +0 of -0, which would be another parameter to a digest.
            exact = torch.round(value / scale) * _shortened(scale) + 0.0
        return straight(value, exact)


def _shortened(scale: Tensor) -> Tensor:
    """The scale with 16 significant bits."""
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.round(mantissa * 2.0**_SCALE_BITS) / 2.0**_SCALE_BITS, exponent)
