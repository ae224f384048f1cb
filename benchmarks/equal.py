"""Do the artifacts of c, onnx and nir compute what golden computes, on the whole test set?

    python benchmarks/equal.py [--target NAME ...] [--only NET ...] [--samples N] [--few N] [--mnist mnist.npz]

The trained digits nets (with `--mnist`, x_test and y_test as Keras distributes them, the ternary MNIST nets too)
are emitted in every form of a target: for c both kernels and every packing of ternary weights. Each artifact is run by
each simulator of its target, and every state after every step, every output and every number of steps is compared with
golden. Simulators that are slow, such as the emulated Cortex-M, run the first `--few` samples. Prints and records
the table, which names what a target refuses, and why; rows of what did not run stay as they were. Steps and mismatches
are simulated, seconds measured, with building the program. Ends with 1 if anything differs or a simulator is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import results
from equality import CALIBRATION, COUNTS, NETS, TEST, Row, checkpoint, counts, finish
from mnist import NETS as MNIST_NETS
from mnist import batches, images
from mnist_rtl import mnist_net
from numpy.typing import NDArray

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals, Simulator
from eqcompile.toolchain.ir import IntNet

FORMS: dict[str, list[dict[str, str]]] = {
    "c": [{"kernel": kernel, "pack": pack} for kernel in ("dense", "event") for pack in ("2bit", "5trit", "auto")],
    "onnx": [{}],
    "nir": [{}],
}
COLUMNS = {"net": "", "target": "", "simulator": "", **COUNTS, "seconds": "measured"}
SUMS = (*COUNTS, "seconds")
TIMEOUT_S = 3600.0

Codes = NDArray[np.int64]


def nets(samples: int, mnist: Path | None, only: Sequence[str]) -> Iterator[tuple[str, IntNet, list[Codes]]]:
    """Name, integers and input codes in parts that fit in memory with every state of every step."""
    for name in (n for n in NETS if n in only or not only):
        source = import_model(checkpoint(name)).net
        calibration = data.read_inputs(CALIBRATION, source)
        net = lower(source, QuantizeOptions(), calibration=calibration).net
        yield name, net, [data.encode(net, data.read_inputs(TEST, net, limit=samples))[0]["x"]]
    if mnist is not None:
        x, _ = images(mnist)
        for name in (n for n in MNIST_NETS if n in only or not only):
            net = mnist_net(name)
            yield name, net, batches(data.encode(net, {"x": x})[0]["x"])


def rows(name: str, net: IntNet, parts: Sequence[Codes], targets: Sequence[str], few: int) -> Iterator[Row]:
    """A row for each form of a target and simulator, or one for a refusal."""
    forms = [(name, registry.target_class(name).of(**options), options) for name in targets for options in FORMS[name]]
    found: dict[tuple[str, str], Row] = {}
    with tempfile.TemporaryDirectory(prefix="eqcompile-equal-") as temporary:
        artifacts = {}
        for target, form, options in forms:
            title = ", ".join([target, *options.values()])
            plan = form.plan(net)
            if isinstance(plan, Refusals):
                reasons = [f"{d.where}: {d.what}" for d in plan.diagnostics]
                yield {"net": name, "by": title, "refused": reasons}
            else:
                folder = Path(temporary) / str(len(artifacts))
                folder.mkdir()
                artifacts[title] = (target, emit_artifact(form, net, folder))
        for number, codes in enumerate(parts):
            golden = run_golden(net, {"x": codes})
            told = run_golden(net, {"x": codes[:few]})
            for title, (target, artifact) in artifacts.items():
                for simulator in registry.simulators_of(target):
                    made = registry.find_class("simulators", simulator, Simulator)()
                    short = made.suite == "few"
                    if short and number:
                        continue
                    sys.stderr.write(f"\r{name}, {title}, {simulator}: part {number + 1} of {len(parts)}".ljust(79))
                    start = time.perf_counter()
                    given = {"x": codes[:few] if short else codes}
                    got = made.run(artifact, given, trace=True, timeout_s=TIMEOUT_S)
                    seconds = time.perf_counter() - start
                    same = compare(told if short else golden, got)
                    row = found.setdefault((title, simulator), dict.fromkeys(SUMS, 0) | {"equal": True})
                    part_of = counts(same)
                    for key in COUNTS:
                        row[key] += part_of[key]
                    row["seconds"] += seconds
                    row["equal"] &= same.ok
    sys.stderr.write("\r" + " " * 79 + "\r")
    for (title, simulator), row in found.items():
        yield {"net": name, "target": title, "simulator": simulator, **row, "seconds": round(row["seconds"], 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=list(FORMS), help="repeat for several; default: all three")
    nets_of = [*NETS, *MNIST_NETS]
    parser.add_argument("--only", action="append", default=[], choices=nets_of, help="this net (may be repeated)")
    parser.add_argument("--samples", type=int, default=360, metavar="N", help="test digits (default: all 360)")
    parser.add_argument("--few", type=int, default=4, metavar="N", help="samples of slow simulators (default: 4)")
    parser.add_argument("--mnist", type=Path, metavar="FILE", help="mnist.npz: all its test images too")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    found: list[Row] = []
    facts: dict[str, Row] = {}
    for name, net, parts in nets(options.samples, options.mnist, options.only):
        facts[name] = results.net_facts(name, net, run_golden(net, {"x": parts[0]}, trace=False))
        found += rows(name, net, parts, options.target or list(FORMS), options.few)
    words = "`benchmarks/equal.py` compares every state of every step on whole test sets with golden:"
    return finish("equal", "c, onnx and nir against golden", words, COLUMNS, found, facts, options.out)


if __name__ == "__main__":
    sys.exit(main())
