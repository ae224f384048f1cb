"""Upsets of registers and memories of the core under cocotb: a simulator's own means against generated saboteurs.

The file $CORE_DEPOSITS is a JSON list of `sample`, `path` of a register or memory, `row` (null for a register), `mask`
and `clock`, counted from the edge that takes the first beat. Each is a run of its own after a reset, results to
$CORE_RESULTS. The folder must have been compiled with saboteurs, which say what memories there are.
"""

from __future__ import annotations

import json
import os
import re
import time
from operator import attrgetter
from pathlib import Path
from typing import TypedDict

import cocotb
import numpy as np
from cocotb.handle import Deposit
from cocotb.triggers import FallingEdge, RisingEdge, SimTimeoutError, Timer
from driver import Core, Driver  # type: ignore[import-not-found]
from layout import Codes, Layout, load_arrays  # type: ignore[import-not-found]

PATIENCE = 20_000
"""Clocks after which there is no result."""


class Upset(TypedDict):
    """An upset of the list."""

    sample: int
    path: str
    row: int | None
    mask: int
    clock: int


def clear(dut: Core, layout: Layout) -> None:
    """Empty what the core writes before it reads it, as at power-up: a disturbed core may read it all the same."""
    # Of a wide memory each piece is a site.
    names = {re.sub(r"\.\d+$", "", site["name"]) for site in layout.inject["sites"] if site["kind"] == "memory"}
    for name in names:
        memory = attrgetter(name)(dut)
        for row in memory.range:
            memory[row].value = Deposit(0)


async def strike(dut: Core, upset: Upset) -> None:
    """Flip the bits once the clock's edge has passed, and long before the next one."""
    await FallingEdge(dut.clk)
    while not (dut.s_axis_tvalid.value and dut.s_axis_tready.value):
        await FallingEdge(dut.clk)
    for _ in range(upset["clock"] + 2):
        await RisingEdge(dut.clk)
    await Timer(1, "ns")
    word = attrgetter(upset["path"])(dut)
    if upset["row"] is not None:
        word = word[upset["row"]]
    word.value = Deposit(int(str(word.value), 2) ^ upset["mask"])


@cocotb.test()
async def deposits(dut: Core) -> None:
    layout = Layout.read()
    driver = await Driver.started(dut, layout)
    given = layout.samples(load_arrays(Path(os.environ["CORE_INPUTS"])))
    driver.limit = PATIENCE
    units = sum(s["units"] for s in layout.states)
    y: list[list[int]] = []
    rows: list[list[tuple[int, Codes]]] = []
    steps: list[int] = []
    start = time.perf_counter()
    upsets: list[Upset] = json.loads(Path(os.environ["CORE_DEPOSITS"]).read_text(encoding="utf-8"))
    for upset in upsets:
        # Nothing of the one before may write any more when memories are emptied.
        await driver.reset()
        clear(dut, layout)
        await driver.reset()
        striking = cocotb.start_soon(strike(dut, upset))
        driver.send(given[upset["sample"]])
        try:
            codes, ticks = await driver.receive()
            # The last tick's trace may stand at the very clock of the last code.
            await FallingEdge(dut.clk)
            states = driver.ticks
        except SimTimeoutError:
            codes, ticks, states = [0] * layout.y["count"], -1, []
        y.append(codes)
        steps.append(ticks)
        # A core that was disturbed may make more ticks than it should, or fewer than it says: the last one counts.
        rows.append([*states[: layout.steps - 1], states[-1]] if states else [(0, np.zeros(units, np.int64))])
        striking.cancel()
    results = layout.gathered(rows, y, layout.steps)
    results.steps[:] = steps
    measured = {"seconds": time.perf_counter() - start, "cycles": driver.clocks}
    layout.write(Path(os.environ["CORE_RESULTS"]), results, measured)
