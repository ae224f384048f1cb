"""The loihi target without Lava: matrices, unrolling, the emitted arithmetic and text, and what it refuses."""

import importlib.util
import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from emitting import emitted, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_nets import normalised
from strategies import int_nets, random_inputs, random_net, small_net, with_formats

from eqcompile.targets.loihi import code
from eqcompile.targets.loihi.partition import partition
from eqcompile.targets.loihi.target import LoihiPlan, LoihiTarget
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import (
    Encoding,
    Format,
    Input,
    IntNet,
    Output,
    Param,
    Schedule,
    State,
    ops,
    verify,
)
from eqcompile.toolchain.passes import unroll


def emitted_arithmetic() -> ModuleType:
    """The module as it lies in the folder, which does not know eqcompile."""
    path = Path(code.__file__).parent / "templates" / "arithmetic.py"
    spec = importlib.util.spec_from_file_location("emitted_arithmetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_unrolled_net_is_the_same_net(seed: int) -> None:
    """A name bound to the wrong copy of a loop's body would change the answer of nested models."""
    rng = random.Random(seed)
    net = random_net(rng, extras=("repeat", "copy", "sweep", "gate"))
    flat = unroll(net)
    verify(flat)
    assert not any(isinstance(op, ops.Repeat) for op in flat.all_ops())
    x = random_inputs(net, rng)
    a, b = run(net, x), run(flat, x)
    for name in net.states:
        np.testing.assert_array_equal(a.states[name.name], b.states[name.name])
    np.testing.assert_array_equal(a.outputs["logits"], b.outputs["logits"])


@settings(max_examples=30, deadline=None)
@given(int_nets(tolerance=0))
def test_partition_keeps_every_operation_once(net: IntNet) -> None:
    """An operation left out or done twice, or a stream without a sender, would hang or falsify the network."""
    flat = unroll(net)
    if any(isinstance(op, ops.MatMul) for op in flat.all_ops()):
        assert refused(LoihiTarget(), net)
        return
    parts = partition(flat)
    computed = [a.value for p in parts.populations for script in p.scripts.values() for a in script if a.op is not None]
    assert sorted(computed + [s.name for s in parts.synapses]) == sorted(op.out for op in flat.all_ops())
    assert sorted(s.name for p in parts.populations for s in p.states) == sorted(s.name for s in flat.states)
    for stream in [s.source for s in parts.synapses] + [s for p in parts.populations for s in p.mirrors]:
        assert stream in parts.sender


def test_a_state_that_a_map_updates_lives_with_its_reader() -> None:
    """A population of its own would send every code once more, a time step later."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=3)
    delayed = replace(
        net,
        states=(*net.states, State("g", (2,), "w", frac=7)),
        step=(*net.step[:2], ops.Add(out="b", a="a", b="g"), replace(net.step[2], x="b")),
        formats={"h": Format(8, True), "g": Format(10, True)},
    )
    parts = partition(with_formats(delayed))
    assert [sorted(s.name for s in p.states) for p in parts.populations if p.states] == [["g", "h"]]
    assert len(parts.populations) == len(partition(net).populations)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_emitted_arithmetic_is_the_specification(data: st.DataObject) -> None:
    """The population's rounding is its own code: a floor in the place of a half-up would shift codes by one."""
    ar = emitted_arithmetic()
    ints = st.integers(-(1 << 20), 1 << 20)
    x = np.array(data.draw(st.lists(ints, min_size=1, max_size=6)), np.int32)[None]
    other = np.array(data.draw(st.lists(ints, min_size=x.size, max_size=x.size)), np.int32)[None]
    m, k = data.draw(st.integers(1, 1 << 10)), data.draw(st.integers(0, 12))
    half = (1 << k) >> 1
    py, po = [int(v) for v in x[0]], [int(v) for v in other[0]]
    assert ar.rescale(x, np.array([[m]], np.int32), k)[0].tolist() == [(v * m + half) >> k for v in py]
    damped = [o + (((n - o) * m + half) >> k) for o, n in zip(po, py, strict=True)]
    if max(map(abs, damped)) < 1 << 31:
        assert ar.damp(other, x, m, k)[0].tolist() == damped
    positive = np.abs(other) + 1
    quotient = [((v << k) + int(d) // 2) // int(d) for v, d in zip(py, positive[0], strict=True)]
    if max(map(abs, quotient)) < 1 << 31:
        assert ar.divide(x, positive, k)[0].tolist() == quotient
    table = np.array(data.draw(st.lists(ints, min_size=1, max_size=9)), np.int32)
    first = data.draw(st.integers(-20, 20))
    assert ar.lookup(x, table, first)[0].tolist() == [
        int(table[min(max(v, first), first + table.size - 1) - first]) for v in py
    ]
    u = [min(max(v, first), first + (table.size << k) - 1) - first for v in py]
    line = [int(table[i >> k]) + ((int(table[::-1][i >> k]) * (i & ((1 << k) - 1)) + half) >> k) for i in u]
    assert ar.interpolate(x, table, table[::-1], first, k)[0].tolist() == line


def test_emitted_arithmetic_never_wraps() -> None:
    """A sum beyond 32 bits that wrapped silently would look like a result."""
    ar = emitted_arithmetic()
    top = np.array([[(1 << 31) - 1]], np.int32)
    with pytest.raises(OverflowError, match="2147483648"):
        ar.add(top, np.array([[1]], np.int32))


def test_emitted_arithmetic_of_two_words() -> None:
    """A root or a sum of more than 32 bits cut to them, or a root that the float misses by one."""
    ar = emitted_arithmetic()
    top = np.array([[(1 << 31) - 1]], np.int32)
    assert ar.add(top, top, bits=64).tolist() == [[(1 << 32) - 2]]
    assert ar.rescale(top, np.array([[1 << 30]]), 0, bits=64).tolist() == [[((1 << 31) - 1) << 30]]
    roots = [(1 << 31) - 1, (1 << 30) + 1, 94_906_267, 3]
    squares = np.array([[r * r + d for r in roots for d in (-1, 0, 1)]])
    assert ar.isqrt(squares).tolist() == [[math.isqrt(int(v)) for v in squares[0]]]


def test_what_a_population_alone_computes_with_may_be_wide() -> None:
    """A group normalisation of an image squares sums of thousands of codes: refused, no such net would run. What is
    told to others must still fit."""
    net = normalised()
    plan = LoihiTarget().plan(net)
    assert isinstance(plan, LoihiPlan)
    assert plan.parts.wide == {"fine", "power", "padded", "eps"}
    for placement in plan.placements.values():
        assert any("eps, fine, padded, power" in note for note in placement.notes)
    assert sum(plan.parts.words(name) for name in ("eps", "one", "whole")) == 4
    sent = ops.Linear(out="sent", x="power", weight="each")
    told = replace(net, params=(*net.params, Param("each", np.array([[1]]), "test")), step=(*net.step, sent))
    found = refused(LoihiTarget(), with_formats(told))
    assert {d.code for d in found} == {"loihi-width"}
    assert {"power", "sent"} <= {d.where for d in found}


def test_emitted_text_has_no_undefined_name(tmp_path: Path) -> None:
    """A typing error in a template would show only at the first run of Lava."""
    for seed in (1, 5, 8, 16):
        net = random_net(random.Random(seed), tolerance=0)
        folder = tmp_path / str(seed)
        folder.mkdir()
        emitted(LoihiTarget(), net, folder)
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "E9,F63,F7,F82", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    for process in tmp_path.rglob("process.py"):
        beside = {p.name for p in process.parent.iterdir()}
        assert beside == {"__init__.py", "process.py"}, "Lava would execute the other files"
    for described in tmp_path.rglob("network.json"):
        packages = {p.parent.name for p in described.parent.glob("processes/*/process.py")}
        assert "synapse" in packages, "each of these nets has a weighted map"
        assert any(name.startswith("pop_") for name in packages)


def test_a_comparison_is_written(tmp_path: Path) -> None:
    """A condition that is not computed chooses one side for ever; only a run of Lava would show it."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    more = (ops.Greater(out="g", a="a", b="h"), ops.Select(out="new", condition="g", a="y", b="h"))
    net = with_formats(replace(net, step=(*net.step, *more), states=(replace(net.states[0], update="new"),)))
    folder = emitted(LoihiTarget(), net, tmp_path).folder
    text = "".join(p.read_text() for p in folder.glob("processes/pop_*/process.py"))
    assert re.search(r"g = .+ > .+", text)
    assert "where(None" not in text


def test_emitted_bytes_are_reproducible(tmp_path: Path) -> None:
    """Two compilations of one net must be equal, or nobody can tell what changed."""
    net = random_net(random.Random(4), tolerance=0)
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emitted(LoihiTarget(), net, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        texts.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files if p.suffix != ".npz"})
    assert texts[0] == texts[1]
    assert json.loads(texts[0]["network.json"])["ir_digest"] == net.digest


def plain() -> IntNet:
    return small_net([[1, 0], [0, 1]], table=[-1, 0, 1], first=-1, steps=3)


def test_refuses_a_product_of_two_values() -> None:
    """A matmul has no synapse: emitting it would leave a hole in the network."""
    net = next(
        n
        for n in (random_net(random.Random(s), spaces=("tokens",), tolerance=0) for s in range(100))
        if any(isinstance(op, ops.MatMul) for op in n.all_ops())
    )
    products = [op.out for op in net.all_ops() if isinstance(op, ops.MatMul)]
    found = refused(LoihiTarget(), net)
    assert [d.code for d in found] == ["loihi-unsupported"] * len(products)
    assert all(f"matmul ({name})" in d.what for d, name in zip(found, products, strict=True))


def test_refuses_a_tolerance() -> None:
    """With a tolerance golden stops samples early; a network that runs on would differ."""
    net = small_net([[1]], table=[-1, 0, 1], first=-1, steps=3, tolerance=2)
    (found,) = refused(LoihiTarget(), net)
    assert found.code == "loihi-tolerance"
    assert "tolerance 2" in found.what


def test_refuses_what_does_not_fit_32_bits() -> None:
    """A wider sum would wrap in the int32 arrays of the process models."""
    net = plain()
    wide = replace(net, params=tuple(replace(p, value=p.value * (1 << 26)) if p.name == "W" else p for p in net.params))
    wide = with_formats(replace(wide, formats={"h": net.formats["h"]}))
    found = refused(LoihiTarget(), wide)
    assert {d.code for d in found} == {"loihi-width"}
    assert any("w can be [-8589934592, 8522825728]" in d.what and "[-2147483648, 2147483647]" in d.what for d in found)


def test_refuses_a_change_wider_than_32_bits() -> None:
    """The values fit, their difference does not: the message on the stream would wrap."""
    limit = 1 << 30
    net = IntNet(
        name="wide",
        family="test",
        inputs=(Input("x", (1,), encoding=Encoding(Format(32, True), 1.0)),),
        params=(Param("W", np.array([[0]]), "test"),),
        states=(),
        drive=(),
        step=(),
        readout=(ops.Linear(out="y", x="x", weight="W"),),
        outputs=(Output("o", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    found = refused(LoihiTarget(), with_formats(net))
    assert [d.code for d in found] == ["loihi-width"]
    assert f"a change of x can be [{-4 * limit + 1}, {4 * limit - 1}]" in found[0].what


def test_options_are_checked() -> None:
    """A misspelt chip must not be taken for another one."""
    with pytest.raises(UsageError) as caught:
        LoihiTarget(chip="loihi3", connectivity="both", chips=0)  # type: ignore[arg-type]
    assert [d.code for d in caught.value.diagnostics] == ["option-value"] * 3
    assert "'loihi3'" in caught.value.diagnostics[0].what


def test_capacity_names_the_resource() -> None:
    """A net that does not fit must say what is short, how much is needed and what there is."""
    size = 4200
    net = IntNet(
        name="wide",
        family="test",
        inputs=(Input("x", (size,), encoding=Encoding(Format(2, True), 1.0)),),
        params=(Param("W", np.ones((1, size), np.int64), "test"),),
        states=(),
        drive=(ops.Linear(out="y", x="x", weight="W"),),
        step=(),
        readout=(),
        outputs=(Output("o", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    (found,) = refused(LoihiTarget(chip="loihi1"), with_formats(net))
    assert found.code == "loihi-capacity"
    assert "needs 4200 in-axons, loihi1 has 4096" in found.what
    assert refused(LoihiTarget(chip="loihi2"), with_formats(net)) == []


def test_a_division_has_its_line(tmp_path: Path) -> None:
    """An operation that the emitted process leaves out would be noticed by Lava alone."""
    found = 0
    for seed in range(200):
        net = random_net(random.Random(seed), frames=False, tolerance=0)
        divisions = sum(isinstance(op, ops.Divide) for op in net.all_ops())
        if divisions and not refused(LoihiTarget(), net):
            folder = emitted(LoihiTarget(), net, tmp_path / str(seed)).folder
            text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
            assert text.count("ar.divide(") >= divisions
            found += 1
        if found == 3:
            return
    raise AssertionError("no net of these divides on Loihi")
