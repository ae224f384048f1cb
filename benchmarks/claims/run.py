"""Claims of the research on equilibrium networks that matter to hardware, each beside what we measure.

    python benchmarks/claims/run.py [--only NAME] [--out DIR]

Prints and records one table: the claim, the net and the conditions, what was measured, with seeds and intervals of
95 %, and whether the claim holds there. A claim is confirmed where every row holds, confirmed with conditions where
some do, refuted where none does; the rule of each claim is printed. Trainings that need a GPU are read from
trainings.json, which trainings.py writes; the rest is measured here, on committed nets and scikit-learn's digits.
`--only` measures the claims of one function and keeps the others as they were recorded.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from common import Claim, Row, integers
from cost import bit_operations, connections, lazy, sparsity
from learning import contraction, credit, parity
from robustness import RECURRENT, ablation, noise

from eqcompile.app.cli.show import table

import results  # isort: skip

CLAIMS: tuple[Callable[[], Claim | Iterable[Claim]], ...] = (
    *(noise, ablation, sparsity, bit_operations, lazy, connections, contraction, credit, parity),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[c.__name__ for c in CLAIMS], help="these (default: all)")
    results.add_folder(parser)
    options = parser.parse_args()
    earlier = _recorded(options.out / "claims.json") if options.only else {}
    torch.set_num_threads(1)
    claims: list[Claim] = []
    for measure in CLAIMS:
        if options.only and measure.__name__ not in options.only:
            claims += earlier[measure.__name__]
            continue
        sys.stderr.write(f"{measure.__name__}\n")
        found = measure()
        measured = [found] if isinstance(found, Claim) else list(found)
        claims += [replace(claim, measure=measure.__name__) for claim in measured]
    blocks = [
        results.table(
            {"claim": "", "verdict": "computed", "holds in": "computed"},
            [[c.words, c.verdict, f"{sum(r.holds for r in c.rows)} of {len(c.rows)} rows"] for c in claims],
        )
    ]
    for claim in claims:
        rows = [[row.case, row.measured, "holds" if row.holds else "does not hold"] for row in claim.rows]
        blocks += [
            results.text(f"**{claim.words}: {claim.verdict}.** Holds where: {claim.rule}."),
            results.table({"net": "", "result": claim.kind, "": ""}, rows),
        ]
        sys.stdout.write(f"\n{claim.words}: {claim.verdict} ({claim.rule}) [{claim.kind}]\n")
        sys.stdout.write(table(["net", "result", ""], rows) + "\n")
    figures = [
        {"claim": c.words, "measure": c.measure, "rule": c.rule, "kind": c.kind, "verdict": c.verdict}
        | {"rows": [vars(row) for row in c.rows]}
        for c in claims
    ]
    nets = [results.net_facts(name, integers(name)) for name in RECURRENT]
    note = f"Only {', '.join(options.only)} at this commit, the others before." if options.only else ""
    results.record("claims", "Claims of the field", blocks, data=figures, nets=nets, note=note, folder=options.out)
    return 0


def _recorded(path: Path) -> dict[str, list[Claim]]:
    """Claims of an earlier run, by the function that measured them."""
    claims: dict[str, list[Claim]] = {}
    for c in json.loads(path.read_text(encoding="utf-8"))["data"]:
        claim = Claim(c["claim"], c["rule"], c["kind"], [Row(**row) for row in c["rows"]], c["measure"])
        claims.setdefault(c["measure"], []).append(claim)
    return claims


if __name__ == "__main__":
    sys.exit(main())
