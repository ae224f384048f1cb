"""Is a fault the same on golden and in the core? Upsets of a digits net, every state after every tick compared.

    python benchmarks/faults_cross.py [--arch A] [--faults N] [--seed S] [--rerun N] [--out DIR]

digits_ternary in the cores serial and parallel, digits_cube in the lattice. Half of the faults flip a bit of a state
(any sample, unit, bit and tick), half, in the serial core, a stored bit of a weight, as model seu draws them; in the
others, whose weights are constants, a bit of an accumulator. Some more are in accumulators, in values of the drive,
transients and stuck bits. A trajectory differs if any code of any tick or output does. Mutants must be seen: the same
faults a tick late, a bit beside, in a neighbour, and, in the serial core, with sums that are not told. With `--rerun`,
in the serial core, N upsets of the memory of states are also cocotb deposits: with a simulator started anew for each,
and all in one process. Times are measured, the building of simulators left out. Ends
with 1 if a trajectory differs or a mutant's do not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results

from eqcompile.app import compile as pipeline
from eqcompile.app.cli.show import table
from eqcompile.app.emission import emit_artifact
from eqcompile.sim.exchange import write_codes
from eqcompile.sim.faults.golden_engine import GoldenEngine, together
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.sim.faults.rtl.masks import Told
from eqcompile.sim.faults.rtl.rows import Row
from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain import data, registry

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TEST = EXAMPLES / "data" / "digits_test.npz"
CHUNK = 250
OTHERS = {
    "accumulators": ("seu", {"sites": "accumulator"}),
    "accumulators, incremented": ("seu", {"sites": "accumulator", "accumulators": "event"}),
    "values of the drive": ("seu", {"sites": "drive"}),
    "transients of a word": ("set", {"wrong": "word"}),
    "stuck at 0": ("stuck", {"sites": "state,accumulator"}),
    "weights stuck at 0": ("stuck", {"sites": "weight"}),
    "adjacent words": ("mbu", {"sites": "state", "across": "words"}),
    "dead units": ("dead", {"share": "0.3"}),
    "noise in every tick": ("noise", {"sigma": 0.1}),
    "dropped events": ("events", {}),
    "several kinds at once": ("combined", {"parts": "noise,set"}),
    "stuck at 1, 3 ticks": ("stuck", {"sites": "state,accumulator", "at": 1, "duration": 3}),
}
NETS = {"serial": "digits_ternary", "parallel": "digits_ternary", "lattice": "digits_cube"}


def lowered(name: str) -> Any:
    """The IntNet of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        request = pipeline.CompileRequest(
            model=EXAMPLES / "checkpoints" / f"{name}.pt",
            target=registry.target_class("numpy")(),
            output=Path(folder) / "net",
            calibration=EXAMPLES / "data" / "digits_calibration.npz",
            inputs=TEST,
            verify=False,
        )
        return pipeline.compile_model(request).net


