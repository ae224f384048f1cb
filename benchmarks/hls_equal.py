"""Does an hls4ml project compute what golden computes, on the whole test set?

    python benchmarks/hls_equal.py [--only NET ...] [--samples N] [--out DIR]

The trained digits nets are compiled for the target `hls4ml`, as one layer of our own and as stock layers of hls4ml.
Each project runs the 360 test digits in hls4ml's C simulation (g++), and every state after every step, every output and
every number of steps is compared with golden. Prints and records the table. Steps and mismatches are
simulated, seconds measured: `compile` is the build script of hls4ml alone, `run` is `compile()` and the simulation. No
vendor tool is started. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import results
from equality import CALIBRATION, COUNTS, NETS, TEST, Row, checkpoint, counts, finish

from eqcompile.app import compile as pipeline
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator

STEPS = 30
FORMS = {"one layer": {}, "stock layers": {"unroll": STEPS}}
COLUMNS = {"net": "", "form": "", **COUNTS, "compile s": "measured", "run s": "measured"}
TIMEOUT_S = 3600.0


def row_of(net: str, form: str, samples: int, folder: Path, facts: dict[str, Row]) -> Row:
    """What came of one net in one form, or why it was refused."""
    row: Row = {"net": net, "form": form}
    request = pipeline.CompileRequest(
        model=checkpoint(net),
        target=registry.target_class("hls4ml").of(**FORMS[form]),
        output=folder / f"{net}-{form.split()[0]}",
        calibration=CALIBRATION,
        inputs=TEST,
        verify=False,
    )
    try:
        lowered = pipeline.compile_model(request).net
    except UnsupportedError as error:
        return {**row, "by": form, "refused": [d.what for d in error.diagnostics]}
    codes, _ = data.encode(lowered, data.read_inputs(TEST, lowered, limit=samples))
    golden = run_golden(lowered, codes)
    facts[net] = results.net_facts(net, lowered, golden)
    copy = folder / "copy"
    shutil.copytree(request.output, copy)
    start = time.perf_counter()
    subprocess.run(["./build_lib.sh"], cwd=copy, check=True, capture_output=True)
    compiled = time.perf_counter() - start
    shutil.rmtree(copy)
    start = time.perf_counter()
    got = registry.find_class("simulators", "hls4ml-csim", Simulator)().run(
        Artifact.open(request.output), codes, trace=True, timeout_s=TIMEOUT_S
    )
    ran = time.perf_counter() - start
    comparison = compare(golden, got)
    return {**row, **counts(comparison), "compile s": round(compiled, 1), "run s": round(ran, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], choices=NETS, help="nets (default: all)")
    parser.add_argument("--samples", type=int, default=360, metavar="N", help="of the test set (default: all 360)")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    rows: list[Row] = []
    facts: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        for net in options.only or NETS:
            for form in FORMS:
                rows.append(row_of(net, form, options.samples, Path(folder), facts))
                sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    words = "`benchmarks/hls_equal.py` compares every state of every step of hls4ml's C simulation (g++) with golden:"
    return finish("hls_equal", "hls4ml against golden", words, COLUMNS, rows, facts, options.out)


if __name__ == "__main__":
    sys.exit(main())
