"""Each elementwise operation in hardware against golden, on both fabrics, at ties, ends and saturation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from amaranth import Module, Signal, Value
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import with_formats

from eqcompile.rtl import datapath
from eqcompile.rtl.datapath import ELEMENTWISE, Clocked, Combinational, Datapath, Fabric
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, ops
from eqcompile.toolchain.ir.ops import Op

Array = NDArray[np.int64]
UNITS = 3


def single(script: Sequence[Op], formats: Sequence[Format], params: dict[str, Array]) -> IntNet:
    """A net whose readout is `script`, on inputs `a`, `b`, ... of the given formats; the last value is shown."""
    shown = script[-1].out
    made = [Param(name, np.asarray(value, np.int64), "test") for name, value in params.items()]
    last: tuple[Op, ...] = ()
    if isinstance(script[-1], ops.Greater):
        made += [Param("yes", np.array(1), "test"), Param("no", np.array(0), "test")]
        last, shown = (ops.Select(out="shown", condition=shown, a="yes", b="no"),), "shown"
    return with_formats(
        IntNet(
            name="single",
            family="test",
            inputs=tuple(
                Input(name, (UNITS,), encoding=Encoding(f, 1.0)) for name, f in zip("abc", formats, strict=False)
            ),
            params=tuple(made),
            states=(),
            drive=(),
            step=(),
            readout=(*script, *last),
            outputs=(Output("o", shown, "values", 1.0),),
            schedule=Schedule(1),
            formats={name: f for name, f in zip("abc", formats, strict=False)},
        )
    )


def in_hardware(net: IntNet, codes: dict[str, Array], fabric: Fabric, *, by_signal: bool) -> Array:
    """Codes of the last value, `[batch, units]`; rows are constants, or one signal that walks over them."""
    m, path = Module(), Datapath(net, fabric)
    ports = [{i.name: Signal(path.shape(i.name), name=f"{i.name}_{u}") for i in net.inputs} for u in range(UNITS)]
    row = Signal(range(UNITS))
    found: list[Value] = []
    for unit in range(UNITS):
        values: dict[str, Value] = dict(ports[unit])
        for op in net.readout:
            values[op.out] = path.evaluate(m, op, values, row=row if by_signal else unit)
        found.append(values[net.outputs[0].value])
    tick = Signal()
    m.d.sync += tick.eq(~tick)
    wait = sum(path.latency(op) for op in net.readout)
    batch = len(codes["a"])
    result = np.zeros((batch, UNITS), np.int64)

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for sample in range(batch):
            for unit in range(UNITS):
                for name, port in ports[unit].items():
                    ctx.set(port, int(codes[name][sample, unit]))
            for unit in range(UNITS):
                ctx.set(row, unit)
                for _ in range(wait):
                    await ctx.tick()
                result[sample, unit] = ctx.get(found[unit])

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return result


def draw(rng: random.Random, kind: type[Op]) -> tuple[IntNet, dict[str, Array]]:
    """A net of one operation of this kind with random formats and parameters, and operands with all ends and ties."""
    source = np.random.default_rng(rng.getrandbits(32))
    formats = [Format(rng.randint(1, 9), rng.random() < 0.7) for _ in range(3)]
    params: dict[str, Array] = {}

    def ints(lo: int, hi: int, shape: tuple[int, ...] = (UNITS,)) -> Array:
        return source.integers(lo, hi, shape, endpoint=True)

    shift = rng.randint(0, 6)
    second = "b"
    if rng.random() < 0.4:
        params["k"], second = ints(-70, 70, rng.choice(((), (UNITS,)))), "k"
    script: list[Op]
    match kind:
        case ops.Abs:
            script = [ops.Abs(out="y", x="a")]
        case ops.Select:
            script = [ops.Greater(out="g", a="a", b=second), ops.Select(out="y", condition="g", a="c", b=second)]
        case ops.Rescale:
            low = rng.choice((-60, 1))
            params["m"] = ints(low, 60, rng.choice(((), (UNITS,)))) if rng.random() < 0.7 else np.array(1 << shift)
            script = [ops.Rescale(out="y", x="a", multiplier="m", shift=shift)]
        case ops.Lookup:
            params["t"] = ints(-90, 90, (rng.choice((1, 2, 5, 16, 33)),))
            script = [ops.Lookup(out="y", x="a", table="t", first=rng.randint(-40, 20))]
        case ops.Interpolate:
            count = rng.choice((1, 2, 3, 8))
            params |= {"t": ints(-90, 90, (count,)), "s": ints(-30, 30, (count,))}
            script = [
                ops.Interpolate(
                    out="y", x="a", base="t", slope="s", first=rng.randint(-60, 20), shift=rng.randint(0, 4)
                )
            ]
        case ops.DampFixed:
            factor = rng.randint(1, 1 << shift)
            script = [ops.DampFixed(out="y", old="a", new="b", multiplier=factor, shift=shift)]
        case _:
            script = [kind(out="y", a="a", b=second)]  # type: ignore[call-arg]
    net = single(script, formats, params)
    codes = {}
    for name, fmt in zip("abc", formats, strict=True):
        drawn = ints(fmt.lo, fmt.hi, (12, UNITS))
        codes[name] = np.where(source.random(drawn.shape) < 0.3, source.choice([0, fmt.lo, fmt.hi], drawn.shape), drawn)
    return net, codes


@pytest.mark.parametrize("kind", ELEMENTWISE)
@settings(max_examples=12, deadline=None)
@given(rng=st.randoms(use_true_random=False))
@pytest.mark.slow
def test_an_operation_equals_golden(kind: type[Op], rng: random.Random) -> None:
    """A wrong rounding, a wrong clamp, a lost sign or a misaligned clock in any operation."""
    net, codes = draw(rng, kind)
    want = golden.run(net, codes).outputs["o"]
    for fabric, by_signal in ((Combinational(), False), (Combinational(), True), (Clocked(), False)):
        np.testing.assert_array_equal(in_hardware(net, codes, fabric, by_signal=by_signal), want)


def test_negative_ties_round_up() -> None:
    """Rounding half away from zero, or to even, instead of up: -6/4 is -1, -2/4 is 0, 2/4 is 1, 6/4 is 2."""
    script = [ops.Rescale(out="y", x="a", multiplier="m", shift=2)]
    net = single(script, [Format(5, True)], {"m": np.array(1)})
    codes = {"a": np.array([[-6, -2, 2], [6, -10, -16]])}
    want = [[-1, 0, 1], [2, -2, -4]]
    assert golden.run(net, codes).outputs["o"].tolist() == want
    assert in_hardware(net, codes, Combinational(), by_signal=False).tolist() == want


def test_a_shift_past_the_width_leaves_the_sign() -> None:
    """A slice past the top of a word: a shift longer than the product must give 0 or -1 as the rounding says."""
    script = [ops.Rescale(out="y", x="a", multiplier="m", shift=20)]
    net = single(script, [Format(4, True)], {"m": np.array([3, -3, 1])})
    codes = {"a": np.array([[-8, -8, 7], [7, 7, -1]])}
    want = golden.run(net, codes).outputs["o"]
    np.testing.assert_array_equal(in_hardware(net, codes, Clocked(), by_signal=False), want)


def test_truncation_instead_of_rounding_is_caught() -> None:
    """The comparison itself: a datapath that forgets the half must differ."""
    script = [ops.Rescale(out="y", x="a", multiplier="m", shift=2)]
    net = single(script, [Format(5, True)], {"m": np.array(1)})
    codes = {"a": np.arange(-15, 15).reshape(-1, UNITS)}
    want = golden.run(net, codes).outputs["o"]
    with mock.patch.object(datapath, "_half_up", lambda x, shift: (x >> shift) if shift else x):
        assert (in_hardware(net, codes, Combinational(), by_signal=False) != want).any()


def test_a_parameter_by_element_needs_a_row() -> None:
    """Guessing the first element's multiplier for all."""
    script = [ops.Rescale(out="y", x="a", multiplier="m", shift=2)]
    net = single(script, [Format(5, True)], {"m": np.array([1, 2, 3])})
    with pytest.raises(TypeError, match="parameter m differs by element"):
        Datapath(net).evaluate(Module(), net.readout[0], {"a": Signal(5)})
    with pytest.raises(TypeError, match="no elementwise operation"):
        Datapath(net).evaluate(Module(), ops.Divide(out="y", a="a", b="a", shift=1), {"a": Signal(5)})
