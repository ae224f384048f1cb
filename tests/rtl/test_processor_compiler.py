"""A compiled program computes what golden computes, and a program with one mutated instruction does not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from processor_runs import differences, mutated
from strategies import int_runs, random_inputs, random_net
from waist_nets import FORMS, form
from zoo_nets import zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.rtl.processor.compiler import Program, allocate, compile_net
from eqcompile.rtl.processor.compiler.maps import map_of
from eqcompile.rtl.processor.compiler.views import View, contiguous
from eqcompile.rtl.processor.isa import (
    PORT,
    Apply,
    Clear,
    End,
    Fresh,
    Instruction,
    Loop,
    Repeats,
    Unit,
    Vector,
)
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet, ops

Runs = tuple[IntNet, dict[str, NDArray[np.int64]]]
ZOO = ("LoopedMLP_release_sn", "LazyEqProp_release_sn", "NeuralCube_release", "TemporalResonanceEqProp_release_sn",
       "ToroidalMLP_archive_sn", "EqPropAttentionOnlyLM_release")  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(int_runs())
def test_every_state_at_every_tick_of_random_nets(run: Runs) -> None:
    assert differences(*run) == []


@pytest.mark.parametrize(("lanes", "width"), [(1, 1), (2, 2), (16, 4)])
def test_lanes_and_width_change_no_bit(lanes: int, width: int) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        net = random_net(rng)
        assert differences(net, random_inputs(net, rng), compile_net(net, lanes=lanes, width=width)) == []


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_the_waist(name: str) -> None:
    net, samples = form(name)
    assert_equal(net, samples)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.slow
def test_families(name: str) -> None:
    assert_equal(*zoo_net(name))


def lowered(net: EqNet, samples: Mapping[str, NDArray[np.float64]]) -> Runs:
    codes_net = lower(net, QuantizeOptions(), calibration=samples).net
    return codes_net, encode(codes_net, samples)[0]


def assert_equal(net: EqNet, samples: Mapping[str, NDArray[np.float64]]) -> None:
    assert differences(*lowered(net, samples)) == []


def test_a_listing_names_the_value_of_each_instruction() -> None:
    program = compile_net(lowered(*zoo_net("LoopedMLP_release_sn"))[0])
    lines = str(program).splitlines()
    assert len(lines) == len(program.instructions)
    assert all(line.split(maxsplit=1)[0] == str(at) for at, line in enumerate(lines))
    assert any("table" in line and line.endswith("; h") for line in lines)


@pytest.mark.parametrize(("stride", "size"), [(3, 2), (3, 5), (2, 4), (1, 3)])
def test_entries_that_no_kernel_reaches_are_in_no_list(stride: int, size: int) -> None:
    """Where a stride steps over entries, looking at them would cost clocks and change nothing."""
    op = ops.Conv(out="y", x="x", weight="W", stride=stride, padding=0)
    weight = np.ones((1, 1, 2, 2), np.int64)
    found = map_of(op, (1, size, size), {"W": weight}, 4)
    listed = [
        tuple(s + k * n for s, k, n in zip(part.start, part.step, at, strict=True))
        for part in found.parts
        for at in product(*map(range, part.counts))
    ]
    lines = sorted({stride * p + k for p in range((size - 2) // stride + 1) for k in range(2)})
    assert sorted(listed) == [(0, *at) for at in product(lines, lines)]
    assert all(part.weights.columns for part in found.parts)


def mutants_of(program: Program) -> Iterator[tuple[int, str, Instruction]]:
    """Instructions that do something else, each with its place.

    Left out is what changes nothing by its nature: a list that is read once a sample need not be emptied, and a buffer
    that is written for its events alone may lie anywhere.
    """
    depth = 0
    for at, i in enumerate(program.instructions):
        depth += isinstance(i, Loop) - isinstance(i, End)
        match i:
            case Vector():
                yield from ((at, what, mutant) for what, mutant in vector_mutants(i))
                if i.d.bank != PORT and not program.values[at].endswith("changes"):
                    yield at, "d", replace(i, d=replace(i.d, base=i.d.base + 1))
            case Apply():
                yield at, "columns", replace(i, columns=i.columns + 1)
                yield at, "sums", replace(i, sums=replace(i.sums, base=i.sums.base + 8))
                if depth:
                    yield at, "drain", replace(i, drain=False)
            case Clear():
                yield at, "words", replace(i, words=0)
            case Loop(repeats=Repeats.SETTLED):
                yield at, "count", replace(i, count=1)
                yield at, "repeats", replace(i, repeats=Repeats.COUNT)


def vector_mutants(i: Vector) -> Iterator[tuple[str, Instruction]]:
    if i.unit is not Unit.NONE:
        yield "unit", replace(i, unit=Unit.NONE)
    if i.shift:
        yield "shift", replace(i, shift=i.shift - 1)
    if i.add:
        yield "add", replace(i, add=False)
    if i.table is not None:
        yield "table", replace(i, table=None)
        yield "first", replace(i, table=replace(i.table, first=i.table.first + 3))
    if i.state:
        yield "state", replace(i, state=False)
    if i.events is not None:
        yield "events", replace(i, events=None)
        yield "column", replace(i, events=replace(i.events, column=replace(i.events.column, base=1)))
        if i.d.fresh is not Fresh.NEVER:
            yield "fresh", replace(i, d=replace(i.d, fresh=Fresh.NEVER))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LoopedMLP_release_sn", "NeuralCube_release"])
def test_every_mutant_of_an_instruction_is_noticed(name: str) -> None:
    net, codes = lowered(*zoo_net(name))
    program = compile_net(net)
    survivors, judged = [], 0
    for at, what, mutant in mutants_of(program):
        judged += 1
        try:
            noticed = bool(differences(net, codes, mutated(program, at, mutant), first=True))
        except (IndexError, OverflowError, ValueError):
            noticed = True
        if not noticed:
            survivors.append(f"{at} {what}: {program.values[at]}")
    assert judged > 25
    assert survivors == []


def test_a_buffer_freed_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers that live from their first to their second use, as if loops did not come back."""
    real = allocate._lives

    def short(draft: object) -> dict[str, tuple[int, int]]:
        return {name: (first, first) for name, (first, _) in real(draft).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(allocate, "_lives", short)
    caught = 0
    for seed in range(10):
        rng = random.Random(seed)
        net = random_net(rng)
        caught += bool(differences(net, random_inputs(net, rng), first=True))
    assert caught >= 8


def test_a_view_is_what_numpy_makes_of_an_array() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(rng.integers(1, 5, rng.integers(1, 4)).tolist())
        array = np.arange(int(np.prod(shape))).reshape(shape)
        axes = tuple(rng.permutation(len(shape)).tolist())
        view, turned = contiguous("x", shape).transpose(axes), array.transpose(axes)
        assert entries(view) == turned.tolist()
        flat = view.reshape((array.size,))
        if flat is not None:
            assert entries(flat) == turned.reshape(-1).tolist()
        wide = (3, *turned.shape)
        assert entries(view.broadcast(wide)) == np.broadcast_to(turned, wide).tolist()


def entries(view: View) -> object:
    words = np.lib.stride_tricks.as_strided(np.arange(1000), view.shape, tuple(s * 8 for s in view.strides))
    return (words + view.offset).tolist()
