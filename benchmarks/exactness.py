"""Ways by which runs that an upset disturbed become exact again, in what leaves the core, and what each way costs.

    python benchmarks/exactness.py --data mnist.npz [--images 500] [--cells] [--cores]

Single bits of the states of mnist_layered and mnist_certified flip, uniformly over images, units and bits, in each of
the first ten of thirty ticks; twenty or more ticks later the run is compared with the undisturbed one. Three seeds,
with Wilson intervals of 95 % over all of their flips and the share of each seed. Runs are golden's (`golden.Machine`).

- states of 6 to 12 bits, of which the readout sees the upper 8;
- dither (decision 0038);
- logits whose lower bits nobody compares: nothing is built, the reader drops them. `--data` decides what that costs in
  labels, on all 10,000 test images;
- begin again: the core ends once settled, and the next inference of the same input begins from zero, as each does.

`--cells`: Yosys alone counts cells of serial cores. `--cores`: in the serial core of digits_layered, in Verilator,
flips of the memory of codes and of the sums, without and with `--harden residue`.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harden
import numpy as np
import results
from healing import LEFT, TICKS, VISIBLE, Case, Row, load, share, shown
from numpy.typing import NDArray
from protect import cells_of, written
from tqdm import tqdm

from eqcompile.app.instrument import build_instrument
from eqcompile.rtl.serial.options import Serial
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import recovery
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet
from rtl import digits

NETS = ("mnist_layered", "mnist_certified")
WIDTHS, DITHERS = (8, 6, 10, 12), (8, 12, 16)
DROPPED = (14, 15, 16, 17, 18)
"""Lower bits of the logits that are left out."""
SEEDS = (0, 1, 2)
BAR = 0.99
PROVED = 256
"""Images that the certificate is asked of."""
FLIPS = 400
WORDS = 1024
"""Of the weight memories in the cores whose cells are counted."""
PLAIN, DITHERED = Case("mnist_layered.npz"), Case("mnist_layered.npz", QuantizeOptions(dither=16))
CORES = (
    *((PLAIN, 4, ""), (DITHERED, 4, ""), (PLAIN, 4, "residue")),
    *((PLAIN, 16, ""), (DITHERED, 16, ""), (PLAIN, 16, "residue")),
    *((Case("mnist_layered.npz", QuantizeOptions(state_bits=bits)), 4, "") for bits in (10, 12)),
)
"""Net, lanes and hardening of the cores whose cells are counted."""

Codes = dict[str, NDArray[np.int64]]
Flags = NDArray[np.bool_]


@dataclass
class Runs:
    """The undisturbed run of a batch: `states[t]` before tick t, `last` [images]: the last tick that moved a state."""

    net: IntNet
    codes: Codes
    images: int

    def __post_init__(self) -> None:
        clamped, batch, _ = golden.clamped_codes(self.net, self.codes)
        self.first = {name: value[:, 0] for name, value in clamped.items()}
        self.machine, self.every = golden.Machine(self.net, batch, "dense"), np.arange(batch)
        self.machine.evaluate(self.net.drive, self.first, self.every)
        self.states = [self.machine.initial(self.first)]
        for _ in range(self.net.schedule.steps):
            self.states.append(self.tick(self.states[-1])[0])
        moved = [differ(a, b) for a, b in zip(self.states, self.states[1:], strict=False)]
        self.last = np.max([np.where(m, t + 1, 0) for t, m in enumerate(moved)], axis=0)
        self.outputs = self.read(self.states[-1])
        want = golden.run(self.net, self.codes).outputs["logits"]
        if (want != self.outputs).any():
            raise SystemExit("these ticks are not golden's")

    def tick(self, states: Codes) -> tuple[Codes, Flags]:
        """The states after one tick, and which images moved."""
        new, moved = self.machine.tick(self.first, states, self.every)
        flags = np.zeros(len(self.every), bool)
        flags[moved] = True
        return new, flags

    def read(self, states: Codes) -> NDArray[np.int64]:
        return self.machine.read(self.first, states)["logits"]

    def flipped(self, states: Codes, rng: np.random.Generator) -> Codes:
        """One bit of each image flips, uniformly over all bits of all states."""
        result = {name: value.copy() for name, value in states.items()}
        formats = [(s.name, int(np.prod(s.shape)), self.net.formats[s.name]) for s in self.net.states]
        sizes = np.array([units * fmt.bits for _, units, fmt in formats])
        at = rng.integers(sizes.sum(), size=len(self.every))
        for (name, units, fmt), end, size in zip(formats, sizes.cumsum(), sizes, strict=True):
            here = np.flatnonzero((at < end) & (at >= end - size))
            unit, bit = np.divmod(at[here] - (end - size), fmt.bits)
            codes = result[name].reshape(len(self.every), units)
            word = (codes[here, unit] & ((1 << fmt.bits) - 1)) ^ (1 << bit)
            codes[here, unit] = word - ((word >> (fmt.bits - 1) & fmt.signed) << fmt.bits)
        return result

    def ends(self, seed: int) -> tuple[Flags, list[Codes], NDArray[np.int64]]:
        """For flips in each early tick: disturbed [ticks, images], the last states of each tick, and their logits."""
        rng = np.random.default_rng(seed)
        disturbed, last = [], []
        for tick in range(self.net.schedule.steps - LEFT):
            states, flags = self.flipped(self.states[tick], rng), np.zeros(len(self.every), bool)
            for clean in self.states[tick + 1 :]:
                states, _ = self.tick(states)
                flags |= differ(states, clean)
            disturbed.append(flags)
            last.append(states)
        return np.array(disturbed), last, np.array([self.read(states) for states in last])


def differ(a: Codes, b: Codes) -> Flags:
    """Images [batch] in which a state differs."""
    flags = [(a[name] != b[name]).reshape(len(a[name]), -1).any(axis=1) for name in a]
    return np.logical_or.reduce(flags)


def upper(codes: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Codes without their `bits` lowest bits, rounded; of fewer than 8 bits as they are."""
    return codes if bits <= 0 else (codes + (1 << bits >> 1)) >> bits


