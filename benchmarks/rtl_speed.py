"""How many clocks a second each simulator runs the same core at, on the same vectors, against cocotb on Verilator.

    python benchmarks/rtl_speed.py [--samples 64] [--repeats 3] [--simulator NAME ...] [--out DIR]

The core is the serial one of the trained ternary digits net, without its trace port; the samples are the first of the
test set. Rates are measured, the median of the repeats, by processor time: that of all samples less that of a quarter
of them, over the clocks between, so that neither building nor what else the machine does enters. Prints and records
the table; ends with 1 if a result differs from golden or the native runner is less than 20 times as fast. With
`--simulator` those of the others stay as they were recorded.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import results

from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.sim.builds import built_core
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator
from rtl import TERNARY

AGAINST, NATIVE, BAR = "cocotb-verilator", "verilator-native", 20.0
LIMIT_S = 3600.0


def processor_s() -> float:
    """Of all programs that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    known = registry.simulators_of("rtl")
    parser.add_argument("--simulator", nargs="+", choices=known, default=list(known), metavar="NAME")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    net, given = TERNARY()
    codes = {name: array[: options.samples] for name, array in given.codes.items()}
    golden = run_golden(net, codes, trace=False)
    path = options.out / "rtl_speed.json"
    data = json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() else {}
    found: dict[str, list[float]] = data.get("clocks_per_second", {}) | {name: [] for name in options.simulator}
    clocks: dict[str, int] = data.get("clocks", {})
    with tempfile.TemporaryDirectory() as folder:
        artifact = emit_artifact(RtlTarget.of(arch="serial"), net, Path(folder))
        # Kept from one run to the next: it would count in the first alone.
        if NATIVE in options.simulator:
            built_core(artifact.folder, variant="delivered", timeout_s=LIMIT_S)
        for _ in range(options.repeats):
            # By turns, so that other work on the machine slows all of them.
            for name in options.simulator:

                def measured(count: int, simulator: type[Simulator] = known[name]) -> tuple[int, float]:
                    """Clocks and processor time of the first samples."""
                    part, before = {key: array[:count] for key, array in codes.items()}, processor_s()
                    got = simulator().run(artifact, part, trace=False, timeout_s=LIMIT_S)
                    compare(golden.first(count), got, states=False).require()
                    return got.details["cycles"], processor_s() - before  # type: ignore[return-value]

                few, all_ = measured(max(1, options.samples // 4)), measured(options.samples)
                found[name].append((all_[0] - few[0]) / max(all_[1] - few[1], 1e-3))
                clocks[name] = all_[0]
    rates = {name: statistics.median(r) for name, r in found.items()}
    against = rates.get(AGAINST, math.nan)
    rows = [[n, f"{clocks[n]:,}", f"{rates[n]:,.0f}", f"{rates[n] / against:.1f}"] for n in known if n in rates]
    columns = {"simulator": "", "clocks": "simulated", "clocks/s": "measured", f"times {AGAINST}": "measured"}
    sys.stdout.write(table(tuple(columns), rows) + "\n")
    words = "`benchmarks/rtl_speed.py`: the serial core of digits_ternary, clocks a second of processor time:"
    blocks = [results.text(words), results.table(columns, rows)]
    data = {"samples": options.samples, "clocks": clocks, "clocks_per_second": found, "peer": AGAINST, "limit": BAR}
    facts = [results.net_facts("digits_ternary", net, golden)]
    results.record("rtl_speed", "Simulators of the same core", blocks, data=data, nets=facts, folder=options.out)
    return 1 if rates.get(NATIVE, math.inf) < BAR * against else 0


if __name__ == "__main__":
    sys.exit(main())
