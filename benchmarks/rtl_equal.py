"""Do the cores compute what golden computes, on the whole test set, in every simulator?

    python benchmarks/rtl_equal.py [--only WORD ...] [--harden NAMES] [--samples N] [--out DIR]

The trained digits nets are compiled for every architecture of the target `rtl`; each core runs the 360 test digits in
each simulator, and every state after every step, every output and every number of steps is compared with golden.
`clocks`: of all samples back to back, by their number. `--harden`: only cores that can be hardened so.
Prints and records the table, which names what an architecture refuses, and why. Steps and mismatches are
simulated, seconds measured, with building the simulator. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
from equality import CALIBRATION, COUNTS, NETS, TEST, Row, checkpoint, counts, finish

from eqcompile.app import compile as pipeline
from eqcompile.targets.rtl.engines import architectures
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator

COLUMNS = {"net": "", "arch": "", "simulator": "", **COUNTS, "clocks": "simulated", "seconds": "measured"}
TIMEOUT_S = 6 * 3600.0


def cases(nets: Sequence[str], architectures: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Net, architecture and options: every pair, and the cube plane by plane besides."""
    for net in nets:
        for arch in architectures:
            yield net, arch, {}
            if (net, arch) == ("digits_cube", "lattice"):
                yield net, arch, {"passes": 5}


def rows(
    net: str,
    arch: str,
    options: Mapping[str, Any],
    simulators: Sequence[str],
    samples: int,
    folder: Path,
    facts: dict[str, Row],
) -> Iterator[Row]:
    """A row for each simulator, or one for the refusal."""
    name = " ".join([arch, *(f"{k}={v}" for k, v in options.items())])
    row: Row = {"net": net, "arch": name}
    request = pipeline.CompileRequest(
        model=checkpoint(net),
        target=registry.target_class("rtl").of(arch=arch, **options),
        # Make takes no spaces and no equals signs in a path.
        output=folder / "-".join([net, arch, *(f"{k}{v}" for k, v in options.items())]),
        calibration=CALIBRATION,
        inputs=TEST,
        verify=False,
    )
    try:
        lowered = pipeline.compile_model(request).net
    except UnsupportedError as error:
        yield {**row, "by": name, "refused": [f"{d.where}: {d.what}" for d in error.diagnostics]}
        return
    codes, _ = data.encode(lowered, data.read_inputs(TEST, lowered, limit=samples))
    golden = run_golden(lowered, codes)
    facts[net] = results.net_facts(net, lowered, golden)
    for simulator in simulators:
        start = time.perf_counter()
        got = registry.find_class("simulators", simulator, Simulator)().run(
            Artifact.open(request.output), codes, trace=True, timeout_s=TIMEOUT_S
        )
        seconds = time.perf_counter() - start
        comparison = compare(golden, got)
        yield {
            **row,
            "simulator": simulator,
            **counts(comparison),
            "seconds": round(seconds, 1),
            "cycles": got.details["cycles"],
            "clocks": round(got.details["cycles"] / comparison.samples, 1),
            "cycles_per_second": got.details["cycles_per_second"],
        }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="nets, architectures, simulators")
    parser.add_argument("--harden", metavar="NAMES", help="mechanisms, with commas")
    parser.add_argument("--samples", type=int, default=360, metavar="N", help="of the test set (default: all 360)")
    results.add_folder(parser)
    options = parser.parse_args(argv)

    def chosen(names: Sequence[str]) -> list[str]:
        return [n for n in names if n in options.only] or list(names)

    simulators = registry.simulators_of("rtl")
    unknown = set(options.only) - {*NETS, *architectures(), *simulators}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: known are {', '.join((*NETS, *architectures(), *simulators))}")
    found: list[Row] = []
    facts: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
        taking = [n for n, a in architectures().items() if options.harden is None or "harden" in a.option_names()]
        for net, arch, choices in cases(chosen(NETS), [n for n in chosen(list(architectures())) if n in taking]):
            hardened = choices if options.harden is None else {**choices, "harden": options.harden}
            for row in rows(net, arch, hardened, chosen(list(simulators)), options.samples, Path(folder), facts):
                found.append(row)
                sys.stderr.write(f"{json.dumps(row)}\n")
    words = "`benchmarks/rtl_equal.py` compares every state of every step on the 360 test digits with golden:"
    return finish("rtl_equal", "Every state of every step", words, COLUMNS, found, facts, options.out)


if __name__ == "__main__":
    sys.exit(main())