def pooled(flags: Sequence[Flags], among: Sequence[Flags]) -> Row:
    """A share over all seeds, and that of each seed."""
    each = [float((f & a).sum() / a.sum()) for f, a in zip(flags, among, strict=True)]
    return {**share(np.concatenate(flags), np.concatenate(among)), "seeds": each}


def schemes(name: str, options: argparse.Namespace) -> list[Row]:
    """Every scheme of one net."""
    rows = []
    for case in [
        *(Case(f"{name}.npz", QuantizeOptions(state_bits=bits)) for bits in WIDTHS),
        *(Case(f"{name}.npz", QuantizeOptions(dither=ticks)) for ticks in DITHERS),
    ]:
        net, codes, labels = load(case, options.data, options.images)
        runs = Runs(net, codes, options.images)
        parts = [runs.ends(seed) for seed in SEEDS]
        disturbed = [part[0] for part in parts]
        below = case.options.state_bits - VISIBLE
        exact = [np.array([seen_alike(runs, states, below) for states in part[1]]) for part in parts]
        whole = [np.array([~differ(states, runs.states[-1]) for states in part[1]]) for part in parts]
        rows.append(
            {
                "net": name,
                "scheme": case.name.partition(", ")[2] or "none",
                "exact": pooled(exact, disturbed),
                "all bits": pooled(whole, disturbed),
                "labels": pooled([golden.labels(p[2]) == golden.labels(runs.outputs) for p in parts], disturbed),
                "ticks": float(runs.last.mean()),
                "accuracy": float((golden.labels(runs.outputs) == labels).mean()),
            }
        )
        if rows[-1]["scheme"] == "none":
            rows[-1]["proved"] = proved(runs, 0)
            rows += [dropped(rows[-1], runs, parts, bits) for bits in DROPPED]
            rows.append(begun_again(rows[0], runs))
    return rows


