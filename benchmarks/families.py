"""Which family goes to which target, and does it compute the same there.

    python benchmarks/families.py [--out DIR] [--only NAME] [--target NAME] [--keep] [--most-weights N] [--limit S]

A net of every family (tests/support/family_nets.py: trained, or with random weights where there is no file) is
quantized (8-bit states, int8 or ternary weights), emitted for each target and run by each of its simulators on two
samples; every state at every step is compared with golden. A family that is refused is listed with what it would
need. Cores of `rtl` are compiled by Verilator: serial core and processor, whose weights are in a memory, whatever
their number; cores that have hardware for each weight if the net has at most N. A simulator that has not ended after S
seconds, its compilation included, is ended, and the row says so; with `--limit 0` none is run, and the row says whether
the target takes the net. Steps and mismatches are simulated.

What is measured is recorded after each net: `--keep` goes on from there, and measures what is not recorded.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import COUNTS, Row, counts
from family_nets import FAMILY_NETS, family_net

from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError, UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals, Target
from eqcompile.toolchain.ir import IntNet, ops

CORES = ("serial", "lattice", "parallel", "processor")
MEMORY_CORES = ("rtl serial", "rtl processor")
"""Cores that compile in the same time whatever their weights."""
COLUMNS = {"target": "", "simulators": "", "nets": "simulated", **COUNTS, "refused": "computed"}
LIMIT_S = 600.0
SAMPLES = 2
MOST_WEIGHTS = 26000
NOT_TRIED = "not tried"
NAME = re.compile(r"\W+")


def columns() -> list[str]:
    """Targets, `rtl` once for each architecture."""
    cores = [f"rtl {name}" for name in CORES]
    return [*(name for name in registry.names("targets") if name != "rtl"), *cores]


def backend(column: str) -> Target:
    """The target of a column."""
    name, _, core = column.partition(" ")
    return RtlTarget.of(arch=core) if core else registry.target_class(name)()


def weights(net: IntNet) -> int:
    """How many weights a net has that are not zero."""
    names = {op.weight for op in net.all_ops() if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))}
    return sum(int(np.count_nonzero(net.param(name))) for name in names)


def refusal(by: str, diagnostics: Sequence[Diagnostic]) -> Row:
    return {"by": by, "refused": [d.what for d in diagnostics]}


def rows(name: str, wanted: Sequence[str], folder: Path, most_weights: int, limit_s: float) -> Iterator[Row]:
    """The rows of a net in these columns: one for each simulator that ran, or one that says why none did."""
    case = family_net(name)
    row: Row = {"net": name, "family": case.net.family}
    try:
        lowered = lower(case.net, QuantizeOptions(), calibration=case.calibration).net
    except UnsupportedError as error:
        yield from ({**row, "column": column, **refusal("quantize", error.diagnostics)} for column in wanted)
        return
    samples = {key: value[:SAMPLES] for key, value in case.inputs.items()}
    codes, _ = encode(lowered, samples)
    golden = run_golden(lowered, codes)
    for column in wanted:
        row["column"] = column
        target = backend(column)
        plan = target.plan(lowered)
        if isinstance(plan, Refusals):
            yield row | refusal(column, plan.diagnostics)
            continue
        if target.name == "rtl":
            if column not in MEMORY_CORES and weights(lowered) > most_weights:
                yield row | {"not simulated": f"{weights(lowered):,} weights"}
                continue
        if not limit_s:
            yield row | {"not simulated": NOT_TRIED}
            continue
        place = folder / f"{NAME.sub('_', name)}-{NAME.sub('_', column)}"
        place.mkdir()
        artifact = emit_artifact(target, lowered, place)
        for simulator, kind in registry.simulators_of(target.name).items():
            if target.name == "rtl" and simulator != "verilator-native":
                continue
            try:
                got = kind().run(artifact, codes, trace=True, timeout_s=limit_s)
            except SimulatorError as error:
                if error.diagnostics[0].code != "simulator-timeout":
                    raise
                yield row | {"not simulated": f"no end in {limit_s:.0f} s"}
                continue
            yield row | {"simulator": simulator} | counts(compare(golden, got, states=bool(lowered.states)))


def recorded(folder: Path) -> list[Row]:
    """The rows of the last run in that folder."""
    path = folder / "families.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["data"]) if path.exists() else []


def totals(data: Sequence[Row]) -> list[list[str]]:
    """For each target how many nets it ran, what was compared, and how many it refused."""
    cells = []
    for column in columns():
        of_column = [r for r in data if r["column"] == column]
        ran = [r for r in of_column if "simulator" in r]
        names = ", ".join(sorted({r["simulator"] for r in ran}))
        sums = [f"{sum(r[key] for r in ran):,}" for key in COUNTS]
        refused = sum("refused" in r for r in of_column)
        cells.append([column, names or "-", str(len({r["net"] for r in ran})), *sums, str(refused)])
    return cells


def record(data: Sequence[Row], folder: Path) -> None:
    """Write the rows, their totals to the page of results."""
    commits = ", ".join(sorted({r["at"] for r in data}))
    words = (
        f"`make families`: {len({r['net'] for r in data})} nets of {len({r['family'] for r in data})} classes, every "
        f"state of every step against golden, at commits {commits}. [What runs where]"
        "(../docs/reference/support.md) has each net on each target."
    )
    blocks = [results.text(words), results.table(COLUMNS, totals(data))]
    results.record("families", "Every family", blocks, data=list(data), folder=folder)


def main() -> int:
    """Measure and record; 1 if anything differs from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    parser.add_argument("--only", metavar="NAME", help="nets whose name holds NAME")
    parser.add_argument("--target", action="append", choices=columns(), help="default: all")
    parser.add_argument("--keep", action="store_true", help="keep what is recorded, measure the rest")
    parser.add_argument(
        "--most-weights",
        type=int,
        default=MOST_WEIGHTS,
        metavar="N",
        help="of a net whose core with hardware for each weight is compiled (%(default)s)",
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="of a simulator (%(default)s s)")
    options = parser.parse_args()
    chosen = [name for name in FAMILY_NETS if options.only is None or options.only in name]
    asked = options.target or columns()
    data = recorded(options.out)
    kept = {(r["net"], r["column"]) for r in data} if options.keep else set()
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=results.HERE, capture_output=True, text=True, check=True).stdout.strip()
    for k, name in enumerate(chosen, 1):
        wanted = [column for column in asked if (name, column) not in kept]
        if not wanted:
            continue
        sys.stderr.write(f"{k}/{len(chosen)} {name}: {', '.join(wanted)}\n")
        with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
            fresh = [
                row | {"at": commit} for row in rows(name, wanted, Path(folder), options.most_weights, options.limit)
            ]
        data = [r for r in data if r["net"] in FAMILY_NETS and not (r["net"] == name and r["column"] in wanted)] + fresh
        record(sorted(data, key=lambda r: FAMILY_NETS.index(r["net"])), options.out)
    sys.stdout.write(table(tuple(COLUMNS), totals(data)) + "\n")
    return 0 if all(r.get("equal", True) for r in data) else 1


if __name__ == "__main__":
    sys.exit(main())
