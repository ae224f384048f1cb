"""Engine rtl: saboteurs give golden's trajectories and the simulator's own upsets, and leave the core as it was."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emitting import refused
from fault_cases import random_faults
from fault_sessions import accepted, changed, core_faults, differing, effective, instrumented, unlike_deposits
from rtl_engines import lazy_net
from rtl_mutant_nets import subjects
from strategies import random_inputs, small_net, with_formats

from eqcompile.app.emission import emit_artifact
from eqcompile.rtl.serial import core
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.engine import Engine, Outcome
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.rtl.engine import RtlEngine, RtlSession
from eqcompile.sim.faults.rtl.masks import Masks, Told
from eqcompile.sim.faults.rtl.rows import Cell, Row, Translator
from eqcompile.sim.faults.rtl.weights import Memory
from eqcompile.sim.faults.table import FaultTable, Place, Upset, parse_fault
from eqcompile.targets.rtl.emit import saboteur_sites, shell_of
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet, ops

SAMPLES = 3
SMALL = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
TERNARY, WIDE = 0, 1


def net_of(which: int) -> IntNet:
    """Two states and everything elementwise, ternary or with wide weights."""
    return subjects("serial")[which].net


def inputs_of(net: IntNet) -> dict[str, Any]:
    return random_inputs(net, random.Random(1), batch=SAMPLES)


@cache
def opened(which: int) -> RtlSession:
    net = net_of(which)
    return RtlEngine(instrumented("rtl", net)).open(net, inputs_of(net), near=1)


@cache
def translator(which: int) -> Translator:
    """What needs no simulator: the core is built, not compiled."""
    net = net_of(which)
    engine = SerialEngine(net, inject=True)
    weights = engine.plan.weights
    words = np.zeros(weights.load_words, np.int64)
    held = engine.load_words(net)
    words[: len(held)] = held
    numbers = {name: getattr(weights, name) for name in ("lanes", "code_bits", "depth", "parts", "address_bits")}
    rows = {m.out: row for m, row in zip(engine.plan.maps, weights.rows, strict=True)}
    memory = Memory(net, words, {**numbers, "capacity": weights.capacity, "rows": rows})
    cells = {"engine.phase": Cell(0, "register", 4, 1), "engine.table.words": Cell(1, "loaded", 9, 64)}
    circuit = Circuit.of(net)
    return Translator(net, circuit, net.schedule.steps, engine.inject_words, cells, memory, lambda *_: 0)


@pytest.mark.slow
def test_without_saboteurs_the_core_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if what serves campaigns were in a core that is delivered."""
    from eqcompile.rtl.verilog import emit_verilog

    subject = subjects("serial")[TERNARY]
    text = emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core")
    assert "inject" not in text
    monkeypatch.delattr(core, "Saboteur")
    alone = emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core")
    assert alone == text


@pytest.mark.slow
def test_a_folder_has_them_only_beside_its_core(tmp_path: Path) -> None:
    """Would break if the core itself had them, or a folder had them unasked."""
    target = registry.target_class("rtl")
    emit_artifact(target.of(arch="serial", saboteurs=True), SMALL, tmp_path)
    injected = (tmp_path / "bench" / "injected.v").read_text()
    assert "inject_fire" in injected
    # What only a hardened core needs.
    assert not any(word in injected for word in ("inject_read", "harden", "guard", "vote", "residue"))
    for name in ("core.v", "bench/traced.v"):
        assert "inject" not in (tmp_path / name).read_text()
    assert json.loads((tmp_path / "core.json").read_text())["inject"]["verilog"] == "bench/injected.v"
    assert not target().saboteurs


def test_what_has_no_saboteurs_says_so() -> None:
    """Would break if a core without an injection port were emitted as one with it."""
    found = refused(registry.target_class("rtl").of(device="up5k", saboteurs=True), subjects("serial")[0].net)
    assert "rtl-saboteurs" in [d.code for d in found]


