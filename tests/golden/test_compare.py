"""The comparison: it must see every difference, name the first one, and never pass for want of anything to compare."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import int_runs, random_inputs, random_net

from eqcompile.toolchain import golden
from eqcompile.toolchain.compare import Comparison, Divergence, compare
from eqcompile.toolchain.diagnostics import SimulatorError
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet

Array = NDArray[np.int64]


def example() -> Run:
    """Two states over 3 ticks and 2 samples; every code is different."""
    return Run(
        states={"h": np.arange(12).reshape(3, 2, 2), "g": np.arange(100, 106).reshape(3, 2)},
        outputs={"o": np.arange(200, 206).reshape(2, 3)},
        steps=np.array([3, 2]),
    )


def changed(run: Run, kind: str, name: str, index: tuple[int, ...], value: int) -> Run:
    """The run with one code replaced."""
    arrays = {"state": run.states, "output": run.outputs, "steps": {"steps": run.steps}}[kind]
    array = np.array(arrays[name])
    array[index] = value
    if kind == "steps":
        return replace(run, steps=array)
    field = "states" if kind == "state" else "outputs"
    return replace(run, **{field: {**arrays, name: array}})


@settings(max_examples=30, deadline=None)
@given(int_runs())
def test_equal_runs_compare_equal(case: tuple[IntNet, dict[str, Array]]) -> None:
    """A comparison that differs with itself, or counts fewer codes than the run has."""
    net, inputs = case
    run = golden.run(net, inputs)
    found = compare(run, golden.run(net, inputs, evaluation="event"))
    assert found.ok
    found.require()
    assert found.first is None
    assert found.values == sum(a.size for a in run.states.values())
    assert found.outputs == sum(a.size for a in run.outputs.values())
    assert found.ticks == len(next(iter(run.states.values())))
    assert found.samples == len(run.steps)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
def test_any_single_changed_code_is_found_and_named(seed: int, data: st.DataObject) -> None:
    """A code that the comparison does not look at: one bit of any state, output or step count."""
    rng = random.Random(seed)
    net = random_net(rng)
    run = golden.run(net, random_inputs(net, rng))
    kind = data.draw(st.sampled_from(("state", "output", "steps")))
    arrays = {"state": run.states, "output": run.outputs, "steps": {"steps": run.steps}}[kind]
    name = data.draw(st.sampled_from(sorted(arrays)))
    index = data.draw(st.tuples(*(st.integers(0, n - 1) for n in arrays[name].shape)))
    expected = int(arrays[name][index])
    got = expected ^ (1 << data.draw(st.integers(0, 7)))
    found = compare(run, changed(run, kind, name, index, got))
    assert not found.ok
    assert (found.mismatches, found.output_mismatches, found.step_mismatches) == tuple(
        int(kind == k) for k in ("state", "output", "steps")
    )
    tick, where = (index[0], index[1:]) if kind == "state" else (None, index)
    assert found.first == Divergence(kind, name, tick, where[0], where[1:], expected, got)  # type: ignore[arg-type]


def test_the_first_divergence_is_the_earliest_tick_then_sample() -> None:
    """A report that points at a consequence instead of the cause."""
    run = example()
    late = changed(run, "state", "h", (1, 0, 1), -1)
    assert compare(run, changed(late, "state", "g", (1, 1), -1)).first == Divergence("state", "h", 1, 0, (1,), 5, -1)
    assert compare(run, changed(late, "state", "g", (0, 1), -1)).first == Divergence("state", "g", 0, 1, (), 101, -1)
    both = changed(changed(run, "output", "o", (0, 0), 0), "steps", "steps", (0,), 1)
    assert compare(run, both).first == Divergence("output", "o", None, 0, (0,), 200, 0)
    assert compare(run, changed(both, "state", "h", (2, 1, 1), 0)).first == Divergence("state", "h", 2, 1, (1,), 11, 0)


@pytest.mark.parametrize(
    ("got", "text"),
    [
        (("state", "h", (2, 1, 0), 7), "state h[0] of sample 1 after tick 2: expected 10, got 7"),
        (("output", "o", (1, 2), 7), "output o[2] of sample 1: expected 205, got 7"),
        (("steps", "steps", (1,), 3), "the number of ticks of sample 1: expected 2, got 3"),
    ],
)
def test_divergence_reads_as_a_sentence(got: tuple[str, str, tuple[int, ...], int], text: str) -> None:
    """A message without the step, state, unit, expected or got that a user needs."""
    found = compare(example(), changed(example(), *got))
    assert str(found.first) == text
    with pytest.raises(SimulatorError, match="compare-diverges") as caught:
        found.require()
    assert [d.what for d in caught.value.diagnostics] == [text]
    assert str(found).splitlines()[0].startswith("DIFFERS: ")
    assert str(found).endswith(f"first divergence: {text}")


def wrong_shapes() -> list[tuple[Run, str]]:
    run = example()
    h, o = run.states["h"], run.outputs["o"]
    return [
        (replace(run, states={"h": h}), "compare-missing-state"),
        (replace(run, states={**run.states, "k": h}), "compare-extra-state"),
        (replace(run, outputs={}), "compare-missing-output"),
        (replace(run, outputs={"o": o, "p": o}), "compare-extra-output"),
        (replace(run, states={**run.states, "h": h[:2]}), "compare-shape"),
        (replace(run, states={**run.states, "h": h[:, :, :1]}), "compare-shape"),
        (replace(run, outputs={"o": o[0]}), "compare-shape"),
        (replace(run, steps=run.steps[:1]), "compare-shape"),
        (replace(run, outputs={"o": o.astype(np.float64)}), "compare-dtype"),
        (replace(run, outputs={"o": o.astype(np.uint64)}), "compare-dtype"),
        (replace(run, steps=run.steps.astype(bool)), "compare-dtype"),
    ]


@pytest.mark.parametrize(("got", "code"), wrong_shapes())
def test_what_cannot_be_compared_is_a_failure(got: Run, code: str) -> None:
    """A missing state, a shorter trace or floats would be skipped, and the rest would look equal."""
    found = compare(example(), got)
    assert not found.ok
    assert code in [d.code for d in found.faults]
    assert found.mismatches + found.output_mismatches + found.step_mismatches == 0
    with pytest.raises(SimulatorError, match=code):
        found.require()


def test_comparing_nothing_is_a_failure() -> None:
    """Two runs without traces or samples are equal in a trivial way; that proves nothing."""
    run = example()
    untraced = replace(run, states={})
    found = compare(untraced, untraced)
    assert [(d.code, d.where) for d in found.faults] == [("compare-nothing", "states")]
    empty = Run(states={"h": np.zeros((0, 2, 2), np.int64)}, outputs=run.outputs, steps=run.steps)
    assert not compare(empty, empty).ok
    nobody = Run(states={}, outputs={"o": np.zeros((0, 3), np.int64)}, steps=np.zeros(0, np.int64))
    assert {d.where for d in compare(nobody, nobody).faults} == {"states", "outputs"}
    assert not compare(nobody, nobody, states=False).ok


def test_outputs_alone_can_be_compared_on_purpose() -> None:
    """A net without states has no trace; its outputs and step counts must still be compared."""
    run = replace(example(), states={})
    assert compare(run, run, states=False).ok
    assert not compare(run, changed(run, "output", "o", (0, 0), 1), states=False).ok
    assert not compare(run, changed(run, "steps", "steps", (0,), 1), states=False).ok


def test_report_is_plain_json() -> None:
    """A report that cannot be written to the manifest."""
    found = compare(example(), changed(example(), "state", "h", (0, 0, 0), 9))
    data = json.loads(json.dumps(found.to_json()))
    assert data["equal"] is False
    assert data["mismatches"] == 1
    assert data["values"] == 18
    assert data["first"] == "state h[0] of sample 0 after tick 0: expected 0, got 9"


@pytest.mark.parametrize("field", ["mismatches", "output_mismatches", "step_mismatches"])
def test_each_count_alone_denies_equality(field: str) -> None:
    """A verdict that forgets one of the counts."""
    equal = Comparison(1, 1, 1, 0, 1, 0, 0, None)
    assert equal.ok
    assert not replace(equal, **{field: 1}).ok
