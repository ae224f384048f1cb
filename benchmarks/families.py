"""Which family goes to which target, and does it compute the same there.

    python benchmarks/families.py [--out DIR] [--only NAME]

Every small trained checkpoint of tests/data/zoo and tests/data/published is quantized (8-bit states, int8 or ternary
weights), emitted for each target and run by each of its simulators on two samples; every state at every step is
compared with golden. A family that is refused is listed with what it would need. Steps and mismatches are simulated,
labels measured, on two samples of the zoo and on all 64 test inputs of the published nets.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import COUNTS, Row, counts, finish
from numpy.typing import NDArray
from published_nets import NETS, published_net
from zoo_nets import NAMES, zoo_net

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.reference import run_reference

COLUMNS = {"net": "", "family": "", "target": "", "simulator": "", **COUNTS, "labels as float64": "simulated"}
TIMEOUT_S = 300.0
SAMPLES = 2
NAME = re.compile(r"\W+")


Inputs = Mapping[str, NDArray[Any]]


def loaded(name: str) -> tuple[EqNet, Inputs, Inputs]:
    """A net, its test inputs and its calibration inputs: of the zoo the same two samples for both."""
    if name in NETS:
        return published_net(name)
    net, inputs = zoo_net(name)
    return net, inputs, inputs


def rows(name: str, targets: list[str], folder: Path) -> Iterator[Row]:
    """One row for each target and simulator, or one for the refusal."""
    net, inputs, calibration = loaded(name)
    row: Row = {"net": name, "family": net.family}
    try:
        lowered = lower(net, QuantizeOptions(), calibration=calibration).net
    except UnsupportedError as error:
        yield {**row, "by": "quantize", "refused": sorted({d.what.split(": ", 1)[-1] for d in error.diagnostics})}
        return
    codes, _ = encode(lowered, inputs)
    real, ours = run_reference(net, inputs), run_golden(lowered, codes, trace=False)
    output = lowered.outputs[0]
    same = ours.outputs[output.name].argmax(-1) == real.outputs[output.name].argmax(-1)
    row["labels as float64"] = f"{int(same.sum())}/{same.size}" if output.kind == "classes" else "-"
    codes = {key: value[:SAMPLES] for key, value in codes.items()}
    golden = run_golden(lowered, codes)
    for target_name in targets:
        target = registry.target_class(target_name)()
        plan = target.plan(lowered)
        if isinstance(plan, Refusals):
            yield {**row, "target": target_name, "by": target_name, "refused": [d.what for d in plan.diagnostics]}
            continue
        place = folder / f"{NAME.sub('_', name)}-{target_name}"
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
        chosen = [name for name in (*NAMES, *NETS) if options.only is None or options.only in name]
        for k, name in enumerate(chosen, 1):
            sys.stderr.write(f"\r{k}/{len(chosen)} {name:45}")
            found += rows(name, options.target or list(registry.names("targets")), Path(folder))
    sys.stderr.write("\r" + " " * 60 + "\r")
    words = f"`make families`: {len(chosen)} checkpoints of the research code and of others, every state and step"
    words += " against golden:"
    return finish("families", "Every family", words, COLUMNS, found, {}, options.out)


if __name__ == "__main__":
    sys.exit(main())
