"""Flips of states on a card: every one of every image, and many that are drawn and counted there.

    PYTHONPATH=src python benchmarks/faults_card.py --net net.onnx --codes codes.npz [--out DIR]

`net.onnx` is the saved integer net, `codes.npz` its input codes. Before anything is timed the card's outcomes are
compared with those of engine `fast`, flip by flip for some images and drawn fault by drawn fault; then wrong kernels
are tried, each of which must give another outcome. Ends with 1 if an outcome differs or a wrong kernel is not noticed.
Seconds are by the host's clock, the card synchronised, in the median; `campaign` draws, injects, classifies and counts
outcomes by unit and bit, `kernel` injects and classifies alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.fast import engine as fast
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.gpu import sweep
from eqcompile.sim.faults.gpu.engine import GpuEngine, GpuSession
from eqcompile.sim.faults.gpu.sweep import drawn_table
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import load

REPEATS, IMAGES, DRAWN, CHECKED, SEED, NEAR = 5, 32, 1 << 28, 100_000, 7, 1
SHAPES = ((16, 2), (16, 4), (16, 8), (16, 16), (32, 4), (32, 8), (32, 16), (64, 16))
MUTANTS = (
    ("tl.where(ever > 0, healed, masked)", "healed"),
    ("spoilt = tl.maximum(spoilt, tl.max(z, 1))", "pass"),
    ("(near <= limit)", "(near < limit)"),
    ("1 << (flip % BITS)", "1 << ((flip + 1) % BITS)"),
    ("ticks - (t - begin)", "ticks - (t - begin) + 1"),
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median of `repeats` calls after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def part(codes: dict[str, Any], count: int) -> dict[str, Any]:
    return {name: value[:count] for name, value in codes.items()}


def differing(net: IntNet, codes: dict[str, Any], state: str, right: Any) -> int:
    """Outcomes of every flip that are not `right`."""
    found = GpuEngine().open(net, codes, near=NEAR).sweep(state, (0, right.outcome.shape[0]))
    assert found is not None
    return int((found.outcome != right.outcome).sum() + (found.distance != right.distance).sum())


def unnoticed(net: IntNet, codes: dict[str, Any], state: str, right: Any) -> list[str]:
    """Wrong kernels that give the right outcomes, or whose text there is not."""
    loaded, left = sweep.load_kernel, []
    for good, bad in MUTANTS:
        changed = []

        def mutant(text: str, good: str = good, bad: str = bad, changed: list[bool] = changed) -> object:
            changed.append(good in text)
            return loaded(text.replace(good, bad))

        sweep.load_kernel = mutant
        if not differing(net, codes, state, right) or not all(changed):
            left.append(good)
    sweep.load_kernel = loaded
    return left


def counted(session: GpuSession, state: str, count: int, seed: int) -> Any:
    """A campaign on the card: outcomes by unit and bit, on the host."""
    drawn = session.sweeper.drawn(state, count, seed)
    _, units, bits = session.sweeper.flips(state)
    cells = drawn.outcome.int() * (units * bits) + drawn.flip
    return torch.bincount(cells, minlength=len(Outcome) * units * bits).cpu().numpy().reshape(-1, units, bits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", type=Path, required=True)
    parser.add_argument("--codes", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    net = load(options.net)
    assert isinstance(net, IntNet)
    with np.load(options.codes) as file:
        codes = {name: file[name].astype(np.int64) for name in file.files}
    state = net.states[0].name
    began = time.perf_counter()
    session = GpuEngine().open(net, codes, near=NEAR)
    opened = time.perf_counter() - began
    sweeper = session.sweeper
    _, units, bits = sweeper.flips(state)
    document: dict[str, Any] = {"card": torch.cuda.get_device_name(), "net": net.name, "digest": net.digest}
    document |= {"samples": sweeper.samples, "ticks": sweeper.ticks, "opened_s": opened}
    few = part(codes, IMAGES)
    host: Any = FastEngine().open(net, few, near=NEAR)
    host.native_wins, fast.MANY = True, 1
    right = host.sweep(state, (0, units))
    assert right is not None
    document["compared"] = int(right.outcome.size)
    document["differ"] = differing(net, few, state, right)
    which = np.random.default_rng(SEED).choice(1 << 20, CHECKED, replace=False)
    drawn = GpuEngine().open(net, few, near=NEAR).sweeper.drawn(state, 1 << 20, SEED)
    table = drawn_table(state, units, bits, IMAGES, sweeper.ticks, count=1 << 20, seed=SEED, which=which)
    rows = host.run(table)
    document["drawn_compared"] = CHECKED
    document["drawn_differ"] = int((rows["outcome"] != drawn.outcome.cpu().numpy()[which]).sum())
    document["mutants"], document["unnoticed"] = len(MUTANTS), unnoticed(net, part(codes, 2), state, FastEngine().open(
        net, part(codes, 2), near=NEAR).sweep(state, (0, units)))  # fmt: skip
    say(json.dumps(document))
    tried = {}
    for tile, warps in SHAPES:
        sweep._TILE, sweep._WARPS = tile, warps
        try:
            tried[f"{tile} rows, {warps} warps"] = 20_000_000 / seconds(lambda: sweeper.drawn(state, 20_000_000, 3), 3)
        except Exception as error:  # noqa: BLE001 - a shape that does not compile is no result
            tried[f"{tile} rows, {warps} warps"] = 0.0
            say(f"{tile} rows, {warps} warps: {type(error).__name__}")
    document["tried_per_s"] = tried
    say(json.dumps(tried))
    best = max(tried, key=lambda name: tried[name])
    sweep._TILE, sweep._WARPS = int(best.split()[0]), int(best.split()[2])
    whole = sweeper.samples * (sweeper.ticks + 1) * units * bits
    document["every"], document["every_s"] = whole, seconds(lambda: sweeper.every(state), 3)
    outcome, distance = sweeper.every(state)
    began = time.perf_counter()
    silent = (outcome == int(Outcome.SDC)) | (outcome == int(Outcome.HANG))
    maps = {
        "outcomes": torch.bincount(outcome.reshape(-1).int(), minlength=len(Outcome)),
        "by_unit": silent.sum(dim=(0, 1)),
        "by_tick": silent.sum(dim=(0, 2, 3)),
        "by_image": silent.sum(dim=(1, 2, 3)),
        "distance": distance,
    }
    np.savez_compressed(options.out / "maps.npz", **{name: value.cpu().numpy() for name, value in maps.items()})
    document["maps_s"] = time.perf_counter() - began
    document["outcomes"] = maps["outcomes"].tolist()
    del outcome, distance, silent
    took = seconds(lambda: counted(session, state, DRAWN, SEED), 3)
    document["drawn"], document["campaign_per_s"] = DRAWN, DRAWN / took
    document["kernel_per_s"] = DRAWN / seconds(lambda: sweeper.drawn(state, DRAWN, SEED), 3)
    document["drawn_outcomes"] = counted(session, state, DRAWN, SEED).sum(axis=(1, 2)).tolist()
    (options.out / "faults_card.json").write_text(json.dumps(document, indent=2) + "\n")
    say(json.dumps(document))
    return 1 if document["differ"] or document["drawn_differ"] or document["unnoticed"] else 0


if __name__ == "__main__":
    sys.exit(main())
