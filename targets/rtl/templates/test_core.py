"""The bench: every state of every tick of the vectors, under what a system does to a core."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiResp
from driver import Core, Driver, stalls  # type: ignore[import-not-found]
from layout import FOLDER, Codes, Layout, Results, load_arrays  # type: ignore[import-not-found]

LAYOUT = Layout.read(traced=os.environ["CORE_TRACE"] == "1")
VECTORS = FOLDER / "vectors"
TICKS = LAYOUT.steps
"""Of a frame."""
Samples = slice | list[int]
ALL = slice(None)


def vectors(name: str = "vectors.npz") -> tuple[Codes, Results]:
    arrays = load_arrays(VECTORS / name)
    return LAYOUT.samples(arrays), LAYOUT.expected(arrays)


def must_equal(want: Results, got: Results, samples: Samples = ALL, ticks: int | None = None) -> None:
    """Every state after every tick, every output code, every step count; the message names the first difference."""
    for name, state in want.states.items() if LAYOUT.trace else ():
        expected, found = state[:ticks, samples], got.states[name][:ticks]
        assert expected.shape == found.shape, f"{name}: {found.shape}, must be {expected.shape}"
        different = np.argwhere(expected != found)
        if len(different):
            tick, sample, unit = different[0]
            raise AssertionError(
                f"state {name}[{unit}] of sample {sample} after tick {tick}: "
                f"expected {expected[tick, sample, unit]}, got {found[tick, sample, unit]}"
            )
    if ticks is None:
        np.testing.assert_array_equal(got.steps, want.steps[samples], "ticks made")
        np.testing.assert_array_equal(got.y, want.y[samples], "output codes")


async def started(dut: Core) -> Driver:
    driver = await Driver.started(dut, LAYOUT)
    if LAYOUT.load_words and not LAYOUT.preloaded:
        await driver.load(load_arrays(FOLDER / "weights.npz")["words"])
    await driver.take_frames(vectors()[0].shape[1])
    return driver


@cocotb.test()
async def samples(dut: Core) -> None:
    """The samples of the file $CORE_INPUTS, results to $CORE_RESULTS; compares nothing. Nothing to do without them.

    Memories hold what they start with, as behind a bitstream; the native driver loads words instead.
    """
    if "CORE_INPUTS" not in os.environ:
        return
    driver = await started(dut)
    driver.source.set_pause_generator(stalls(0.1))
    driver.sink.set_pause_generator(stalls(0.1))
    given = LAYOUT.samples(load_arrays(Path(os.environ["CORE_INPUTS"])))
    first, start = driver.clocks, time.perf_counter()
    results = await driver.run(given, TICKS)
    measured = {"cycles": driver.clocks - first, "seconds": time.perf_counter() - start}
    LAYOUT.write(Path(os.environ["CORE_RESULTS"]), results, measured)


@cocotb.test()
async def back_to_back(dut: Core) -> None:
    """All vectors (zero, saturating and random inputs) without a pause, and the registers afterwards."""
    driver = await started(dut)
    assert await driver.read("STATUS") == 0
    given, want = vectors()
    must_equal(want, await driver.run(given, TICKS))
    await ClockCycles(dut.clk, 2)
    assert await driver.read("STATUS") == 0b10
    assert await driver.read("RESULTS") == len(given) * LAYOUT.results(driver.frames)
    assert await driver.read("MADE") == want.steps[-1]
    assert await driver.read("STALLS") == driver.stalled
    assert await driver.read("ERRORS") == 0
    for name in ("FAULTS", "CORRECTED", "DETECTED"):
        assert name not in LAYOUT.registers or await driver.read(name) == 0, f"{name} without a fault"


@cocotb.test()
async def random_stalls(dut: Core) -> None:
    """The same vectors in another order while both streams stall at random; STALLS counts every lost clock."""
    driver = await started(dut)
    given, want = vectors()
    for probability in (0.3, 0.9):
        driver.source.set_pause_generator(stalls(1 - probability))
        driver.sink.set_pause_generator(stalls(probability))
        order = random.sample(range(len(given)), len(given))
        must_equal(want, await driver.run(given[order], TICKS), order)
    await ClockCycles(dut.clk, 2)
    assert driver.stalled > 0
    assert await driver.read("STALLS") == driver.stalled


async def interrupted(dut: Core, *, soft: bool) -> None:
    driver = await started(dut)
    given, want = vectors()
    longest, beats = await clocks_of_one(driver, given[-1]), len(LAYOUT.words(given[0][0]))
    for number in range(INTERRUPTIONS):
        driver.send(given[random.randrange(len(given))])
        if number % 3 == 2:
            await driver.first_code_out()
        else:
            await ClockCycles(dut.clk, random.randrange(2, (beats + 2, longest)[number % 3]))
        await (driver.soft_reset() if soft else driver.reset())
        order = random.sample(range(len(given)), 2)
        must_equal(want, await driver.run(given[order], TICKS), order)
    assert await driver.read("ERRORS") == 0


INTERRUPTIONS = 6
"""By turns while a sample comes in, anywhere, and while a result goes out."""


async def clocks_of_one(driver: Driver, sample: Codes) -> int:
    first = driver.clocks
    await driver.run(sample[None], TICKS)
    return int(driver.clocks - first)


@cocotb.test()
async def reset_in_mid_run(dut: Core) -> None:
    """After a reset at any clock, nothing of the sample that it cut off is left."""
    await interrupted(dut, soft=False)


@cocotb.test()
async def soft_reset_in_mid_run(dut: Core) -> None:
    """The same through the control register, without a reset of the counters."""
    await interrupted(dut, soft=True)


@cocotb.test()
async def soft_reset_ends_the_frame(dut: Core) -> None:
    """A result that a soft reset cuts off keeps its length; zeros ticks in its last beat say that it is none."""
    driver = await started(dut)
    given, want = vectors()
    driver.sink.pause = True
    # No frame may be left that the reset does not drop.
    driver.send(given[-1][:1] if LAYOUT.sequence == "every" else given[-1])
    await driver.result_waits()
    await driver.write("CONTROL", 1)
    assert await driver.read("CONTROL") == 1
    driver.sink.pause = False
    frame = await driver.sink.recv(compact=False)
    whole = LAYOUT.y["count"] <= LAYOUT.y["beat"]
    assert len(LAYOUT.codes(frame.tdata)) == LAYOUT.y["count"]
    assert whole or frame.tuser[-1] == 0
    while await driver.read("CONTROL"):
        pass
    assert await driver.read("RESULTS") == whole
    driver.ticks.clear()
    must_equal(want, await driver.run(given, TICKS))


@cocotb.test()
async def frames_of_wrong_length(dut: Core) -> None:
    """A frame that ends early or late gives one result and one error each; the next one is whole again."""
    driver = await started(dut)
    given, want = vectors()
    whole, *others = [LAYOUT.words(codes) for codes in given[-1]]
    wrong = [[*whole, 0], [*whole, *whole, 1], *([whole[:-1], whole[:1]] if len(whole) > 1 else [])]
    for number, words in enumerate(wrong, 1):
        for frame in (words, *others):
            driver.send_words(frame)
        got, made = await driver.receive()
        await driver.taken(made)
        if len(words) > len(whole):
            assert got == want.y[-1].tolist()
        must_equal(want, await driver.run(given[-2:], TICKS), slice(-2, None))
        assert await driver.read("ERRORS") == number


@cocotb.test()
async def filled_with_zeros(dut: Core) -> None:
    """What a frame that ends early lacks is zero."""
    driver = await started(dut)
    given, want = vectors()
    zero = next(n for n, codes in enumerate(given) if not codes.any())
    for codes in given[zero]:
        driver.send_words(LAYOUT.words(codes)[:1])
    got, made = await driver.receive()
    assert (got, made) == (want.y[zero].tolist(), want.steps[zero])


@cocotb.test()
async def registers(dut: Core) -> None:
    """Identity, reset values, and what the registers refuse."""
    driver = await started(dut)
    bad = AxiResp.SLVERR
    assert await driver.read("ID") == LAYOUT.id
    assert await driver.read("STEPS") == LAYOUT.steps
    assert await driver.read("TOLERANCE") == LAYOUT.tolerance
    wrong = [("STEPS", 0), ("STEPS", 1 << 16), ("TOLERANCE", 1 << 16), ("ID", 1), ("MADE", 1)]
    wrong += [("FRAMES", 0), ("FRAMES", 1 << 16)] if LAYOUT.sequence else []
    for register, value in wrong:
        await driver.write(register, value, want=bad)
    assert (await driver.axil.read(0x7C, 4)).resp == bad
    assert (await driver.axil.write(0x7C, bytes(4))).resp == bad
    assert (await driver.axil.write(LAYOUT.registers["STEPS"], bytes([1, 0]))).resp == bad
    assert (await driver.axil.write(LAYOUT.registers["STEPS"] + 1, bytes([1, 0, 0]))).resp == bad
    assert (await driver.axil.read(LAYOUT.registers["STEPS"] + 2, 2)).resp == bad
    if not LAYOUT.load_words:
        assert (await driver.axil.write(0x28, bytes(4))).resp == bad
    assert await driver.read("STEPS") == LAYOUT.steps
    assert await driver.read("TOLERANCE") == LAYOUT.tolerance


@cocotb.test()
async def another_schedule(dut: Core) -> None:
    """STEPS ends a sample after fewer ticks, TOLERANCE as soon as no code moves by more; both count from the next
    sample, of which not even the first code was taken, and what was written last holds."""
    driver = await started(dut)
    given, want = vectors()
    for steps in sorted({1, 2, TICKS} & set(range(1, TICKS + 1))):
        await driver.write("STEPS", steps)
        got = await driver.run(given, steps)
        # Later frames begin with what fewer ticks have left.
        must_equal(want, got, ticks=steps)
        if driver.frames == 1:
            np.testing.assert_array_equal(got.steps, np.minimum(want.steps, steps))
        assert (got.steps <= driver.frames * steps).all()
    # One more than codes can differ by, and the largest that there is.
    for tolerance in {min(1 << max(s["bits"] for s in LAYOUT.states), 0xFFFF), 0xFFFF}:
        await driver.write("TOLERANCE", tolerance)
        got = await driver.run(given, 1)
        must_equal(want, got, ticks=1)
        assert set(got.steps.tolist()) == {driver.frames}
    await driver.write("TOLERANCE", LAYOUT.tolerance)
    must_equal(want, await driver.run(given, TICKS))
    last = int(np.argmax(want.steps))
    driver.send(given[last])
    await driver.first_beat_in()
    await driver.write("STEPS", 1)
    driver.source.pause = False
    must_equal(want, await driver.run(given[:0], TICKS, sent=1), [last])


@cocotb.test()
async def another_length(dut: Core) -> None:
    """FRAMES ends a sequence after fewer frames, from the next one on; not even the first frame of that was taken."""
    if not LAYOUT.sequence:
        return
    driver = await started(dut)
    given, want = vectors()
    for frames in range(1, given.shape[1]):
        got = await driver.run(given[:, :frames], TICKS)
        must_equal(want, got, ticks=frames * TICKS)
        if LAYOUT.sequence == "every":
            np.testing.assert_array_equal(got.y, want.y[:, : got.y.shape[1]])
    assert await driver.read("FRAMES") == max(given.shape[1] - 1, 1)
    await driver.take_frames(given.shape[1])
    driver.send(given[-1])
    await driver.first_beat_in()
    await driver.write("FRAMES", 1)
    driver.source.pause = False
    must_equal(want, await driver.run(given[:0], TICKS, sent=1), slice(-1, None))


@cocotb.test()
async def another_tolerance(dut: Core) -> None:
    """With a tolerance at which samples end at ticks of their own: states, ticks and codes are those of golden."""
    driver = await started(dut)
    given, want = vectors("tolerant.npz")
    await driver.write("TOLERANCE", int(load_arrays(VECTORS / "tolerant.npz")["tolerance"]))
    must_equal(want, await driver.run(given, TICKS))


@cocotb.test()
async def busy(dut: Core) -> None:
    """STATUS says busy from the first code of a sample until its result was read, however long either waits."""
    driver = await started(dut)
    given, want = vectors()
    driver.sink.pause = True
    driver.send(given[-1])
    await driver.first_beat_in()
    assert await driver.read("STATUS") == 0b01
    driver.source.pause = False
    await driver.result_waits()
    assert await driver.read("STATUS") == 0b01
    driver.sink.pause = False
    must_equal(want, await driver.run(given[:0], TICKS, sent=1), slice(-1, None))
    await ClockCycles(dut.clk, 2)
    assert await driver.read("STATUS") == 0b10


@cocotb.test()
async def weight_reload(dut: Core) -> None:
    """Other weights between two inputs give the other net's codes; a word is refused while a sample runs."""
    if not LAYOUT.load_words:
        return
    driver = await started(dut)
    given, want = vectors()
    others, other = vectors("reloaded.npz")
    given_other = load_arrays(VECTORS / "reloaded.npz")
    await driver.load(given_other["words"])
    if LAYOUT.memory is not None:
        driver.fill(given_other["memory"].astype(np.uint8).tobytes())
    must_equal(other, await driver.run(others, TICKS))
    await driver.load(load_arrays(FOLDER / "weights.npz")["words"])
    if LAYOUT.memory is not None:
        driver.fill((FOLDER / LAYOUT.memory["file"]).read_bytes())
    driver.sink.pause = True
    driver.send(given[0])
    while not await driver.read("STATUS") & 1:
        pass
    await driver.write("LOAD_DATA", 0, want=AxiResp.SLVERR)
    driver.sink.pause = False
    await driver.taken((await driver.receive())[1])
    must_equal(want, await driver.run(given, TICKS))


