"""What the cores cost on FPGAs and how fast they are: trained nets on each architecture and part.

    python benchmarks/rtl.py [--only serial] [--part up5k] [--seeds 3] [--mnist mnist.npz] [--out DIR]

Prints a paragraph for each core and records the table. Cells and frequencies are estimated by place and route (Yosys,
nextpnr), with buses and control, without a trace port. Clocks are simulated (Verilator) over the whole test set, whose
outputs and ticks are compared with golden: the program ends with 1 if any differs. The time of an inference is the
product of a simulated and an estimated figure. Cases that do not run keep the rows that they have in the record.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import results
from mnist import images
from mnist_rtl import mnist_net

from eqcompile.app.clocks import InputCodes
from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.sim.simulators import NativeSimulator
from eqcompile.targets.rtl.synth.clocks import Clocks, clocks_of
from eqcompile.targets.rtl.synth.flow import DoesNotFitError, synthesise
from eqcompile.targets.rtl.synth.tools import SynthesisError
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import data
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import IntNet

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LIMIT_S = 3600.0


def digits(name: str) -> tuple[IntNet, InputCodes]:
    """The IntNet of a trained digits net and the whole test set."""
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        calibration = {"x": file["x"]}
    (path,) = (EXAMPLES / "checkpoints").glob(f"{name}.*")
    float_net = import_model(path).net
    net: IntNet = lower(float_net, QuantizeOptions(), calibration=calibration).net
    codes, _ = data.encode(net, data.read_inputs(EXAMPLES / "data" / "digits_test.npz", net))
    return net, InputCodes(codes, "the digits test set")


@dataclass(frozen=True)
class Case:
    """A net with its test set, the options of the target, and the parts that the core is placed on."""

    name: str
    load: Callable[[], tuple[IntNet, InputCodes]]
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[str] = ()

    @property
    def title(self) -> str:
        return f"{self.name} {' '.join(str(v) if k == 'arch' else f'{k}={v}' for k, v in self.options.items())}"


LAYERED, CERTIFIED = partial(digits, "digits_layered"), partial(digits, "digits_certified")
TERNARY, CUBE = partial(digits, "digits_ternary"), partial(digits, "digits_cube")
SERIAL_PARTS = ("ecp5-25k", "ecp5-85k")
CASES = (
    Case("digits_layered", LAYERED, {"arch": "serial"}, SERIAL_PARTS),
    Case("digits_layered", LAYERED, {"arch": "serial", "device": "up5k"}, ("up5k",)),
    Case("digits_layered", LAYERED, {"arch": "parallel", "beat": 64, "result_beat": 10}, ("ecp5-85k",)),
    Case("digits_certified", CERTIFIED, {"arch": "serial"}, SERIAL_PARTS),
    Case("digits_certified", CERTIFIED, {"arch": "parallel", "beat": 64, "result_beat": 10}, ("ecp5-85k",)),
    Case("digits_ternary", TERNARY, {"arch": "serial"}, SERIAL_PARTS),
    Case("digits_ternary", TERNARY, {"arch": "serial", "device": "up5k"}, ("up5k",)),
    Case("digits_ternary", TERNARY, {"arch": "parallel", "beat": 64, "result_beat": 10}, ("ecp5-85k",)),
    Case("digits_cube", CUBE, {"arch": "lattice", "passes": 5}, ("ecp5-25k",)),
    Case("digits_cube", CUBE, {"arch": "lattice"}, ("ecp5-85k",)),
)


def mnist(name: str, path: Path) -> tuple[IntNet, InputCodes]:
    """A ternary MNIST net and the whole test set."""
    net = mnist_net(name)
    return net, InputCodes(data.encode(net, {"x": images(path)[0]})[0], "the MNIST test set")


def mnist_cases(path: Path) -> Iterator[Case]:
    for name in ("mnist_layered", "mnist_certified", "mnist_ternary"):
        load = partial(mnist, name, path)
        yield Case(name, load, {"arch": "serial"}, ("ecp5-25k",))
        yield Case(name, load, {"arch": "serial", "device": "up5k"}, ("up5k",))


def run(artifact: Artifact, given: InputCodes) -> tuple[Clocks, int]:
    """Clocks of every sample, and how many samples differ from golden in an output or in ticks made."""
    got = NativeSimulator(clocks=True).run(artifact, given.codes, trace=False, timeout_s=LIMIT_S)
    golden: Run = run_golden(artifact.net, given.codes, trace=False)
    differ = got.steps != golden.steps
    for name, want in golden.outputs.items():
        differ |= (got.outputs[name] != want).reshape(len(differ), -1).any(axis=1)
    return clocks_of(got, given.source), int(differ.sum())


def placed(core: Path, part: str, seeds: Sequence[int], clocks: Clocks) -> tuple[dict[str, Any], str]:
    """Figures of one part, or why there are none: as JSON values and for people."""
    try:
        report = synthesise(core, "core", part, seeds=seeds, timeout_s=LIMIT_S)
    except (DoesNotFitError, SynthesisError) as error:
        faults = [d.to_json() for d in error.diagnostics]
        return {"part": part, "faults": faults}, "\n".join(f"core on {part}: {d.what}" for d in error.diagnostics)
    timed = replace(report, clocks=clocks)
    return timed.to_json(), timed.text()


def measure(case: Case, parts: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """One case, printed as it goes."""
    net, given = case.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = emit_artifact(RtlTarget.of(**case.options), net, folder)
        clocks, differ = run(artifact, given)
        say(f"{case.title}: {differ} of {clocks.samples} samples differ from golden (simulated)")
        rows = []
        for part in parts:
            row, text = placed(folder / "core.v", part, seeds, clocks)
            rows.append(row)
            say(text)
    return {
        "case": case.title,
        "net": net.name,
        "digest": net.digest,
        "engine": artifact.manifest.details["engine"],
        "clocks": clocks.to_json(),
        "differ_from_golden": differ,
        "parts": rows,
    }


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


COLUMNS = {"core": "", "part": "", "cells of the core": "estimated", "flip-flops": "estimated", "Fmax MHz": "estimated"}
COLUMNS |= {"clocks median / worst": "simulated", "latency median / worst": "estimated"}


def cells(case: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row of COLUMNS for each part of a case."""
    for part in case["parts"]:
        if "faults" in part:
            yield [case["case"], part["part"], "; ".join(d["what"] for d in part["faults"]), *[""] * (len(COLUMNS) - 3)]
            continue
        used = ", ".join(f"{u['core']:,} of {u['available']:,} {u['label']}" for u in part["usage"])
        low, high = part["fmax_range_mhz"] or (0.0, 0.0)
        fmax = "none" if part["fmax_mhz"] is None else f"{part['fmax_mhz']:.1f} ({low:.1f} to {high:.1f})"
        clocks = " / ".join(f"{c:,.0f}" for c in part["clocks"]["latency"].values())
        times = " / ".join(f"{t:.2f} us" for t in part["times"]["latency_us"].values()) if part["times"] else "none"
        yield [case["case"], part["part"], used, f"{part['flip_flops']:,}", fmax, clocks, times]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="cases whose title holds this word")
    parser.add_argument("--part", action="append", metavar="PART", help="only this part (may be given again)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="placements of each (default 3)")
    parser.add_argument("--mnist", type=Path, metavar="FILE", help="mnist.npz with x_test and y_test: its net too")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    rows, facts = [], {}
    for case in (*CASES, *(mnist_cases(options.mnist) if options.mnist else ())):
        parts = [p for p in case.parts if not options.part or p in options.part]
        if options.only in case.title and parts:
            rows.append(measure(case, parts, range(1, options.seeds + 1)))
            facts[case.name] = results.net_facts(case.name, case.load()[0])
    words = (
        f"`make rtl`: placed and routed, buses and control included, no trace port, median of {options.seeds} seeds, "
        "slowest "
        "to fastest; clocks over the whole test set, from the first code in to the last code out."
    )
    every = results.joined("rtl", rows, ("case",), options.out)
    blocks = [results.text(words), results.table(COLUMNS, [row for case in every for row in cells(case)])]
    results.record(
        "rtl",
        "Cells, clocks and latency",
        blocks,
        data=every,
        nets=results.joined_nets("rtl", [*facts.values()], options.out),
        note=results.origins(every, "case"),
        older=results.older("rtl", options.out),
        folder=options.out,
    )
    return 1 if any(r["differ_from_golden"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
