"""Compile trained digits networks to every target here, run them in the targets' simulators, and report.

    python examples/demo.py --out build/demo

Each network of examples/checkpoints goes to numpy and to loihi; each artifact is run by each simulator of its target
and compared with golden at every state and step. Accuracy is measured on the test digits, in float64 and in integers.
Writes one artifact folder a network and target, report.json and report.html. Ends with 1 if anything was not verified.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eqcompile.app import compile as pipeline
from eqcompile.app import packages, report
from eqcompile.app.cli.show import table
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import EqcompileError

HERE = Path(__file__).parent
CALIBRATION, TEST = HERE / "data" / "digits_calibration.npz", HERE / "data" / "digits_test.npz"
NETS = ("layered.npz", "certified.npz", "looped.pt", "ternary.pt", "lazy.pt", "cube.pt")
TARGETS = ("numpy", "loihi")
HEAD = ("network", "family", "target", "simulator", "steps", "mismatches", "labels", "acc float", "acc int")
NOTE = """\
steps: compared with golden, every state and sample; mismatches: codes that differ (simulated).
labels: integers equal to float64 on these samples; acc: on all test digits, float64 (measured) and golden (simulated).
"""


def main() -> int:
    """Run the demonstration; 0 if every artifact was verified by every simulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the outputs (replaced)")
    parser.add_argument("--samples", type=int, default=360, help="samples compared (default 360: the whole test set)")
    arguments = parser.parse_args()
    try:
        return demonstrate(arguments.out, arguments.samples)
    except EqcompileError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def demonstrate(out: Path, samples: int) -> int:
    """Compile, run, report and print the table."""
    results = []
    targets = TARGETS
    if not packages.extras()["loihi"]:
        targets = ("numpy",)
        sys.stdout.write(f"Without loihi: {packages.no_lava()}.\n")
    sys.stdout.write(
        f"Compiling {len(NETS)} trained networks to {' and '.join(targets)}, running each artifact on {samples} test "
        "digits and comparing every state at every step with golden. About a minute.\n\n"
    )
    sys.stdout.flush()
    jobs = [(net, target) for net in NETS for target in targets]
    for net, target in tqdm(jobs, desc="networks and targets", disable=not sys.stderr.isatty(), leave=False):
        checkpoint = HERE / "checkpoints" / f"digits_{net}"
        result = pipeline.compile_model(
            pipeline.CompileRequest(
                model=checkpoint,
                target=registry.target_class(target)(),
                output=out / f"{Path(net).stem}-{target}",
                calibration=CALIBRATION,
                inputs=TEST,
                samples=samples,
                force=True,
            )
        )
        results.append(result)
    document = report.write(results, out, command=["python", *sys.argv], force=True)
    rows = [row for r in document["results"] for row in table_rows(r)]
    sys.stdout.write(f"{table(HEAD, rows)}\n\n{NOTE}report: {out / report.HTML}\n")
    return 0 if all(v.status == "equal" for r in results for v in r.verifications) else 1


def table_rows(r: Mapping[str, Any]) -> list[list[str]]:
    """One row for each simulator that ran a result, or was missing."""
    a, acc = r["agreement"], r["accuracy"]
    last = [
        f"{a['labels_equal']['value']}/{a['labels']['value']}",
        f"{acc['float']['value']:.3f}",
        f"{acc['integer']['value']:.3f}",
    ]
    rows = []
    for v in r["verification"]:
        equal = v["status"] == "equal"
        checked = [str(v[k]["value"]) for k in ("steps", "mismatches")] if equal else ["not verified", v["reason"]]
        rows.append([r["model"]["file"], r["model"]["family"], r["target"]["name"], v["simulator"], *checked, *last])
    return rows


if __name__ == "__main__":
    sys.exit(main())
