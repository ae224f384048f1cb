"""Hardening of the processor: what becomes of upsets in its program, its weights, its tables and its sequencer."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from conformance_nets import example
from emitting import refused
from rtl_engines import cube_net, differences, simulate
from rtl_hardened import Driven, plain
from strategies import random_inputs, random_net

from eqcompile.rtl.harden.mechanisms import FLAGS
from eqcompile.rtl.harden.tmr import kept_apart
from eqcompile.rtl.processor.bounds import bound_of, clock_bound
from eqcompile.rtl.processor.description import program_of
from eqcompile.rtl.processor.fit import fit
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.isa import Apply
from eqcompile.rtl.processor.loadable import Fault
from eqcompile.rtl.processor.options import Processor
from eqcompile.rtl.processor.profile import profile
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import IntNet, Schedule

FRAMES = [[3, -7, 5], [100, 0, -128], [3, -7, 5], [3, -7, 5]]
ABSENT = 15
"""An opcode that no instruction has."""
SEEDS = {"gate": 2, "tokens": 11, "division and root": 10, "repeat": 28}


class Hardened:
    """A hardened core behind its buses, and golden's results `(codes, ticks)`."""

    def __init__(self, harden: str) -> None:
        self.shell: Any = shell_of(plain(), Processor(lanes=2, harden=harden), trace=False)
        run = golden.run(plain(), {"x": np.array(FRAMES)})
        bits = (1 << self.shell.y_port.tdata_bits) - 1
        codes = np.concatenate([o.reshape(len(FRAMES), -1) for o in run.outputs.values()], axis=1)
        self.want = [([int(c) & bits for c in row], int(n)) for row, n in zip(codes, run.steps, strict=True)]

    def run(self, upset: Any = None, load: list[int] | None = None) -> dict[str, Any]:
        return Driven(self.shell).run(FRAMES, upset, load=load)

    def flips(self, memory: str, word: int, mask: int, clock: int) -> Any:
        """Flips bits of a stored word in one clock."""

        def upset(ctx: Any, now: int) -> None:
            if now == clock:
                words = getattr(self.shell.engine.logic.memories, memory)
                words = (words[0] if isinstance(words, list) else words).ram.words.data
                ctx.set(words[word], int(ctx.get(words[word])) ^ mask)

        return upset

    def loses(self, begun: bool) -> Any:
        """Puts what is no instruction in front of the sequencer once, in mid-run or as soon as a sample has begun."""
        done: list[int] = []

        def upset(ctx: Any, now: int) -> None:
            logic = self.shell.engine.logic
            if not done and (ctx.get(logic.begins) if begun else now >= 40 and ctx.get(logic.pipeline.start)):
                done.append(now)
            elif len(done) == 1 and now == done[0] + (3 if begun else 4):
                done.append(now)
                ctx.set(logic.word, ABSENT)

        return upset


