"""Updates in turn and choices of the largest, against loops of NumPy and against PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from numpy.typing import NDArray
from waist_nets import both, net_of

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.families.ranks import top_k
from eqcompile.toolchain.importers.families.turns import by_colour, checkerboard, even_odd, in_turn
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Input, ops, verify
from eqcompile.toolchain.reference import run_reference

Array = NDArray[np.float64]
SIZES = (4, 5, 3, 2)
RNG = np.random.default_rng(21)
V = RNG.normal(size=(SIZES[0], 3))
UP = [RNG.normal(size=(SIZES[i + 1], SIZES[i])) for i in range(3)]
UP = [0.6 * w / np.linalg.norm(w, 2) for w in UP]
FORWARD, BOTH = ((0,), (1,), (2,), (3,)), ((0,), (1,), (2,), (3,), (2,), (1,), (0,))
ORDERS: dict[str, Sequence[Sequence[int]]] = {
    "Jacobi": ((0, 1, 2, 3),),
    "Gauss-Seidel": FORWARD,
    "forth and back": BOTH,
    "two colours": ((0, 2), (1, 3)),
}


def chain(groups: Sequence[Sequence[int]], steps: int) -> EqNet:
    """Four layers, each coupled to both neighbours: `s_i <- tanh(W_i s_{i-1} + W_{i+1}^T s_{i+1})`."""
    b = Builder("test.Chain", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 3), "V", V, "test")
    states = [b.state(f"s{i}", n) for i, n in enumerate(SIZES)]
    b.begin("step")
    calls = iter(range(100))

    def update(state: str, now: Mapping[str, str]) -> str:
        i, call = states.index(state), next(calls)
        terms = [drive] if i == 0 else [b.linear_of(f"up{call}", now[states[i - 1]], f"W{i}", UP[i - 1], "test")]
        if i < 3:
            terms.append(b.linear_of(f"down{call}", now[states[i + 1]], f"W{i + 1}_back", UP[i].T, "test"))
        return b.act(f"new{call}", b.add(f"pre{call}", *terms) if len(terms) > 1 else terms[0])

    in_turn(b, [[states[i] for i in group] for group in groups], update)
    b.output("o", states[3], "values")
    net = b.finish(steps)
    verify(net)
    return net


def swept(groups: Sequence[Sequence[int]], x: Array, steps: int) -> list[Array]:
    """The same in NumPy: each group reads what the arrays hold by then."""
    s = [np.zeros((len(x), n)) for n in SIZES]
    for _ in range(steps):
        for group in groups:
            new = {}
            for i in group:
                pre = x @ V.T if i == 0 else s[i - 1] @ UP[i - 1].T
                new[i] = np.tanh(pre + (s[i + 1] @ UP[i] if i < 3 else 0.0))
            for i, value in new.items():
                s[i] = value
    return s


@pytest.mark.parametrize("order", ORDERS)
def test_layers_in_turn_read_the_newest_values(order: str) -> None:
    """One step in the wrong order, or one value too old, moves every state."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 3))
    for steps in (1, 2, 7):
        found = run_reference(chain(ORDERS[order], steps), {"x": x}).states
        for i, wanted in enumerate(swept(ORDERS[order], x, steps)):
            np.testing.assert_allclose(found[f"s{i}"], wanted, rtol=0, atol=1e-14)
    others = [swept(groups, x, 2)[3] for name, groups in ORDERS.items() if name != order]
    assert all(np.abs(run_reference(chain(ORDERS[order], 2), {"x": x}).states["s3"] - o).max() > 1e-3 for o in others)


@pytest.mark.parametrize("order", ORDERS)
def test_a_sweep_settles_where_all_orders_settle(order: str) -> None:
    """A sample ends once a whole sweep moved nothing: the codes are those of all ticks made, by the oracle too; half a
    sweep that moves nothing must not end it. Jacobi needs the most ticks."""
    net, x = chain(ORDERS[order], 40), {"x": np.random.default_rng(0).uniform(-1.0, 1.0, (6, 3))}
    lowered = lower(net, QuantizeOptions(), calibration=x).net
    codes, _ = encode(lowered, x)
    golden = run(lowered, codes)
    states, _, _ = oracle.run(lowered, codes, settle=False)
    assert all(np.array_equal(golden.states[name], states[name]) for name in states)
    assert golden.steps.max() < 40
    fixed = run_reference(chain(ORDERS["Jacobi"], 200), x).states
    for s in lowered.states:
        assert np.abs(golden.states[s.name][-1] * 2.0 ** -(s.frac or 0) - fixed[s.name]).max() < 0.05
    jacobi = lower(chain(ORDERS["Jacobi"], 40), QuantizeOptions(), calibration=x).net
    assert golden.steps.mean() <= run(jacobi, codes).steps.mean()