class Cross:
    """The same faults on both."""

    def __init__(self, session: RtlSession, golden: Any, codes: Any) -> None:
        self.session, self.golden, self.codes = session, golden, codes
        self.rows: list[dict[str, Any]] = []
        self.good = True

    def drawn(self, model: str, options: dict[str, Any], count: int, seed: int) -> FaultTable:
        maker = registry.find_class("faults", model, FaultModel)(**options)
        return maker.draw(self.session.net, count, np.random.default_rng(seed), self.codes)  # type: ignore[no-any-return]

    def compare(self, kind: str, faults: FaultTable, change: Callable[[Row], Row] | None = None) -> None:
        """`change`: what a mutant does to a row."""
        differ, seconds, start = 0, 0.0, time.perf_counter()
        for at in range(0, len(faults), CHUNK):
            part = list(faults.take(slice(at, at + CHUNK)))
            rows = self.session.translator.rows(part)
            if change is not None:
                rows = [change(r) for r in rows]
            found = self.session.injected(rows)
            seconds += found.seconds
            differ += int(self._wrong(part, found).sum())
            sys.stderr.write(f"\r{kind}: {at + len(part)} of {len(faults)}, {differ} differ ")
        sys.stderr.write("\n")
        mutant = change is not None
        self.good &= (differ > 0) == mutant
        rate, golden_s = len(faults) / seconds, time.perf_counter() - start - seconds
        row = {"faults": kind, "mutant": mutant, "count": len(faults), "differ": differ}
        self.rows.append({**row, "per_second": round(rate, 1), "other_s": round(golden_s, 1)})

    def _wrong(self, part: Sequence[Any], found: Any) -> Any:
        wrong = np.zeros(len(part), bool)
        for numbers in together(part):
            _, states, outputs = self.golden._disturbed([part[i] for i in numbers])
            for n, right in states.items():
                wrong[numbers] |= (found.states[n][:, numbers] != right).any(axis=(0, *range(2, right.ndim)))
            for n, right in outputs.items():
                wrong[numbers] |= (found.outputs[n][numbers] != right).reshape(len(numbers), -1).any(axis=1)
        return wrong


def each(change: Callable[[Told], Told]) -> Callable[[Row], Row]:
    """The change of a row that changes each of its upsets so."""
    return lambda row: replace(row, upsets=tuple(change(told) for told in row.upsets))


def next_bit(told: Told) -> Told:
    flip = told.masks.flip
    return replace(told, masks=replace(told.masks, flip=flip << 1 if flip < 128 else 1))


def rerun(session: RtlSession, count: int, seed: int) -> dict[str, Any]:
    """Times of the same upsets by saboteurs and by cocotb, and how many trajectories differ."""
    rng = np.random.default_rng(seed)
    names = [n for n, c in session.translator.cells.items() if c.kind == "memory" and n.startswith("engine.h_codes")]
    faults, rows = [], []
    for _ in range(count):
        name = names[rng.integers(len(names))]
        cell = session.translator.cells[name]
        sample, row, clock = (int(rng.integers(n)) for n in (session.samples, cell.rows, 2000))
        mask = 1 << int(rng.integers(cell.bits))
        faults.append({"sample": sample, "path": name, "row": row, "mask": mask, "clock": clock})
        rows.append(Row(sample, every=False, site=cell.number, unit=row, flip=mask, clocks=(clock, clock)))
    many = session.injected(rows * 20)
    found = session.injected(rows)
    said: dict[str, Any] = {"faults": count, "saboteurs_ms": 1e3 * many.seconds / len(rows) / 20}
    for sim in ("icarus", "verilator"):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            write_codes(place / "x.npz", session.inputs)
            # The first call builds the simulation.
            deposited(session, sim, place, faults[:1])
            start = time.perf_counter()
            differ = 0
            for i, fault in enumerate(faults[:RERUNS]):
                differ += unequal(deposited(session, sim, place, [fault]), found, [i])
            each = (time.perf_counter() - start) / min(count, RERUNS)
            at_once = deposited(session, sim, place, faults)
            differ += unequal(at_once, found, range(count))
        together = float(at_once["seconds"]) / count
        said |= {f"{sim}_rerun_ms": 1e3 * each, f"{sim}_one_process_ms": 1e3 * together, f"{sim}_differ": differ}
        said[f"{sim}_rerun_ratio"] = 1e3 * each / said["saboteurs_ms"]
        said[f"{sim}_one_process_ratio"] = 1e3 * together / said["saboteurs_ms"]
    return said


RERUNS = 8


def deposited(session: RtlSession, sim: str, place: Path, faults: Sequence[Any]) -> dict[str, Any]:
    (place / "f.json").write_text(json.dumps(list(faults)), encoding="utf-8")
    argv = [sys.executable, "-I", "-B", "bench/run.py", "--sim", sim, "--quiet", "--build", str(place / "build")]
    argv += ["-i", str(place / "x.npz"), "-o", str(place / "y.npz"), "--deposits", str(place / "f.json")]
    subprocess.run(argv, cwd=session.core, check=True, capture_output=True)
    with np.load(place / "y.npz") as file:
        return {name: file[name] for name in file.files}