@pytest.mark.parametrize("harden", ["watchdog", "parity", "secded,watchdog,tmr"])
def test_a_sound_core_tells_of_nothing(harden: str) -> None:
    """A word that is checked in a clock in which it is not there, a watchdog that barks at a sound run."""
    core = Hardened(harden)
    found = core.run()
    assert found["results"] == core.want
    assert (found["FAULTS"], found["CORRECTED"], found["DETECTED"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("name", SEEDS)
def test_codes_on_words_change_no_result(name: str, width: int) -> None:
    """A weight that comes a clock later meets the sum of another group, unless all that goes with it does too."""
    rng = random.Random(SEEDS[name])
    net = random_net(rng)
    codes = random_inputs(net, rng, batch=2)
    engine = ProcessorEngine(net, trace=True, width=width, harden=("secded", "watchdog"))
    assert differences(net, codes, simulate(engine, net, codes)) == []


@pytest.mark.parametrize("memory", ["program", "weights"])
def test_secded_repairs_a_stored_word_in_mid_run(memory: str) -> None:
    """A repaired word leaves every result as it is, and is counted."""
    core = Hardened("secded")
    found = core.run(core.flips(memory, 0, 1, 4))
    assert found["results"] == core.want
    assert (found["FAULTS"], found["DETECTED"]) == (0, 0)
    assert found["CORRECTED"] > 0


@pytest.mark.parametrize("memory", ["program", "weights"])
def test_an_idle_core_scrubs_its_memories(memory: str) -> None:
    """Nobody reads the words of a core that waits: one that stays wrong waits for a second upset."""
    core = Hardened("secded")

    async def bench(ctx: Any) -> None:
        words = getattr(core.shell.engine.logic.memories, memory).ram.words.data
        for row in (0, 2):
            before = int(ctx.get(words[row]))
            ctx.set(words[row], before ^ 4)
            await ctx.tick().repeat(8 * words.depth + 20)
            assert int(ctx.get(words[row])) == before

    simulator = Simulator(core.shell)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harden", "memory", "mask"),
    [("secded", "weights", 3), ("parity", "weights", 1), ("secded", "columns", 1), ("secded", "tables", 1)],
)
def test_a_wrong_word_gives_no_result(harden: str, memory: str, mask: int) -> None:
    """A result of a word that is known to be wrong, or a host that waits for ever for one; loading repairs."""
    found: dict[str, Any] = {}
    # Of a table only the entries that are read tell.
    for word in range(5):
        core = Hardened(harden)
        found = core.run(core.flips(memory, word, mask, 4), load=core.shell.engine.load_words(plain()))
        zeros = [0] * len(core.want[0][0])
        assert all(r in (w, (zeros, 0)) for r, w in zip(found["results"], core.want, strict=True))
        assert found["results"][3] == core.want[3]
        if found["FAULTS"]:
            assert (zeros, 0) in found["results"][:3]
            break
    assert found["FAULTS"] == 1 << FLAGS.index("weights")
    assert found["DETECTED"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("harden", "mask"), [("secded", 3), ("parity", 1)])
@pytest.mark.parametrize("word", [0, 4])
def test_a_program_that_is_lost_is_no_image(harden: str, mask: int, word: int) -> None:
    """An instruction that is guessed may write anywhere. The first one is read between two samples, others in one."""
    core = Hardened(harden)
    flip, states = core.flips("program", word, mask, 4), list[int]()

    def upset(ctx: Any, now: int) -> None:
        flip(ctx, now)
        states.append(int(ctx.get(core.shell.engine.image_status)))

    both = [FRAMES[0], FRAMES[-1]]
    found = Driven(core.shell).run(both, upset, load=core.shell.engine.load_words(plain()))
    assert found["results"][0] in (core.want[0], ([0] * len(core.want[0][0]), 0))
    assert found["results"][1] == core.want[3]
    assert found["FAULTS"] == 1 << FLAGS.index("weights")
    assert {1, Fault.CRC << 8} <= {*states} or word == 0
    assert states[-1] == 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_sequencer_that_is_lost_comes_back(begun: bool) -> None:
    """A hang: the sample is given up, or begun anew if nothing of it was taken; the next is computed as if nothing
    had been."""
    core = Hardened("watchdog")
    found = core.run(core.loses(begun))
    zeros = [0] * len(core.want[0][0])
    wrong = [(r, w) for r, w in zip(found["results"], core.want, strict=True) if r != w]
    assert [r for r, _ in wrong] == ([] if begun else [(zeros, 0)])
    assert found["FAULTS"] == 1 << FLAGS.index("watchdog")


@pytest.mark.slow
def test_every_control_register_is_voted() -> None:
    """The loader decides whether the core runs, so its registers are control as well."""
    text = kept_apart(emit_verilog(shell_of(plain(), Processor(harden="tmr"), trace=False), name="core"))
    for name in ("pc", "sequencer_state", "record", "image_held", "vector_record", "loop_0_left", "steps"):
        assert all(f"vote{copy}_{name}" in text for copy in range(3)), name
    assert "keep_hierarchy" in text


@pytest.mark.parametrize("seed", [*range(6), None])
def test_no_program_takes_longer_than_its_bound(seed: int | None) -> None:
    """A bound that a sound run exceeds ends it. The clocks of whole samples are those of the profile, which the core
    takes too; a sample has a sign of life in each tick."""
    rng = random.Random(seed or 0)
    net = cube_net() if seed is None else random_net(rng, frames=False)
    program, own = program_of(net, 4, 1)
    bound = clock_bound(program.instructions, own.core, own.run_words)
    codes = random_inputs(net, rng, batch=3)
    rows = [[np.concatenate([codes[i.name][k].ravel() for i in net.inputs])] for k in range(3)]
    ticks = golden.run(net, codes).steps
    stated = profile(program, rows)
    assert all(n <= (t + 1) * bound for n, t in zip(stated.totals, ticks, strict=True))
    # What an apply that begins early waits for is of the instruction in front of it.
    taken = allowed = 0
    depth = own.features.depth
    pairs = zip(program.instructions, stated.clocks, stated.runs, strict=True)
    for k, (i, clocks, runs) in enumerate(pairs):
        taken, allowed = taken + clocks, allowed + runs * bound_of(i, own.core, own.run_words, depth)
        following = program.instructions[k + 1 : k + 2]
        if not any(isinstance(j, Apply) and j.early for j in following):
            assert taken <= allowed, i
            taken = allowed = 0


def test_an_image_that_the_watchdog_would_end_is_refused() -> None:
    """Every sample of such an image would be given up, for no fault at all."""
    net = plain()
    engine = ProcessorEngine(net, harden=("watchdog",))
    program, own = program_of(net, 4, 1)
    assert engine.description.span == engine.watched_span
    assert type(own).from_json(engine.description.to_json(), "x") == engine.description
    fit(program, own, engine.description, net.name)
    short = replace(engine.description, span=engine.description.span - 1)
    with pytest.raises(UnsupportedError, match=f"may take {engine.description.span} clocks .* allows {short.span}"):
        fit(program, own, short, net.name)


@pytest.mark.parametrize(
    ("options", "framed", "word"),
    [
        ({"harden": "safe-fsm"}, False, "no safe-fsm"),
        ({"harden": "residue"}, False, "no residue"),
        ({"harden": "secded", "readback": True}, False, "a host would read"),
        ({"harden": "watchdog"}, True, "takes a sequence of frames"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, Any], framed: bool, word: str) -> None:
    """A core without the protection that was asked for looks just like one that has it."""
    net: IntNet = example("plain")[0]
    net = replace(net, schedule=Schedule(5, frames=True)) if framed else net
    (fault,) = refused(RtlTarget.of(arch="processor", **options), net)
    assert fault.code == "rtl-harden"
    assert word in fault.what
