"""Does an hls4ml project compute what golden computes, on the whole test set?

    python benchmarks/hls_equal.py [--only NET ...] [--samples N] [--out build/bench]

The trained digits nets are compiled for the target `hls4ml`, as one layer of our own and as stock layers of hls4ml.
Each project runs the 360 test digits in hls4ml's C simulation (g++), and every state after every step, every output and
every number of steps is compared with golden. Prints the table and writes hls_equal.json. Steps and mismatches are
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
from typing import Any

from eqcompile.app import compile as pipeline
from eqcompile.app.cli.show import table
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TEST = EXAMPLES / "data" / "digits_test.npz"
NETS = ("digits_looped", "digits_ternary", "digits_lazy", "digits_cube")
STEPS = 30
FORMS = {"one layer": {}, "stock layers": {"unroll": STEPS}}
HEAD = ("net", "form", "samples", "steps", "codes", "mismatches", "compile", "run")
TIMEOUT_S = 3600.0

Row = dict[str, Any]


def row_of(net: str, form: str, samples: int, folder: Path) -> Row:
    """What came of one net in one form, or why it was refused."""
    row: Row = {"net": net, "form": form}
    request = pipeline.CompileRequest(
        model=EXAMPLES / "checkpoints" / f"{net}.pt",
        target=registry.target_class("hls4ml").of(**FORMS[form]),
        output=folder / f"{net}-{form.split()[0]}",
        calibration=EXAMPLES / "data" / "digits_calibration.npz",
        inputs=TEST,
        verify=False,
    )
    try:
        lowered = pipeline.compile_model(request).net
    except UnsupportedError as error:
        return {**row, "refused": [d.what for d in error.diagnostics]}
    codes, _ = data.encode(lowered, data.read_inputs(TEST, lowered, limit=samples))
    golden = run_golden(lowered, codes)
    copy = folder / "copy"
    shutil.copytree(request.output, copy)
    start = time.perf_counter()
    subprocess.run(["./build_lib.sh"], cwd=copy, check=True, capture_output=True)
    compiled = time.perf_counter() - start
    shutil.rmtree(copy)
    start = time.perf_counter()
    got = registry.find_class("simulators", "hls4ml-csim", Simulator)().run(
        request.output, codes, trace=True, timeout_s=TIMEOUT_S
    )
    ran = time.perf_counter() - start
    found = compare(golden, got)
    return {
        **row,
        "samples": found.samples,
        "steps": found.ticks * found.samples,
        "codes": found.values + found.outputs,
        "mismatches": found.mismatches + found.output_mismatches + found.step_mismatches,
        "compile": round(compiled, 1),
        "run": round(ran, 1),
        "equal": found.ok,
    }


def shown(found: Sequence[Row]) -> str:
    """What ran, then what was refused and why."""
    ran = table(HEAD, [[str(r[k]) for k in HEAD] for r in found if "refused" not in r])
    refused = [[r["net"], r["form"], "; ".join(r["refused"])] for r in found if "refused" in r]
    return f"{ran}\n\n{table(('net', 'form', 'refused because'), refused)}\n" if refused else f"{ran}\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], choices=NETS, help="nets (default: all)")
    parser.add_argument("--samples", type=int, default=360, metavar="N", help="of the test set (default: all 360)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for net in given.only or NETS:
            for form in FORMS:
                found.append(row_of(net, form, given.samples, Path(folder)))
                sys.stderr.write(f"{json.dumps(found[-1])}\n")
                document = json.dumps({"test_set": TEST.name, "results": found}, indent=1)
                (given.out / "hls_equal.json").write_text(document + "\n", encoding="utf-8")
    sys.stdout.write(shown(found))
    return 0 if all(r.get("equal", True) for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
