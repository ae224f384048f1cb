"""Linear operations as sparse rows, against golden."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import int_nets, random_inputs, random_net, with_formats

from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, infer, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import LINEAR, Taps, bias_entries, linear_taps, tap_count, tap_places

TapsOf = Callable[[IntNet, Op], Taps]


def one_op(op: Op, net: IntNet) -> IntNet:
    """A net that computes `op` alone, of its operand as an input `q`."""
    shape = infer(net)[op.x].shape  # type: ignore[attr-defined]
    rows = next((i.rows for i in net.inputs if i.kind == "index"), None)
    q = Input("q", shape, encoding=Encoding(Format(6, True), 1.0))
    if isinstance(op, ops.Embedding):
        q = Input("q", shape, "index", rows=rows)
    return with_formats(
        IntNet(
            name="one",
            family="test",
            inputs=(q,),
            params=tuple(p for p in net.params if p.name in op.reads),
            states=(),
            drive=(replace(op, x="q"),),
            step=(),
            readout=(),
            outputs=(Output("o", op.out, "values", 1.0),),
            schedule=Schedule(1),
        )
    )


def product(taps: Taps, x: NDArray[np.int64], bias: NDArray[np.int64]) -> NDArray[np.int64]:
    """The operation by its taps, for operands `[batch, entries]`, in int64."""
    y = np.zeros((len(x), taps.shape[0]), np.int64)
    np.add.at(y, (slice(None), taps.row), x[:, taps.column] * taps.weight.astype(np.int64))
    return y + bias


def differs(net: IntNet, seed: int, taps_of: TapsOf) -> bool:
    """Whether `taps_of` computes another result than golden for some linear operation of `net`."""
    rng = random.Random(seed)
    for op in net.all_ops():
        if not isinstance(op, LINEAR):
            continue
        single = one_op(op, net)
        inputs = random_inputs(single, rng, batch=3)
        x = inputs["q"].reshape(3, -1)
        if isinstance(op, ops.Embedding):
            rows = len(net.param(op.table))
            x = (x[..., None] == np.arange(rows)).reshape(3, -1).astype(np.int64)
        linear = single.drive[0]
        expected = run(single, inputs).outputs["o"].reshape(3, -1)
        if not np.array_equal(product(taps_of(single, linear), x, bias_entries(single, linear)), expected):
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(int_nets(), st.integers(0, 1000))
def test_taps_give_what_golden_gives(net: IntNet, seed: int) -> None:
    """A wrong column, a tap in the padding or a lost bias would put a weight in the wrong place of six targets."""
    assert not differs(net, seed, linear_taps)


@settings(max_examples=60, deadline=None)
@given(int_nets())
def test_taps_are_sorted_and_have_the_stated_types(net: IntNet) -> None:
    """Targets walk the rows in order and store 16-bit codes; a zero or a column twice would cost memory."""
    for op in net.all_ops():
        if isinstance(op, LINEAR):
            taps = linear_taps(net, op)
            assert (taps.row_start.dtype, taps.column.dtype, taps.weight.dtype) == (np.int64, np.int32, np.int16)
            assert (np.diff(taps.row * taps.columns + taps.column) > 0).all()
            assert np.all(taps.weight != 0)
            assert taps.row_start[-1] == len(taps.column) == np.count_nonzero(taps.dense())


@settings(max_examples=30, deadline=None)
@given(int_nets())
def test_taps_are_counted_without_being_written_down(net: IntNet) -> None:
    """What a chip cannot hold is refused by this count: one tap too many would refuse a net that fits."""
    for op in net.all_ops():
        if isinstance(op, LINEAR):
            assert tap_count(net, op) == linear_taps(net, op).count


@given(int_nets())
def test_places_with_zeros_name_every_weight(net: IntNet) -> None:
    """A fault of a weight that is 0 must find where the weight is used, too."""
    for op in net.all_ops():
        if isinstance(op, LINEAR):
            weight = net.param(op.table if isinstance(op, ops.Embedding) else op.weight).reshape(-1)
            row, column, entry = tap_places(net, op, zeros=True)
            taps = linear_taps(net, op)
            matrix = np.zeros(taps.shape, np.int64)
            np.add.at(matrix, (row, column), weight[entry])
            np.testing.assert_array_equal(matrix, taps.dense())
            some = tap_places(net, op, zeros=False)
            for with_zeros, without in zip((row, column, entry), some, strict=True):
                np.testing.assert_array_equal(with_zeros[weight[entry] != 0], without)


def flipped(net: IntNet, op: Op) -> Taps:
    """The kernel of a convolution transposed: a convolution as mathematics defines it."""
    if not isinstance(op, ops.Conv):
        return linear_taps(net, op)
    weight = net.param(op.weight)
    turned = np.flip(weight, axis=tuple(range(2, weight.ndim)))
    return linear_taps(_with_param(net, op.weight, turned), op)


def swapped(net: IntNet, op: Op) -> Taps:
    """The first two axes of a convolution's kernel exchanged."""
    if not isinstance(op, ops.Conv) or len(set(net.param(op.weight).shape[:2])) > 1:
        return linear_taps(net, op)
    return linear_taps(_with_param(net, op.weight, np.swapaxes(net.param(op.weight), 0, 1)), op)


