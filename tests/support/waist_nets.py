"""Small float nets of forms that no trained family has, made by the builder's functions, and real inputs for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.importers.families import spatial
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.ir import EqNet, ops, verify

__all__ = ["FORMS", "form"]

Reals = NDArray[np.float64]


def pooled(b: Builder) -> EqNet:
    """Two layers as in an energy-based convolutional net: the first one is pooled by overlapping windows on its way up,
    and gets the second one back where its windows had their maxima."""
    rng = np.random.default_rng(0)
    w, v = rng.normal(0.0, 0.4, (3, 2, 3, 3)), rng.normal(0.0, 0.4, (2, 1, 3, 3))
    x = b.input("x", 1, 7, 5)
    drive = b.emit(ops.Conv(out="drive", x=x, weight=b.param("v", v, "test"), stride=1, padding=1))
    low, high = b.state("low", 2, 7, 5), b.state("high", 3, 4, 3)
    b.begin("step")
    up = b.emit(ops.Conv(out="up", x=low, weight=b.param("w", w, "test"), stride=1, padding=1))
    back = spatial.max_unpool(b, "back", up, high, 3, stride=2, padding=1)
    down = spatial.conv_transpose(b, "down", back, "w_back", w, "test", stride=1, padding=1)
    b.update(low, b.damp("next_low", low, b.act("new_low", b.add("sum", drive, down)), 0.5))
    b.update(high, b.act("new_high", spatial.max_pool(b, "pool", up, 3, stride=2, padding=1)))
    b.begin("readout")
    b.output("o", spatial.avg_pool(b, "mean", high, 2, stride=1), "values")
    return b.finish(6)


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


FORMS: dict[str, tuple[Callable[[Builder], EqNet], tuple[int, ...]]] = {
    "pooled": (pooled, (1, 7, 5)),
    "limited": (limited, (5,)),
}
"""By name: what composes the net, and the shape of its input x."""


def form(name: str) -> tuple[EqNet, dict[str, Reals]]:
    """The net of that name and four samples."""
    compose, shape = FORMS[name]
    net = compose(Builder(f"test.{name}", Tensors("file", {}), {}))
    verify(net)
    return net, {"x": np.random.default_rng(1).uniform(-1.0, 1.0, (4, *shape))}