def seen_alike(runs: Runs, states: Codes, below: int) -> Flags:
    """Images [batch] whose states end alike in their upper 8 bits, which the readout sees."""
    return ~differ(*({n: upper(v, below) for n, v in s.items()} for s in (states, runs.states[-1])))


def dropped(base: Row, runs: Runs, parts: Sequence[Any], bits: int) -> Row:
    """Logits whose `bits` lowest bits nobody compares."""
    clean = upper(runs.outputs, bits)
    exact = [(upper(part[2], bits) == clean).all(axis=2) for part in parts]
    return base | {
        "scheme": f"logits without their lower {bits} bits",
        "exact": pooled(exact, [part[0] for part in parts]),
        "steps": int(np.ptp(clean)) + 1,
        "bits": bits,
        "proved": proved(runs, bits),
    }


def proved(runs: Runs, bits: int) -> Row:
    """Of the first images, those whose dropped logits no upset of any states can move once twenty ticks have followed:
    every logit is further from an edge of rounding than all units together can move it."""
    some = {name: value[:PROVED] for name, value in runs.codes.items()}
    apart = recovery(runs.net, some, ticks=LEFT).apart[:, -1]
    # Logits are a matrix of integers times the states, plus a constant: its rows, read off unit by unit.
    (state,) = runs.net.states
    ones = np.eye(state.shape[0], dtype=np.int64)
    machine, every = golden.Machine(runs.net, len(ones) + 1, "dense"), np.arange(len(ones) + 1)
    stack = {state.name: np.concatenate([np.zeros_like(ones[:1]), ones])}
    logits = machine.read({n: v[:1].repeat(len(every), axis=0) for n, v in runs.first.items()}, stack)["logits"]
    if (runs.states[-1][state.name] @ (logits[1:] - logits[0]) + logits[0] != runs.outputs).any():
        raise SystemExit("these logits are not linear in the states")
    reach = np.abs(logits[1:] - logits[0]).sum(axis=0)[None] * apart[:, None]
    clean = runs.outputs[:PROVED]
    safe = (upper(clean - reach, bits) == upper(clean + reach, bits)).all(axis=1)
    return share(safe, np.ones(len(safe), bool))


def begun_again(base: Row, runs: Runs) -> Row:
    """A core that ends once a tick moved nothing, and the same input again. `within`: disturbed runs after whose upset
    twenty ticks or fewer pass until a result has left that is exact; `once`: those whose own result is exact."""
    parts = [_again(runs, seed) for seed in SEEDS]
    disturbed, own, within = ([part[k] for part in parts] for k in range(3))
    return base | {
        "scheme": "the next inference, begun from zero",
        "exact": pooled([np.ones_like(flags) for flags in disturbed], disturbed),
        "within": pooled(within, disturbed),
        "once": pooled(own, disturbed),
    }


def _again(runs: Runs, seed: int) -> tuple[Flags, Flags, Flags]:
    """Disturbed, exact in its own result, and `within`; [ticks, images] each."""
    rng, rows = np.random.default_rng(seed), []
    length = runs.last + 1
    for tick in range(int(length.max())):
        states, flags = runs.flipped(runs.states[tick], rng), np.zeros(len(length), bool)
        left, moving = np.zeros(len(length), np.int64), np.ones(len(length), bool)
        for at in range(tick + 1, 2 * TICKS):
            new, moved = runs.tick(states)
            states = {n: np.where(moving[:, None], new[n], v) for n, v in states.items()}
            flags |= differ(states, runs.states[min(at, TICKS)]) & moving
            left += moving
            moving &= moved
        exact = ~differ(states, runs.states[-1])
        rows.append((flags & (length > tick), exact, np.where(exact, left, left + length) <= LEFT))
    disturbed, own, within = (np.array(column) for column in zip(*rows, strict=True))
    return disturbed, own, within


