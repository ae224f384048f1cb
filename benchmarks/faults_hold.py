"""Faults that last, on a card: every wrong weight bit and every stuck bit with every image, and of neighbours.

    PYTHONPATH=src python benchmarks/faults_hold.py card --net net.onnx --codes codes.npz [--out DIR]
    eqfault exhaust net.onnx --model seu --sites weight --engine gpu --inputs test.npz --limit 500 -o weights
    python benchmarks/faults_hold.py record --net net.onnx --card faults_hold.json \\
        [--report weights/report.json --seconds S]

`net.onnx` is the saved integer net, `codes.npz` its input codes. `card` needs a CUDA device. Before anything is timed,
`--checked` drawn faults of each population are compared with engine `fast`, every column; then wrong kernels are tried,
each of which must give another row. Ends with 1 if a row differs or a wrong kernel is not noticed. Seconds are by the
host's clock, the card synchronised, of one run after one of 64 faults: injection, classification and counting on the
card. `record` writes the rows of RESULTS from what `card` wrote; `--seconds` is the wall-clock of the second command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import results
from faults_card import part

from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.faults.gpu import program
from eqcompile.sim.faults.gpu.engine import GpuEngine, GpuSession
from eqcompile.sim.faults.gpu.hold import Holder
from eqcompile.sim.faults.model import EnumeratedModel
from eqcompile.sim.faults.models.pair import PairModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.models.stuck import StuckModel
from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import load

NEAR, IMAGES, CHECKED, SEED = 1, 64, 20_000, 7
POPULATIONS: dict[str, tuple[EnumeratedModel, int]] = {
    "a weight bit flips": (SeuModel(sites="weight"), 0),
    "a weight bit sticks at 0": (StuckModel(sites="weight", at=0), 0),
    "a weight bit sticks at 1": (StuckModel(sites="weight", at=1), 0),
    "a state bit sticks at 0": (StuckModel(sites="state", at=0), 0),
    "a state bit sticks at 1": (StuckModel(sites="state", at=1), 0),
    "a bit of a sum or of the drive sticks at 0": (StuckModel(sites="accumulator,drive", at=0), 0),
    "a bit of a sum or of the drive sticks at 1": (StuckModel(sites="accumulator,drive", at=1), 0),
    "a bit each of neighbouring states flips, once": (PairModel(across="neighbours"), 500),
}
"""Models, and how many images (0: all)."""
MUTANTS = (
    ("wound->delta * (", "-wound->delta * ("),
    ("delta * net->", "2 * delta * net->"),
    ("(hot >> 3 & 31) == lane", "(hot >> 3 & 31) == lane + 1"),
    ("moved[k] = over ||", "moved[k] = 1 ||"),
    ("t > settled && (over", "t > 1 && (over"),
    ("latest + 1 - begin", "latest + 2"),
    ("if (i == wound->row) sum_", "if (i == wound->row + 1) sum_"),
    ("if (struck_v0) v0 =", "if (struck_v0) v0 = 1 +"),
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def opened(net: IntNet, codes: dict[str, Any]) -> tuple[GpuSession, Holder]:
    """A session, and its kernel of faults that last."""
    session = GpuEngine().open(net, codes, near=NEAR)
    if session.holder is None:
        sys.exit(f"error: {net.name} is not a net whose lasting faults a card takes")
    return session, session.holder


def rows_of(net: IntNet, codes: dict[str, Any], tables: list[FaultTable]) -> list[Any]:
    session, holder = opened(net, codes)
    return [holder.rows(session.wounds(table)) for table in tables]


def unnoticed(net: IntNet, codes: dict[str, Any], tables: list[FaultTable], right: list[Any]) -> list[str]:
    """Wrong kernels that give the right rows, or whose text there is not."""
    compiled, left = program._kernel, []
    for good, bad in MUTANTS:
        changed = []

        def mutant(text: str, name: str, good: str = good, bad: str = bad, changed: list[bool] = changed) -> object:
            changed.append(good in text)
            return compiled(text.replace(good, bad), name)

        program._kernel = mutant
        pairs = zip(rows_of(net, codes, tables), right, strict=True)
        if not any((a != b).any() for a, b in pairs) or not any(changed):
            left.append(good)
    program._kernel = compiled
    return left


def counted(net: IntNet, codes: dict[str, Any], model: EnumeratedModel) -> dict[str, Any]:
    """Every fault of a model in every image: outcomes, by site, and which faults corrupt silently."""
    import torch

    table = model.exhaustive(net, part(codes, 1))
    session, holder = opened(net, codes)
    wounds, count = session.wounds(table), len(table)
    silent_of = np.zeros(count, np.int64)
    outcomes = np.zeros((len(table.sites), len(Outcome)), np.int64)
    holder.everywhere(wounds, slice(0, 64))
    torch.cuda.synchronize()
    began = time.perf_counter()
    for start in range(0, count, holder.most):
        span = slice(start, start + holder.most)
        outcome, _ = holder.everywhere(wounds, span)
        silent_of[span] = (outcome == int(Outcome.SDC)).sum(dim=0).cpu().numpy()
        for site in np.unique(table.faults["site"][span]):
            here = np.flatnonzero(table.faults["site"][span] == site)
            of_site = outcome[:, here[0] : here[-1] + 1]
            outcomes[site] += [int((of_site == int(o)).sum()) for o in Outcome]
    torch.cuda.synchronize()
    took = time.perf_counter() - began
    samples = session.clean_codes.samples
    worst = np.argsort(-silent_of, kind="stable")[:5]
    return {
        "places": count,
        "images": samples,
        "faults": count * samples,
        "seconds": took,
        "sites": {name: outcomes[k].tolist() for k, name in enumerate(table.sites)},
        "places_of": np.bincount(table.faults["site"], minlength=len(table.sites)).tolist(),
        "silent_places": int((silent_of > 0).sum()),
        "half": int(np.searchsorted(np.cumsum(np.sort(silent_of)[::-1]), silent_of.sum() / 2) + 1),
        "worst": [{"fault": str(table[int(k)]), "images": int(silent_of[k])} for k in worst],
    }


def on_card(options: argparse.Namespace) -> int:
    import torch

    net = load(options.net)
    assert isinstance(net, IntNet)
    with np.load(options.codes) as file:
        codes = {name: file[name].astype(np.int64) for name in file.files}
    few = part(codes, IMAGES)
    source = np.random.default_rng(SEED)
    models = [model for model, _ in POPULATIONS.values()]
    tables = [model.draw(net, options.checked, source, few) for model in models]
    right = [FastEngine().open(net, few, near=NEAR).run(table) for table in tables]
    mine = rows_of(net, few, tables)
    document: dict[str, Any] = {"card": torch.cuda.get_device_name(), "net": net.name, "digest": net.digest}
    document["compared"] = sum(map(len, tables))
    document["differ"] = sum(int((a != b).sum()) for a, b in zip(mine, right, strict=True))
    say(json.dumps(document))
    document["mutants"], document["unnoticed"] = len(MUTANTS), unnoticed(net, few, tables, right)
    say(json.dumps(document["unnoticed"]))
    document["populations"] = {}
    for name, (model, images) in POPULATIONS.items():
        found = counted(net, part(codes, images) if images else codes, model)
        document["populations"][name] = found
        say(json.dumps({name: found}))
    (options.out / "faults_hold.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if document["differ"] or document["unnoticed"] else 0


def recorded(options: argparse.Namespace) -> int:
    card = json.loads(options.card.read_text(encoding="utf-8"))
    net = load(options.net)
    if not isinstance(net, IntNet) or net.digest != card["digest"]:
        sys.exit(f"error: the card ran {card['digest'][:12]}, {options.net} is another net")
    rows, worst = [], []
    for name, found in card["populations"].items():
        for site, outcomes in found["sites"].items():
            all_of = sum(outcomes)
            silent = outcomes[Outcome.SDC]
            rows.append(
                [name, f"`{site}`", f"{found['images']:,}", f"{all_of:,}", *(f"{outcomes[o] / all_of:.3%}" for o in (
                    Outcome.MASKED, Outcome.HEALED, Outcome.NEAR)), f"{silent:,}", f"{silent / all_of:.4%}"]
            )  # fmt: skip
        rate = found["faults"] / found["seconds"] / 1e6
        first = found["worst"][0]
        places = f"{found['silent_places']:,} of {found['places']:,}", f"{found['half']:,}"
        speed = f"{found['seconds']:.2f} s", f"{rate:,.0f} M/s"
        worst.append([name, *speed, *places, f"`{first['fault']}`".replace("|", "\\|"), f"{first['images']:,}"])
    what = (
        f"Every wrong weight bit and every stuck bit of mnist_layered with every image, on one {card['card']}. Before, "
        f"{card['compared']:,} drawn faults were compared with engine fast, all columns: {card['differ']} differ; of "
        f"{card['mutants']} wrong kernels {len(card['unnoticed'])} went unnoticed."
    )
    if options.report is not None:
        report = json.loads(options.report.read_text(encoding="utf-8"))
        what += (
            f" `eqfault exhaust` of the weights with engine {report['engine']} and {report['samples']:,} images: "
            f"{report['faults']:,} faults in {options.seconds:.0f} s from start to end, {report['bytes'] / 1e6:.1f} MB."
        )
        card["command"] = {key: report[key] for key in ("engine", "samples", "faults", "outcomes", "bytes")}
        card["command"]["seconds"] = options.seconds
    seen = {"a fault": "", "site": "", "images": "", "faults": "simulated"} | dict.fromkeys(
        ("masked", "healed", "near", "silent", "silent share"), "simulated"
    )
    ranks = {"a fault": "", "on the card": "measured", "rate": "measured", "places that ever corrupt": "simulated"}
    ranks |= {"places that carry half": "simulated", "the worst (sample aside)": "simulated", "its images": "simulated"}
    blocks = [results.text(what), results.table(seen, rows), results.table(ranks, worst)]
    facts = [results.net_facts("mnist_layered", net)]
    results.record("faults_hold", "Every wrong weight and every stuck bit", blocks, data=card, nets=facts,
                   folder=options.folder)  # fmt: skip
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    card, record = modes.add_parser("card"), modes.add_parser("record")
    for mode in (card, record):
        mode.add_argument("--net", type=Path, required=True)
    card.add_argument("--codes", type=Path, required=True)
    card.add_argument("--checked", type=int, default=CHECKED)
    card.add_argument("--out", type=Path, default=Path())
    record.add_argument("--card", type=Path, required=True)
    record.add_argument("--report", type=Path)
    record.add_argument("--seconds", type=float)
    record.add_argument("--folder", type=Path, default=results.FOLDER)
    options = parser.parse_args()
    return on_card(options) if options.mode == "card" else recorded(options)


if __name__ == "__main__":
    sys.exit(main())
