"""Stored words: what flipping their bits makes of the codes."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import small_net

from eqcompile.sim.faults.storage import Word, changed, param_words, store_of, wrap
from eqcompile.sim.faults.table import Place, Upset
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import Format

TERNARY = [[1, -1, 0], [0, 1, 1], [-1, 0, 1]]
IDENTITY = list(range(-128, 128))


def flip(mask: int, **other: int) -> Upset:
    return Upset(Place.PARAM, "W", 0, 0, 0, flip=mask, **other)


def test_a_word_of_two_bits_is_read_as_the_serial_core_does() -> None:
    """Its low bit says that there is a weight, its high bit the sign: 10 is no weight, not -2."""
    word = Word(Format(2, True), ternary=True, exact=True)
    read = {(code, mask): changed(code, flip(mask), word, saturate=False) for code in (-1, 0, 1) for mask in (1, 2, 3)}
    assert read == {
        **{(-1, 1): 0, (-1, 2): 1, (-1, 3): 0},
        **{(0, 1): 1, (0, 2): 0, (0, 3): -1},
        **{(1, 1): 0, (1, 2): -1, (1, 3): 0},
    }


@pytest.mark.parametrize(
    ("code", "upset", "saturate", "want"),
    [
        (3, flip(1 << 7), True, -125),
        (-1, flip(1), True, -2),
        (5, Upset(Place.STATE, "h", 0, 0, 0, one=8, zero=1), True, 12),
        (120, Upset(Place.STATE, "h", 0, 0, 0, add=20), True, 127),
        (120, Upset(Place.VALUE, "v", 0, 0, 0, add=20), False, -116),
        (-120, Upset(Place.STATE, "h", 0, 0, 0, add=-20), True, -128),
        (0, Upset(Place.STATE, "h", 0, 0, 0, flip=4, one=1, zero=4, add=3), True, 4),
    ],
)
def test_bits_then_sum(code: int, upset: Upset, saturate: bool, want: int) -> None:
    """Order and end of range are part of what a fault is: hardware and software must agree on them."""
    assert changed(code, upset, Word(Format(8, True)), saturate=saturate) == want


def test_wrap_is_a_cut_to_the_lowest_bits() -> None:
    """A wire of N bits holds the lowest N."""
    values = np.array([-129, -128, 127, 128, 511, -1])
    assert wrap(values, Format(8, True)).tolist() == [127, -128, 127, -128, -1, -1]
    assert wrap(values, Format(8, False)).tolist() == [127, 128, 127, 128, 255, 255]
    assert wrap(np.array([(1 << 62) + 1]), Format(63, True)).tolist() == [-(1 << 62) + 1]


def test_widths_of_plain_words() -> None:
    """Weights share the width of the memory that they lie in; a table has the format of the state it gives."""
    words = param_words(small_net(TERNARY, table=[-7, 0, 7], first=-1, steps=2))
    assert words["W"] == Word(Format(2, True), ternary=True, exact=True)
    assert words["T"].format == Format(4, True)
    wide = param_words(small_net([[1, -8], [0, 1]], table=IDENTITY, first=-128, steps=2))
    assert wide["W"] == Word(Format(8, True), exact=True)


def decoded(byte: int) -> list[int]:
    """The C of `targets/c/matrix.py`, written down again: quotients as `x * 171 >> 9`, the last digit what is left."""
    digits = []
    for _ in range(4):
        digits.append(byte - 3 * ((byte * 171) >> 9) - 1)
        byte = (byte * 171) >> 9
    return [*digits, byte - 1]


def test_a_flip_in_a_byte_of_trits_changes_the_codes_that_the_c_reads() -> None:
    """One flipped bit changes several of five weights, and bytes from 243 on hold a digit of 3: code +2."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-1, 2, (7, 7))
    net = small_net(weight.tolist(), table=IDENTITY, first=-128, steps=1)
    store = store_of(net, "W", "5trit", param_words(net))
    assert (store.words, store.bits) == (7 * 2, 8)
    beyond = 0
    for unit in range(store.words):
        column, row = divmod(unit, 2)
        held = [int(weight[o, column]) if (o := k * 2 + row) < 7 else 0 for k in range(5)]
        byte = sum((c + 1) * 3**k for k, c in enumerate(held))
        for bit in range(8):
            done = weight.copy()
            found = store.changes(np.array([unit]), np.array([1 << bit]))
            done.reshape(-1)[found.index] += found.add
            want = weight.copy()
            read = decoded(byte ^ (1 << bit))
            for k, code in enumerate(read):
                if k * 2 + row < 7:
                    want[k * 2 + row, column] = code
            beyond += 2 in read
            np.testing.assert_array_equal(done, want)
    assert beyond


def test_two_bits_stored_plus_one_hold_plus_two() -> None:
    """Target `c` stores a ternary code plus 1: the fourth pattern is +2."""
    net = small_net(TERNARY, table=IDENTITY, first=-128, steps=1)
    store = store_of(net, "W", "2bit", param_words(net))
    found = store.changes(np.array([0, 1, 2, 2]), np.array([1, 1, 2, 1]))
    assert (net.param("W").reshape(-1)[[0, 1, 2, 2]] + found.add).tolist() == [2, 0, 2, -1]


def test_what_is_not_ternary_is_not_packed() -> None:
    """A packing that cannot hold the codes must be refused by name, not made up."""
    net = small_net([[2]], table=IDENTITY, first=-128, steps=1)
    with pytest.raises(UnsupportedError, match="W is no ternary matrix"):
        store_of(net, "W", "5trit", param_words(net))
