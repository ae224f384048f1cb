"""What it costs and brings to protect the units that a campaign ranks highest: a digits net in the parallel core.

    python benchmarks/protect.py cells [--shares none,0,0.1,0.25,0.5,1] [--net digits_ternary] [--out DIR]
    python benchmarks/protect.py upsets [--simulated 0.25] [--faults 4000]
    python benchmarks/protect.py table
    python benchmarks/protect.py every --counts FOLDER [--net digits_layered] [--shares none,0,0.25,1]

A campaign of upsets of states (`--campaign` faults, engine fast, simulated) ranks the units. `cells`: of a core without
hardening and with `--harden tmr` and each share of the units, by Yosys alone for ECP5 (estimated, no place and route,
buses included). `upsets` (simulated, Verilator): one bit flips in one clock of an inference, uniformly over bits and
clocks, of the registers of states alone, and of all registers (those of the core with saboteurs, which computes each
operation by itself and so has more of them within drive and readout than the one that is delivered). A trajectory is
disturbed if a code of any state after any tick, or of an output, is not that of the undisturbed core; rates have Wilson
intervals of 95 %.

The core without votes, and those of `--simulated`, are simulated. For other shares the table says what would be left
of the first one's disturbed trajectories and wrong outputs if upsets of protected registers did nothing, as they do in
the simulated ones (`voted`: disturbed by upsets of copies, of how many). Each run adds to
build/bench/protect.json row by row, and records what is there.

`every` chooses by the exact counts of `eqfault exhaust` in FOLDER (model seu, sites state) instead: what is left of all
silent corruption of states if flips in protected registers do nothing, as the tests of votes show; beside it the same
number of units by random choice (exact mean, and the range of 90 % of 10,000 draws). Cells as above, one run of Yosys
for each of `--shares`; recorded as protect_every, with every net that was measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import results

from eqcompile.app.cli.show import table
from eqcompile.app.report.campaign import write
from eqcompile.rtl.harden.tmr import kept_apart
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.parallel.protect import ranked_units, written_units
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.faults.rtl.engine import CHUNK, RtlSession
from eqcompile.sim.faults.rtl.rows import Row
from eqcompile.sim.faults.table import Fault, Place, Upset
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain.artifact import tool_versions
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.ir import IntNet
from rtl import digits

LIMIT_S = 7200.0
SAMPLES = 60
KINDS = {"states": r"engine\.(vote_copy_\d\.vote\d_)?(seen_)?({names})_\d+", "all": ".*"}
CELLS = {"LUT4": ("LUT4",), "carry": ("CCU2C",), "flip-flops": ("TRELLIS_FF",), "block RAMs": ("DP16KD",)}
OUTCOMES = ("disturbed", "wrong output", "wrong label", "no result")
SEEN = ("", "seen_")
"""What the two registers of a state begin with: the one that runs ahead, and its copy."""
BARE = "no votes"
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
"""What is left is told of these."""
LEFT = (0.1, 0.25, 0.5, 0.75, 1.0)
"""The same of exact counts."""
DRAWS = 10_000


def ranked(net: IntNet, codes: Mapping[str, Any], folder: Path, count: int, seed: int) -> Path:
    """The folder of a campaign on states, with its report."""
    plan = {"count": count, "seed": seed, "margin": 0.01, "confidence": 0.95, "stop_at_margin": None, "notes": {}}
    made = api.define(net, codes, model="seu", options={"sites": "state"}, engine="fast", near=1, **plan)
    api.create(made, folder, baselines=[], force=False)
    api.resume(folder, scheduler="local", workers=1)
    write(folder)
    return folder


def architecture_of(net: IntNet, campaign: Path, share: float | None) -> Parallel:
    """With votes over the states of a share of the units; None is no hardening."""
    if share is None:
        return Parallel()
    return Parallel(harden="tmr", protect=written_units(ranked_units(campaign, net, share)) if share else None)


def written(net: IntNet, architecture: Parallel, folder: Path) -> Path:
    """The Verilog of the core as it is delivered."""
    shell = shell_of(net, architecture, trace=False)
    file = folder / "core.v"
    file.write_text(kept_apart(emit_verilog(shell, name="core")), encoding="utf-8")
    return file


def cells_of(core: Path, *, read: str = "read_verilog", top: str = "core") -> dict[str, int]:
    """Cells of a core by Yosys, all its modules together; `read`: the command for the file, whose module is `top`."""
    script = f"{read} {core.name}; synth_ecp5 -top {top}; tee -q -o stat.json stat -json"
    status, log = run_tool("yosys", ["-q", "-p", script], cwd=core.parent, deadline=Deadline.after(LIMIT_S))
    if status != 0:
        raise SystemExit(log)
    counts = json.loads((core.parent / "stat.json").read_text(encoding="utf-8"))["design"]["num_cells_by_type"]
    return {label: sum(counts.get(cell, 0) for cell in kinds) for label, kinds in CELLS.items()}


@dataclass(frozen=True)
class Flips:
    """Flips of single bits: in which registers, of how many bits in all, and what became of each."""

    bits: int
    names: Sequence[str]
    found: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        voted = np.array(["vote_copy" in name for name in self.names])
        counts = {outcome: int(flags.sum()) for outcome, flags in self.found.items()}
        copies = {"faults": int(voted.sum()), "disturbed": int((self.found["disturbed"] & voted).sum())}
        return {"bits": self.bits, "faults": len(self.names), "outcomes": counts, "voted": copies}

    def left(self, protect: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Outcomes without the flips in registers of protected units."""
        gone = {f"engine.{kind}{state}_{unit}" for state, units in protect.items() for unit in units for kind in SEEN}
        kept = np.array([name not in gone for name in self.names])
        return {outcome: int((flags & kept).sum()) for outcome, flags in self.found.items()}


