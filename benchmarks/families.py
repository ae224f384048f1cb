"""Which family goes to which target, and does it compute the same there.

    python benchmarks/families.py [--out build/families] [--only NAME]

Every small trained checkpoint of tests/data/zoo is quantized (8-bit states, int8 or ternary weights), emitted for each
target and run by each of its simulators on the stored samples; every state at every step is compared with golden.
A family that is refused is listed with what it would need. Steps and mismatches are simulated, labels measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
from zoo_nets import NAMES, zoo_net

from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals
from eqcompile.toolchain.reference import run_reference

HEAD = ("checkpoint", "family", "target", "simulator", "samples", "steps", "mismatches", "labels")
TIMEOUT_S = 300.0


def rows(name: str, targets: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """One row for each target and simulator, or one for the refusal."""
    net, inputs = zoo_net(name)
    row: dict[str, Any] = {"checkpoint": name, "family": net.family}
    try:
        lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    except UnsupportedError as error:
        yield {**row, "refused": "quantize", "why": sorted({d.what.split(": ", 1)[-1] for d in error.diagnostics})}
        return
    codes, _ = encode(lowered, inputs)
    golden = run_golden(lowered, codes)
    real = run_reference(net, inputs)
    output = lowered.outputs[0]
    same = golden.outputs[output.name].argmax(-1) == real.outputs[output.name].argmax(-1)
    row["labels"] = f"{int(same.sum())}/{same.size}" if output.kind == "classes" else "-"
    for target_name in targets:
        target = registry.target_class(target_name)()
        plan = target.plan(lowered)
        if isinstance(plan, Refusals):
            yield {**row, "target": target_name, "refused": target_name, "why": [d.what for d in plan.diagnostics]}
            continue
        place = folder / f"{name}-{target_name}"
        place.mkdir()
        artifact = emit_artifact(target, lowered, place)
        for simulator, kind in registry.simulators_of(target_name).items():
            got = kind().run(artifact, codes, trace=True, timeout_s=TIMEOUT_S)
            found = compare(golden, got, states=bool(lowered.states))
            yield {
                **row,
                "target": target_name,
                "simulator": simulator,
                "samples": found.samples,
                "steps": found.ticks * found.samples,
                "mismatches": found.mismatches,
                "equal": found.ok,
            }


def tables(found: list[dict[str, Any]]) -> str:
    """What ran, then what was refused and why."""
    ran = table(HEAD, [[str(r[k]) for k in HEAD] for r in found if "refused" not in r])
    refused = [[r["checkpoint"], r["family"], r["refused"], "; ".join(r["why"])] for r in found if "refused" in r]
    return f"{ran}\n\n{table(('checkpoint', 'family', 'refused by', 'because'), refused)}\n" if refused else f"{ran}\n"


def main() -> int:
    """Print the table, write families.json; 1 if anything differs from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/families"), help="folder of families.json")
    parser.add_argument("--only", metavar="NAME", help="checkpoints whose name holds NAME")
    parser.add_argument("--target", action="append", choices=registry.names("targets"), help="default: all")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
        chosen = [name for name in NAMES if given.only is None or given.only in name]
        for k, name in enumerate(chosen, 1):
            sys.stderr.write(f"\r{k}/{len(chosen)} {name:45}")
            found += rows(name, given.target or list(registry.names("targets")), Path(folder))
    sys.stderr.write("\r" + " " * 60 + "\r")
    sys.stdout.write(tables(found))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "families.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all(r.get("equal", True) for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
