"""The weight memory of the serial engine: what its table and its entries say, read back as hardware reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rtl_engines import lazy_net
from strategies import small_net

from eqcompile.rtl.serial.columns import Layout, make_layout, memory_words
from eqcompile.rtl.serial.engine import SerialEngine, check
from eqcompile.rtl.serial.plan import plan_memory
from eqcompile.toolchain.diagnostics import UnsupportedError

Array = NDArray[np.int64]
BITS = (2, 4, 8, 16)


@st.composite
def matrices(draw: st.DrawFn, bits: int) -> list[Array]:
    """One to three matrices of any density, empty columns among them."""
    top = (1 << (bits - 1)) - 1
    made = []
    for _ in range(draw(st.integers(1, 3))):
        rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
        shape = draw(st.integers(1, 21)), draw(st.integers(1, 17))
        keep = draw(st.sampled_from((0.0, 0.05, 0.5, 1.0)))
        made.append(np.where(rng.random(shape) < keep, rng.integers(-top, top, shape, endpoint=True), 0))
    return made


def column(layout: Layout, table: list[int], entries: list[int], row: int) -> list[tuple[int, list[int]]]:
    """The entries that a row of the table stands for: number of the word, and its signed codes."""
    start, more = table[row] & ((1 << layout.address_bits) - 1), table[row] >> layout.address_bits
    found = []
    for entry in entries[start : start + more + 1]:
        codes = [entry >> (layout.code_bits * lane) & ((1 << layout.code_bits) - 1) for lane in range(layout.lanes)]
        sign = 1 << (layout.code_bits - 1)
        found.append((entry >> layout.codes_bits, [code - 2 * sign if code & sign else code for code in codes]))
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), bits=st.sampled_from(BITS), lanes=st.sampled_from((1, 2, 4, 16)))
def test_columns_read_back_are_the_matrix(data: st.DataObject, bits: int, lanes: int) -> None:
    """A weight lost, moved to another row, or in another column; a sum that a clear leaves."""
    given = data.draw(matrices(bits))
    layout = make_layout(given, lanes=lanes, code_bits=bits, granule=1, capacity=None)
    table, entries = memory_words(layout, given, "net")
    assert len(table) == layout.depth
    assert len(entries) <= layout.capacity
    assert max(entries).bit_length() <= layout.entry_bits
    assert max(table).bit_length() <= layout.table_bits
    for number, matrix in enumerate(given):
        words = -(-len(matrix) // lanes)
        for unit in range(matrix.shape[1]):
            got = np.zeros((words, lanes), np.int64)
            for word, codes in column(layout, table, entries, layout.rows[number] | unit):
                got[word] += codes
            np.testing.assert_array_equal(got.reshape(-1)[: len(matrix)], matrix[:, unit])
            assert not got.reshape(-1)[len(matrix) :].any()
        cleared = column(layout, table, entries, layout.clears + number)
        assert sorted({word for word, _ in cleared}) == list(range(words))
        assert not any(any(codes) for _, codes in cleared)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), lanes=st.sampled_from((1, 2, 4)))
def test_no_word_follows_itself(data: st.DataObject, lanes: int) -> None:
    """An accumulator read in the clock before its sum is written: any column may follow any other."""
    given = data.draw(matrices(2))
    layout = make_layout(given, lanes=lanes, code_bits=2, granule=1, capacity=None)
    table, entries = memory_words(layout, given, "net")
    rows = [layout.rows[n] | unit for n, m in enumerate(given) for unit in range(m.shape[1])]
    rows += [layout.clears + n for n in range(len(given))]
    words = [[word for word, _ in column(layout, table, entries, row)] for row in rows]
    for one in words:
        assert all(a != b for a, b in zip(one, one[1:], strict=False))
        # One of a single word takes two clocks: what follows it comes late enough.
        assert all(one[-1] != other[0] for other in words if len(one) > 1)


def test_zero_words_take_no_room() -> None:
    """A memory as large as if nothing were zero."""
    rng = np.random.default_rng(1)
    sparse = np.where(rng.random((64, 64)) < 0.01, 1, 0)
    _, few = memory_words(make_layout([sparse], lanes=4, code_bits=2, granule=1, capacity=None), [sparse], "net")
    _, many = memory_words(
        make_layout([sparse * 0 + 1], lanes=4, code_bits=2, granule=1, capacity=None), [sparse * 0 + 1], "net"
    )
    # Columns that are alike share their words: here all of them, beside the one that clears.
    assert len(many) == 32
    assert len(few) < 16 * 64 // 4


def test_what_cannot_be_loaded_is_refused() -> None:
    """Weights cut off silently, or a table and biases of another net under these weights."""
    weights = np.zeros((8, 8), np.int64)
    net = small_net(weights.tolist(), table=list(range(-60, 61)), first=-60, steps=6, init=[3] * 8)
    engine = SerialEngine(net, lanes=2)
    (name,) = (p.name for p in net.params if p.value.shape == (8, 8))
    rng = np.random.default_rng(2)

    def other(value: Array, **changes: object) -> object:
        params = tuple(replace(p, value=value) if p.name == name else p for p in net.params)
        return replace(net, params=params, **changes)

    with pytest.raises(UnsupportedError, match=r"need \d+ words of 2, the weight memory holds \d+"):
        engine.load_words(other(rng.integers(0, 2, (8, 8))))
    with pytest.raises(UnsupportedError, match="weights reach 2, a code of 2 bits holds 1"):
        engine.load_words(other(weights + 2))
    with pytest.raises(UnsupportedError, match="more than its weights"):
        engine.load_words(other(weights, schedule=replace(net.schedule, steps=7)))
    roomy = SerialEngine(net, lanes=2, capacity=64)
    assert len(roomy.load_words(other(rng.integers(0, 2, (8, 8))))) <= roomy.plan.weights.load_words
    (fault,) = check(net, lanes=2, capacity=1)
    assert "the weight memory holds 1" in fault.what


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_core_with_saboteurs_has_room_for_disturbed_columns(lanes: int) -> None:
    """A disturbed weight may need an entry more in its column, in each of two columns at a time."""
    net = lazy_net()
    engine = SerialEngine(net, lanes=lanes, width=1, inject=True)
    _, entries = plan_memory(engine.plan, net)
    assert engine.plan.weights.capacity >= len(entries) + 2 * max(m.words for m in engine.plan.maps)
