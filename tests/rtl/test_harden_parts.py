"""The parts of hardening, each alone: codes, the checked memory and its scrubber, remainders, votes, the watchdog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from amaranth import Elaboratable, Module, Signal, signed, unsigned
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.rtl.harden import tmr
from eqcompile.rtl.harden.codes import Code, Parity, Secded
from eqcompile.rtl.harden.memory import LATENCY, CheckedRam
from eqcompile.rtl.harden.residue import ResidueRam, plus, residue, times
from eqcompile.rtl.harden.tmr import COPIES, Triplicated, kept_apart, merge_control
from eqcompile.rtl.harden.watchdog import Watchdog
from eqcompile.rtl.verilog import emit_verilog

CODES = [Parity, Secded]
FEW = settings(max_examples=12, deadline=None)
"""Each example builds and simulates a circuit."""


def driven(part: Any, bench: Callable[[Any], Any]) -> None:
    simulator = Simulator(merge_control(part, voted=False))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class Decoder(Elaboratable):
    """A stored word, read."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.word, self.data = Signal(code.width + code.check_bits), Signal(code.width)
        self.fixed = Signal.like(self.word)
        self.given, self.stored = Signal(code.width), Signal.like(self.word)
        self.corrected, self.detected = Signal(), Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read = self.code.read(m, self.word)
        m.d.comb += [
            self.data.eq(read.data),
            self.fixed.eq(read.word),
            self.corrected.eq(read.corrected),
            self.detected.eq(read.detected),
            self.stored.eq(self.code.encode(self.given)),
        ]
        m.d.sync += Signal().eq(0)
        return m