@cocotb.test()
async def read_back(dut: Core) -> None:
    """The memories hold every word of the image that was loaded last; while they are read no sample is taken, and after
    that the core runs. Reading is refused while a sample runs."""
    if not LAYOUT.readback:
        return
    driver = await started(dut)
    given, want = vectors()
    first = load_arrays(FOLDER / "weights.npz")["words"].tolist()
    other = load_arrays(VECTORS / "reloaded.npz")["words"].tolist()
    assert await driver.held(first) == first
    if other != first:
        assert await driver.held(other) != other
        await driver.load(other)
        assert await driver.held(other) == other
        await driver.load(first)
    await driver.write("READ_MEMORY", 1)
    driver.send(given[0])
    await ClockCycles(dut.clk, 50)
    assert not dut.s_axis_tready.value
    await driver.write("READ_MEMORY", 0)
    driver.source.pause = driver.sink.pause = True
    must_equal(want, await started_sample(driver), slice(1))


async def started_sample(driver: Driver) -> Results:
    """The sample that was sent; while it runs memories cannot be read."""
    driver.source.pause = False
    while not await driver.read("STATUS") & 1:
        pass
    await driver.write("READ_MEMORY", 1, want=AxiResp.SLVERR)
    driver.sink.pause = False
    return await driver.run(vectors()[0][:0], TICKS, sent=1)