@pytest.mark.parametrize("order", ORDERS)
def test_the_certificate_bounds_the_sweep(order: str) -> None:
    """No two settings of a block's states come further apart in a tick than the bound says, and a third of the bound is
    refuted, so that it is no empty one."""
    net = chain(ORDERS[order], 1)
    certificate = certify(net)
    assert not certificate.reason
    rng = np.random.default_rng(3)
    x = np.zeros((200, 3))
    [block] = certificate.blocks
    assert block.bound < 1.0
    starts = [{s.name: rng.uniform(-0.1, 0.1, (200, *s.shape)) for s in net.states} for _ in range(2)]
    for s in net.states:
        if s.name not in block.states:
            starts[1][s.name] = starts[0][s.name]
    ends = [stepped(net, x, start) for start in starts]
    before, after = (distance(*pair, block.states) for pair in (starts, ends))
    assert (after <= block.bound * before + 1e-12).all()
    assert (after > block.bound / 3.0 * before).any()


def stepped(net: EqNet, x: Array, states: Mapping[str, Array]) -> Mapping[str, Array]:
    """The states one tick after `states`, which are the inputs of a net that starts there."""
    inputs = [*net.inputs, *(Input(f"{s.name}_start", s.shape) for s in net.states)]
    zero = [ops.Scale(out=f"{s.name}_first", x=f"{s.name}_start", factor=1.0) for s in net.states]
    started = replace(
        net,
        inputs=tuple(inputs),
        drive=(*net.drive, *zero),
        states=tuple(replace(s, init=f"{s.name}_first") for s in net.states),
    )
    return run_reference(started, {"x": x, **{f"{n}_start": v for n, v in states.items()}}).states


def distance(a: Mapping[str, Array], b: Mapping[str, Array], names: Sequence[str]) -> Array:
    squares: Array = sum(((a[n] - b[n]) ** 2).reshape(len(a[n]), -1).sum(axis=1) for n in names)  # type: ignore[assignment]
    return np.sqrt(squares)


def test_even_and_odd_layers() -> None:
    """The groups of `two colours` above."""
    assert [list(group) for group in even_odd("abcde")] == [["a", "c", "e"], ["b", "d"]]


def test_colours_of_a_lattice_in_turn() -> None:
    """Sites of one colour read the new values of the other: against a loop over sites."""
    kernel = np.array([[0.0, 0.3, 0.0], [-0.4, 0.1, 0.2], [0.0, 0.25, 0.0]])
    b = Builder("test.Board", Tensors("file", {}), {})
    x = b.input("x", 1, 5, 4)
    h = b.state("h", 1, 5, 4)
    b.begin("step")

    def update(name: str, now: str) -> str:
        weight = b.param("kernel", kernel[None, None], "test")
        near = b.emit(ops.Conv(out=f"{name}_near", x=now, weight=weight, stride=1, padding=1))
        return b.act(f"{name}_new", b.add(f"{name}_pre", near, x))

    b.update(h, by_colour(b, "next", h, checkerboard(5, 4), update))
    b.output("o", h, "values")
    net = b.finish(3)
    verify(net)
    real = np.random.default_rng(4).uniform(-1.0, 1.0, (3, 1, 5, 4))
    found = run_reference(net, {"x": real}).outputs["o"]
    for sample in range(3):
        s = np.zeros((7, 6))
        for _ in range(3):
            for parity in (0, 1):
                old = s.copy()
                for i in range(5):
                    for j in range(4):
                        if (i + j) % 2 == parity:
                            patch = old[i : i + 3, j : j + 3]
                            s[i + 1, j + 1] = np.tanh((kernel * patch).sum() + real[sample, 0, i, j])
        np.testing.assert_allclose(found[sample, 0], s[1:-1, 1:-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("exactly", [False, True])
def test_the_largest_are_those_of_pytorch(count: int, exactly: bool) -> None:
    """Few different numbers, so that the last one that stays has equals: all of them stay, or the first ones."""
    x = np.random.default_rng(5).integers(-4, 5, (40, 7))
    real = torch.from_numpy(np.abs(x).astype(np.float64))

    def compose(b: Builder, v: Mapping[str, str]) -> str:
        size = b.emit(ops.Abs(out="size", x=v["x"]))
        return top_k(b, "top", v["x"], count, key=size, exactly=exactly)

    if exactly:
        order = torch.sort(real, dim=1, descending=True, stable=True).indices[:, :count]
        kept: Any = torch.zeros_like(real, dtype=torch.bool).scatter(1, order, True).numpy()
    else:
        kept = (real >= torch.topk(real, count, dim=1).values[:, -1:]).numpy()
    for found in both(net_of(compose, x=(7,)), {"x": x})[:2]:
        assert np.array_equal(found, np.where(kept, x, 0))
    assert exactly or count == 7 or (kept.sum(axis=1) > count).any()


@pytest.mark.parametrize("count", [0, 8])
def test_a_choice_of_none_or_too_many_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"top: {count} of 7 units"):
        net_of(lambda b, v: top_k(b, "top", v["x"], count), x=(7,))