def upsets(session: RtlSession, kind: str, count: int, seed: int) -> Flips:
    """`count` flips in registers of a kind."""
    states = "|".join(re.escape(s.name) for s in session.net.states)
    pattern = KINDS[kind].format(names=states)
    cells = {n: c for n, c in session.translator.cells.items() if c.kind == "register" and re.fullmatch(pattern, n)}
    names, sizes = list(cells), np.array([c.bits for c in cells.values()])
    source = np.random.default_rng([seed, list(KINDS).index(kind)])
    clean = session.injected([Row(s, every=False) for s in range(session.samples)])
    sample = source.integers(session.samples, size=count)
    clock = source.integers(clean.latency[sample])
    which = source.choice(len(cells), size=count, p=sizes / sizes.sum())
    bit = source.integers(sizes[which])
    faults = [
        Fault(int(s), "register", 0, 0, (Upset(Place.CORE, names[w], 0, int(c), int(c), flip=1 << int(b)),))
        for s, w, b, c in zip(sample, which, bit, clock, strict=True)
    ]
    # The core ends once settled, as it does in use.
    rows = [replace(row, every=False) for row in session.translator.rows(faults)]
    found: dict[str, list[Any]] = {outcome: [] for outcome in OUTCOMES}
    for at in range(0, count, CHUNK):
        got, mine = session.injected(rows[at : at + CHUNK]), sample[at : at + CHUNK]
        wrong, label, moved = (np.zeros(len(mine), bool) for _ in range(3))
        for name, codes in got.outputs.items():
            want = clean.outputs[name][mine]
            wrong |= (codes != want).reshape(len(mine), -1).any(axis=1)
            label |= codes.argmax(axis=-1) != want.argmax(axis=-1)
        for name, rows_of in got.states.items():
            moved |= (rows_of != clean.states[name][:, mine]).any(axis=(0, *range(2, rows_of.ndim)))
        flags = (moved | wrong | got.hung, wrong & ~got.hung, label & ~got.hung, got.hung)
        for outcome, flag in zip(OUTCOMES, flags, strict=True):
            found[outcome].append(flag)
    return Flips(int(sizes.sum()), [names[w] for w in which], {o: np.concatenate(f) for o, f in found.items()})


