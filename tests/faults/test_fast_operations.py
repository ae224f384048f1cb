"""Operations of the engine `fast`, one by one."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eqcompile.sim.faults.fast.operations import _isqrt


@settings(deadline=None)
@given(root=st.integers(1, 2**31 - 1), offset=st.sampled_from((-1, 0, 1)))
@example(root=2**31 - 1, offset=-1)
@example(root=2**31 - 1, offset=0)
@example(root=2**30, offset=-1)
def test_a_root_is_that_of_integers_beside_every_square(root: int, offset: int) -> None:
    """The double of a word of 62 bits is rounded: its root can be that of the square above."""
    value = root * root + offset
    assert _isqrt(value) == math.isqrt(value)


@settings(deadline=None)
@given(value=st.integers(-(2**62), 2**62 - 1))
def test_a_root_is_that_of_integers_anywhere(value: int) -> None:
    """Negative words have the root 0."""
    assert _isqrt(value) == math.isqrt(max(value, 0))
