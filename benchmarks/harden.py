"""What hardening of the serial core costs on an FPGA, and what it does with upsets, on digits_ternary.

    python benchmarks/harden.py cost|coverage|table [--only CASE] [--part ecp5-25k] [--seeds 3] [--faults 400]
                                                    [--seed 1] [--out DIR]

`cost`: cells and frequencies, estimated by place and route (Yosys, nextpnr), buses included, without a trace port.
`coverage`: simulated (engine rtl, model core): one bit of a register or of a memory of the core with saboteurs is
flipped in one clock of a run, drawn uniformly over bits and clocks of each kind of site. Rates have Wilson intervals of
95 %. Both add to build/bench/harden.json; `table` records what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results

from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.app.instrument import build_instrument
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.faults.engine import Outcome, Session
from eqcompile.sim.faults.models.core import CoreModel
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.sim.faults.table import FaultTable
from eqcompile.targets.rtl.synth.flow import synthesise
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.ir import IntNet
from rtl import digits

ALL = "watchdog,safe-fsm,secded,tmr,residue"
CASES = ("none", ALL, "secded", "tmr", "residue", "parity", "watchdog,safe-fsm", "watchdog", "safe-fsm")
RESOURCES = ("lut", "ff", "bram")
LIMIT_S = 7200.0
WORK = Path("build/bench/harden.json")
"""What was measured so far: a run that is cut off loses one row."""
SITES: Mapping[str, str] = {
    "weights": r"engine\.(table|entries_\d+)\.(ram\.)?words",
    "states": r"engine\.h_codes_\d+\.(ram\.)?words",
    "sums": r"engine\.applier\.(bank|residues)\d+\.words",
    "control": r"(\w+\.)*(vote\d_)?(phase|moved|limit|signal|bank|count|index|cutting|closing|abort|owing|left|busy|"
    r"made|y__valid|slice_|restart|steps|table_address|entry_address|valid|group|count_\d|\w*_map|output_\w*_sent|"
    r"\w*_present|\w*_ticked|\w*_group|kind|wipe|lane|done|foreseen|arrived|tolerance\w*|enough|late|was_\w+|idle|flags|"
    r"corrected|harden_corrected|checked|writing|bad|at|weights_\w+|\w+_wrong)(#\d+)?",
}
"""Names of registers and memories; `control` are registers that decide what happens next, with and without votes."""
COUNTER_BITS = 32
"""Registers of so many bits count, or hold data of the buses."""
OUTCOMES = ("masked", "healed", "repaired", "detected", "wrong output", "wrong label", "hang", "other end")


def options_of(case: str) -> dict[str, Any]:
    """What describes the core."""
    return {"arch": "serial", **({} if case == "none" else {"harden": case})}


def cost(case: str, part: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Cells and frequency of one core."""
    net, _ = digits("digits_ternary")
    with tempfile.TemporaryDirectory() as name:
        emit_artifact(RtlTarget.of(**options_of(case)), net, Path(name))
        report = synthesise(Path(name) / "core.v", "core", part, seeds=seeds, timeout_s=LIMIT_S)
    return {
        "part": part,
        "kind": report.kind,
        **{k: report.core(k) for k in RESOURCES},
        "fmax_mhz": report.fmax_mhz,
    } | {
        "fmax_range_mhz": report.fmax_range_mhz,
        "seeds": list(seeds),
        "tools": list(report.tools),
    }


def coverage(case: str, faults: int, seed: int) -> dict[str, Any]:
    """Outcomes of `faults` flips for each kind of site."""
    net, given = digits("digits_ternary")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_instrument("rtl", net, options_of(case), folder)
        return {"seed": seed, "sites": covered(RtlSession(net, given.codes, 0, core=folder), net, given, faults, seed)}


def covered(
    session: RtlSession, net: IntNet, given: Any, faults: int, seed: int, sites: Mapping[str, str] = SITES
) -> dict[str, Any]:
    """The same in a core that is built."""
    found = {}
    for number, (site, pattern) in enumerate(sites.items()):
        names = [n for n, cell in session.translator.cells.items() if _is_of(pattern, n, cell)]
        model = CoreModel(words=",".join(names), clocks=session.clocks).on(session.core)
        table = within(session, model, faults, np.random.default_rng([seed, number]))
        bits = sum(s.units * s.bits for s in model.population(net, given.codes).sites)
        found[site] = {"faults": faults, "bits": bits, **outcomes(session, table)}
    return found