def whole_set(name: str, options: argparse.Namespace) -> Row:
    """Accuracy on all test images: of the labels as they are, and of those that the upper bits of the logits give."""
    net, codes, labels = load(Case(f"{name}.npz"), options.data, None)
    logits = np.concatenate(
        [
            golden.run(net, {n: v[at : at + 1000] for n, v in codes.items()}, trace=False).outputs["logits"]
            for at in range(0, len(labels), 1000)
        ]
    )
    right = {bits: float((golden.labels(upper(logits, bits)) == labels).mean()) for bits in (0, *DROPPED)}
    return {"net": name, "images": len(labels), "right": right}


def cells(case: Case, lanes: int, mechanisms: str, options: argparse.Namespace) -> Row:
    net, _, _ = load(case, options.data, 1)
    with tempfile.TemporaryDirectory() as folder:
        core = written(net, Serial(lanes=lanes, harden=mechanisms), Path(folder))
        # Yosys takes half an hour for large memories with contents, and they are alike in all of these cores.
        text = re.sub(r"^ *words\[\S+ = .*\n", "", core.read_text("utf-8"), flags=re.M)
        core.write_text(re.sub(r"words \[0:\d{4,}\]", f"words [0:{WORDS - 1}]", text), encoding="utf-8")
        words = [case.name, f"{lanes} lanes", *(["residue"] if mechanisms else [])]
        return {"core": ", ".join(words), "base": f"{lanes}", **cells_of(core)}


def flips_of_words(mechanisms: str) -> Row:
    """Flips in memories of the compiled core, as benchmarks/harden.py counts them."""
    net, data = digits("digits_layered")
    options: dict[str, Any] = {"arch": "serial", **({"harden": mechanisms} if mechanisms else {})}
    with tempfile.TemporaryDirectory() as name:
        build_instrument("rtl", net, options, Path(name))
        session = RtlSession(net, data.codes, 0, core=Path(name))
        sites = {site: harden.SITES[site] for site in ("states", "sums")}
        return {"harden": mechanisms or "none", "sites": harden.covered(session, net, data, FLIPS, 1, sites)}


def blocks(document: Row) -> Iterator[results.Block]:
    if document["schemes"]:
        yield from _of_schemes(document)
    if document["cells"]:
        yield from _of_cells(document["cells"])
    if document["cores"]:
        yield from _of_cores(document["cores"])


def _of_schemes(document: Row) -> Iterator[results.Block]:
    rows = document["schemes"]
    yield results.text(
        f"Flips of one bit of a state in one of the first ten ticks of thirty, {len(SEEDS)} seeds of "
        f"{rows[0]['exact']['n'] // len(SEEDS):,} disturbed runs or so; exact in what leaves the core:"
    )
    heads = {"net": "", "way": "", "exact": "simulated", "by seed": "simulated", "exact in all bits": "simulated"}
    heads |= {"same label": "simulated", "ticks until settled": "simulated", f"{BAR:.0%}": "simulated"}
    yield results.table(
        heads,
        [
            (r["net"], r["scheme"], shown(r["exact"]), " ".join(f"{100 * v:.2f}" for v in r["exact"]["seeds"]))
            + ("" if "steps" in r or "within" in r else shown(r["all bits"]), shown(r["labels"]), f"{r['ticks']:.1f}")
            + ("reached" if r["exact"]["low"] >= BAR else "missed",)
            for r in rows
        ],
    )
    again = [r for r in rows if "within" in r]
    yield results.text("A core that ends once settled, which is given the same input again; flips in every tick of it:")
    yield results.table(
        {
            **{"net": "", "exact in its own result": "simulated", "in the next result": "proved"},
            **{"a result is exact within 20 ticks": "simulated", "ticks of an inference": "simulated"},
        },
        [(r["net"], shown(r["once"]), "100%", shown(r["within"]), f"{r['ticks'] + 1:.1f}") for r in again],
    )
    yield results.text(
        "Logits that are compared without their lower bits; `proved`: images of the first "
        f"{PROVED} whose upper bits no upset of any number of states changes that leaves twenty ticks:"
    )
    right = {w["net"]: w["right"] for w in document["whole"]}
    yield results.table(
        {
            **{"net": "", "bits left out": "", "steps from least to largest": "simulated", "exact": "simulated"},
            **{"proved": "proved", "accuracy, whole test set": "simulated", "of all bits": "simulated"},
        },
        [
            (r["net"], r.get("bits", 0), r.get("steps", ""), shown(r["exact"]), shown(r["proved"]))
            + (f"{right[r['net']][str(r.get('bits', 0))]:.4f}", f"{right[r['net']]['0']:.4f}")
            for r in rows
            if "proved" in r and "within" not in r
        ],
    )


