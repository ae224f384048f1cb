"""Formats: the two ends, and the narrowest format of an interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.toolchain.ir import Format, Param

ENDS = st.integers(-(1 << 62), (1 << 62) - 1)


@settings(deadline=None)
@given(ENDS, ENDS)
def test_holding_is_the_narrowest(a: int, b: int) -> None:
    """One bit too few overflows, one too many wastes a wire in every target."""
    lo, hi = min(a, b), max(a, b)
    fmt = Format.holding(lo, hi)
    assert fmt.signed == (lo < 0)
    assert fmt.lo <= lo
    assert hi <= fmt.hi
    if fmt.bits > 1:
        narrower = Format(fmt.bits - 1, fmt.signed)
        assert lo < narrower.lo or hi > narrower.hi


@pytest.mark.parametrize(
    ("fmt", "text", "lo", "hi"),
    [
        (Format(8, True), "i8", -128, 127),
        (Format(8, False), "u8", 0, 255),
        (Format(1, True), "i1", -1, 0),
        (Format(1, False), "u1", 0, 1),
        (Format.holding(0, 0), "u1", 0, 1),
        (Format.holding(-1, -1), "i1", -1, 0),
        (Format.holding(-1, 1), "i2", -2, 1),
    ],
)
def test_ends_and_text(fmt: Format, text: str, lo: int, hi: int) -> None:
    """Two's complement ends off by one."""
    assert (str(fmt), fmt.lo, fmt.hi) == (text, lo, hi)


def test_parameters_are_read_only_copies() -> None:
    """A parameter changed after the net was verified would make every proof void."""
    source = np.arange(6).reshape(2, 3).T
    param = Param("p", source, "test")
    source[0, 0] = 99
    assert param.value[0, 0] == 0
    assert param.value.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        param.value[0, 0] = 1