def test_every_register_and_memory_has_a_name_of_its_own() -> None:
    """Would break if one name meant two registers, or the sequencer had none."""
    subject = subjects("serial")[TERNARY]
    sites = saboteur_sites(subject.net, subject.architecture)
    names = [s["name"] for s in sites]
    assert len(set(names)) == len(names)
    assert {"engine.phase", "engine.moved", "engine.left", "steps", "engine.h_codes_0.words"} <= set(names)
    assert {s["kind"] for s in sites} == {"register", "memory", "loaded", "rom"}
    assert not [n for n in names if "trace" in n or "inject" in n]


def columns(found: Memory, words: Any, name: str, units: int, rows: int) -> Any:
    """The matrix of a map as the hardware would read it from the words of the load port."""
    lanes, bits = found.layout["lanes"], found.layout["code_bits"]
    matrix = np.zeros((rows + lanes, units), np.int64)
    for unit in range(units):
        row = int(words[found.layout["rows"][name] + unit])
        start, more = row & ((1 << found.layout["address_bits"]) - 1), row >> found.layout["address_bits"]
        order = []
        for entry in range(start, start + more + 1):
            at = found.layout["depth"] + entry * found.layout["parts"]
            whole = sum(int(w) << 32 * i for i, w in enumerate(words[at : at + found.layout["parts"]]))
            word = whole >> lanes * bits
            order.append(word)
            for lane in range(lanes):
                code = whole >> bits * lane & ((1 << bits) - 1)
                matrix[word * lanes + lane, unit] += code - (1 << bits) * (code >> (bits - 1))
        # What the accumulators demand: an even word first, an odd one last unless it is alone.
        assert order[0] % 2 == 0
        assert len(order) == 1 or order[-1] % 2 == 1
    return matrix[:rows]


@pytest.mark.parametrize("which", [TERNARY, WIDE])
def test_disturbed_weights_are_what_the_core_will_read(which: int) -> None:
    """Would break if a weight were disturbed in another row or column too, or a load were not taken back."""
    found, net = translator(which), net_of(which)
    circuit, rng = Circuit.of(net), np.random.default_rng(2)
    golden: Any = GoldenEngine().open(net, inputs_of(net), near=1)
    for op in (o for o in net.all_ops() if isinstance(o, ops.Linear)):
        weight = net.param(op.weight)
        for _ in range(40):
            index, bits = int(rng.integers(weight.size)), circuit.words[Place.PARAM, op.weight].format.bits
            upset = Upset(Place.PARAM, op.weight, index, 0, found.ticks, flip=int(rng.integers(1, 1 << bits)))
            golden.machine._disturb_params([upset])
            words = found.memory.words.copy()
            loads = found.memory.loads([upset], circuit)
            for address, word, _ in loads:
                words[address] = word
            got = columns(found.memory, words, op.out, weight.shape[1], weight.shape[0])
            np.testing.assert_array_equal(got, golden.machine.params[op.weight], str(upset))
            for address, _, restored in loads:
                words[address] = restored
            np.testing.assert_array_equal(words, found.memory.words)


