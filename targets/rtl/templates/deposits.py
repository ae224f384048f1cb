"""Upsets of registers and memories of the core under cocotb: a simulator's own means against generated saboteurs.

The file $CORE_DEPOSITS is a JSON list of `sample`, `path` of a register or memory, `row` (null for a register), `mask`
and `clock`, counted from the edge that takes the first beat. Each is a run after a reset of its own, results to
$CORE_RESULTS.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.handle import Deposit
from cocotb.triggers import FallingEdge, RisingEdge, SimTimeoutError, Timer
from driver import Driver  # type: ignore[import-not-found]
from layout import Layout, load_arrays  # type: ignore[import-not-found]

PATIENCE = 20_000
"""Clocks after which there is no result."""


async def strike(dut: Any, fault: Any) -> None:
    """Flip the bits once the clock's edge has passed, and long before the next one."""
    await FallingEdge(dut.clk)
    while not (dut.s_axis_tvalid.value and dut.s_axis_tready.value):
        await FallingEdge(dut.clk)
    for _ in range(fault["clock"] + 2):
        await RisingEdge(dut.clk)
    await Timer(1, "ns")
    word = dut
    for name in fault["path"].split("."):
        word = getattr(word, name)
    if fault["row"] is not None:
        word = word[fault["row"]]
    word.value = Deposit(int(str(word.value), 2) ^ fault["mask"])


@cocotb.test()
async def deposits(dut: Any) -> None:
    layout = Layout.read()
    driver = await Driver.started(dut, layout)
    frames = layout.frames(load_arrays(Path(os.environ["CORE_INPUTS"])))
    driver.limit = PATIENCE
    units = sum(s["units"] for s in layout.states)
    y: list[list[int]] = []
    rows: list[Any] = []
    hung: list[int] = []
    start = time.perf_counter()
    for fault in json.loads(Path(os.environ["CORE_DEPOSITS"]).read_text(encoding="utf-8")):
        await driver.reset()
        striking = cocotb.start_soon(strike(dut, fault))
        driver.send(frames[fault["sample"]])
        try:
            codes, made = await driver.receive()
            states = await driver.taken(made)
        except SimTimeoutError:
            hung.append(len(y))
            codes, states = [0] * layout.y["count"], [np.zeros(units, np.int64)]
        y.append(codes)
        rows.append(states)
        striking.cancel()
    results = layout.gathered(rows, y, layout.steps)
    results.steps[hung] = -1
    seconds = np.array(time.perf_counter() - start)
    with Path(os.environ["CORE_RESULTS"]).open("wb") as file:
        np.savez(file, seconds=seconds, cycles=np.array(driver.clocks), **layout.arrays(results))
