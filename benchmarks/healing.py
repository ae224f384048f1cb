"""What becomes of upsets in nets that contract, with and without dither, beside nets that recur hardly or not at all.

    python benchmarks/healing.py --data mnist.npz [--faults 100000] [--only mnist]

Each net runs the 30 ticks it is shipped with. Single bits of its states flip, drawn uniformly over units, bits, ticks
and test images; of those that leave twenty ticks the healing is stated alone. Flips in weights and bits of states that
are stuck are fewer. `feed-forward`: mnist_two_layer, which has as many weights as mnist_layered, once as it is (one
tick), once computing its tick 30 times, so that its states are exposed as long. benchmarks/exactness.py compares ways
to end in the same bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mnist
import numpy as np
import results
from numpy.typing import NDArray
from tqdm import tqdm

from eqcompile.quantization.lower import lower
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.faults.engine import Engine, Outcome
from eqcompile.sim.faults.model import FaultModel
from eqcompile.toolchain import golden, registry
from eqcompile.toolchain.certificate import certify, recovery
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import IntNet

CHECKPOINTS = Path(__file__).parents[1] / "examples" / "checkpoints"
DATA = CHECKPOINTS.parent / "data"
IMAGES, CALIBRATION, TICKS, LEFT, SEED = 360, 500, 30, 20, 0
DITHER = 16
VISIBLE = 8
PROVED = 12
"""Images for which the certificate is asked."""

Codes = Mapping[str, NDArray[np.int64]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A net of the table: a checkpoint, options of quantization, and how many ticks it makes (0: as it is)."""

    checkpoint: str
    options: QuantizeOptions = QuantizeOptions()
    ticks: int = 0
    title: str = ""

    @property
    def name(self) -> str:
        words = [self.title or Path(self.checkpoint).stem]
        words += [f"{self.options.state_bits} bits"] if self.options.state_bits != VISIBLE else []
        words += [f"dither {self.options.dither}"] if self.options.dither else []
        return ", ".join(words)


def cases() -> list[Case]:
    contracting = [f"{data}_{kind}.npz" for data in ("mnist", "digits") for kind in ("layered", "certified")]
    return [
        *(Case(name, QuantizeOptions(dither=d)) for name in contracting for d in (0, DITHER)),
        *(Case("mnist_layered.npz", QuantizeOptions(state_bits=bits)) for bits in (6, 10, 12)),
        Case("mnist_ternary.npz"),
        Case("digits_ternary.pt"),
        Case("mnist_two_layer.npz", title="feed-forward, one tick"),
        Case("mnist_two_layer.npz", ticks=TICKS, title="feed-forward, 30 ticks"),
    ]


def load(case: Case, path: Path, images: int | None = IMAGES) -> tuple[IntNet, Codes, NDArray[np.int64]]:
    """Net, codes and labels of the first test images, or of all."""
    if case.checkpoint.startswith("mnist"):
        x, labels = mnist.images(path)
        with np.load(path, allow_pickle=False) as file:
            calibration = file["x_train"][:CALIBRATION].reshape(-1, mnist.PIXELS) / 255
    else:
        with np.load(DATA / "digits_test.npz") as file:
            x, labels = file["x"].astype(np.float64), file["labels"]
        with np.load(DATA / "digits_calibration.npz") as file:
            calibration = file["x"].astype(np.float64)
    net = lower(import_model(CHECKPOINTS / case.checkpoint).net, case.options, calibration={"x": calibration}).net
    if case.ticks:
        net = replace(net, schedule=replace(net.schedule, steps=case.ticks))
    return net, dict(encode(net, {"x": x[:images]})[0]), labels[:images]


def campaign(net: IntNet, codes: Codes, model: str, count: int, **options: Any) -> tuple[Any, Any]:
    """Faults and what became of them."""
    table = registry.find_class("faults", model, FaultModel)(**options).draw(
        net, count, np.random.default_rng(SEED), codes
    )
    session = registry.find_class("engines", "fast", Engine)().open(net, codes, near=1)
    return table.faults, session.run(table)


def share(flags: Any, among: Any) -> dict[str, Any]:
    """How many of `among` have the flag, with the 95 % interval of Wilson."""
    n, k = int(among.sum()), int((flags & among).sum())
    interval = wilson(k, n, confidence=0.95)
    return {"k": k, "n": n, "share": k / n if n else 0.0, "low": interval.low, "high": interval.high}


def shares(faults: Any, rows: Any, steps: int) -> Row:
    everything = np.ones(len(rows), bool)
    disturbed = rows["rejoin"] != 0
    healed = rows["rejoin"] > 0
    near = rows["distance_end"] <= 1
    early = disturbed & (faults["tick"] <= steps - LEFT - 1)
    return {
        "disturbed": share(disturbed, everything),
        "healed": share(healed, disturbed),
        "near": share(near, disturbed),
        "silent": share(rows["outcome"] == Outcome.SDC, everything),
        "unsettled": share(rows["outcome"] == Outcome.UNSETTLED, everything),
        "healed_early": share(healed, early),
        "outputs_early": share(~rows["output_differs"], early),
    }


