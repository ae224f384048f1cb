"""How many clocks a second each simulator runs the same core at, on the same vectors, against cocotb on Verilator.

    python benchmarks/rtl_speed.py [--samples 64] [--repeats 3] [--out build/bench]

The core is the serial one of the trained ternary digits net, without its trace port; the samples are the first of the
test set. Rates are measured, the median of the repeats, building the simulator left out. Prints the table and writes
rtl_speed.json; ends with 1 if a result differs from golden or the native runner is less than 20 times as fast.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.golden import run as run_golden
from rtl import TERNARY

AGAINST, NATIVE, BAR = "cocotb-verilator", "verilator-native", 20.0
LIMIT_S = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    options = parser.parse_args(argv)
    net, given = TERNARY()
    codes = {name: array[: options.samples] for name, array in given.codes.items()}
    golden = run_golden(net, codes, trace=False)
    found: dict[str, list[float]] = {name: [] for name in registry.simulators_of("rtl")}
    clocks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        artifact = emit_artifact(RtlTarget.of(arch="serial"), net, Path(folder))
        for _ in range(options.repeats):
            # By turns, so that other work on the machine slows all of them.
            for name, simulator in registry.simulators_of("rtl").items():
                got = simulator().run(artifact, codes, trace=False, timeout_s=LIMIT_S)
                compare(golden, got, states=False).require()
                found[name].append(got.details["cycles_per_second"])
                clocks[name] = got.details["cycles"]
    rates = {name: statistics.median(r) for name, r in found.items()}
    rows = [[n, str(clocks[n]), f"{r:,.0f}", f"{r / rates[AGAINST]:.1f}"] for n, r in rates.items()]
    sys.stdout.write(table(["simulator", "clocks (simulated)", "clocks/s (measured)", f"times {AGAINST}"], rows) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"samples": options.samples, "clocks": clocks, "clocks_per_second": found}
    (options.out / "rtl_speed.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if rates[NATIVE] >= BAR * rates[AGAINST] else 1


if __name__ == "__main__":
    sys.exit(main())
