"""The GPU engine against golden, every column of every result: its kernel runs under Triton's interpreter."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gpu_faults import MUTANTS, compared, drawn_net, faults, mutated
from strategies import random_inputs, small_net, with_formats

from eqcompile.sim.faults.engine import Outcome, Session
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu import plan, resident, source
from eqcompile.sim.faults.gpu.engine import GpuEngine
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet, ops

SEEDS = range(24)
interpreted = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")), reason="Triton is not installed"
)


def sessions(net: IntNet, codes: Any) -> tuple[Session, Session]:
    return GpuEngine().open(net, codes, near=1), GoldenEngine().open(net, codes, near=1)


def loop() -> tuple[IntNet, Any]:
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    return net, {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}


def differing(net: IntNet, codes: Any, seed: int, count: int = 60) -> int:
    return compared(net, codes, seed, count).mismatches


@interpreted
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_results_are_goldens(seed: int) -> None:
    """Cutting a fault short where it rejoins the clean run must not change a column of its result."""
    source_of = random.Random(seed)
    net = drawn_net(source_of)
    codes = random_inputs(net, source_of)
    refused = GpuEngine().check(net)
    if refused:
        assert all(d.code.startswith("gpu-") and d.what for d in refused)
        return
    assert differing(net, codes, seed) == 0


def test_enough_random_nets_are_taken() -> None:
    """If all were refused, the equality above would compare nothing."""
    taken = [not GpuEngine().check(drawn_net(random.Random(seed))) for seed in SEEDS]
    assert sum(taken) >= 10


@interpreted
def test_trajectories_are_goldens() -> None:
    """A replay shows the run that the result was read from."""
    net, codes = loop()
    tried, right = sessions(net, codes)
    fault = Fault(1, "state", 0, 3, (Upset(Place.STATE, net.states[0].name, 0, 2, 2, flip=8),))
    for name, rows in right.trace(fault).items():
        assert (tried.trace(fault)[name] == rows).all()
        assert (tried.clean(1)[name] == right.clean(1)[name]).all()


@interpreted
def test_a_product_beyond_32_bits_is_computed_in_64() -> None:
    """A damped change times its multiplier that wraps on the device, where NumPy has 64 bits."""
    net, codes = loop()
    update = net.states[0].update
    damp = ops.DampFixed(out="damped", old=net.states[0].name, new=update, multiplier=2**24 - 1, shift=24)
    net = with_formats(replace(net, step=(*net.step, damp), states=(replace(net.states[0], update="damped"),)))
    assert plan.make_plan(net).wide == {"damped"}
    assert differing(net, codes, 0, 200) == 0


@interpreted
def test_a_table_of_the_readout_is_read() -> None:
    """The clean run keeps entries of the step's tables alone, so those of the readout come from memory."""
    net, codes = loop()
    read = ops.Lookup(out="shown", x="h", table="T", first=-2)
    net = with_formats(replace(net, readout=(read,), outputs=(replace(net.outputs[0], value="shown"),)))
    assert not GpuEngine().check(net)
    assert differing(net, codes, 0, 100) == 0


@pytest.mark.slow
@interpreted
@pytest.mark.parametrize(("right", "wrong"), MUTANTS)
def test_mutants_are_noticed(right: str, wrong: str) -> None:
    """A comparison that passes a wrong kernel proves nothing."""
    net, codes = loop()
    assert differing(net, codes, 0, 200) == 0
    with mutated(right, wrong) as changed:
        assert differing(net, codes, 0, 200) > 0
    assert changed


@pytest.mark.slow
@interpreted
@pytest.mark.parametrize("kind", ["interpolate", "damp"])
def test_rounding_binds_tighter_than_the_sum_around_it(kind: str) -> None:
    """`a + (b + c >> k)` in the text of the kernel, without its brackets, shifts the sum."""
    taken = [
        (net, seed)
        for seed in range(60)
        for net in [drawn_net(random.Random(seed))]
        if not GpuEngine().check(net) and any(kind in op.mnemonic for op in net.step)
    ][:3]
    assert taken
    for net, seed in taken:
        assert differing(net, random_inputs(net, random.Random(seed)), seed) == 0


