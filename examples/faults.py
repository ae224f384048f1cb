"""A small fault campaign: what a ternary equilibrium net heals that a feed-forward net of the same accuracy does not.

    python examples/faults.py --out build/faults

Compiles both digits nets, flips bits of their registers in the course of inferences, and writes a report. A register of
the feed-forward net is read once, so nothing of it can heal; the equilibrium net relaxes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eqcompile.app.cli.main import eqfault
from eqcompile.app.cli.main import main as eqcompile

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the story; the exit code of the first command that fails, else 0."""
    parser = argparse.ArgumentParser(description="A fault campaign on two digits nets.")
    parser.add_argument("--out", type=Path, default=Path("build/faults"), help="folder (default: %(default)s)")
    parser.add_argument("--faults", default="2000", help="faults in each net (default: %(default)s)")
    parser.add_argument("--engine", default="golden", help="engine that injects (default: %(default)s)")
    options = parser.parse_args(argv)
    for name in ("ternary", "mlp"):
        code = eqcompile(
            [
                *(str(HERE / "checkpoints" / f"digits_{name}.pt"), "--target", "numpy", "--no-verify", "--force"),
                *("-o", str(options.out / name), "--calibrate", str(HERE / "data" / "digits_calibration.npz")),
            ]
        )
        if code:
            return code
    return eqfault(
        [
            *("run", str(options.out / "ternary"), "--model", "seu", "--sites", "state"),
            *("--engine", options.engine),
            *("--inputs", str(HERE / "data" / "digits_test.npz"), "--faults", options.faults),
            *("--workers", "1", "--force"),
            *("--baseline", str(options.out / "mlp"), "--env", "avionics", "--part", "amd-7-series-config"),
            *("-o", str(options.out / "campaign")),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