def shifted(net: IntNet, op: Op) -> Taps:
    """The padding of a convolution counted one too far: every tap one entry of the operand later."""
    taps = linear_taps(net, op)
    if not isinstance(op, ops.Conv):
        return taps
    later = taps.column + 1
    inside = later < taps.columns
    starts = np.concatenate([[0], np.cumsum(np.bincount(taps.row[inside], minlength=taps.shape[0]))])
    return Taps(taps.columns, starts, later[inside], taps.weight[inside])


def unbounded(net: IntNet, op: Op) -> Taps:
    """An index of -1 taken as NumPy takes it: the last entry."""
    if not isinstance(op, ops.Stencil):
        return linear_taps(net, op)
    index = net.param(op.index)
    return linear_taps(_with_param(net, op.index, np.where(index < 0, infer(net)[op.x].shape[0] - 1, index)), op)


def _with_param(net: IntNet, name: str, value: NDArray[np.int64]) -> IntNet:
    return replace(net, params=tuple(Param(name, value, "mutant") if p.name == name else p for p in net.params))


@pytest.mark.parametrize("mutant", [flipped, swapped, shifted, unbounded])
def test_a_wrong_map_is_seen(mutant: TapsOf) -> None:
    """If these mutants passed, the comparison with golden above could not fail."""
    assert any(differs(net, seed, mutant) for seed, net in enumerate(nets()))


def nets() -> Iterator[IntNet]:
    for seed in range(40):
        yield random_net(random.Random(seed), spaces=("image", "sites"))


@settings(max_examples=20, deadline=None)
@given(int_nets(spaces=("tokens",), extras=("shape",)))
def test_what_is_no_constant_map_is_refused(net: IntNet) -> None:
    """The product of two values has no taps: an answer here would freeze one of them."""
    for op in net.all_ops():
        if not isinstance(op, LINEAR):
            with pytest.raises(UnsupportedError) as error:
                linear_taps(net, op)
            assert error.value.diagnostics[0].code == "not-linear"


def test_wide_codes_keep_their_value() -> None:
    """The weights of a drive may have more than 16 bits: cut off, they would be others."""
    net = IntNet(
        name="wide",
        family="test",
        inputs=(Input("q", (2,), encoding=Encoding(Format(6, True), 1.0)),),
        params=(Param("w", np.array([[40000, 0], [-(1 << 40), 3]]), "test"),),
        states=(),
        drive=(ops.Linear(out="y", x="q", weight="w"),),
        step=(),
        readout=(),
        outputs=(Output("o", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    taps = linear_taps(net, net.drive[0])
    np.testing.assert_array_equal(taps.dense(), net.param("w"))
    assert taps.weight.dtype == np.int64
