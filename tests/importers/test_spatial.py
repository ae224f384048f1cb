"""Pooling, unpooling and transposed convolution against PyTorch: in float64, and in integers on the codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from waist_nets import both, net_of

from eqcompile.toolchain.importers.families import spatial
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.ir import ops

Array = NDArray[np.float64]
Pool = tuple[int, int, int]
"""Kernel, stride, padding."""

functional = torch.nn.functional

POOLS: tuple[Pool, ...] = ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (3, 3, 0), (1, 2, 0), (4, 2, 2))
SPACES = ((6, 6), (7, 5), (5, 8))


def codes(shape: tuple[int, ...], seed: int) -> NDArray[np.int64]:
    """Few different numbers, so that many windows hold their maximum more than once."""
    return np.random.default_rng(seed).integers(-3, 4, (4, *shape))


def gradient(function: Callable[[torch.Tensor], torch.Tensor], x: Array, y: Array) -> Array:
    """The product of y with the Jacobian of `function` at x."""
    at = torch.from_numpy(x).requires_grad_()
    (result,) = torch.autograd.grad(function(at), at, torch.from_numpy(y))
    return np.asarray(result.numpy())


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("space", SPACES)
def test_a_maximum_and_its_gradient_are_those_of_pytorch(pool: Pool, space: tuple[int, int]) -> None:
    """Overlapping windows, borders and sizes that do not divide; of equal maxima the first one takes the gradient."""
    kernel, stride, padding = pool

    def function(x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x, kernel, stride, padding)

    x = codes((2, *space), seed=1)
    expected = function(torch.from_numpy(x.astype(np.float64))).numpy()
    net = net_of(lambda b, v: spatial.max_pool(b, "p", v["x"], kernel, stride=stride, padding=padding), x=(2, *space))
    exact, integer, _ = both(net, {"x": x})
    assert np.array_equal(exact, expected)
    assert np.array_equal(integer, expected)

    y = codes(expected.shape[1:], seed=2)
    back = net_of(
        lambda b, v: spatial.max_unpool(b, "u", v["x"], v["y"], kernel, stride=stride, padding=padding),
        x=(2, *space),
        y=expected.shape[1:],
    )
    wanted = gradient(function, x.astype(np.float64), y.astype(np.float64))
    exact, integer, _ = both(back, {"x": x, "y": y})
    assert np.array_equal(exact, wanted)
    assert np.array_equal(integer, wanted)


def test_the_comparison_notices_which_of_equal_maxima_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above: the last one instead of the first."""
    in_order = spatial._Windows.order
    monkeypatch.setattr(spatial._Windows, "order", lambda windows: 10.0 * (in_order(windows) > 0) - in_order(windows))
    x, y = codes((2, 6, 6), seed=1), codes((2, 3, 3), seed=2)
    net = net_of(lambda b, v: spatial.max_unpool(b, "u", v["x"], v["y"], 2), x=x.shape[1:], y=y.shape[1:])
    wanted = gradient(lambda t: functional.max_pool2d(t, 2), x.astype(np.float64), y.astype(np.float64))
    assert not np.array_equal(both(net, {"x": x, "y": y})[0], wanted)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("space", SPACES)
def test_a_mean_and_its_gradient_are_those_of_pytorch(pool: Pool, space: tuple[int, int]) -> None:
    """Zeros outside count, as PyTorch counts them; integers are exact sums."""
    kernel, stride, padding = pool

    def function(x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, kernel, stride, padding)

    x = codes((2, *space), seed=1)
    expected = function(torch.from_numpy(x.astype(np.float64))).numpy()
    net = net_of(lambda b, v: spatial.avg_pool(b, "p", v["x"], kernel, stride=stride, padding=padding), x=(2, *space))
    for found in both(net, {"x": x})[:2]:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    y = codes(expected.shape[1:], seed=2)
    back = net_of(
        lambda b, v: spatial.avg_unpool(b, "u", v["y"], space, kernel, stride=stride, padding=padding),
        y=expected.shape[1:],
    )
    wanted = gradient(function, x.astype(np.float64), y.astype(np.float64))
    for found in both(back, {"y": y})[:2]:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)


