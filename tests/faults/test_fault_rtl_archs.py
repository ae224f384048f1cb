"""Saboteurs of the parallel and the lattice engine give golden's trajectories, and leave the cores as they were."""

from __future__ import annotations

import atexit
import random
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emitting import write_core
from fault_cases import random_faults
from fault_sessions import accepted, changed, core_faults, differing, effective, unlike_deposits
from hypothesis import given, settings
from hypothesis import strategies as st
from rtl_engines import cube_net
from rtl_injection import some_faults, translator_of, unlike_golden
from rtl_mutant_nets import subjects
from strategies import random_inputs, random_net, with_formats

from eqcompile.rtl import saboteur
from eqcompile.rtl.lattice import saboteur as in_lattice
from eqcompile.rtl.lattice.engine import LatticeEngine
from eqcompile.rtl.parallel import saboteur as in_parallel
from eqcompile.rtl.parallel.engine import ParallelEngine, check
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.sim.faults.table import FaultTable, Place, parse_fault
from eqcompile.targets.rtl.emit import saboteur_sites, shell_of
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet, ops

SAMPLES = 2
LATTICES = [(1, 3), (2, None), (3, None), (8, None)]
"""Passes and units; three blocks of three cells for eight sites have a cell without one."""


def parallel_nets() -> st.SearchStrategy[tuple[IntNet, random.Random]]:
    """Random nets of every operation, repeats among them, that the parallel engine takes."""

    def draw(seed: int) -> tuple[IntNet, random.Random]:
        rng = random.Random(seed)
        while True:
            net = random_net(rng, frames=False, max_steps=4, max_states=2)
            if not check(net):
                return net, rng

    return st.integers(0, 2**32 - 1).map(draw)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(parallel_nets(), st.sampled_from([(None, None, 1), (1, 1, 1), (2, None, 2)]))
def test_any_word_of_any_net_in_the_parallel_core(
    case: tuple[IntNet, random.Random], options: tuple[int | None, int | None, int]
) -> None:
    """A tick or a unit beside, a format that does not wrap, an operation fused or cut to what undisturbed runs need."""
    (net, rng), (levels, step_levels, beat) = case, options
    inputs = random_inputs(net, rng, batch=SAMPLES)
    engine = ParallelEngine(net, trace=True, inject=True, levels=levels, step_levels=step_levels, beat=beat)
    told = some_faults(engine, net, rng, samples=SAMPLES, count=60)
    assert len(told) > 8
    assert unlike_golden(engine, net, inputs, told) == []


@pytest.mark.slow
@pytest.mark.parametrize(("passes", "units"), LATTICES)
def test_any_word_of_a_cube_in_the_lattice(passes: int, units: int | None) -> None:
    """A site of another block or share, the tick before, a code that cells or units are not told of."""
    net, rng = cube_net(2, steps=3), random.Random(passes)
    inputs = random_inputs(net, rng, batch=SAMPLES)
    engine = LatticeEngine(net, trace=True, inject=True, passes=passes, units=units)
    told = some_faults(engine, net, rng, samples=SAMPLES, count=60)
    assert len(told) > 12
    assert unlike_golden(engine, net, inputs, told) == []


def a_tick_late(*given: Any, **options: Any) -> Any:
    *others, tick = given
    return DISTURBED(*others, (tick - 1)[:16], **options)


def not_saturating(*given: Any, clamp: Any = None) -> Any:
    return DISTURBED(*given)


def of_the_next_unit(self: Any, word: str, cut: Any, unit: int, tick: Any, *, held: bool) -> Any:
    return UNIT_WORD(self, word, cut, unit + 1, tick, held=held)


def of_the_next_element(self: Any, pipe: Any, index: Any) -> Any:
    return ELEMENTS(self, pipe, index + 1)


