"""What every flip of the states of a net shows: read from a finished `eqfault exhaust`, with the card's time beside it.

    eqcompile examples/checkpoints/mnist_layered.npz --set steps=20 --target numpy -o net --calibrate calibration.npz
    eqfault exhaust net --model seu --sites state --engine gpu --inputs test.npz -o every    (or another engine)
    python benchmarks/faults_card.py --net net/net.onnx --codes codes.npz --inputs test.npz --out card    (with a GPU)
    python benchmarks/exhaust.py --folder every [--card card/faults_card.json] [--seconds S] [--card-seconds C]

`--seconds`: the wall-clock of the second command, `--card-seconds` that with engine gpu. Protected words are words
whose flips are voted away; nothing is run anew for them: what is left follows from the counts. Random choice is the
mean over all choices, a share of the whole.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import results

from eqcompile.sim.campaign.definition import read_campaign
from eqcompile.sim.faults.engine import Outcome

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def cut(cells: Any, share: float) -> tuple[int, float]:
    """Of silent corruption `[...]` the part that the worst `share` of the cells carry, and how many these are."""
    flat = np.sort(np.asarray(cells).reshape(-1))[::-1]
    count = round(share * len(flat))
    return count, float(flat[:count].sum() / flat.sum())


def blocks_of(
    document: dict[str, Any], card: dict[str, Any] | None, seconds: float | None, card_seconds: float | None
) -> list[results.Block]:
    site = document["sites"][0]
    outcomes = [[name, f"{n:,}", f"{n / document['faults']:.4%}"] for name, n in document["outcomes"].items() if n]
    cells = np.array(site["silent_map"])
    ticks = [[str(t), f"{n:,}", f"{n / site['faults_a_tick']:.4%}"] for t, n in enumerate(site["silent_ticks"])]
    bits = [[str(b), f"{n:,}", f"{n / site['silent']:.1%}"] for b, n in enumerate(cells.sum(axis=0).tolist())]
    hardened = []
    for share in SHARES:
        words, whole = cut(cells.sum(axis=1), share)
        flops, single = cut(cells, share)
        hardened.append([f"{share:.0%}", f"{words}", f"{whole:.1%}", f"{flops:,}", f"{single:.1%}", f"{share:.0%}"])
    size, faults = document["bytes"], document["faults"]
    time = [f"{size / 1e6:.1f} MB of outcomes on disk ({size / faults:.3f} bytes a fault)."]
    if seconds:
        rate = faults / seconds
        time.append(
            f"`eqfault exhaust` with engine {document['engine']}: {seconds:,.0f} s from start to end, {rate:,.0f} a "
            "second."
        )
    if card_seconds:
        time.append(f"The same with engine gpu: {card_seconds:,.0f} s, the same counts.")
    if card:
        rate = card["every"] / card["every_s"] / 1e6
        time.append(
            f"The kernel alone: {card['every_s']:.2f} s on one {card['card']} ({rate:,.0f} M a second); "
            f"{card['differ']} of {card['compared']:,} outcomes and {card['drawn_differ']} of "
            f"{card['drawn_compared']:,} drawn ones differ from the CPU's."
        )
    bound = document["bound"]
    proved = (
        f"Certificate, {bound['samples']:,} samples: {bound['violations']} faults beyond what is proved; with 10 ticks "
        f"left {bound['rows'][9]['proved']} codes off at most are proved, {bound['rows'][9]['simulated']} is the worst."
    )
    drawn = []
    if card and (command := card.get("command")):
        wall, inside, count = command["wall_s"], command["injection_s"], command["faults"]
        kernel, pairs = card["kernel_per_s"] / 1e6, sum(card["pairs"])
        ended = [(o.name.lower(), n) for o, n in zip(Outcome, card["pairs"], strict=True) if n]
        drawn = [
            results.text("Drawn on the card by Philox, which the CPU replays, and counted there:"),
            results.table(
                {"what": "", "faults": "computed", "s": "measured", "M a second": "measured"},
                [
                    ["kernel", f"{card['drawn']:,}", f"{card['drawn'] / kernel / 1e6:.2f}", f"{kernel:.0f}"],
                    ["command `eqfault run --counted`", f"{count:,}", f"{wall:.1f}", f"{count / wall / 1e6:.0f}"],
                    ["of it injection", f"{count:,}", f"{inside:.1f}", f"{count / inside / 1e6:.0f}"],
                    [
                        "every pair of bits of a word",
                        f"{pairs:,}",
                        f"{card['pairs_s']:.2f}",
                        f"{pairs / card['pairs_s'] / 1e6:,.0f}",
                    ],
                ],
            ),
            results.text("What every pair of bits of a word of the state shows:"),
            results.table(
                {"outcome": "", "pairs": "simulated", "share": "simulated"},
                [[name, f"{n:,}", f"{n / pairs:.4%}"] for name, n in ended],
            ),
        ]
    images = f"{document['samples']:,} images, ticks 0 to {document['ticks']}"
    what = f"Every flip of one bit of a state, {images}: {faults:,} faults, exact counts."
    share = {"share": "computed", "words": "computed", "of silent corruption in these words": "simulated"}
    share |= {"bits": "computed", "in the worst bits": "simulated", "by random choice": "computed"}
    return [
        results.text(" ".join([what, *time])),
        results.table({"outcome": "", "faults": "simulated", "share": "simulated"}, outcomes),
        results.table({"tick of the upset": "", "silent corruption": "simulated", "of its faults": "simulated"}, ticks),
        results.table({"bit": "", "silent corruption": "simulated", "share": "simulated"}, bits),
        results.text("What protecting the worst words, or single bits, of the state would take away of it:"),
        results.table(share, hardened),
        results.text(proved),
        *drawn,
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--card", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--card-seconds", type=float)
    results.add_folder(parser)
    options = parser.parse_args()
    document = json.loads((options.folder / "report.json").read_text(encoding="utf-8"))
    if not document["finished"]:
        sys.exit("error: not every fault is there; run the command again")
    card = None if options.card is None else json.loads(options.card.read_text(encoding="utf-8"))
    counted = [document["outcomes"][name] for name in ("masked", "healed", "near", "other", "sdc", "unsettled")]
    if card is not None and (card["digest"] != document["ir_digest"] or card["outcomes"][:6] != counted):
        sys.exit(f"error: the card counted {card['outcomes']}, the folder {counted}: another net, or a defect")
    facts = [results.net_facts("mnist_layered", read_campaign(options.folder).net)]
    blocks = blocks_of(document, card, options.seconds, options.card_seconds)
    kept = {k: v for k, v in document.items() if k not in ("sites", "silent_ids")}
    data = {"document": kept, "card": card, "seconds": options.seconds, "card_seconds": options.card_seconds}
    results.record("exhaust", "Every flip of every state", blocks, data=data, nets=facts, folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