def _of_cells(rows: list[Row]) -> Iterator[results.Block]:
    yield results.text(
        "Cells of serial cores by Yosys alone (synth_ecp5), beside the first with as many lanes. "
        f"Weight memories are cut to {WORDS:,} words: their blocks come on top:"
    )
    first: dict[str, Row] = {}
    for r in rows:
        first.setdefault(r["base"], r)
    kinds = [k for k in rows[0] if k not in ("core", "base")]
    yield results.table(
        {"core": "", **dict.fromkeys(kinds, "estimated"), "LUT4, more": "estimated"},
        [(r["core"], *(f"{r[k]:,}" for k in kinds), f"{r['LUT4'] / first[r['base']]['LUT4'] - 1:+.1%}") for r in rows],
    )


def _of_cores(rows: list[Row]) -> Iterator[results.Block]:
    yield results.text(
        "Flips in memories of the serial core of digits_layered. It adds changes to sums that it keeps: a flipped "
        f"code leaves its sums wrong until the next inference clears them ({FLIPS} flips each):"
    )
    yield results.table(
        {"hardening": "", "memory": "", **dict.fromkeys(harden.OUTCOMES, "simulated")},
        [
            (r["harden"], site, *(f"{count['outcomes'][o] / FLIPS:.1%}" for o in harden.OUTCOMES))
            for r in rows
            for site, count in r["sites"].items()
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--images", type=int, default=500, help="of the test set (default %(default)s)")
    parser.add_argument("--cells", action="store_true", help="synthesise serial cores, minutes each")
    parser.add_argument("--cores", action="store_true", help="flip memories of compiled cores")
    results.add_folder(parser)
    options = parser.parse_args()
    path, document = options.out / "exactness.json", {"schemes": [], "whole": [], "cells": [], "cores": []}
    if path.exists():
        document |= json.loads(path.read_text(encoding="utf-8"))["data"]
    if options.cells:
        document["cells"] = []
        for item in tqdm(CORES, unit="core"):
            document["cells"].append(cells(*item, options))
            write(document, options)
    if options.cores:
        document["cores"] = [flips_of_words(m) for m in ("", "residue")]
    if not (options.cells or options.cores):
        document["schemes"] = [row for name in tqdm(NETS, unit="net") for row in schemes(name, options)]
        document["whole"] = [json.loads(json.dumps(whole_set(name, options))) for name in NETS]
    write(document, options)


def write(document: Row, options: argparse.Namespace) -> None:
    """Record what is there: cores take minutes each."""
    facts = [results.net_facts(name, load(Case(f"{name}.npz"), options.data, 1)[0]) for name in NETS]
    title = "Back to the bit: what it takes, and what it costs"
    results.record("exactness", title, list(blocks(document)), data=document, nets=facts, folder=options.out)


if __name__ == "__main__":
    main()