CASES = [
    *((kernel, stride, padding, 0) for kernel in (1, 2, 3, 5) for stride in (1, 2, 3) for padding in (0, 1, 2)),
    *((3, 2, 1, 1), (2, 3, 0, 2), (3, 3, 2, 2)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra"), CASES)
def test_a_transposed_convolution_is_that_of_pytorch(kernel: int, stride: int, padding: int, extra: int) -> None:
    """The gradient of a convolution with respect to its input, on an odd space; a kernel that is not flipped, channels
    that are not exchanged or a border on the wrong side shows."""
    weight = np.random.default_rng(3).integers(-3, 4, (2, 3, kernel, kernel)).astype(np.float64)
    x = codes((2, 5, 4), seed=4)

    def compose(b: Builder, v: Mapping[str, str]) -> str:
        return spatial.conv_transpose(
            b, "t", v["x"], "w", weight, "test", stride=stride, padding=padding, output_padding=extra
        )

    if min(n - 1 for n in (5, 4)) * stride - 2 * padding + kernel + extra < 1:
        with pytest.raises(ValueError, match="give a result of"):
            net_of(compose, x=(2, 5, 4))
        return
    net = net_of(compose, x=(2, 5, 4))
    expected = functional.conv_transpose2d(
        torch.from_numpy(x.astype(np.float64)),
        torch.from_numpy(weight),
        stride=stride,
        padding=padding,
        output_padding=extra,
    ).numpy()
    exact, integer, _ = both(net, {"x": x})
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(integer, expected, rtol=0, atol=1e-12)


def test_entries_that_are_moved_are_not_rounded() -> None:
    """What a pool takes of a convolution is the convolution's own sum, not a state's rounding of it."""
    x = codes((2, 7, 5), seed=8)
    weight = np.random.default_rng(9).normal(size=(3, 2, 3, 3))

    def convolved(b: Builder, v: Mapping[str, str]) -> str:
        kernel = b.param("w", weight, "test")
        return b.emit(ops.Conv(out="c", x=v["x"], weight=kernel, stride=1, padding=1))

    def pooled(b: Builder, v: Mapping[str, str]) -> str:
        return spatial.max_pool(b, "p", convolved(b, v), 3, stride=2, padding=1)

    _, sums, _ = both(net_of(convolved, x=(2, 7, 5)), {"x": x})
    _, largest, _ = both(net_of(pooled, x=(2, 7, 5)), {"x": x})
    expected = functional.max_pool2d(torch.from_numpy(sums), 3, 2, 1).numpy()
    assert np.array_equal(largest, expected)
    assert len(np.unique(largest)) > 40


def test_one_and_three_axes_of_space() -> None:
    """Nothing counts on two."""
    for space, pool, convolve in (
        ((7,), functional.max_pool1d, functional.conv_transpose1d),
        ((3, 4, 5), functional.max_pool3d, functional.conv_transpose3d),
    ):
        x = codes((2, *space), seed=5)
        real = torch.from_numpy(x.astype(np.float64))
        expected: Any = pool(real, 3, 2, 1)  # type: ignore[operator]
        y = codes(tuple(expected.shape[1:]), seed=6)
        net = net_of(
            lambda b, v: spatial.max_unpool(b, "u", v["x"], v["y"], 3, stride=2, padding=1),
            x=(2, *space),
            y=y.shape[1:],
        )
        wanted = gradient(lambda t, pool=pool: pool(t, 3, 2, 1), x.astype(np.float64), y.astype(np.float64))  # type: ignore[misc]
        assert np.array_equal(both(net, {"x": x, "y": y})[1], wanted)
        weight = np.random.default_rng(7).integers(-3, 4, (2, 1, *(2,) * len(space))).astype(np.float64)
        net = net_of(
            lambda b, v, w=weight: spatial.conv_transpose(b, "t", v["x"], "w", w, "test", stride=2), x=(2, *space)
        )  # type: ignore[misc]
        expected = convolve(real, torch.from_numpy(weight), stride=2).numpy()  # type: ignore[operator]
        np.testing.assert_allclose(both(net, {"x": x})[1], expected, rtol=0, atol=1e-12)
