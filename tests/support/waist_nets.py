"""Small float nets of forms that no trained family has, made by the builder's functions, and real inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import oracle
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.families import spatial
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.families.ranks import top_k
from eqcompile.toolchain.importers.families.turns import by_colour, checkerboard, even_odd, in_turn
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet, ops, verify
from eqcompile.toolchain.reference import run_reference

__all__ = ["FORMS", "both", "form", "net_of"]

Reals = NDArray[np.float64]
Compose = Callable[[Builder, Mapping[str, str]], str]


def net_of(compose: Compose, **shapes: tuple[int, ...]) -> EqNet:
    """A net that gives what `compose` makes of its inputs."""
    b = Builder("test.Net", Tensors("file", {}), {})
    values = {name: b.input(name, *shape) for name, shape in shapes.items()}
    still = b.state("still", 1)
    b.update(still, still)
    b.output("o", compose(b, values), "values")
    net = b.finish(1)
    verify(net)
    return net


def both(net: EqNet, inputs: dict[str, NDArray[np.int64]]) -> tuple[Reals, Reals, IntNet]:
    """The output in float64 and in integers, with the codes as the real inputs, and the integer net."""
    real = {name: value.astype(np.float64) for name, value in inputs.items()}
    exact = run_reference(net, real).outputs["o"]
    lowered = lower(net, QuantizeOptions(input_range=(-127.0, 127.0)), calibration=None).net
    assert all(i.encoding is not None and i.encoding.scale == 1.0 for i in lowered.inputs)
    output = run(lowered, inputs).outputs["o"]
    _, again, _ = oracle.run(lowered, {name: value[:1] for name, value in inputs.items()})
    assert np.array_equal(output[:1], again["o"])
    scale = lowered.outputs[0].scale
    assert scale is not None
    return exact, output * scale, lowered


def pooled(b: Builder) -> EqNet:
    """Two layers as in an energy-based convolutional net: the first one is pooled by overlapping windows on its way up,
    and gets the second one back where its windows had their maxima."""
    rng = np.random.default_rng(0)
    w, v = rng.normal(0.0, 0.4, (2, 2, 3, 3)), rng.normal(0.0, 0.4, (2, 1, 3, 3))
    x = b.input("x", 1, 5, 3)
    drive = b.emit(ops.Conv(out="drive", x=x, weight=b.param("v", v, "test"), stride=1, padding=1))
    low, high = b.state("low", 2, 5, 3), b.state("high", 2, 3, 2)
    b.begin("step")
    up = b.emit(ops.Conv(out="up", x=low, weight=b.param("w", w, "test"), stride=1, padding=1))
    back = spatial.max_unpool(b, "back", up, high, 3, stride=2, padding=1)
    down = spatial.conv_transpose(b, "down", back, "w_back", w, "test", stride=1, padding=1)
    b.update(low, b.damp("next_low", low, b.act("new_low", b.add("sum", drive, down)), 0.5))
    b.update(high, b.act("new_high", spatial.max_pool(b, "pool", up, 3, stride=2, padding=1)))
    b.begin("readout")
    b.output("o", spatial.avg_pool(b, "mean", high, 2, stride=1), "values")
    return b.finish(6)


def windows(b: Builder) -> EqNet:
    """As `pooled`, with windows side by side and one weight: small enough for any simulator. The weight is negative, so
    that what a window sends back moves its maximum elsewhere."""
    x, w = b.input("x", 1, 2, 4), np.full((1, 1, 1, 1), -1.2)
    low, high = b.state("low", 1, 2, 4), b.state("high", 1, 1, 2)
    b.begin("step")
    up = b.emit(ops.Conv(out="up", x=low, weight=b.param("w", w, "test"), stride=1, padding=0))
    back = spatial.max_unpool(b, "back", up, high, 2)
    b.update(low, b.hard_sigmoid("new_low", b.add("sum", x, back), 0.5))
    b.update(high, b.hard_sigmoid("new_high", spatial.max_pool(b, "pool", up, 2), 0.5))
    b.begin("readout")
    b.output("o", high, "values")
    return b.finish(4)


def limited(b: Builder) -> EqNet:
    """A hard sigmoid that drives a relu, whose range is proved, and a leaky relu in a loop, whose range is not."""
    rng = np.random.default_rng(2)
    drive = b.linear_of("drive", b.input("x", 5), "v", rng.normal(size=(4, 5)), "test")
    h, r, leaky = (b.state(name, 4) for name in ("h", "r", "leaky"))
    b.begin("step")
    w = [0.3 * rng.normal(size=(4, 4)) for _ in range(3)]
    pre = b.add("pre", drive, b.linear_of("from_leaky", leaky, "w0", w[0], "test"))
    b.update(h, b.hard_sigmoid("new_h", pre, 0.4))
    b.update(r, b.act("new_r", b.linear_of("from_h", h, "w1", w[1], "test"), "relu"))
    back = b.add("back", b.linear_of("from_r", r, "w2", w[2], "test"), drive)
    b.update(leaky, b.clip("bounded", b.leaky_relu("new_leaky", back, 0.1), -0.7, 1.3))
    b.begin("readout")
    b.output("o", b.add("total", h, r, leaky), "values")
    return b.finish(6)


def layered(b: Builder) -> EqNet:
    """Three layers, even and odd ones in turn, of which the middle one keeps its two largest units."""
    rng = np.random.default_rng(3)
    drive = b.linear_of("drive", b.input("x", 3), "v", rng.normal(size=(4, 3)), "test")
    states = [b.state("s0", 4), b.state("s1", 5), b.state("s2", 2)]
    up = [0.4 * rng.normal(size=(5, 4)), 0.4 * rng.normal(size=(2, 5))]
    b.begin("step")

    def update(state: str, now: Mapping[str, str]) -> str:
        match states.index(state):
            case 0:
                return b.act("new0", b.add("pre0", drive, b.linear_of("down0", now["s1"], "w0t", up[0].T, "test")))
            case 1:
                below = b.linear_of("up1", now["s0"], "w0", up[0], "test")
                pre = b.add("pre1", below, b.linear_of("down1", now["s2"], "w1t", up[1].T, "test"))
                return top_k(b, "new1", b.act("all1", pre), 2, exactly=True)
            case _:
                return b.act("new2", b.linear_of("up2", now["s1"], "w1", up[1], "test"))

    in_turn(b, even_odd(states), update)
    b.begin("readout")
    b.output("o", states[2], "values")
    return b.finish(6)


def board(b: Builder) -> EqNet:
    """A lattice with weights of its own at each site, the two colours of a checkerboard in turn."""
    rng = np.random.default_rng(4)
    sites = np.arange(12).reshape(4, 3)
    outside = np.pad(sites, 1, constant_values=-1)
    index = np.stack([outside[1:-1, :-2], outside[1:-1, 2:], outside[:-2, 1:-1], outside[2:, 1:-1]], axis=-1)
    x, h = b.input("x", 12), b.state("h", 12)
    weight = b.param("w", 0.4 * rng.normal(size=(12, 4)), "test")
    near = b.param("near", index.reshape(12, 4), "test")
    b.begin("step")

    def update(name: str, now: str) -> str:
        pull = b.emit(ops.Stencil(out=f"{name}_pull", x=now, weight=weight, index=near))
        return b.act(f"{name}_new", b.add(f"{name}_pre", pull, x))

    colours = [colour.reshape(12) for colour in checkerboard(4, 3)]
    b.update(h, by_colour(b, "next", h, colours, update))
    b.output("o", h, "values")
    return b.finish(6)


FORMS: dict[str, tuple[Callable[[Builder], EqNet], tuple[int, ...]]] = {
    "pooled": (pooled, (1, 5, 3)),
    "windows": (windows, (1, 2, 4)),
    "limited": (limited, (5,)),
    "layered": (layered, (3,)),
    "board": (board, (12,)),
}
"""By name: what composes the net, and the shape of its input x."""


def form(name: str) -> tuple[EqNet, dict[str, Reals]]:
    """The net of that name and four samples."""
    compose, shape = FORMS[name]
    net = compose(Builder(f"test.{name}", Tensors("file", {}), {}))
    verify(net)
    return net, {"x": np.random.default_rng(1).uniform(-1.0, 1.0, (4, *shape))}
