"""Artifacts of a fixed set of nets, by the SHA-256 of each file: what a change of the code alters, or that it alters
nothing.

python benchmarks/artifacts.py              compare with benchmarks/artifacts.json; exit 1 where a file differs
python benchmarks/artifacts.py --write      write that file anew
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.data import read_inputs
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import Refusals
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.options import QuantizeOptions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "artifacts.json"
CALIBRATION = ROOT / "examples" / "data" / "digits_calibration.npz"
NETS = ("digits_looped", "digits_ternary", "digits_lazy", "digits_cube")
FORMS: tuple[tuple[str, dict[str, str | int | bool]], ...] = (
    ("numpy", {}),
    ("c", {}),
    ("onnx", {}),
    ("nir", {}),
    ("hls4ml", {}),
    ("hls4ml", {"unroll": 3}),
    ("loihi", {}),
    ("loihi", {"chip": "loihi2"}),
    ("rtl", {"arch": "serial"}),
    ("rtl", {"arch": "serial", "harden": "secded,tmr,watchdog,residue,safe-fsm"}),
    ("rtl", {"arch": "lattice"}),
)
PARALLEL = ("digits_ternary", ("rtl", {"arch": "parallel"}))
"""On one net alone: it takes longer than all others."""
TIED_TO_TOOLS = {"manifest.json"}
"""Files that state versions of installed packages."""

Digests = dict[str, dict[str, str]]


def nets() -> Iterator[tuple[str, EqNet, IntNet]]:
    """Name, float net and integer net."""
    for name in NETS:
        source = import_model(ROOT / "examples" / "checkpoints" / f"{name}.pt").net
        yield name, source, lower(source, QuantizeOptions(), calibration=read_inputs(CALIBRATION, source)).net


def digests() -> Digests:
    """SHA-256 by path in the folder, by net and form; the refusals' codes where a target does not take a net."""
    table: Digests = {}
    cases = [(net, form) for net in nets() for form in (*FORMS, *([PARALLEL[1]] if net[0] == PARALLEL[0] else []))]
    for (name, source, net), (target_name, options) in tqdm(cases, unit="artifact", file=sys.stderr):
        target = registry.target_class(target_name).of(**options)
        key = " ".join([name, target_name, *(f"{k}={v}" for k, v in options.items())])
        plan = target.plan(net, source)
        if isinstance(plan, Refusals):
            table[key] = {"refused": ", ".join(sorted({d.code for d in plan.diagnostics}))}
            continue
        with tempfile.TemporaryDirectory() as folder:
            files = emit_artifact(target, net, Path(folder), source).files
            table[key] = {path: sha for path, sha in sorted(files.items()) if path not in TIED_TO_TOOLS}
    return table


def differences(before: Digests, after: Digests) -> list[str]:
    """A line for each file that is not the same."""
    lines = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, {}), after.get(key, {})
        lines += [f"{key}: {path}" for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file of results anew")
    write = parser.parse_args().write
    after = digests()
    lines = differences(json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}, after)
    count = sum(len(files) for files in after.values())
    sys.stdout.write("\n".join([*lines, f"{len(lines)} of {count} files differ"]) + "\n")
    if write:
        RESULTS.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
        return 0
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
