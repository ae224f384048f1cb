"""Input codes of the vectors that an artifact brings along: the same for the same net, always."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ir import Input, IntNet

__all__ = ["example_codes"]

_SEED = 0
_SPARSE_SHARE = 0.7


def example_codes(
    net: IntNet, *, uniform: int, frames: int | None = None, mixed: bool = False
) -> dict[str, NDArray[np.int64]]:
    """Codes of every input, `[samples, (frames,) *shape]` int64.

    Samples are, in this order: all codes zero, all at the upper end, all at the lower end; with `mixed` one of both
    ends at random; `uniform` samples of uniform codes; with `mixed` a sparse one, 70 % of whose codes are zero.

    Args:
        net: the net whose inputs are drawn, one after the other from one generator of seed 0.
        uniform: samples of uniform codes.
        frames: size of the frame axis; None for inputs without one.
        mixed: whether the two further samples are drawn.
    """
    generator = np.random.default_rng(_SEED)
    lead = () if frames is None else (frames,)
    return {i.name: _codes(i, generator, lead, uniform, mixed) for i in net.inputs}


def _codes(
    i: Input, generator: np.random.Generator, lead: tuple[int, ...], uniform: int, mixed: bool
) -> NDArray[np.int64]:
    shape, (lo, hi) = (*lead, *i.shape), i.limits
    samples = [np.full(shape, code, np.int64) for code in (0, hi, lo)]
    if mixed:
        samples.append(generator.choice([lo, hi], shape))
    samples += [*generator.integers(lo, hi, (uniform, *shape), endpoint=True)]
    if mixed:
        zero = generator.random(shape) < _SPARSE_SHARE
        samples.append(np.where(zero, 0, generator.integers(lo, hi, shape, endpoint=True)))
    return np.stack(samples).astype(np.int64)
