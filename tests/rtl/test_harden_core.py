"""Hardening in the core: what is refused, what is emitted, and what becomes of upsets in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import rtl_mutants
from emitting import emitted
from rtl_engines import cube_net
from rtl_hardened import Built, Driven, core_of, plain, with_readout
from rtl_mutant import Mutant
from rtl_mutant_nets import subjects
from rtl_proof import prove, run_ends

from eqcompile.rtl.harden import guard, memory, residue, tmr
from eqcompile.rtl.harden.mechanisms import FLAGS, MECHANISMS
from eqcompile.rtl.serial import hardening
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.rtl.serial.options import Serial
from eqcompile.rtl.serial.plan import make_plan
from eqcompile.rtl.shell import Shell
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import UnsupportedError, UsageError
from eqcompile.toolchain.ir import IntNet

ALL = ("watchdog", "safe-fsm", "secded", "tmr", "residue")


def text_of(shell: Shell) -> str:
    return tmr.kept_apart(emit_verilog(shell, name="core"))


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        (
            {"harden": "armour"},
            [("there is no mechanism 'armour'", "watchdog, safe-fsm, parity, secded, tmr, residue")],
        ),
        ({"harden": "parity,secded"}, [("two codes for the same memory", "repairs")]),
        (
            {"harden": "tmr", "arch": "lattice"},
            [("the architecture lattice has no harden", "--arch parallel or processor or serial")],
        ),
        ({"harden": "tmr", "board": "ulx3s"}, [("no registers that say what hardening found", "--board or --harden")]),
    ],
)
def test_hardening_that_is_not_there_is_refused(options: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    """A core without the protection that was asked for looks just like one that has it."""
    with pytest.raises(UsageError) as caught:
        RtlTarget.of(**options)
    for found, (what, hint) in zip(caught.value.diagnostics, faults, strict=True):
        assert what in found.what
        assert hint in found.hint


def test_a_memory_or_an_accumulator_that_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    """SPRAM has no port for a scrubber; a sum that wraps has no remainder."""
    with pytest.raises(UnsupportedError, match="no second port for a scrubber"):
        emitted(RtlTarget.of(arch="serial", device="up5k", harden="secded"), plain(), tmp_path)
    plan = make_plan(plain(), lanes=2, width=2)
    narrow: Any = SimpleNamespace(maps=plan.maps, banks=((9, 1),) * len(plan.banks), net=plan.net)
    assert {d.code for d in hardening.check_hardening(("residue",), narrow, "generic")} == {"rtl-harden"}
    assert hardening.check_hardening(("residue",), plan, "generic") == []


def test_a_core_without_hardening_has_none_of_it() -> None:
    """The option must cost nothing where it is not used: no part of it may even be built."""
    with (
        mock.patch.object(guard.Guard, "__init__", side_effect=AssertionError),
        mock.patch.object(memory.CheckedRam, "__init__", side_effect=AssertionError),
        mock.patch.object(residue.ResidueRam, "__init__", side_effect=AssertionError),
        mock.patch.object(tmr.Triplicated, "__init__", side_effect=AssertionError),
        mock.patch.object(hardening, "attach", side_effect=AssertionError),
    ):
        text = text_of(core_of(()))
    for word in ("harden", "guard", "vote", "residue", "ram.ram", "keep_hierarchy"):
        assert word not in text


@pytest.mark.slow
def test_the_folder_tells_of_the_registers(tmp_path: Path) -> None:
    """A host that does not know where the counters are cannot read them."""
    artifact = emitted(RtlTarget.of(arch="auto", harden="secded,watchdog"), plain(), tmp_path / "a")
    emitted(RtlTarget.of(arch="serial"), plain(), tmp_path / "b")
    assert artifact.manifest.details["engine"]["harden"] == ["watchdog", "secded"]
    readme, bare = ((tmp_path / n / "README.md").read_text(encoding="utf-8") for n in "ab")
    registers, none = (json.loads((tmp_path / n / "core.json").read_text(encoding="utf-8"))["registers"] for n in "ab")
    assert {n: registers[n] for n in registers.keys() - none.keys()} == {"FAULTS": 44, "CORRECTED": 48, "DETECTED": 52}
    for word in ("0x2C | FAULTS", "0x30 | CORRECTED", "0x34 | DETECTED", "`secded`", "`watchdog`", *FLAGS):
        assert word in readme
    assert "FAULTS" not in bare
    assert "Hardening" not in bare


@pytest.mark.parametrize("net", [plain(), cube_net(2)], ids=["linear", "stencil"])
def test_no_run_is_longer_than_the_watchdog_allows(net: IntNet) -> None:
    """A bound that a sound run exceeds ends it. Every code an event: no content of the memories takes longer."""
    engine = SerialEngine(net, lanes=2, dense=True, harden=("watchdog",))
    samples = 4
    top = Driven(Shell(engine, schedule=net.schedule))
    rng = np.random.default_rng(1)
    i = net.inputs[0]
    inputs = {i.name: rng.integers(i.encoding.format.lo, i.encoding.format.hi + 1, (samples, *i.shape))}
    found = top.run([[int(v) for v in row.reshape(-1)] for row in inputs[i.name]])
    assert found["FAULTS"] == 0
    assert [made for _, made in found["results"]] == golden.run(net, inputs).steps.tolist()


def test_secded_repairs_a_weight_in_mid_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repaired weight must leave every result as it is, and be counted."""
    for which, word in (("table", 0), ("entries", 0)):
        built = Built(("secded",), monkeypatch)
        found = Driven(built.shell).run(built.frames, built.flips(which, word, 1, 4))
        assert found["results"] == built.want
        assert (found["FAULTS"], found["DETECTED"]) == (0, 0)
        assert found["CORRECTED"] > 0


