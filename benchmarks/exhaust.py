"""What every flip of the states of a net shows: read from a finished `eqfault exhaust`, with the card's time beside it.

    eqcompile examples/checkpoints/mnist_layered.npz --set steps=20 --target numpy -o net --calibrate calibration.npz
    eqfault exhaust net --model seu --sites state --inputs test.npz --proved 10000 -o every
    python benchmarks/faults_card.py --net net/net.onnx --codes codes.npz --out card    (on a machine with a GPU)
    python benchmarks/exhaust.py --folder every [--card card/faults_card.json] [--seconds S]

`--seconds`: the wall-clock of the second command. Protected words are words whose flips are voted away; nothing is run
anew for them: what is left follows from the counts. Random choice is the mean over all choices, a share of the whole.
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

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def cut(cells: Any, share: float) -> tuple[int, float]:
    """Of silent corruption `[...]` the part that the worst `share` of the cells carry, and how many these are."""
    flat = np.sort(np.asarray(cells).reshape(-1))[::-1]
    count = round(share * len(flat))
    return count, float(flat[:count].sum() / flat.sum())


def blocks_of(document: dict[str, Any], card: dict[str, Any] | None, seconds: float | None) -> list[results.Block]:
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
        time.append(f"{seconds:,.0f} s on two cores that were shared with other work, {rate:,.0f} a second.")
    if card:
        rate = card["every"] / card["every_s"] / 1e6
        time.append(
            f"{card['every_s']:.2f} s on one {card['card']} ({rate:.0f} M a second), {card['maps_s']:.2f} s for the "
            f"maps; campaigns that draw, inject, classify and count there {card['campaign_per_s'] / 1e6:.0f} M a "
            f"second, the kernel alone {card['kernel_per_s'] / 1e6:.0f} M; {card['differ']} of {card['compared']:,} "
            f"outcomes and {card['drawn_differ']} of {card['drawn_compared']:,} drawn ones differ from the CPU's."
        )
    bound = document["bound"]
    proved = (
        f"Certificate, {bound['samples']:,} samples: {bound['violations']} faults beyond what is proved; with 10 ticks "
        f"left {bound['rows'][9]['proved']} codes off at most are proved, {bound['rows'][9]['simulated']} is the worst."
    )
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
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--card", type=Path)
    parser.add_argument("--seconds", type=float)
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
    blocks = blocks_of(document, card, options.seconds)
    kept = {k: v for k, v in document.items() if k not in ("sites", "silent_ids")}
    data = {"document": kept, "card": card, "seconds": options.seconds}
    results.record("exhaust", "Every flip of every state", blocks, data=data, nets=facts, folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