NOT_FLIPPED = ("one", "one", "zero", "add")
DISTURBED = saboteur.Tables.disturbed
UNIT_WORD, ELEMENTS = in_parallel.Saboteur._word, in_lattice.Saboteur._elements


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "where", "name", "mutant"),
    [
        ("parallel", None, "", None),
        ("parallel", saboteur.Tables, "disturbed", a_tick_late),
        ("parallel", saboteur.Tables, "disturbed", not_saturating),
        ("parallel", saboteur, "MASKS", NOT_FLIPPED),
        ("parallel", in_parallel.Saboteur, "_word", of_the_next_unit),
        ("parallel", in_parallel.Saboteur, "clamped", lambda self, scope, tick: scope),
        ("lattice", None, "", None),
        ("lattice", saboteur.Tables, "disturbed", a_tick_late),
        ("lattice", saboteur.Tables, "disturbed", not_saturating),
        ("lattice", saboteur, "MASKS", NOT_FLIPPED),
        ("lattice", in_lattice.Saboteur, "_elements", of_the_next_element),
        ("lattice", in_lattice.Saboteur, "kept", lambda self, pipe, name, value, time: value),
    ],
)
def test_a_wrong_saboteur_is_seen(
    monkeypatch: pytest.MonkeyPatch, arch: str, where: Any, name: str, mutant: Any
) -> None:
    """The comparisons above must notice a saboteur that acts late, elsewhere, without the flip, that wraps a state, or
    does not act on a value of the drive that stands in a register or a memory."""
    net = cube_net(2, steps=3)
    # From small inputs the tables are not in saturation yet.
    inputs = {"x": np.zeros((1, 3), np.int64)}
    if mutant is not None:
        monkeypatch.setattr(where, name, mutant)
    engine = {"parallel": ParallelEngine, "lattice": LatticeEngine}[arch](net, trace=True, inject=True)
    faults = [
        parse_fault(f"0/a.0.0/{word}[{u}]^80@{t}") for word in ("state:h", "value:d") for u in (2, 6) for t in (1, 2)
    ]
    faults += [parse_fault(f"0/a.0.0/state:h[{u}]+200@{t}") for u in (2, 6) for t in (1, 2)]
    told = list(zip(faults, translator_of(engine, net).rows(faults), strict=True))
    wrong = unlike_golden(engine, net, inputs, told)
    assert bool(wrong) == (mutant is not None)
    assert name in ("", "clamped", "kept") or any("state:h" in fault for fault in wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "which"), [("parallel", 1), ("parallel", 4), ("lattice", 0)])
def test_without_saboteurs_the_core_is_as_it_was(monkeypatch: pytest.MonkeyPatch, arch: str, which: int) -> None:
    """Would break if what serves campaigns were in a core that is delivered."""
    subject = subjects(arch)[which]

    def written() -> str:
        text = emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core")
        return text

    text = written()
    assert "inject" not in text
    monkeypatch.delattr(in_parallel.Saboteur, "__init__")
    monkeypatch.delattr(in_lattice.Saboteur, "__init__")
    assert written() == text