@pytest.mark.parametrize(("code", "mask"), [("secded", 0b11), ("parity", 0b1)])
def test_a_wrong_weight_gives_no_result(code: str, mask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of a weight that is known to be wrong, or a host that waits for ever for one; loading repairs."""
    built = Built((code,), monkeypatch)
    words = built.shell.engine.load_words(plain())
    found = Driven(built.shell).run(built.frames, built.flips("entries", 0, mask, 4), load=words)
    zeros = [0] * len(built.want[0][0])
    assert (zeros, 0) in found["results"][:3]
    assert all(r in (w, (zeros, 0)) for r, w in zip(found["results"], built.want, strict=True))
    assert found["results"][3] == built.want[3]
    assert found["FAULTS"] == 1 << FLAGS.index("weights")
    assert found["DETECTED"] > 0


@pytest.mark.parametrize(("harden", "phase", "flag"), [(("safe-fsm",), 7, "safe-fsm"), (("watchdog",), 7, "watchdog")])
def test_a_sequencer_that_is_lost_comes_back(
    harden: tuple[str, ...], phase: int, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hang: the sample is given up, in any clock of the run, the next one is computed as if nothing had been."""
    for clock in (5, 60):
        built = Built(harden, monkeypatch)

        def upset(ctx: Any, now: int, built: Built = built, clock: int = clock) -> None:
            if now == clock:
                ctx.set(built.core.phase, phase)

        found = Driven(built.shell).run(built.frames, upset)
        wrong = [(r, w) for r, w in zip(found["results"], built.want, strict=True) if r != w]
        assert len(wrong) == 1
        (codes, steps), (want, _) = wrong[0]
        # What had left stays; the rest of the frame is zeros.
        left = next((i for i, (c, w) in enumerate(zip(codes, want, strict=True)) if c != w), None)
        assert left is not None
        assert codes[left:] == [0] * (len(want) - left)
        assert steps == 0
        assert found["results"][-1] == built.want[-1]
        assert found["FAULTS"] == 1 << FLAGS.index(flag)


@pytest.mark.slow
def test_remainders_find_wrong_states_and_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state or a sum with one wrong bit that goes on unnoticed, in a clock before it is read."""
    seen = set()
    for clock in (30, 85, 110):
        for memory_of in ("states", "sums"):
            built = Built(("residue",), monkeypatch)

            def upset(ctx: Any, now: int, built: Built = built, clock: int = clock, which: str = memory_of) -> None:
                if now == clock:
                    ram = built.core.code_rams["h"][0].ram if which == "states" else built.bank()
                    ctx.set(ram.words.data[0], int(ctx.get(ram.words.data[0])) ^ 1)

            found = Driven(built.shell).run(built.frames, upset)
            zeros = [0] * len(built.want[0][0])
            for result, want in zip(found["results"], built.want, strict=True):
                assert result in (want, (zeros, 0))
            seen |= {(memory_of, found["FAULTS"])}
    assert {(m, 1 << FLAGS.index("residue")) for m in ("states", "sums")} <= seen


@pytest.mark.parametrize("harden", [("residue",), ("parity", "residue")])
@pytest.mark.parametrize("readout", [False, True])
def test_a_sound_core_tells_of_nothing(harden: tuple[str, ...], readout: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a remainder were computed from another clock than its word."""
    built = Built(harden, monkeypatch, with_readout() if readout else plain())
    found = Driven(built.shell).run(built.frames)
    assert found["results"] == built.want
    assert (found["FAULTS"], found["CORRECTED"], found["DETECTED"]) == (0, 0, 0)


@pytest.mark.parametrize(("word", "tick"), [("sum:w", 2), ("sum:z", 6)])
def test_a_sum_of_a_step_or_a_readout_is_disturbed_before_its_check(word: str, tick: int) -> None:
    """Would break if the saboteur took the reads of one block for those of another: no sum would be found wrong."""
    shell: Any = shell_of(with_readout(), Serial(lanes=2, harden="residue"), trace=False, inject=True)

    def arm(ctx: Any, clock: int) -> None:
        ports = {
            "word": shell.engine.inject_words[word],
            "unit": 1,
            "tick": tick,
            "flip": 1,
            "arm": clock == 0,
            "enable": 1,
        }
        for name, value in ports.items():
            ctx.set(getattr(shell, f"inject_{name}"), value)

    found = Driven(shell).run([[3, -7, 5]], arm)
    assert found["FAULTS"] == 1 << FLAGS.index("residue")


READS = 40
"""Clocks before the last beat in which each a bit is flipped: more than an output takes from memory to stream."""


def last_reads(which: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """A bit of what an output is computed from, flipped in each of the last clocks of a run: whether the run was given
    up, and FAULTS. Nothing wrong may have left with a TUSER of a result."""
    built = Built(("residue",), monkeypatch, with_readout() if which == "sums" else plain(), READS)
    # Frames that are alike take alike many clocks.
    ages: list[int] = []
    clean = Driven(built.shell)
    few = len(built.frames) - READS + 1
    assert clean.run(built.frames[:few], lambda ctx, now: ages.append(clean.age))["results"] == built.want[:few]
    runs = Driven(built.shell)
    done: list[int] = []

    def upset(ctx: Any, now: int) -> None:
        done.append(runs.age)
        frame = done.count(0) - 1
        if runs.age == ages[-1] + 1 - (len(built.frames) - frame):
            ram = built.bank() if which == "sums" else built.core.code_rams["h"][0].ram
            # The unit that is read last.
            ctx.set(ram.words.data[1], int(ctx.get(ram.words.data[1])) ^ 0b1000)

    found = runs.run(built.frames, upset)
    for (codes, made), (want, ticks) in zip(found["results"], built.want, strict=True):
        given_up = made == 0
        assert made == (0 if given_up else ticks)
        assert given_up or codes == want
        assert all(c in (w, 0) for c, w in zip(codes, want, strict=True))
    return [(made == 0, found["FAULTS"]) for _, made in found["results"]]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["states", "sums"])
def test_what_the_last_read_finds_ends_the_run_before_its_last_beat(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that is told of after the result has left is none. Mutant: an output that does not wait for it."""
    found = last_reads(which, monkeypatch)
    assert {given_up for given_up, _ in found} == {False, True}
    assert {flags for _, flags in found} == {1 << FLAGS.index("residue")}
    monkeypatch.setattr("eqcompile.rtl.serial.core.late_result", lambda *_: 1)
    with pytest.raises(AssertionError, match=r"assert \(False or"):
        last_reads(which, monkeypatch)


MUTANTS = (
    Mutant("unknown encodings stay", "serial.hardening", "core.phase.eq(0), core.count.eq(0)", "core.count.eq(0)"),
    Mutant("a watchdog that does not bark", "harden.watchdog", "self.count >= self.span", "self.count > self.span"),
)


@pytest.mark.simulator
def test_every_encoding_returns_and_every_run_ends_proved_by_induction(tmp_path: Path) -> None:
    """From any state of all registers; a proof that passes on a core without the mechanism proves nothing.

    A watchdog that never barks is wrong after `span` clocks, which no base case reaches: its induction fails.
    """
    expected = {"PASS": None, "FAIL": MUTANTS[0], "UNKNOWN": MUTANTS[1]}
    for number, (status, mutant) in enumerate(expected.items()):
        with rtl_mutants.mutated(mutant) if mutant else nullcontext():
            from eqcompile.targets.rtl.emit import shell_of as build

            shell = build(plain(), Serial(lanes=2, harden="watchdog,safe-fsm"), trace=False)
            text, span = emit_verilog(shell, name="core"), shell.engine.watched_span
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = prove(text, folder, run_ends(span))
        assert verdict.status == status, verdict.log[-2000:]


@pytest.mark.simulator
def test_the_bench_passes_on_a_hardened_core(tmp_path: Path) -> None:
    """Resets, frames of wrong length, stalls, other schedules, other weights: none may look like a fault."""
    subject = subjects("serial")[0]
    folder = tmp_path / "core"
    options: Mapping[str, Any] = {**subject.options, "harden": ",".join(ALL)}
    type(subject)(subject.net, "serial", options).write(folder)
    assert rtl_mutants.passes(folder) == (True, "")


def test_every_mechanism_is_described() -> None:
    """A flag without a name in the README, or a mechanism without one."""
    assert set(ALL) | {"parity"} == set(MECHANISMS)
    assert len(FLAGS) == 4