def decoded(code: Code, words: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """`(data, corrected, detected, repaired word)` of stored words."""
    part, found = Decoder(code), []

    async def bench(ctx: Any) -> None:
        for word in words:
            ctx.set(part.word, word)
            await ctx.delay(1e-7)
            ports = (part.data, part.corrected, part.detected, part.fixed)
            found.append(tuple(int(ctx.get(p)) for p in ports))

    driven(part, bench)
    return found


@pytest.mark.parametrize("make", CODES)
@FEW
@given(data=st.data())
def test_what_is_stored_reads_back(make: type[Code], data: st.DataObject) -> None:
    """A code that alarms without a fault, or initial words that the hardware would encode otherwise."""
    code = make(data.draw(st.integers(1, 40)))
    values = data.draw(st.lists(st.integers(0, 2**code.width - 1), min_size=1, max_size=5))
    part, stored = Decoder(code), []

    async def bench(ctx: Any) -> None:
        for value in values:
            ctx.set(part.given, value)
            await ctx.delay(1e-7)
            stored.append(int(ctx.get(part.stored)))

    driven(part, bench)
    assert stored == [code.encoded(value) for value in values]
    assert decoded(code, stored) == [(v, 0, 0, w) for v, w in zip(values, stored, strict=True)]


@FEW
@given(data=st.data())
def test_secded_repairs_every_single_error_and_finds_every_double_one(data: st.DataObject) -> None:
    """All of them, of check bits too: one missed is a wrong weight that is used."""
    code = Secded(data.draw(st.integers(1, 22)))
    value = data.draw(st.integers(0, 2**code.width - 1))
    word, bits = code.encoded(value), range(code.width + code.check_bits)
    assert decoded(code, [word ^ 1 << i for i in bits]) == [(value, 1, 0, word)] * len(bits)
    pairs = [word ^ 1 << i ^ 1 << j for i in bits for j in range(i)]
    assert {(c, d) for _, c, d, _ in decoded(code, pairs)} == {(0, 1)}


@FEW
@given(data=st.data())
def test_parity_finds_every_odd_error(data: st.DataObject) -> None:
    """An odd number of wrong bits that passes."""
    code = Parity(data.draw(st.integers(1, 64)))
    value, bits = data.draw(st.integers(0, 2**code.width - 1)), code.width + 1
    masks = data.draw(st.lists(st.integers(1, 2**bits - 1), min_size=8, max_size=8))
    found = decoded(code, [code.encoded(value) ^ mask for mask in masks])
    assert [d for _, _, d, _ in found] == [mask.bit_count() & 1 for mask in masks]


def scrubbed(ram: CheckedRam, clocks: int, upset: dict[int, int], *, free: bool = True) -> tuple[list[int], list[int]]:
    """Stored words after so many clocks, and how often a word was repaired and noticed."""
    memory, counts = [], [0, 0]

    async def bench(ctx: Any) -> None:
        words = ram.ram.words.data
        for at, mask in upset.items():
            ctx.set(words[at], int(ctx.get(words[at])) ^ mask)
        ctx.set(ram.free, free)
        for _ in range(clocks):
            _, _, repaired, noticed = await ctx.tick().sample(ram.scrubbed, ram.noticed)
            counts[0] += int(repaired)
            counts[1] += int(noticed)
        memory.extend(int(ctx.get(words[at])) for at in range(ram.depth))

    driven(ram, bench)
    return memory, counts


def test_the_scrubber_repairs_what_nobody_reads() -> None:
    """Single errors that wait for a second one make a double error of it."""
    words = [5, 9, 130, 77, 0, 255]
    clean = [Secded(8).encoded(w) for w in words]
    memory, counts = scrubbed(CheckedRam(Secded(8), depth=6, init=words), 30, {1: 1 << 3, 5: 1 << 12})
    assert (memory, counts) == (clean, [2, 0])
    memory, counts = scrubbed(CheckedRam(Secded(8), depth=6, init=words), 24, {2: 0b11})
    assert counts == [0, 1]
    assert memory[2] == clean[2] ^ 0b11
    memory, counts = scrubbed(CheckedRam(Parity(8), depth=6, init=words), 24, {2: 0b1})
    assert counts == [0, 1]
    memory, counts = scrubbed(CheckedRam(Secded(8), depth=6, init=words), 60, {1: 1}, free=False)
    assert counts == [0, 0]


def test_a_word_that_is_written_wins_over_the_scrubber() -> None:
    """A repaired word written back over one that was loaded meanwhile would undo the load, in any clock."""
    for clock in range(10):
        ram = CheckedRam(Secded(4), depth=2, init=[3, 3])

        async def bench(ctx: Any, ram: CheckedRam = ram, clock: int = clock) -> None:
            words = ram.ram.words.data
            ctx.set(words[0], int(ctx.get(words[0])) ^ 1)
            ctx.set(ram.free, 1)
            await ctx.tick().repeat(clock + 1)
            ctx.set(ram.write_enable, 1)
            ctx.set(ram.write_data, 12)
            await ctx.tick()
            ctx.set(ram.write_enable, 0)
            await ctx.tick().repeat(12)
            assert int(ctx.get(words[0])) == Secded(4).encoded(12), clock

        driven(ram, bench)


def test_the_scrubber_does_not_write_while_others_read() -> None:
    """A word that is read as it is written is no defined data, in whichever clock the reading begins."""
    repaired = []
    for clock in range(10):
        ram = CheckedRam(Secded(4), depth=2, init=[3, 3])

        async def bench(ctx: Any, ram: CheckedRam = ram, clock: int = clock) -> None:
            words = ram.ram.words.data
            ctx.set(words[0], int(ctx.get(words[0])) ^ 1)
            ctx.set(ram.free, 1)
            await ctx.tick().repeat(clock + 1)
            ctx.set(ram.free, 0)
            before = int(ctx.get(words[0]))
            repaired.append(before == Secded(4).encoded(3))
            await ctx.tick().repeat(6)
            assert int(ctx.get(words[0])) == before, clock

        driven(ram, bench)
    assert set(repaired) == {False, True}


def test_a_read_is_repaired_and_only_what_is_used_counts() -> None:
    """A stale word on the read port that alarms, or a weight that is used as it stands."""
    ram = CheckedRam(Secded(8), depth=4, init=[1, 2, 3, 4])

    async def bench(ctx: Any) -> None:
        words = ram.ram.words.data
        ctx.set(words[2], int(ctx.get(words[2])) ^ 0b10)
        ctx.set(words[3], int(ctx.get(words[3])) ^ 0b11)
        for address, used, want in ((2, 0, (3, 0, 0)), (2, 1, (3, 1, 0)), (3, 1, (None, 0, 1)), (3, 0, (None, 0, 0))):
            ctx.set(ram.read_address, address)
            await ctx.tick().repeat(LATENCY)
            ctx.set(ram.used, used)
            data, corrected, detected = (int(ctx.get(p)) for p in (ram.read_data, ram.corrected, ram.detected))
            assert (want[0] in (None, data), corrected, detected) == (True, *want[1:])

    driven(ram, bench)


class Modulo(Elaboratable):
    """Remainders of two values, and of their sum and product."""

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = Signal(a), Signal(b)
        self.found = [Signal(2, name=f"found_{i}") for i in range(4)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = residue(m, self.a), residue(m, self.b)
        m.d.comb += [s.eq(v) for s, v in zip(self.found, (a, b, plus(m, a, b), times(a, b)), strict=True)]
        m.d.sync += Signal().eq(0)
        return m


@FEW
@given(data=st.data())
def test_remainders_are_those_of_arithmetic(data: st.DataObject) -> None:
    """A wrong remainder is an alarm without a fault, or a fault without an alarm."""
    shapes = [data.draw(st.builds(lambda n, s: signed(n) if s else unsigned(n), st.integers(1, 20), st.booleans()))] * 2
    lo, hi = (
        (-(2 ** (shapes[0].width - 1)), 2 ** (shapes[0].width - 1) - 1)
        if shapes[0].signed
        else (0, 2 ** shapes[0].width - 1)
    )
    values = data.draw(st.lists(st.tuples(st.integers(lo, hi), st.integers(lo, hi)), min_size=8, max_size=8))
    part = Modulo(*shapes)

    async def bench(ctx: Any) -> None:
        for a, b in [*values, (lo, hi), (hi, hi), (lo, lo)]:
            ctx.set(part.a, a)
            ctx.set(part.b, b)
            await ctx.delay(1e-7)
            assert [int(ctx.get(s)) for s in part.found] == [a % 3, b % 3, (a + b) % 3, a * b % 3]

    driven(part, bench)


def test_a_code_with_one_wrong_bit_has_another_remainder() -> None:
    """All bits of all codes of a narrow memory, the remainder's own among them."""
    ram = ResidueRam(width=4, depth=2, signed=True)

    async def bench(ctx: Any) -> None:
        words = ram.ram.words.data
        for code in range(-8, 8):
            ctx.set(ram.write_data, code & 15)
            ctx.set(ram.write_residue, code % 3)
            ctx.set(ram.write_enable, 1)
            await ctx.tick()
            ctx.set(ram.write_enable, 0)
            word = int(ctx.get(words[0]))
            for mask in (0, 1, 2, 4, 8, 16, 32):
                ctx.set(words[0], word ^ mask)
                await ctx.tick().repeat(2)
                assert int(ctx.get(ram.mismatch)) == (mask != 0), (code, mask)

    driven(ram, bench)


class Counter(Elaboratable):
    """Counts to nine, with a register that is data."""

    def __init__(self) -> None:
        self.count = Signal(4, init=2)
        self.sum = Signal(8)
        self.run = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.run):
            m.d.control += self.count.eq(self.count + 1)
            m.d.sync += self.sum.eq(self.sum + self.count)
            with m.If(self.count == 9):
                m.d.control += self.count[:4].eq(0)
        return m


def test_votes_count_as_one_register_does_and_mask_one_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redundancy that changes what the design does, or copies that stay wrong once they are."""
    copies: list[Signal] = []
    made = tmr._copy

    def copy(register: Signal, number: int) -> Signal:
        copies.append(made(register, number))
        return copies[-1]

    monkeypatch.setattr(tmr, "_copy", copy)
    plain, voted = Counter(), Counter()
    inner = Triplicated()(voted)
    seen: list[list[tuple[int, int]]] = [[], []]
    for number, (part, top) in enumerate(((plain, plain), (voted, inner))):

        async def bench(ctx: Any, part: Counter = part, number: int = number) -> None:
            ctx.set(part.run, 1)
            for clock in range(40):
                await ctx.tick()
                if number and clock % 2:
                    ctx.set(copies[clock % COPIES], clock % 16)
                ctx.set(part.run, clock % 7 != 3)
                seen[number].append((int(ctx.get(part.count)), int(ctx.get(part.sum))))

        driven(top, bench)
    assert seen[0] == seen[1]
    assert len(copies) == COPIES
    one, other = Counter(), Counter()
    inner = Triplicated()(one)
    text = kept_apart(emit_verilog(inner, ports=[one.run, one.count, one.sum]))
    assert text.count("(* keep_hierarchy = 1 *)\nmodule") == COPIES
    plain_text = emit_verilog(merge_control(other, voted=False), ports=[other.run, other.count, other.sum])
    assert kept_apart(plain_text) == plain_text


def ran(dog: Watchdog, *, ticks_at: int | None, idle_after: int | None, clocks: int, held: int = 0) -> list[int]:
    """Clocks in which it is late."""
    late = []

    async def bench(ctx: Any) -> None:
        ctx.set(dog.steps, 3)
        ctx.set(dog.idle, 1)
        await ctx.tick().repeat(3)
        for clock in range(clocks):
            ctx.set(dog.idle, idle_after is not None and clock >= idle_after)
            ctx.set(dog.tick, ticks_at is not None and clock % ticks_at == ticks_at - 1)
            ctx.set(dog.held, clock < held)
            await ctx.delay(1e-8)
            if int(ctx.get(dog.late)):
                late.append(clock)
            await ctx.tick()

    driven(dog, bench)
    return late


def test_the_watchdog_ends_what_stands_still_and_what_ticks_too_often() -> None:
    """A run that never ends, and one that is given up although it was in time."""
    assert ran(Watchdog(10), ticks_at=None, idle_after=None, clocks=14) == [12, 13]
    assert ran(Watchdog(10), ticks_at=None, idle_after=10, clocks=40) == []
    assert ran(Watchdog(10), ticks_at=None, idle_after=None, clocks=26, held=12) == [24, 25]
    assert ran(Watchdog(10), ticks_at=8, idle_after=25, clocks=40) == []
    assert ran(Watchdog(10), ticks_at=8, idle_after=None, clocks=35)[0] == 33


@pytest.mark.slow
def test_a_code_that_finds_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: these tests must be able to fail."""
    monkeypatch.setattr(Secded, "positions", property(lambda self: tuple(range(self.width + self.hamming_bits))))
    with pytest.raises(AssertionError):
        test_secded_repairs_every_single_error_and_finds_every_double_one()