@cache
def opened(arch: str) -> RtlSession:
    """The core of a small net with saboteurs, compiled once for the tests below."""
    subject = subjects(arch)[{"parallel": 1, "lattice": 0}[arch]]
    folder = Path(tempfile.mkdtemp(prefix=f"eqcompile-{arch}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_core(subject.net, subject.architecture, folder, trace=True, saboteurs=True)
    inputs = random_inputs(subject.net, random.Random(1), batch=SAMPLES)
    return RtlSession(subject.net, inputs, 1, core=folder)


@pytest.mark.simulator
@pytest.mark.parametrize("arch", ["parallel", "lattice"])
def test_any_fault_gives_golden_s_trajectory(arch: str) -> None:
    """The same fault id on golden and in the emitted Verilog; sums that are only incremented, and noise, among them."""
    session = opened(arch)
    table = random_faults(session.net, random.Random(3), samples=SAMPLES, ticks=session.ticks, count=400)
    table = accepted(session.translator, table)
    assert {Place(int(p)) for p in table.upsets["place"]} == {Place.STATE, Place.VALUE}
    assert table.upsets["held"].any()
    assert (table.upsets["add"] != 0)[table.upsets["place"] == Place.STATE].any()
    assert len(table) > 150
    rows = session.translator.rows(list(table))
    assert differing(session, rows, list(table)) == []
    assert differing(session, changed(rows, tick=lambda t: t.tick + 1), list(table))
    golden = GoldenEngine().open(session.net, session.inputs, near=1)
    np.testing.assert_array_equal(session.run(table), golden.run(table))


@pytest.mark.simulator
@pytest.mark.parametrize("arch", ["parallel", "lattice"])
def test_upsets_of_the_hardware_leave_nothing_behind(arch: str) -> None:
    """Would break if a hang, a lost beat or a flipped word of one fault were seen by the next."""
    session = opened(arch)
    faults = core_faults(session, 400, 1, int(session.undisturbed.latency.max()))
    table = FaultTable.of(faults)
    found = session.run(table)
    assert {Outcome.HANG, Outcome.MASKED, Outcome.HEALED} <= set(found["outcome"].tolist())
    backwards = np.arange(len(table))[::-1]
    np.testing.assert_array_equal(session.run(table.take(backwards)), found[backwards])
    late = [replace(f, upsets=tuple(replace(u, first=10**6, last=10**6) for u in f.upsets)) for f in faults[:50]]
    assert set(session.run(FaultTable.of(late))["outcome"].tolist()) == {Outcome.MASKED}


@pytest.mark.simulator
@pytest.mark.parametrize("arch", ["parallel", "lattice"])
def test_upsets_of_the_hardware_are_what_cocotb_deposits(arch: str, tmp_path: Path) -> None:
    """The generated saboteurs against a simulator's own means, on the core that has none: every state of every tick."""
    session = opened(arch)
    found = core_faults(session, 1000, 2, int(session.undisturbed.latency.max()), NAMED[arch])
    kept = effective(session, [f for f in found if "#" not in str(f)], 10)
    assert len(kept) == 12
    assert unlike_deposits(session, kept, tmp_path) == set()


NAMED = {
    "parallel": ("engine.h_", "engine.g_", "engine.seen_", "engine.left", "engine.age", "engine.made", "engine.ux_sum"),
    "lattice": ("engine.moving_", "engine.sum_", "engine.leaving_", "engine.coming_", "engine.bank"),
}
"""Registers whose names say which they are."""


@pytest.mark.slow
def test_a_fault_can_name_every_bit_of_a_wide_register() -> None:
    """Would break if a bit above the 63rd were a site's: the masks of a table of faults end below it."""
    sites = {s["name"]: s["bits"] for s in saboteur_sites(cube_net(3, steps=2), Parallel())}
    # A column of 27 weights of 5 bits.
    assert [sites[f"engine.word.{low}"] for low in (0, 63, 126)] == [63, 63, 9]
    assert max(sites.values()) == 63


def reshaped(net: IntNet) -> IntNet:
    """The lattice of `subjects`, whose step reads the drive once more in the same shape under another name."""
    count = net.states[0].shape
    step = []
    for op in net.step:
        if op.out == "phi":
            step += [ops.Reshape(out="line", x="driven", shape=count), ops.Add(out="twice", a="line", b="flat")]
            op = replace(op, x="twice")
        step.append(op)
    drive = (*net.drive, ops.Reshape(out="flat", x="vx", shape=count))
    formats = {"h": net.formats["h"], "g": net.formats["g"]}
    return with_formats(replace(net, drive=drive, step=tuple(step), formats=formats))


WEIGHTS = "so are all its constants, weights among them"
REFUSED = {
    "0/a.0.0/param:W[3]^1@0-7": {"parallel": f"W is wired into the core, and {WEIGHTS}", "lattice": WEIGHTS},
    "0/a.0.0/param:table[3]^1@0-7": {"parallel": "table is wired into the core", "lattice": "table is wired"},
    "0/a.0.0/state:h[0]+1@1;state:h[0]^1@1": {"parallel": "changed again", "lattice": "changed again"},
    "0/a.0.0/value:line[0]^1@1": {"lattice": "value:line is no word of the core that has a saboteur"},
    "0/a.0.0/value:vx[0]^40@1": {"lattice": "vx of the drive and flat are one word"},
}


@pytest.mark.parametrize("arch", ["parallel", "lattice"])
def test_what_the_core_has_not_is_refused_by_name(arch: str) -> None:
    """Would break if a fault of a weight were left out where weights are constants, if the way out were not named, or
    if what a core keeps as one word were disturbed where the net disturbs one of two."""
    net = reshaped(subjects("lattice")[0].net)
    engine = {"parallel": ParallelEngine, "lattice": LatticeEngine}[arch](net, trace=True, inject=True)
    told, taken = translator_of(engine, net), []
    for text, why in REFUSED.items():
        if arch not in why:
            taken += zip([parse_fault(text)], told.rows([parse_fault(text)]), strict=True)
            continue
        with pytest.raises(UsageError, match=why[arch]) as error:
            told.rows([parse_fault(text)])
        assert text in str(error.value)
        assert "golden" in str(error.value) or "no word" in str(error.value)
        assert "param" not in text or "--arch serial" in str(error.value)
    inputs = random_inputs(net, random.Random(2), batch=SAMPLES)
    assert unlike_golden(engine, net, inputs, taken) == []
    assert bool(taken) == (arch == "parallel")
