"""Which family goes to which target, and does it compute the same there.

    python benchmarks/families.py [--out DIR] [--only NAME]

Every small trained checkpoint of tests/data/zoo is quantized (8-bit states, int8 or ternary weights), emitted for each
target and run by each of its simulators on the stored samples; every state at every step is compared with golden.
A family that is refused is listed with what it would need. Steps and mismatches are simulated, labels measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import COUNTS, Row, counts, finish
from zoo_nets import NAMES, zoo_net

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals
from eqcompile.toolchain.reference import run_reference

COLUMNS = {"net": "", "family": "", "target": "", "simulator": "", **COUNTS, "labels as float64": "simulated"}
TIMEOUT_S = 300.0


def rows(name: str, targets: list[str], folder: Path) -> Iterator[Row]:
    """One row for each target and simulator, or one for the refusal."""
    net, inputs = zoo_net(name)
    row: Row = {"net": name, "family": net.family}
    try:
        lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    except UnsupportedError as error:
        yield {**row, "by": "quantize", "refused": sorted({d.what.split(": ", 1)[-1] for d in error.diagnostics})}
        return
    codes, _ = encode(lowered, inputs)
    golden = run_golden(lowered, codes)
    real = run_reference(net, inputs)
    output = lowered.outputs[0]
    same = golden.outputs[output.name].argmax(-1) == real.outputs[output.name].argmax(-1)
    row["labels as float64"] = f"{int(same.sum())}/{same.size}" if output.kind == "classes" else "-"
    for target_name in targets:
        target = registry.target_class(target_name)()
        plan = target.plan(lowered)
        if isinstance(plan, Refusals):
            yield {**row, "target": target_name, "by": target_name, "refused": [d.what for d in plan.diagnostics]}
            continue
        place = folder / f"{name}-{target_name}"
        place.mkdir()
        artifact = emit_artifact(target, lowered, place)
        for simulator, kind in registry.simulators_of(target_name).items():
            got = kind().run(artifact, codes, trace=True, timeout_s=TIMEOUT_S)
            yield {
                **row,
                "target": target_name,
                "simulator": simulator,
                **counts(compare(golden, got, states=bool(lowered.states))),
            }


def main() -> int:
    """Print and record the tables; 1 if anything differs from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    parser.add_argument("--only", metavar="NAME", help="checkpoints whose name holds NAME")
    parser.add_argument("--target", action="append", choices=registry.names("targets"), help="default: all")
    options = parser.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
        chosen = [name for name in NAMES if options.only is None or options.only in name]
        for k, name in enumerate(chosen, 1):
            sys.stderr.write(f"\r{k}/{len(chosen)} {name:45}")
            found += rows(name, options.target or list(registry.names("targets")), Path(folder))
    sys.stderr.write("\r" + " " * 60 + "\r")
    words = f"`make families`: {len(chosen)} checkpoints of the research code, every state and step against golden:"
    return finish("families", "Every family", words, COLUMNS, found, {}, options.out)


if __name__ == "__main__":
    sys.exit(main())
