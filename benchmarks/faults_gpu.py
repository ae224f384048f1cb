"""Injections a second of the GPU engine, beside PyTorch on the same card and the limits of the card.

    python benchmarks/faults_gpu.py --mnist mnist.npz [--images 10000] [--faults 64e6] [--out DIR]

Upsets of one bit of one state code, drawn uniformly over images, ticks, units and bits of MNIST nets at 20 ticks: two
that recur densely and contract, one that hardly recurs, and this one with random recurrent weights of other densities.
The kernel is that for any faults; benchmarks/faults_card.py has that for flips alone. Before anything is timed, the
kernel's results are compared with the CPU's on random faults, every column of every row; the program ends with 1 if one
differs.

Rows: `relax` runs faults whose columns lie on the card, sorted; `draw` also draws and sorts them there and counts the
outcomes by bit; `table` takes a FaultTable from the host and gives results back. PyTorch runs the whole net from the
upset to the last tick, all faults of a tick in one batch. Median of the repeats, by the card's own clock where the work
is on the card.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from healing import Case, load

from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.gpu.engine import GpuEngine, GpuSession
from eqcompile.sim.faults.table import FAULT, UPSET, FaultTable, Place
from eqcompile.toolchain.certificate import recurrent_weights
from eqcompile.toolchain.ir import IntNet, verify

STEPS = 20
BITS = 8
SPARSE = "mnist_ternary"
NETS, DENSITIES = ("mnist_layered", "mnist_certified", SPARSE), (0.1, 0.33)
CHECKED = 20_000
NEAR = 1
REPEATS = 5


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def drawn(session: GpuSession, count: int, seed: int) -> dict[str, torch.Tensor]:
    """Columns of `count` single-bit upsets on the session's device, sorted by tick and unit."""
    device = session.device
    generator = torch.Generator(device).manual_seed(seed)

    def below(top: int, rows: int = count) -> torch.Tensor:
        return torch.randint(top, (rows,), generator=generator, device=device, dtype=torch.int32)

    units = session.clean_codes.states["h"].shape[2]
    key = torch.sort(below(session.clean_codes.ticks * units)).values
    none = torch.zeros((count, 1), dtype=torch.int32, device=device)
    bit = below(BITS)
    return {
        "sample": below(session.clean_codes.samples),
        "tick": key // units,
        "state": none,
        "index": (key % units)[:, None],
        "flip": (1 << bit)[:, None].to(torch.int32),
        "one": none,
        "zero": none,
        "add": none,
        "bit": bit,
    }


def table(session: GpuSession, count: int, seed: int, slots: int) -> FaultTable:
    """Random upsets of states for the host: `slots` a fault, all in one tick (the readout among them), every kind."""
    source = np.random.default_rng(seed)
    states = [(s.name, int(np.prod(s.shape))) for s in session.plan.net.states]
    faults = np.zeros(count, FAULT)
    faults["sample"] = source.integers(session.clean_codes.samples, size=count)
    faults["tick"] = source.integers(session.clean_codes.ticks + 1, size=count)
    faults["count"] = slots
    faults["start"] = np.arange(count) * slots
    upsets = np.zeros(count * slots, UPSET)
    upsets["place"] = Place.STATE
    upsets["name"] = source.integers(len(states), size=len(upsets))
    sizes = np.array([n for _, n in states])
    upsets["index"] = source.integers(0, 1 << 30, len(upsets)) % sizes[upsets["name"]]
    upsets["first"] = upsets["last"] = np.repeat(faults["tick"], slots)
    kind = source.integers(4, size=len(upsets))
    mask = 1 << source.integers(BITS, size=len(upsets))
    upsets["flip"], upsets["one"] = np.where(kind == 0, mask, 0), np.where(kind == 1, mask, 0)
    upsets["zero"] = np.where(kind == 2, mask, 0)
    upsets["add"] = np.where(kind == 3, source.integers(-300, 300, len(upsets)), 0)
    return FaultTable(tuple(n for n, _ in states), ("state",), faults, upsets)


def equal(session: GpuSession, slots: int) -> int:
    """How many of `CHECKED` results differ between the kernel and the engine `fast`."""
    host = FastEngine().open(session.plan.net, session.inputs, near=NEAR)
    faults = table(session, CHECKED, seed=slots, slots=slots)
    return int((session.run(faults) != host.run(faults)).sum())


def timed(work: Callable[[], Any]) -> float:
    """Median seconds on the card."""
    work()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(REPEATS):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        seconds.append(began.elapsed_time(ended) / 1e3)
    return statistics.median(seconds)


def by_clock(work: Callable[[], Any]) -> float:
    """Median seconds of the host."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def plain(session: GpuSession, columns: dict[str, torch.Tensor]) -> None:
    """The same faults in PyTorch without leaving out anything: every tick of every fault."""
    plan, clean, device = session.plan, session.clean_codes, session.device
    weight = torch.from_numpy(plan.matrices["recurrent_linear"].T.copy()).to(device).half()
    readout = torch.from_numpy(plan.matrices["logits_linear"].T.copy()).to(device).float()
    states = torch.from_numpy(clean.states["h"]).to(device).to(torch.int8)
    drive = torch.from_numpy(clean.held["drive"]).to(device).int()
    entries = torch.from_numpy(plan.params["new_entries"].copy()).to(device).to(torch.int8)
    bias = torch.from_numpy(plan.params["W_out_bias"].copy()).to(device).float()
    factor = int(plan.params["recurrent_linear_multiplier"][0])
    scale = float(plan.params["logits_linear_multiplier"][0])
    for t in range(clean.ticks):
        rows = torch.nonzero(columns["tick"] == t)[:, 0]
        sample = columns["sample"][rows].long()
        h = states[t][sample]
        at = (torch.arange(len(rows), device=device), columns["index"][rows, 0].long())
        h[at] = h[at] ^ columns["flip"][rows, 0].to(torch.int8)
        held = drive[sample]
        for _ in range(t, clean.ticks):
            # Half products are exact: a row of the recurrent matrix sums to at most 2,048 in magnitude.
            index = held + (h.half() @ weight).int() * factor
            h = entries[(index + 2048).clamp(0, len(entries) - 1)]
        (h.float() @ readout * scale + bias).argmax(dim=1)


def int8_rate() -> float:
    """Multiply-adds a second of the card's int8 matrix units, measured on a large product."""
    n = 8192
    a, b = (torch.randint(-128, 127, (n, n), device="cuda", dtype=torch.int8) for _ in range(2))
    return n**3 / timed(lambda: torch._int_mm(a, b.t()))