@pytest.mark.parametrize(("interpreter", "driver"), [(False, False), (False, True), (True, False)])
def test_without_a_gpu_the_engine_says_so(monkeypatch: pytest.MonkeyPatch, interpreter: bool, driver: bool) -> None:
    """A form of the engine that is slower than `fast` on every CPU serves nobody, unless it was asked for."""
    monkeypatch.setenv("TRITON_INTERPRET", "1" if interpreter else "0")
    monkeypatch.setattr("eqcompile.sim.faults.gpu.engine._has_driver", lambda: driver)
    assert ("a CUDA device" in GpuEngine().missing()) == (not interpreter and not driver)


@interpreted
@pytest.mark.parametrize(
    ("upset", "why"),
    [
        (Upset(Place.VALUE, "y", 0, 1, 1, flip=1), "no upset of a state"),
        (Upset(Place.STATE, "nowhere", 0, 1, 1, flip=1), "no state of the net"),
        (Upset(Place.STATE, "h", 3, 1, 1, flip=1), "outside its state"),
        (Upset(Place.STATE, "h", 0, 2, 2, flip=0x200), "bit that its word has not"),
        (Upset(Place.STATE, "h", 0, 2, 2, flip=1, held=True), "holds a state"),
        (Upset(Place.STATE, "h", 0, 1, 2, add=1), "more than one tick"),
        (Upset(Place.STATE, "h", 0, 7, 7, flip=1), "later than tick 6"),
    ],
)
def test_faults_that_the_kernel_has_no_form_for_are_refused(upset: Upset, why: str) -> None:
    """A fault that runs as another would be counted as what it is not."""
    net, codes = loop()
    session = GpuEngine().open(net, codes, near=1)
    with pytest.raises(UsageError, match=why):
        session.run(FaultTable.of([Fault(0, "site", 0, 0, (upset,))]))


@interpreted
def test_a_sample_that_is_not_there_is_refused() -> None:
    """Clean codes of a sample beyond the last would be somebody else's memory."""
    net, codes = loop()
    upset = Upset(Place.STATE, net.states[0].name, 0, 1, 1, flip=1)
    with pytest.raises(UsageError, match="none of the 3 samples"):
        GpuEngine().open(net, codes, near=1).run(FaultTable.of([Fault(3, "site", 0, 0, (upset,))]))


@interpreted
def test_outcomes_of_every_kind_occur() -> None:
    """An engine in which no fault ever matters would equal golden on faults that never matter."""
    net, codes = loop()
    table = faults(net, 3, net.schedule.steps, random.Random(3), 300)
    seen = set(GpuEngine().open(net, codes, near=1).run(table)["outcome"].tolist())
    assert {Outcome.MASKED, Outcome.HEALED} <= seen
    assert len(seen) >= 3


def test_the_kernel_names_what_it_reads() -> None:
    """Pointers are handed over by position: each array of the kernel is an argument, once, in its order."""
    net, _ = loop()
    made = source.kernel_of(plan.make_plan(net), slots=2)
    head = made.text[made.text.index("def relax(") : made.text.index("):")]
    arguments = [a.strip() for a in head.removeprefix("def relax(").split(",")]
    fixed = 2 + len(source.SLOT) + 1
    pointers = arguments[fixed : fixed + len(made.arrays)]
    assert [p.rstrip("_ptr").rstrip("0123456789") for p in pointers] == [kind for kind, _ in made.arrays]
    assert len(set(made.arrays)) == len(made.arrays)
    compile(made.text, "relax", "exec")


@interpreted
def test_one_unit_is_no_product_of_matrices() -> None:
    """The matrix units take 32 terms or more; the interpreter takes one as well and would not show it."""
    net = small_net([[2]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    assert "tl.dot" not in source.kernel_of(plan.make_plan(net), slots=1).text
    assert differing(net, {"x": np.array([[1], [5], [-3]])}, seed=0) == 0


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
def test_the_codes_of_a_type_lie_in_that_type(kind: type[np.signedinteger[Any]]) -> None:
    """One type further would take twice the memory of a card for a state that saturates, or would not be there."""
    ends = np.array([np.iinfo(kind).min, np.iinfo(kind).max], np.int64)
    found = resident._narrowest(ends)
    assert found.dtype == kind
    assert (found == ends).all()
