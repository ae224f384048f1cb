"""What hardening of the serial core costs, and what it finds: the ternary digits net, mechanism by mechanism.

    python benchmarks/harden.py cost [--only secded] [--seeds 3] [--part ecp5-25k] [--out build/bench]
    python benchmarks/harden.py coverage [--only secded] [--faults 400] [--seed 1]
    python benchmarks/harden.py table

`cost`: cells and frequencies, estimated by place and route (Yosys, nextpnr), buses included, without a trace port.
`coverage`: simulated (Verilator): one bit of a register or of a memory of the core as it is delivered is flipped in one
clock of a run, drawn uniformly over bits and clocks of each kind of site; no saboteur stands in the core. Rates have
Wilson intervals of 95 %. Both add to harden.json, `table` prints what is there: a run that is cut off loses one row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harden_faults import SITES, Campaign

from eqcompile.sim.campaign.statistics import wilson
from eqcompile.targets.rtl.synth import synthesise
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import tool_versions
from rtl import digits

ALL = "watchdog,safe-fsm,secded,tmr,residue"
CASES = ("none", ALL, "secded", "tmr", "residue", "parity", "watchdog,safe-fsm", "watchdog", "safe-fsm")
RESOURCES = ("lut", "ff", "bram")
LIMIT_S = 7200.0


def emit(case: str, folder: Path) -> Mapping[str, Any]:
    """Write the core; what its engine says about itself."""
    net, _ = digits("digits_ternary")
    details = RtlTarget(arch="serial", harden=None if case == "none" else case).emit(net, folder)
    engine: Mapping[str, Any] = details["engine"]
    return engine


def cost(case: str, part: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Cells and frequency of one core."""
    with tempfile.TemporaryDirectory() as name:
        emit(case, Path(name))
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
    golden = registry.stage("golden")(net, given.codes, trace=False)
    with tempfile.TemporaryDirectory() as name:
        entries = emit(case, Path(name))["weight_words"]
        campaign = Campaign.built(Path(name), net, given.codes, golden, entries=entries)
        return {"seed": seed, "sites": {site: campaign.run(site, faults, seed) for site in SITES}}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(document: Mapping[str, Any]) -> None:
    """Both tables, of what was measured so far."""
    costs = document["cost"]
    base = costs.get("none")
    say("| hardening | LUT4 | flip-flops | block RAMs | Fmax, MHz | seeds |\n|---|---|---|---|---|---|")
    for case, row in costs.items():
        shown = [_against(row[k], base[k] if base and case != "none" else None) for k in (*RESOURCES, "fmax_mhz")]
        say(f"| {case} | {' | '.join(shown)} | {len(row['seeds'])} |")
    say("\n| hardening | site | faults | masked | repaired | detected | wrong output | wrong label | hang |")
    say("|---|---|---|---|---|---|---|---|---|")
    for case, row in document["coverage"].items():
        for site, found in row["sites"].items():
            n, counts = found["faults"], found["outcomes"]
            rates = [wilson(counts[k], n, confidence=0.95) for k in counts]
            shown = [f"{100 * r.estimate:.1f} ({100 * r.low:.1f} to {100 * r.high:.1f})" for r in rates]
            say(f"| {case} | {site} | {n} | {' | '.join(shown)} |")


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
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "harden.json"
    for case in (options.only or CASES) if options.what != "table" else ():
        if options.what == "cost":
            row = cost(case, options.part, range(1, options.seeds + 1))
        else:
            row = coverage(case, options.faults, options.seed)
        say(f"{case}: {json.dumps(row)}")
        document = _read(file)
        document[options.what][case] = row
        document["tools"] = tool_versions("verilator", "amaranth")
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    table(_read(file))
    return 0


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {"cost": {}, "coverage": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