def unequal(arrays: dict[str, Any], found: Any, numbers: Sequence[int]) -> int:
    wrong = np.zeros(len(numbers), bool)
    for n, states in found.states.items():
        wrong |= (arrays[f"state.{n}"] != states[:, list(numbers)]).any(axis=(0, *range(2, states.ndim)))
    for n, codes in found.outputs.items():
        wrong |= (arrays[n] != codes[list(numbers)]).reshape(len(numbers), -1).any(axis=1)
    return int(wrong.sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=sorted(NETS), default="serial")
    parser.add_argument("--faults", type=int, default=10000, metavar="N")
    parser.add_argument("--seed", type=int, default=5, metavar="S")
    parser.add_argument("--rerun", type=int, default=0, metavar="N")
    results.add_folder(parser)
    given = parser.parse_args()
    if given.rerun and given.arch != "serial":
        parser.error("--rerun names memories of the serial core")
    net = lowered(NETS[given.arch])
    codes, _ = data.encode(net, data.read_inputs(TEST, net, limit=360))
    with tempfile.TemporaryDirectory(prefix="eqcompile-cross-") as folder:
        emit_artifact(registry.target_class("rtl").of(arch=given.arch, trace=True, saboteurs=True), net, Path(folder))
        session = RtlSession(net, codes, 1, core=Path(folder))
        return crossed(session, codes, given)


def crossed(session: RtlSession, codes: Any, given: argparse.Namespace) -> int:
    serial = given.arch == "serial"
    said: dict[str, Any] = {"arch": given.arch, "net": NETS[given.arch]}
    if given.rerun:
        said["rerun"] = rerun(session, given.rerun, given.seed)
        sys.stdout.write(json.dumps(said["rerun"], indent=1) + "\n")
    cross = Cross(session, GoldenEngine().open(session.net, codes, near=1), codes)
    half, second = given.faults // 2, "weight" if serial else "accumulator"
    states = cross.drawn("seu", {"sites": "state"}, given.faults - half, given.seed)
    few = states.take(slice(0, CHUNK))
    cross.compare("mutant: a tick late", few, each(lambda u: replace(u, tick=u.tick + 1)))
    cross.compare("mutant: the next bit", few, each(next_bit))
    if serial:
        cross.compare("mutant: sums are not told", few, lambda row: replace(row, event=False))
    cross.compare("mutant: the neighbour", few, each(lambda u: replace(u, unit=u.unit ^ 1)))
    cross.compare("states", states)
    cross.compare(f"{second}s", cross.drawn("seu", {"sites": second}, half, given.seed))
    others = {kind: v for kind, v in OTHERS.items() if serial or kind not in ("accumulators", "weights stuck at 0")}
    for kind, (model, options) in others.items():
        cross.compare(kind, cross.drawn(model, options, max(given.faults // 40, 1), given.seed))
    said["cross"] = cross.rows
    columns = {"faults": "", "count": "", "differ": "simulated", "per_second": "measured", "other_s": "measured"}
    cells = [[str(r[k]) for k in columns] for r in cross.rows]
    sys.stdout.write(table(tuple(columns), cells) + "\n")
    words = f"`benchmarks/faults_cross.py --arch {given.arch}`: trajectories that differ in any state of any tick:"
    blocks = [results.text(words), results.table(columns, cells)]
    facts = [results.net_facts(NETS[given.arch], session.net)]
    title = f"Faults of the {given.arch} core against golden"
    results.record(f"faults_cross_{given.arch}", title, blocks, data=said, nets=facts, folder=given.out)
    differ = sum(v for k, v in said.get("rerun", {}).items() if k.endswith("_differ"))
    return 0 if cross.good and not differ else 1


if __name__ == "__main__":
    sys.exit(main())
