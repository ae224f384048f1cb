"""What clearing and summing the serial core's accumulators again every K ticks would cost, and what it would end.

    python benchmarks/reclamp.py [--faults 4000] [--seed 1] [--every 5 10]

No core does this: decision 0008 says why. The ternary digits net, 360 test digits. Clocks are computed from golden's
activity by what `describe` says of an event and a sweep, without the clocks that pipelines take to drain. Faults are
simulated by the engine `fast`, which golden judges: one bit of a sum of the recurrent map that is only ever incremented
(`held`), or of a value of the drive that is kept, drawn uniformly over units, bits and 30 ticks. Making both anew every
K ticks ends an upset at the next such tick, which needs no new model: its window is cut off there, or the kept word is
put right by a second upset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.app.cli.show import table
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.rtl.serial.plan import Plan, plan_memory
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.faults.engine import Engine, Outcome
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain import registry
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet
from rtl import digits

Array = NDArray[np.int64]


def columns(plan: Plan, net: IntNet) -> list[Array]:
    """Clocks of an event of each unit of each map's source, in the order of the maps."""
    weights, (table, _) = plan.weights, plan_memory(plan, net)
    rows = (table[at:][: m.matrix.shape[1]] for m, at in zip(plan.maps, weights.rows, strict=True))
    return [np.maximum(np.array(r, np.int64) // (1 << weights.address_bits) + 1, 2) for r in rows]


def clocks(net: IntNet, x: Array, golden: Run, every: Sequence[int]) -> dict[str, float]:
    """Mean clocks an inference, and how many more with each K; `ending`: once more before a result leaves."""
    engine = SerialEngine(net)
    plan, sweeps = engine.plan, engine.describe()["clocks"]["sweeps"]
    fed, held, shown = columns(plan, net)
    drive, step = (next(s.name for s in plan.sweeps if s.block == block) for block in ("drive", "step"))
    rest = sum(cost for name, cost in sweeps.items() if name not in (drive, step))
    cleared = sum(m.words for m in plan.maps if m.block != "readout")
    found = {"without": 0.0} | {f"{k}{end}": 0.0 for k in every for end in ("", " ending")}
    for sample, made in enumerate(golden.steps.tolist()):
        states = np.concatenate([np.zeros((1, len(held)), np.int64), golden.states["h"][:made, sample]])
        changes = (held * (np.diff(states, axis=0) != 0)).sum(axis=1)
        taken = int((x[sample] == 0).sum()) + int((fed * (x[sample] != 0)).sum()) + sweeps[drive]
        # The last tick's changes are not applied to the recurrent map.
        ticks = int(changes[:-1].sum()) + made * sweeps[step]
        found["without"] += taken + ticks + rest + int((shown * (states[-1] != 0)).sum())
        # Of the states that tick t reads, in place of what the tick before changed.
        anew = [cleared + taken + int((held * (states[t] != 0)).sum()) for t in range(made + 1)]
        for k in every:
            found[f"{k}"] += sum(anew[t] - int(changes[t - 1]) for t in range(k, made, k))
            found[f"{k} ending"] += sum(anew[t] - int(changes[t - 1]) for t in range(k, made, k))
            found[f"{k} ending"] += anew[made] + sweeps[step]
    return {name: total / len(x) for name, total in found.items()}


def drawn(net: IntNet, word: str, samples: int, faults: int, seed: int) -> list[Fault]:
    """Single bits of `word`, kept to the end."""
    rng, ticks, fmt = np.random.default_rng(seed), net.schedule.steps, net.formats[word]
    units = len(next(p.value for p in net.params if p.name == "W_rec_ternary"))
    kept = word == "drive"
    made = []
    for _ in range(faults):
        sample, unit, bit = (int(rng.integers(n)) for n in (samples, units, fmt.bits))
        first = int(rng.integers(1 if kept else 0, ticks))
        upset = Upset(Place.VALUE, word, unit, first, first if kept else ticks - 1, flip=1 << bit, held=not kept)
        made.append(Fault(sample, word, unit, bit, (upset,)))
    return made


def ended(fault: Fault, every: int, ticks: int) -> Fault:
    """The same fault in a core that makes the word anew before ticks `every`, 2 * `every`, ..."""
    (upset,) = fault.upsets
    last = (upset.first // every + 1) * every - 1
    if last >= ticks - 1:
        return fault
    if upset.held:
        return replace(fault, upsets=(replace(upset, last=last, held=upset.first < last),))
    return replace(fault, upsets=(upset, replace(upset, first=last + 1, last=last + 1)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=4000, metavar="N", help="of each word (default 4000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--every", type=int, nargs="+", default=[5, 10], metavar="K")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    net, test = digits("digits_ternary")
    golden = run_golden(net, test.codes)
    cost = clocks(net, test.codes["x"], golden, options.every)
    usual = cost.pop("without")
    prices = [[f"every {name}", f"{more:+.0f}", f"{100 * more / usual:+.0f} %"] for name, more in cost.items()]
    rows = []
    session = registry.find_class("engines", "fast", Engine)().open(net, test.codes, near=0)
    samples, ticks = len(test.codes["x"]), net.schedule.steps
    for word in ("recurrent_linear", "drive"):
        faults = drawn(net, word, samples, options.faults, options.seed)
        sets = {"never": faults} | {f"every {k}": [ended(f, k, ticks) for f in faults] for k in options.every}
        for name, row in sets.items():
            outcomes = session.run(FaultTable.of(row))
            wrongs = (outcomes["differ_end"] != 0, outcomes["outcome"] == Outcome.SDC)
            rates = [wilson(int(wrong.sum()), len(row), confidence=0.95) for wrong in wrongs]
            shown = [f"{100 * r.estimate:.2f} % [{100 * r.low:.2f}, {100 * r.high:.2f}]" for r in rates]
            rows.append([word, name, *shown])
    words = (
        f"`benchmarks/reclamp.py`: {usual:.0f} clocks an inference, {golden.steps.mean():.1f} ticks (mean, computed)."
    )
    ends = {"word": "", "made anew": "", "wrong end state": "simulated", "wrong label": "simulated"}
    blocks = [results.text(words), results.table({"made anew": "", "clocks": "computed", "more": "computed"}, prices)]
    blocks.append(results.table(ends, rows))
    sys.stdout.write("\n\n".join([words, *(table(b["head"], b["rows"]) for b in blocks[1:])]) + "\n")
    title, facts = "Periodic re-clamping, which no core does", [results.net_facts("digits_ternary", net, golden)]
    data = {"clocks": cost, "rows": rows}
    results.record("reclamp", title, blocks, data=data, nets=facts, folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