def ticks_until_settled(run: Run) -> float:
    """The tick after which no state moves, in the mean; 1 where there is one tick alone."""
    states = np.concatenate([v.reshape(len(v), IMAGES, -1) for v in run.states.values()], axis=2)
    moved = (np.diff(states, axis=0) != 0).any(axis=2)
    last = np.where(moved, np.arange(1, len(moved) + 1)[:, None], 0).max(axis=0, initial=0)
    return float(last.mean() + 1)


def measure(case: Case, options: argparse.Namespace) -> tuple[Row, Row]:
    net, codes, labels = load(case, options.data)
    run = golden.run(net, codes)
    row: Row = {
        "net": case.name,
        "accuracy": float((golden.labels(run.outputs["logits"]) == labels).mean()),
        "settled": ticks_until_settled(run),
        "L": certify(net).bound,
    }
    faults, rows = campaign(net, codes, "seu", options.faults, sites="state")
    row["states"] = shares(faults, rows, net.schedule.steps)
    faults, rows = campaign(net, codes, "seu", options.faults // 10, sites="weight")
    row["weights"] = shares(faults, rows, net.schedule.steps)
    parts = [campaign(net, codes, "stuck", options.faults // 20, sites="state", at=at) for at in (0, 1)]
    row["stuck"] = shares(*(np.concatenate(p) for p in zip(*parts, strict=True)), net.schedule.steps)
    # From its last offset on, a dithered net is the net without.
    if net.schedule.steps > LEFT and row["L"] < 1.0 and not case.options.dither:
        some = {name: v[:PROVED] for name, v in codes.items()}
        proved = recovery(net, some, ticks=LEFT)
        row["proved"] = {"safe": float(proved.safe[:, -1].mean()), "apart": int(proved.apart[:, -1].max())}
    return results.net_facts(case.name, net, run), row


def shown(part: Mapping[str, Any]) -> str:
    digits = 3 if part["share"] < 0.001 else 2
    return f"{part['share']:.{digits}%} [{part['low']:.{digits}%}, {part['high']:.{digits}%}]"


def blocks(rows: list[Row]) -> Iterator[dict[str, Any]]:
    heads = {"net": "", "accuracy": "simulated", "ticks until settled": "simulated", "L": "proved"}
    heads |= {"disturbed": "simulated", "of these healed exactly": "simulated", "within one code": "simulated"}
    heads |= {"wrong label, of all": "simulated", "unsettled, of all": "simulated"}
    order = ("disturbed", "healed", "near", "silent", "unsettled")
    for kind, what, predicted in (
        (
            "states",
            "Flips of one bit of a state",
            "that all which leave ticks die down to rounding, where L is below 1",
        ),
        ("weights", "Flips of one bit of a stored weight", "nothing: they make another net"),
        ("stuck", "One bit of a state is stuck at 0, or at 1, throughout", "nothing: the upset never ends"),
    ):
        yield results.text(
            f"{what} ({rows[0][kind]['disturbed']['n']:,} a net, {IMAGES} images, 95 % intervals). The certificate "
            f"predicts {predicted}:"
        )
        yield results.table(
            heads,
            [
                (r["net"], f"{r['accuracy']:.4f}", f"{r['settled']:.1f}", f"{r['L']:.4f}")
                + tuple(shown(r[kind][key]) for key in order)
                for r in rows
            ],
        )
    yield results.text(
        "Of the flips of states that leave twenty ticks, those that disturbed the run; beside them what is proved of "
        f"any upset of units that leaves twenty ticks ({PROVED} images; nothing where dither goes on):"
    )
    yield results.table(
        {
            **{"net": "", "all states exact": "simulated", "outputs exact": "simulated"},
            **{"label cannot change": "proved", "codes off, at most": "proved"},
        },
        [
            (r["net"], shown(r["states"]["healed_early"]), shown(r["states"]["outputs_early"]))
            + (("-", "-") if "proved" not in r else (f"{r['proved']['safe']:.1%}", r["proved"]["apart"]))
            for r in rows
            if r["states"]["healed_early"]["n"]
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--faults", type=int, default=100_000, help="flips of states of each net (default %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="nets whose name has this word")
    results.add_folder(parser)
    options = parser.parse_args()
    measured: list[tuple[Row, Row]] = []
    for case in tqdm([c for c in cases() if options.only in c.name], unit="net"):
        measured.append(measure(case, options))
        write(measured, options.out)


def write(measured: list[tuple[Row, Row]], folder: Path) -> None:
    """Record what is there, with the nets of an earlier run: one that ends early leaves those that are done."""
    path, known = folder / "healing.json", {row["net"]: (fact, row) for fact, row in measured}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        earlier = zip(document["nets"], document["data"]["rows"], strict=True)
        known = {row["net"]: (fact, row) for fact, row in earlier} | known
    ordered = [known[case.name] for case in cases() if case.name in known]
    facts, rows = ([pair[part] for pair in ordered] for part in (0, 1))
    results.record(
        "healing",
        "What heals: states, weights and stuck bits",
        list(blocks(rows)),
        data={"rows": rows},
        nets=facts,
        folder=folder,
    )


if __name__ == "__main__":
    main()
