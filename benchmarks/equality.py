"""What the comparisons of every state of every step with golden have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import results

from eqcompile.app.cli.show import table
from eqcompile.toolchain.compare import Comparison

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TEST = EXAMPLES / "data" / "digits_test.npz"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"
NETS = ("digits_layered", "digits_certified", "digits_ternary", "digits_looped", "digits_lazy", "digits_cube")
COUNTS = {"samples": "simulated", "steps": "simulated", "codes": "simulated", "mismatches": "simulated"}
KEYS = ("net", "target", "arch", "form", "simulator", "by")
"""What tells rows of one comparison apart."""

Row = dict[str, Any]


def checkpoint(name: str) -> Path:
    """The file of a trained net."""
    (path,) = (EXAMPLES / "checkpoints").glob(f"{name}.*")
    return path


def counts(comparison: Comparison) -> Row:
    """Figures of one comparison; `equal` says whether nothing differs."""
    differ = comparison.mismatches + comparison.output_mismatches + comparison.step_mismatches
    return {
        "samples": comparison.samples,
        "steps": comparison.ticks * comparison.samples,
        "codes": comparison.values + comparison.outputs,
        "mismatches": differ,
        "equal": comparison.ok,
    }


def finish(
    name: str,
    title: str,
    words: str,
    columns: Mapping[str, str],
    rows: Sequence[Row],
    nets: Mapping[str, Mapping[str, Any]],
    folder: Path,
) -> int:
    """Print and record what ran, then what was refused and why (`refused` of a row); 1 if anything differs.

    Rows of an earlier run whose net, form and simulator did not run now stay.
    """
    every = results.joined(name, rows, KEYS, folder)
    ran = [[f"{r[k]:,}" if isinstance(r[k], int) else str(r[k]) for k in columns] for r in every if "refused" not in r]
    refused = [[r["net"], r["by"], _shortened(r["refused"])] for r in every if "refused" in r]
    sys.stdout.write(table(tuple(columns), ran) + "\n")
    blocks = [results.text(words), results.table(columns, ran)]
    if refused:
        head = {"net": "", "refused by": "", "because": "computed"}
        sys.stdout.write(f"\n{table(tuple(head), refused)}\n")
        blocks.append(results.table(head, refused))
    results.record(
        name,
        title,
        blocks,
        data=every,
        nets=results.joined_nets(name, [*nets.values()], folder),
        note=results.origins(every),
        older=results.older(name, folder),
        folder=folder,
    )
    return 0 if all(r.get("equal", True) for r in rows) else 1


def _shortened(refused: Sequence[str]) -> str:
    """The first reason of a refusal, and how many more there are; the target names each."""
    more = len(refused) - 1
    return refused[0] + (f" (and {more} more)" if more else "")
