"""Claims of the research on equilibrium networks that matter to hardware, each beside what we measure.

    python benchmarks/claims/run.py [--out DIR]

Prints and records one table: the claim, the net and the conditions, what was measured, with seeds and intervals of
95 %, and whether the claim holds there. A claim is confirmed where every row holds, confirmed with conditions where
some do, refuted where none does; the rule of each claim is printed. Trainings that need a GPU are read from
trainings.json, which trainings.py writes; the rest is measured here, on committed nets and scikit-learn's digits.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
from collections.abc import Callable, Iterable

import torch
from common import Claim, integers
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
    results.add_folder(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    claims: list[Claim] = []
    for measure in CLAIMS:
        sys.stderr.write(f"{measure.__name__}\n")
        found = measure()
        claims += [found] if isinstance(found, Claim) else list(found)
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
    figures = [{"claim": c.words, "verdict": c.verdict, "rows": [vars(row) for row in c.rows]} for c in claims]
    nets = [results.net_facts(name, integers(name)) for name in RECURRENT]
    results.record("claims", "Claims of the field", blocks, data=figures, nets=nets, folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
