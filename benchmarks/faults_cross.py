"""Is a fault the same on golden and in the core? Random upsets of state codes, every state after every tick compared.

    python benchmarks/faults_cross.py [--faults N] [--silent N] [--out build/bench]

digits_ternary, serial core, native runner. `told`: upsets that the core's sums learn of, against the table's state
upsets; `silent`: flips in the memory of codes alone, against their translation. Prints differing trajectories and
faults a second (measured, without building the simulator); ends with 1 if a trajectory or an output differs, or if
faults moved by one tick or by one bit are not seen to differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from eqcompile.sim.faults.golden_engine import GoldenEngine

from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain import data, pipeline, registry
from eqcompile.toolchain.cli.show import table

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TEST = EXAMPLES / "data" / "digits_test.npz"
CHUNK = 500


def lowered() -> Any:
    """The IntNet of digits_ternary."""
    with tempfile.TemporaryDirectory() as folder:
        request = pipeline.CompileRequest(
            model=EXAMPLES / "checkpoints" / "digits_ternary.pt",
            target=registry.target_class("numpy")(),
            output=Path(folder) / "net",
            calibration=EXAMPLES / "data" / "digits_calibration.npz",
            inputs=TEST,
            verify=False,
        )
        return pipeline.compile_model(request).net


def random_faults(session: RtlSession, count: int, seed: int) -> list[Fault]:
    """One bit of one state code each, sample, unit, bit and tick (0 to T) drawn evenly."""
    rng = np.random.default_rng(seed)
    state = session.net.states[0]
    units, bits = int(np.prod(state.shape)), session.net.formats[state.name].bits
    high = np.array([session.samples, units, bits, session.ticks + 1])
    drawn = rng.integers(0, high, (count, 4)).tolist()
    return [moved(state.name, *row) for row in drawn]


def moved(name: str, sample: int, unit: int, bit: int, tick: int) -> Fault:
    """The fault of these numbers."""
    upset = Upset(Place.STATE, name, unit, tick, tick, flip=1 << bit)
    return Fault(sample, f"state:{name}", unit, bit, (upset,))


def differing(session: RtlSession, golden: Any, faults: list[Fault], want: list[Fault], *, told: bool) -> Any:
    """How many of `faults` differ in the core from `want` on golden, and seconds of the simulator."""
    differ, seconds = 0, 0.0
    for at in range(0, len(faults), CHUNK):
        states, outputs, measured = session.traces(FaultTable.of(faults[at : at + CHUNK]), told=told)
        seconds += measured["seconds"]
        _, right, shown = golden._disturbed(want[at : at + CHUNK])
        pairs = [*((states[n], np.moveaxis(right[n], 0, 0)) for n in states)]
        wrong = np.any([(a != b).any(axis=(0, *range(2, a.ndim))) for a, b in pairs], axis=0)
        for n in outputs:
            wrong |= (outputs[n] != shown[n]).reshape(len(wrong), -1).any(axis=1)
        differ += int(wrong.sum())
    return differ, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=10000, metavar="N")
    parser.add_argument("--silent", type=int, default=1000, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    given = parser.parse_args()
    net = lowered()
    codes, _ = data.encode(net, data.read_inputs(TEST, net, limit=360))
    session, golden = RtlEngine().open(net, codes, near=1), GoldenEngine().open(net, codes, near=1)
    faults, rows, ok = random_faults(session, given.faults, 5), [], True
    silent = faults[: given.silent]
    few = faults[: min(500, len(faults))]
    name = net.states[0].name
    late = [moved(name, f.sample, f.unit, f.bit, min(f.upsets[0].first + 1, session.ticks)) for f in few]
    other = [moved(name, f.sample, f.unit, (f.bit + 1) % net.formats[name].bits, f.upsets[0].first) for f in few]
    for kind, sent, want, told, equal in (
        ("told", faults, faults, True, True),
        ("silent", silent, [silent_upset(session, f) for f in silent], False, True),
        ("mutant: silent for told", few, few, False, False),
        ("mutant: one tick late", late, few, True, False),
        ("mutant: next bit", other, few, True, False),
    ):
        differ, seconds = differing(session, golden, sent, want, told=told)
        ok &= (differ == 0) == equal
        rows.append({"faults": kind, "count": len(sent), "differ": differ, "per_second": round(len(sent) / seconds, 1)})
        sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "faults_cross.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    head = ("faults", "count", "differ", "per_second")
    sys.stdout.write(table(head, [[str(r[k]) for k in head] for r in rows]) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
