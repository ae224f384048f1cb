"""CartPole balanced by compiled serial cores under upsets: three controllers, and what the certificate allows of each.

    python benchmarks/balance.py [--episodes 20] [--seed 0] [--out DIR]

Runs `examples/cartpole.py`, which says how upsets are drawn, and records its tables. Ends with 1 if a core differed
from golden.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import cartpole
import results

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions


def facts() -> list[dict[str, Any]]:
    """Of the controllers, as the example compiles them."""
    found = []
    for name, told in cartpole.CORES.items():
        source = import_model(cartpole.CHECKPOINTS / name).net
        calibration = data.read_inputs(cartpole.CALIBRATION, source)
        net = lower(source, QuantizeOptions(), calibration=calibration).net
        found.append(results.net_facts(f"{told} ({name})", net))
    return found


def blocks(found: Mapping[str, Any], episodes: int) -> Iterator[results.Block]:
    rows = found["results"]
    yield results.text(
        "`benchmarks/balance.py`: serial cores in Verilator balance CartPole, "
        f"{episodes} episodes of {found['pushes']} pushes at each rate, 95 % intervals. Upsets of states: one bit, in "
        "so many of the inferences; of weights: so many bits an inference, which stay until the end of the episode. At "
        "most: the share of pushes that upsets of a state can change by the certificate, which says nothing of weights:"
    )
    heads = {"controller": "", "upsets in": "", "an inference": "", "episodes balanced": "simulated"}
    heads |= {"mean pushes": "simulated", "pushes changed": "simulated", "at most": "proved"}
    yield results.table(heads, [cells(r) for r in rows])
    judged = {"controller": "", "pushes without upset": "simulated", "differ from golden": "simulated"}
    judged |= {"pushes with upsets, a sample": "simulated", "of these differ": "simulated", "clocks, most": "simulated"}
    yield results.table(
        judged,
        [
            (told, f"{c['logits_compared']:,}", c["logits_differing"], f"{c['upset_pushes_compared']:,}")
            + (c["upset_pushes_differing"], f"{c['clocks_most']:,}")
            for told, c in found["checks"].items()
        ],
    )
    yield results.text("; ".join(found["verdict"]) + ".")


def cells(r: Mapping[str, Any]) -> tuple[object, ...]:
    """A result of the example as a row."""
    b = r["balanced"]
    balanced = f"{b['episodes']} of {r['episodes']} [{b['low']:.0%}, {b['high']:.0%}]"
    wrong = "" if r["wrong_pushes"] is None else f"{r['wrong_pushes']:.2%}"
    most = f"{r['wrong_pushes_at_most']['value']:.2%}" if "wrong_pushes_at_most" in r else ""
    return (
        r["controller"],
        r["site"],
        f"{r['upsets_per_inference']:g}",
        balanced,
        f"{r['pushes_mean']:.1f}",
        wrong,
        most,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20, help="at each rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    results.add_folder(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = cartpole.run(
            Path(folder), each=options.episodes, limit=cartpole.PUSHES, rates=cartpole.RATES, seed=options.seed
        )
    title = "CartPole in a closed loop under upsets"
    shown = list(blocks(found, options.episodes))
    results.record("balance", title, shown, data=found, nets=facts(), folder=options.out)
    checks = found["checks"].values()
    return int(any(c["logits_differing"] or c["upset_pushes_differing"] for c in checks))


if __name__ == "__main__":
    sys.exit(main())