def _is_of(pattern: str, name: str, cell: Any) -> bool:
    register = cell.kind == "register"
    return (
        bool(re.fullmatch(pattern, name))
        and register == (pattern == SITES["control"])
        and (not register or cell.bits < COUNTER_BITS)
    )


def within(session: RtlSession, model: CoreModel, faults: int, draw: np.random.Generator) -> FaultTable:
    """The first `faults` of those drawn whose clock is one of their sample's fault-free run."""
    kept: list[Any] = []
    while len(kept) < faults:
        table = model.draw(session.net, 2 * faults, draw, session.inputs)
        kept += [f for f in table if f.upsets[0].first < session.undisturbed.latency[f.sample]]
    return FaultTable.of(kept[:faults])


def outcomes(session: Session, table: FaultTable) -> dict[str, Any]:
    """How many faults ended how, and which mechanisms found those that were detected."""
    rows = session.run(table)
    counts, found = Counter({name: 0 for name in OUTCOMES}), Counter[str]()
    for row in rows:
        counts[_name(row)] += 1
        if row["outcome"] == Outcome.DETECTED:
            flags = [n for bit, n in enumerate(session.mechanisms) if int(row["flags"]) >> bit & 1]
            found[" and ".join(flags) or "no flag"] += 1
    return {"outcomes": dict(counts), "found_by": dict(found), "aborted": int(rows["aborted"].sum())}


def _name(row: Any) -> str:
    match Outcome(int(row["outcome"])):
        case Outcome.HANG:
            return "hang"
        case Outcome.DETECTED:
            return "detected"
        case Outcome.SDC:
            return "wrong label"
        case Outcome.MASKED | Outcome.HEALED as ended:
            return "repaired" if row["corrected"] else ended.name.lower()
        case _:
            return "wrong output" if row["output_differs"] else "other end"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tables(document: Mapping[str, Any]) -> list[results.Block]:
    """Both tables, of what was measured so far."""
    costs = document["cost"]
    base = costs.get("none")
    prices = [
        [case, *(_against(row[k], base[k] if base and case != "none" else None) for k in (*RESOURCES, "fmax_mhz"))]
        + [len(row["seeds"])]
        for case, row in costs.items()
    ]
    head = {
        "hardening": "",
        **dict.fromkeys(("LUT4", "flip-flops", "block RAMs", "Fmax, MHz"), "estimated"),
        "seeds": "",
    }
    rows = []
    for case, row in document["coverage"].items():
        for site, count in row["sites"].items():
            n = count["faults"]
            rates = [wilson(count["outcomes"][k], n, confidence=0.95) for k in OUTCOMES]
            shown = [f"{100 * r.estimate:.1f} ({100 * r.low:.1f} to {100 * r.high:.1f})" for r in rates]
            by = ", ".join(f"{name} {number}" for name, number in count["found_by"].items())
            rows.append([case, site, f"{count['bits']:,}", n, *shown, by])
    sites = {"hardening": "", "site": "", "bits": "", "faults": ""} | dict.fromkeys(OUTCOMES, "simulated")
    return [results.table(head, prices), results.table({**sites, "found by": "simulated"}, rows)]


def _against(value: float, base: float | None) -> str:
    shown = f"{value:.1f}" if isinstance(value, float) else str(value)
    return shown if not base else f"{shown} ({100 * (value / base - 1):+.0f} %)"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "coverage", "table"))
    parser.add_argument("--only", action="append", metavar="CASE", help=f"of {'; '.join(CASES)}")
    parser.add_argument("--part", default="ecp5-25k", metavar="PART")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="placements of each (default 3)")
    parser.add_argument("--faults", type=int, default=400, metavar="N", help="for each kind of site (default 400)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the draw of faults")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    WORK.parent.mkdir(parents=True, exist_ok=True)
    for case in (options.only or CASES) if options.what != "table" else ():
        if options.what == "cost":
            row = cost(case, options.part, range(1, options.seeds + 1))
        else:
            row = coverage(case, options.faults, options.seed)
        say(f"{case}: {json.dumps(row)}")
        document = _read(WORK)
        document[options.what][case] = row
        WORK.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    document = _read(WORK)
    blocks = tables(document)
    for block in blocks:
        say(table(block["head"], block["rows"]))
    title, facts = "Hardening of the serial core", [results.net_facts("digits_ternary", digits("digits_ternary")[0])]
    results.record("harden", title, blocks, data=document, nets=facts, folder=options.out)
    return 0


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {"cost": {}, "coverage": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