REFUSED = {
    "0/a.0.0/core:engine.phase[0]^1@1;core:engine.phase[0]^2@1": "several",
    "0/a.0.0/state:h[0]+1@1;state:h[0]^1@1": "changed again",
    "0/a.0.0/state:h[0]^1@1;value:wh[0]^1@3-9!": "beside what is disturbed before",
    "0/a.0.0/param:table[3]^1@0-9": "wired into the core",
    "0/a.0.0/param:W[3]^1@2-9": "for the whole inference",
    "0/a.0.0/param:W[3]+1@0-9;param:W[3]+1@0-9;param:W[3]+1@0-9": "does not hold",
    "0/a.0.0/core:engine.phaze[0]^1@5": "no register or memory",
    "0/a.0.0/core:engine.phase[1]^1@5": "words 0 to 0",
    "0/a.0.0/core:engine.phase[0]^10@5": "bits 0 to 3",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_fault_that_the_core_cannot_be_given_is_refused(text: str) -> None:
    """Would break if it were left out, or given as another fault."""
    with pytest.raises(UsageError, match=REFUSED[text]) as error:
        translator(TERNARY).rows([parse_fault(text)])
    assert text in str(error.value)


def test_a_value_of_the_drive_alone_has_a_saboteur_or_is_refused() -> None:
    """Would break if an upset after tick 0 were taken for harmless because nothing reads the value then."""
    net, words = net_of(TERNARY), {"value:ux": 0}
    drive = (replace(net.drive[0], out="sum"), ops.Abs(out="ux", x="sum"))
    net = with_formats(replace(net, drive=drive))
    translator = Translator(net, Circuit.of(net), net.schedule.steps, words, {}, None, lambda *_: 0)
    fault = parse_fault("0/a.0.0/value:sum[0]^1@2")
    with pytest.raises(UsageError, match="value:sum is no word of the core"):
        translator.rows([fault])
    assert replace(translator, words={**words, "value:sum": 1}).rows([fault]) == [Row(0)]


def test_two_changes_of_a_word_in_a_tick_are_one() -> None:
    """Would break if the second were made to the word as it was before the first, or what no table says were told."""
    rng, told = random.Random(4), 0

    def made(word: int, m: Masks) -> int:
        return ((word ^ m.flip | m.one) & ~m.zero) + m.add

    for _ in range(2000):
        first, second = (
            Masks(*(rng.randrange(8) if rng.random() < 0.6 else 0 for _ in range(3)), add=rng.choice((0, 0, 3)))
            for _ in range(2)
        )
        both = first.then(second, saturate=False)
        told += both is not None
        assert (both is None) == bool(first.add and second.bits)
        if both is not None:
            assert [made(w, both) % 8 for w in range(8)] == [made(made(w, first), second) % 8 for w in range(8)]
    assert told > 500


def test_all_refusals_are_told_at_once() -> None:
    """Would break if a user met them one by one."""
    with pytest.raises(UsageError) as error:
        translator(TERNARY).rows([parse_fault(text) for text in REFUSED])
    assert len(error.value.diagnostics) == len(REFUSED)


@pytest.mark.parametrize("engine", ["golden", "fast"])
def test_engines_without_a_core_refuse_its_registers(engine: str) -> None:
    """Would break if a fault of the hardware were run where there is none."""
    net = net_of(TERNARY)
    session = registry.find_class("engines", engine, Engine)().open(net, inputs_of(net), near=1)
    with pytest.raises(UsageError, match="registers or memories of an RTL core"):
        session.run(FaultTable.of([parse_fault("0/a.0.0/core:engine.phase[0]^1@5")]))


@pytest.mark.simulator
@pytest.mark.parametrize("which", [TERNARY, WIDE])
def test_any_fault_gives_golden_s_trajectory(which: int) -> None:
    """The same fault id on both: upsets of any kind, place and window that the core takes."""
    session = opened(which)
    table = random_faults(session.net, random.Random(which), samples=SAMPLES, ticks=session.ticks, count=400)
    table = accepted(session.translator, table)
    places = {Place(int(p)) for p in table.upsets["place"]}
    assert len(table) > 80
    assert places == {Place.STATE, Place.VALUE, Place.PARAM}
    assert differing(session, session.translator.rows(list(table)), list(table)) == []
    golden = GoldenEngine().open(session.net, session.inputs, near=1)
    np.testing.assert_array_equal(session.run(table), golden.run(table))


@pytest.mark.simulator
def test_a_scalar_of_a_sweep_is_disturbed() -> None:
    """Would break if the number beside all units were compared with a unit's index, so that no upset ever met it."""
    net = lazy_net()
    at = next(k for k, op in enumerate(net.step) if op.out == "active")
    step = (*net.step[:at], ops.Abs(out="size", x="activity"), replace(net.step[at], a="size"), *net.step[at + 1 :])
    formats = {name: f for name, f in net.formats.items() if name in ("h", "g", "p")}
    net = with_formats(replace(net, step=step, formats=formats))
    session = RtlEngine(instrumented("rtl", net)).open(net, random_inputs(net, random.Random(1), batch=SAMPLES), near=1)
    faults = [parse_fault(f"{s}/a.0.0/value:size[0]|40@{ticks}") for s in range(SAMPLES) for ticks in ("0-9", "3")]
    rows = session.translator.rows(faults)
    assert differing(session, rows, faults) == []
    assert differing(session, [Row(row.sample) for row in rows], faults)


@pytest.mark.simulator
def test_a_wrong_fault_is_seen() -> None:
    """The comparison above must notice another bit, tick or unit, and an upset of which the sums learn nothing."""
    session = opened(TERNARY)
    faults = [parse_fault(f"{s}/a.0.0/state:h[{u}]^20@{t}") for s in range(SAMPLES) for u in (0, 3) for t in (0, 2, 9)]
    rows = session.translator.rows(faults)
    assert differing(session, rows, faults) == []
    assert differing(session, changed(rows, flip=lambda t: 0x10), faults)
    assert differing(session, changed(rows, tick=lambda t: t.tick + 1), faults)
    assert differing(session, changed(rows, unit=lambda t: t.unit ^ 1), faults)
    assert differing(session, [replace(r, event=False) for r in rows], faults)
    weights = [parse_fault(f"0/a.0.0/param:W[{i}]^2@0-9") for i in range(36)]
    assert differing(session, [replace(r, loads=r.loads[:-1]) for r in session.translator.rows(weights)], weights)


@pytest.mark.simulator
def test_upsets_of_the_hardware_leave_nothing_behind() -> None:
    """Would break if a hang, a lost beat or a flipped word of one fault were seen by the next."""
    session = opened(TERNARY)
    faults = core_faults(session, 300, 1)
    names = [n for n, c in session.translator.cells.items() if c.kind in ("loaded", "rom")]
    faults += [parse_fault(f"0/a.0.0/core:{n}[{i}]^1@{3 * i}") for n in names for i in range(2)]
    table = FaultTable.of(faults)
    found = session.run(table)
    assert {Outcome.HANG, Outcome.MASKED, Outcome.HEALED} <= set(found["outcome"].tolist())
    backwards = np.arange(len(table))[::-1]
    np.testing.assert_array_equal(session.run(table.take(backwards)), found[backwards])
    again = session.injected([Row(s) for s in range(SAMPLES)])
    for name, states in session.undisturbed.states.items():
        np.testing.assert_array_equal(again.states[name], states)


@pytest.mark.simulator
def test_an_upset_after_the_run_is_too_late() -> None:
    """Would break if an upset of the hardware disturbed a word of the net as well."""
    session = opened(TERNARY)
    late = session.undisturbed.latency.max() + 10
    names = [n for n, c in session.translator.cells.items() if c.kind != "rom" and c.bits > 7]
    texts = [f"{s}/a.0.0/core:{name}[0]^80@{late}" for name in names[:: len(names) // 40] for s in range(SAMPLES)]
    table = FaultTable.of([parse_fault(text) for text in texts])
    assert set(session.run(table)["outcome"].tolist()) == {Outcome.MASKED}
    told = tuple(Told(0, 0, tick, Masks(flip=0x80)) for tick in range(session.ticks + 1))
    rows = [replace(row, upsets=told) for row in session.translator.rows(list(table))]
    wrong = session._results(rows, table.faults["tick"])["outcome"]
    assert Outcome.MASKED not in wrong.tolist()


@pytest.mark.simulator
def test_the_sequencer_can_be_hung() -> None:
    """An upset of the sequencer's state that never ends must end the run, as a hang; a stuck one too."""
    session = opened(TERNARY)
    texts = [f"0/a.0.0/core:engine.phase[0]{change}" for change in ("|f@0-100000", "~f@30-100000")]
    found = session.run(FaultTable.of([parse_fault(text) for text in texts]))
    assert found["outcome"].tolist() == [Outcome.HANG, Outcome.HANG]


@pytest.mark.simulator
def test_saboteurs_are_what_cocotb_deposits(tmp_path: Path) -> None:
    """The generated saboteurs against a simulator's own means, on the core that has none: every state of every tick."""
    session = opened(TERNARY)
    plain = [f for f in core_faults(session, 400, 2) if "#" not in str(f) and "signal" not in str(f)]
    chosen = [f for f in plain if f.upsets[0].name.startswith("engine.") and "engine.phase" not in f.upsets[0].name]
    kept = effective(session, chosen, 14)
    assert len(kept) >= 14
    assert unlike_deposits(session, kept, tmp_path) == set()