def simulated(net: IntNet, codes: Mapping[str, Any], architecture: Parallel, given: Any) -> dict[str, Flips]:
    """Upsets of each kind in this core."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-protect-") as name:
        plan = RtlPlan(net, RtlTarget(trace=True, saboteurs=True), architecture)
        plan.emit(Path(name), bench_vectors(plan))
        session = RtlSession(net, {n: v[:SAMPLES] for n, v in codes.items()}, 1, core=Path(name))
        return {kind: upsets(session, kind, given.faults, given.seed) for kind in KINDS}


def tables(document: Mapping[str, Any]) -> list[results.Block]:
    """Both tables, of what is there so far."""
    rows = document["rows"]
    head = ["protected", *CELLS, *(f"{o}, left of the states'" for o in ("disturbed", "wrong output"))]
    bare = rows.get(BARE, {}).get("upsets", {}).get("states")
    cost = []
    for share, row in rows.items():
        cells = [str(row.get("cells", {}).get(label, "-")) for label in CELLS]
        left = row.get("left") if bare else None
        shown = ["-"] * 2 if left is None else [_rate(left[o], bare["faults"]) for o in ("disturbed", "wrong output")]
        cost.append([share, *cells, *shown])
    parts = [(s, k, p) for s, row in rows.items() for k, p in row.get("upsets", {}).items()]
    found = [
        [s, k, str(p["bits"]), str(p["faults"]), *(_rate(p["outcomes"][o], p["faults"]) for o in OUTCOMES)]
        + [f"{p['voted']['disturbed']} of {p['voted']['faults']}"]
        for s, k, p in parts
    ]
    left = {h: "" if h == "protected" else "estimated" if h in CELLS else "simulated" for h in head}
    upsets = {"protected": "", "registers": "", "bits": "", "faults": ""} | dict.fromkeys(
        (*OUTCOMES, "voted"), "simulated"
    )
    return [results.table(left, cost), results.table(upsets, found)]


def _rate(count: int, faults: int) -> str:
    r = wilson(count, faults, confidence=0.95)
    return f"{100 * r.estimate:.2f} % [{100 * r.low:.2f}, {100 * r.high:.2f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cells", "upsets", "table", "every"))
    parser.add_argument("--net", help="default: digits_ternary, for every digits_layered")
    parser.add_argument("--counts", type=Path, metavar="FOLDER", help="of eqfault exhaust, for every")
    parser.add_argument("--shares", default="none,0,0.1,0.25,0.5,1", help="of cells; none is no hardening")
    parser.add_argument("--simulated", default="0.25", help="shares whose core is simulated too")
    parser.add_argument("--campaign", type=int, default=20000, metavar="N")
    parser.add_argument("--faults", type=int, default=4000, metavar="N", help="for each kind of register")
    parser.add_argument("--seed", type=int, default=1)
    results.add_folder(parser)
    given = parser.parse_args()
    given.net = given.net or ("digits_layered" if given.what == "every" else "digits_ternary")
    file = Path(f"build/bench/protect_every-{given.net}.json" if given.what == "every" else "build/bench/protect.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    if given.what == "every":
        return every(given, file)
    if given.what != "table":
        net, data = digits(given.net)
        with tempfile.TemporaryDirectory(prefix="eqcompile-protect-") as name:
            campaign = ranked(net, data.codes, Path(name) / "campaign", given.campaign, given.seed)
            measure = cells if given.what == "cells" else rates
            measure(net, data.codes, campaign, given, file)
    document = _read(file)
    blocks = tables(document)
    sys.stdout.write("\n\n".join(table(b["head"], b["rows"]) for b in blocks) + "\n")
    title, facts = "Selective protection of the parallel core", [results.net_facts(given.net, digits(given.net)[0])]
    results.record("protect", title, blocks, data=document, nets=facts, folder=given.out)
    return 0


def cells(net: IntNet, codes: Mapping[str, Any], campaign: Path, given: Any, file: Path) -> None:
    for share in _shares(given.shares):
        with tempfile.TemporaryDirectory(prefix="eqcompile-protect-") as name:
            found = cells_of(written(net, architecture_of(net, campaign, share), Path(name)))
        _add(file, given, share, {"cells": found})


def rates(net: IntNet, codes: Mapping[str, Any], campaign: Path, given: Any, file: Path) -> None:
    bare = simulated(net, codes, Parallel(), given)
    _add(file, given, None, {"upsets": {kind: flips.to_json() for kind, flips in bare.items()}})
    for share in SHARES:
        protect = architecture_of(net, campaign, share).units
        _add(file, given, share, {"left": bare["states"].left(protect)})
    for share in _shares(given.simulated):
        found = simulated(net, codes, architecture_of(net, campaign, share), given)
        _add(file, given, share, {"upsets": {kind: flips.to_json() for kind, flips in found.items()}})


def every(given: Any, file: Path) -> int:
    """Choice by exact counts, by chance and of everything: what is left, and cells."""
    if given.counts is None:
        raise SystemExit("error: give --counts, a folder of eqfault exhaust")
    net = digits(given.net)[0]
    report = json.loads((given.counts / "report.json").read_text(encoding="utf-8"))
    for share in _shares(given.shares):
        core = architecture_of(net, given.counts, share)
        if "cells" not in _read(file)["rows"].get(_name(share), {}):
            with tempfile.TemporaryDirectory(prefix="eqcompile-protect-") as name:
                _add(file, given, share, {"cells": cells_of(written(net, core, Path(name)))})
    counts = {s["site"].removeprefix("state:"): np.array(s["silent_map"]).sum(axis=1) for s in report["sites"]}
    flat, draw = np.concatenate([*counts.values()]), np.random.default_rng(given.seed)
    for share in LEFT:
        chosen = architecture_of(net, given.counts, share).units
        number, left = sum(map(len, chosen.values())), int(flat.sum())
        left -= sum(int(counts[name][list(units)].sum()) for name, units in chosen.items())
        drawn = [int(flat.sum() - draw.choice(flat, number, replace=False).sum()) for _ in range(DRAWS)]
        low, high = np.quantile(drawn, (0.05, 0.95))
        mean = float(flat.sum()) * (1 - number / len(flat))
        _add(file, given, share, {"units": number, "left": left, "random": [mean, float(low), float(high)]})
    found = {"silent": int(flat.sum()), "faults": report["faults"], "samples": report["samples"]}
    file.write_text(json.dumps(_read(file) | found, indent=1) + "\n", encoding="utf-8")
    documents = {path.stem.partition("-")[2]: _read(path) for path in sorted(file.parent.glob("protect_every-*.json"))}
    blocks = [block for name, document in documents.items() for block in chosen_tables(name, document)]
    sys.stdout.write("\n\n".join(table(b["head"], b["rows"]) for b in blocks if "head" in b) + "\n")
    title, facts = "Protection chosen by every fault", [results.net_facts(n, digits(n)[0]) for n in documents]
    results.record("protect_every", title, blocks, data=documents, nets=facts, folder=given.out)
    return 0


def chosen_tables(net: str, document: Mapping[str, Any]) -> list[results.Block]:
    """What is left and what it costs, by share of the units."""
    rows, silent = document["rows"], document["silent"]
    least = rows.get(_name(0.0), {}).get("cells", {}).get("LUT4")
    cost = ("LUT4", "flip-flops", "block RAMs") if any("cells" in row for row in rows.values()) else ()
    shown = []
    for share in (None, *sorted({*LEFT, 0.0})):
        row = rows.get(_name(share), {})
        cells = row.get("cells", {})
        number, left = row.get("units", 0), row.get("left", silent)
        mean, low, high = row.get("random", [silent] * 3)
        price = (cells["LUT4"] - least) / number if cells and number and least is not None else None
        shown.append(
            [_name(share), number, f"{left:,} ({left / silent:.1%})", f"{mean / silent:.1%}"]
            + [f"{low / silent:.1%} to {high / silent:.1%}", *(f"{cells[k]:,}" if cells else "-" for k in cost)]
            + (["-" if price is None else f"{price:.0f}"] if cost else [])
        )
    head = {"protected": "", "units": "computed", "left of silent corruption": "simulated"}
    head |= {"left by random choice, mean": "computed", "90 % of draws": "computed"}
    head |= dict.fromkeys((*cost, "LUT4 a protected unit"), "estimated") if cost else {}
    words = (
        f"{net}: of {document['faults']:,} flips, each bit of each state in each tick of {document['samples']} inputs: "
        f"{silent:,} end in silent corruption (`eqfault exhaust`, all there are). Left: if flips of the units with "
        "most of it are voted away; random choice is of as many units (`benchmarks/protect.py every`)."
    )
    if cost:
        words += " Cells: of the parallel core, by Yosys for ECP5, buses included, no place and route (-: not run)."
    return [results.text(words), results.table(head, shown)]


def _shares(text: str) -> list[float | None]:
    return [None if part == "none" else float(part) for part in text.split(",") if part]


def _add(file: Path, given: Any, share: float | None, row: Mapping[str, Any]) -> None:
    document = _read(file)
    document |= {"net": given.net, "tools": tool_versions("amaranth", "verilator"), "seed": given.seed}
    document["rows"].setdefault(_name(share), {}).update(row)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"{share}: {json.dumps(row)}\n")


def _name(share: float | None) -> str:
    return BARE if share is None else f"{100 * share:g} %"


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"rows": {}}
    return found


if __name__ == "__main__":
    sys.exit(main())
