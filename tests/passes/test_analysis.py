"""The cached analysis of a net."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import int_nets, int_runs, small_net

from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import Interval, IntNet, Schedule, infer, ops, value_ranges
from eqcompile.toolchain.passes import Analysis, live_ops, reads


@settings(max_examples=40, deadline=None)
@given(int_nets())
def test_it_says_what_the_passes_say(net: IntNet) -> None:
    """A stale or wrong copy would let two stages disagree about one net."""
    analysis = Analysis.of(net)
    assert analysis is Analysis.of(net)
    assert analysis.types == infer(net)
    assert analysis.ranges == value_ranges(net)
    assert analysis.digest == net.digest
    assert set(analysis.readers) == {n for _, block in net.blocks for n in reads(block)} | {
        n for s in net.states for n in (s.update, s.init) if n is not None
    } | {o.value for o in net.outputs}
    assert all(line for line in str(analysis).splitlines())


def test_a_changed_net_has_an_analysis_of_its_own() -> None:
    """The facts of a net must not follow its name, nor survive a change of a field."""
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=3)
    first = Analysis.of(net)
    other = replace(net, schedule=Schedule(4))
    assert Analysis.of(other) is not first
    assert Analysis.of(other).digest != first.digest


def test_a_net_travels_with_its_analysis() -> None:
    """Campaigns send nets to other processes: the cache must neither break that nor change the net."""
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=3)
    before = net.digest
    assert Analysis.of(net).types["h"].shape == (1,)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert twin == net
        assert Analysis.of(twin).net is twin
        assert Analysis.of(twin).types == Analysis.of(net).types
    assert net.digest == before


def test_nobody_changes_it() -> None:
    """A shared fact that one reader changes is wrong for all others."""
    analysis = Analysis.of(small_net([[1]], table=[-1, 0, 1], first=-1, steps=3))
    with pytest.raises(TypeError):
        analysis.ranges["h"] = Interval(0, 0)  # type: ignore[index]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(int_runs(frames=False, tolerance=0))
def test_what_does_not_depend_on_inputs_does_not_change_with_them(run_of: tuple[IntNet, dict[str, np.ndarray]]) -> None:
    """A value that counts as constant is computed once by the targets: it must be the same for every input."""
    net, inputs = run_of
    analysis = Analysis.of(net)
    other = {name: np.roll(codes, 1, axis=0) for name, codes in inputs.items()}
    one, two = run(net, inputs), run(net, other)
    for name in {s.name for s in net.states} - analysis.clamped:
        np.testing.assert_array_equal(one.states[name], two.states[name])
    for o in net.outputs:
        if o.value not in analysis.clamped:
            np.testing.assert_array_equal(one.outputs[o.name], two.outputs[o.name])


def test_moving_live_and_readers_of_a_known_net() -> None:
    """What depends on a state, what nothing reads, and how often each name is read, on a net done by hand."""
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=3)
    dead = replace(net, step=(*net.step, ops.Abs(out="unused", x="a")))
    nested = ops.Repeat(out="r", init="x", count=2, carry="c", body=(ops.Add(out="b", a="c", b="h"),), result="b")
    inside = replace(net, readout=(nested,))
    assert Analysis.of(net).moving == {"h", "w", "a", "y"}
    assert Analysis.of(net).clamped == {"x", "a", "y", "h", "w"}
    assert Analysis.of(inside).moving == {"h", "w", "a", "y", "r", "b", "c"}
    assert Analysis.of(dead).live == {"w", "a", "y"}
    assert Analysis.of(dead).readers["a"] == 2
    assert [op.out for op in live_ops(dead.step, {"a"})] == ["w", "a"]