def denser(net: IntNet, density: float) -> IntNet:
    """The net with random ternary recurrent weights. It no longer classifies; its trajectories are as good as any."""
    source = np.random.default_rng(0)
    shape = net.param("W_rec_ternary").shape
    weight = source.integers(0, 2, shape) * 2 - 1
    weight = np.where(source.random(shape) < density, weight, 0)
    params = tuple(replace(p, value=weight) if p.name == "W_rec_ternary" else p for p in net.params)
    wider = replace(net, params=params)
    formats = {n: replace(f, bits=f.bits + 6) if f.bits > BITS and n != "x" else f for n, f in net.formats.items()}
    wider = replace(wider, formats=formats)
    verify(wider)
    return wider


def measure(name: str, net: IntNet, codes: dict[str, Any], count: int, rate: float) -> tuple[list[dict[str, Any]], int]:
    absent = GpuEngine().missing()
    if absent:
        sys.exit(f"error: this benchmark measures a GPU, and there is no {', '.join(absent)}")
    session = GpuEngine().open(net, codes, near=NEAR)
    wrong = sum(equal(session, slots) for slots in (1, 2))
    say(f"{name}: {wrong} of {2 * CHECKED} results of the kernel differ from engine fast's")
    columns = drawn(session, count, 0)
    found = session.classified(columns, 1)
    left = session.clean_codes.ticks - columns["tick"]
    ticks = torch.where(found["rejoin"] < 0, left, found["rejoin"]).double().mean().item()
    share = {int(k): int((found["outcome"] == k).sum()) for k in found["outcome"].unique()}
    [weight] = recurrent_weights(net, [s.name for s in net.states])
    floor = 1 / (net.param(weight).size * (session.clean_codes.ticks + 1) / 2 / rate)

    def relaxed() -> None:
        session.classified(columns, 1)

    def tallied() -> None:
        made = drawn(session, count, 1)
        torch.bincount(session.classified(made, 1)["outcome"].int() * BITS + made["bit"], minlength=8 * BITS)

    few = table(session, 1 << 21, 5, 1)
    part = {n: v[:: max(1, count >> 21)].contiguous() for n, v in columns.items()}
    rows = [
        ("relax", count / timed(relaxed)),
        ("draw", count / timed(tallied)),
        ("table", len(few) / by_clock(lambda: session.run(few))),
    ]
    if name == SPARSE:
        rows.append(("PyTorch, all ticks", len(part["tick"]) / timed(lambda: plain(session, part))))
    card = torch.cuda.get_device_name()
    return [
        {"net": name, "row": row, "per_second": v, "floor_dense_int8": floor, "card": card, "outcomes": share}
        | {"mean_ticks_off": ticks}
        for row, v in rows
    ], wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--faults", type=float, default=64e6)
    results.add_folder(parser)
    chosen = parser.parse_args()
    rate = int8_rate()
    say(f"{torch.cuda.get_device_name()}: int8 matrix units {rate / 1e12:.0f} T multiply-adds a second (measured)")
    cases = {}
    for name in NETS:
        net, codes, _ = load(Case(f"{name}.npz", ticks=STEPS), chosen.mnist, chosen.images)
        cases[name] = net, dict(codes)
    sparse, codes = cases[SPARSE]
    cases |= {f"random, {density:.0%}": (denser(sparse, density), codes) for density in DENSITIES}
    rows, facts, wrong = [], [], 0
    for name, (net, codes) in cases.items():
        facts.append(results.net_facts(name, net))
        found, differ = measure(name, net, codes, int(chosen.faults), rate)
        rows += found
        wrong += differ
        for r in found:
            floor, off = r["floor_dense_int8"] / 1e6, r["mean_ticks_off"]
            limit = f"every tick at the int8 rate would be {floor:.0f} M/s; off the clean run for {off:.2f} ticks"
            say(f"{r['net']:>16} {r['row']:>20}: {r['per_second'] / 1e6:8.1f} M/s ({limit})")
    columns = {"net": "", "what": "", "M upsets/s": "measured", "every tick at the int8 rate, M/s": "computed"}
    cells = [[r["net"], r["row"], f"{r['per_second'] / 1e6:.1f}", f"{r['floor_dense_int8'] / 1e6:.0f}"] for r in rows]
    words = (
        f"`benchmarks/faults_gpu.py` on {torch.cuda.get_device_name()}: upsets of one bit of a state at {STEPS} ticks, "
        f"engine `gpu` with its kernel for any faults; {wrong} results differ from the CPU's."
    )
    blocks = [results.text(words), results.table(columns, cells)]
    results.record("faults_gpu", "Upsets a second on a GPU", blocks, data=rows, nets=facts, folder=chosen.out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
