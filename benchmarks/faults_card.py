"""Flips of states on a card: every one of every image, and many that are drawn and counted there.

    PYTHONPATH=src python benchmarks/faults_card.py --net net.onnx --codes codes.npz [--inputs X.npz] [--out DIR]

`net.onnx` is the saved integer net, `codes.npz` its input codes. Before anything is timed the card's outcomes are
compared with those of engine `fast`, flip by flip for some images and drawn fault by drawn fault; then wrong kernels
are tried, each of which must give another outcome. Ends with 1 if an outcome differs or a wrong kernel is not noticed.
Seconds are by the host's clock, the card synchronised, in the median; `kernel` draws places, injects, classifies and
counts on the card, `campaign` also draws how many faults each sample and tick has and brings the counts and the numbers
of wrong labels back. With the samples `--inputs` the command `eqfault run --counted` is run, and its whole wall-clock
and its time of injection are taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eqcompile.sim.faults.draw import Draw
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.fast import engine as fast
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.gpu import program
from eqcompile.sim.faults.gpu.engine import GpuEngine
from eqcompile.sim.faults.models.pair import PairModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import load

REPEATS, IMAGES, DRAWN, CHECKED, SEED, NEAR = 5, 32, 1 << 28, 100_000, 7, 1
COMMANDED = 1 << 35
MUTANTS = (
    ("found = ever ? healed : masked", "found = healed"),
    ("found.output |= BALLOT(differs) != 0", ";"),
    ("off <= near_limit", "off < near_limit"),
    ("place_mask[L(place)], 0", "place_mask[L(place)] ^ 1, 0"),
    ("i32 ends = TICKS - (t - begin)", "i32 ends = TICKS - (t - begin) - 1"),
    ("s > (i32)net->high", "s > 8 + (i32)net->high"),
    ("total[4 + j] += d", "total[4 + j] -= d"),
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
    units, bits = right.outcome.shape[:2]
    found = GpuEngine().open(net, codes, near=NEAR).sweep(state, (0, units), 1 << np.arange(bits))
    assert found is not None
    return int((found.outcome != right.outcome).sum() + (found.distance != right.distance).sum())


def unnoticed(net: IntNet, codes: dict[str, Any], state: str, right: Any) -> list[str]:
    """Wrong kernels that give the right outcomes, or whose text there is not."""
    compiled, left = program._kernel, []
    for good, bad in MUTANTS:
        changed = []

        def mutant(text: str, name: str, good: str = good, bad: str = bad, changed: list[bool] = changed) -> object:
            changed.append(good in text)
            return compiled(text.replace(good, bad), name)

        program._kernel = mutant
        if not differing(net, codes, state, right) or not all(changed):
            left.append(good)
    program._kernel = compiled
    return left


def drawn_of(net: IntNet, codes: dict[str, Any], count: int) -> Draw:
    """Single flips of the states."""
    model = SeuModel(sites="state")
    population = model.population(net, codes)
    masks = tuple(model.masks(site) for site in population.sites)
    return Draw(population, masks, lambda points: model.faults(net, codes, population, points), count, SEED)


def commanded(net: Path, inputs: Path, folder: Path) -> dict[str, Any]:
    """A campaign by the command alone: faults, seconds from start to end, and those of injection."""
    words = [str(net), "--model", "seu", "--sites", "state", "--engine", "gpu", "--counted", "--faults", str(COMMANDED)]
    code = "from eqcompile.app.cli.main import eqfault; raise SystemExit(eqfault())"
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, "run", *words, "--inputs", str(inputs), "-o", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    took = time.perf_counter() - began
    report = json.loads((folder / "report.json").read_text())
    outcomes = {row["outcome"]: row["faults"] for row in report["outcomes"]}
    return {"faults": COMMANDED, "wall_s": took, "injection_s": report["seconds"]["value"], "outcomes": outcomes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", type=Path, required=True)
    parser.add_argument("--codes", type=Path, required=True)
    parser.add_argument("--inputs", type=Path)
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
    units, bits = int(np.prod(net.states[0].shape)), net.formats[state].bits
    masks = 1 << np.arange(bits)
    document: dict[str, Any] = {"card": torch.cuda.get_device_name(), "net": net.name, "digest": net.digest}
    document |= {"samples": sweeper.samples, "ticks": sweeper.ticks, "opened_s": opened}
    few = part(codes, IMAGES)
    host: Any = FastEngine().open(net, few, near=NEAR)
    host.native_wins, fast.MANY = True, 1
    right = host.sweep(state, (0, units), masks)
    assert right is not None
    document["compared"] = int(right.outcome.size)
    document["differ"] = differing(net, few, state, right)
    draw = drawn_of(net, few, 1 << 20)
    which = np.random.default_rng(SEED).choice(draw.count, CHECKED, replace=False)
    outcome = GpuEngine().open(net, few, near=NEAR).sweeper.drawn(draw, single=True).outcome.cpu().numpy()
    document["drawn_compared"] = CHECKED
    document["drawn_differ"] = int((host.run(draw.faults(which))["outcome"] != outcome[which]).sum())
    document["mutants"], document["unnoticed"] = len(MUTANTS), unnoticed(net, part(codes, 2), state, FastEngine().open(
        net, part(codes, 2), near=NEAR).sweep(state, (0, units), masks))  # fmt: skip
    say(json.dumps(document))
    whole = sweeper.samples * (sweeper.ticks + 1) * units * bits
    document["every"], document["every_s"] = whole, seconds(lambda: sweeper.every(state, (0, units), masks), 3)
    outcome, distance = sweeper.every(state, (0, units), masks)
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
    pairs = PairModel()
    flips = pairs.masks(pairs.population(net, codes).sites[0])
    assert flips is not None
    began = time.perf_counter()
    outcome, _ = sweeper.every(state, (0, units), flips)
    document["pairs"] = torch.bincount(outcome.reshape(-1), minlength=len(Outcome)).tolist()
    document["pairs_s"] = time.perf_counter() - began
    del outcome
    draw = drawn_of(net, codes, DRAWN)
    document["drawn"], document["kernel_per_s"] = DRAWN, DRAWN / seconds(lambda: sweeper.drawn(draw), 3)
    document["drawn_outcomes"] = sweeper.drawn(draw).counts.sum(dim=(0, 1)).tolist()
    document["campaign_per_s"] = DRAWN / seconds(lambda: session.tally(drawn_of(net, codes, DRAWN), (Outcome.SDC,)), 3)
    if options.inputs is not None:
        del draw, session, sweeper
        torch.cuda.empty_cache()
        with tempfile.TemporaryDirectory() as folder:
            document["command"] = commanded(options.net, options.inputs, Path(folder) / "campaign")
    (options.out / "faults_card.json").write_text(json.dumps(document, indent=2) + "\n")
    say(json.dumps(document))
    return 1 if document["differ"] or document["drawn_differ"] or document["unnoticed"] else 0


if __name__ == "__main__":
    sys.exit(main())
