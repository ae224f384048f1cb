"""Random mutants of the product, judged by the tests that reach their line: `make mutants`.

    python tests/support/mutants.py --count 200 --seed 1

The tree is copied to build/mutants, once for each worker, and changed there, never in place. Each test file is run once
with probes (probes.py), which gives the lines that each test reaches and how long it takes. A mutant is judged by the
tests that reach its line, those that bear the name of its file or room first, then the shortest, up to a budget and to
the first failure; with `--simulators`, what is left over is judged by the closest files of tests that start a
simulator. Map and verdicts are kept under build/mutants, so that a run that was interrupted goes on; a change of a file
discards what was learnt of it. Judges are forked from a process that has imported the large packages, and Hypothesis
does not shrink.

The load of the machine kills nothing: limits are seconds of the processor, a failure because a clock ran out does not
count, one of a test that starts processes has to repeat itself, and what a last guard by the clock ends is `stalled`, a
survivor. Tests that crash kill if they pass on the unchanged tree; any other signal kills nothing. A test that fails on
the unchanged tree judges nothing: it is measured there, or runs there at the end.

The draw is a hash of seed and line, so it hardly changes when the product does. tests/support/mutants.json holds the
last runs and the mutants that were judged equivalent, with reasons.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import reach
from mutation import Mutant, mutants_of
from reach import (
    LIMIT_S,
    MAP_LIMIT_S,
    OVERTIME,
    ROOT,
    WORK,
    Failures,
    Map,
    beside,
    digest,
    enter,
    forked,
    in_workers,
    measure,
    pytest_status,
    say,
    sources,
    uses,
)

COMMITTED = Path(__file__).with_name("mutants.json")
PARTS = ("toolchain/importers", "toolchain/ir", "toolchain/certificate", "sim/faults", "sim/campaign")
LARGE = (
    *("numpy", "onnx", "onnxruntime", "hypothesis", "pytest", "scipy.stats", "amaranth", "amaranth.sim"),
    *("xdist", "torch", "numba", "jinja2", "sklearn.datasets", "duckdb", "safetensors.numpy", "packaging.requirements"),
)
# Seconds of the processor to start, and of simulators; tests may spend five times what they do without the mutant.
START_LIMIT_S, SIMULATORS_LIMIT_S, FIRST_TESTS = 20.0, 300.0, 8
# Workers, and the most that a run may have.
WORKERS, TREES = 2, 100
PAGE_TEXT = """\
Random changes of the product's own source, one at a time, each judged by tests that reach its line (`make mutants`). A
change that no test can see is equivalent; [mutants.json](../tests/support/mutants.json) gives the reason. Survivors of
a seed are given tests: its first run says more of changes that nobody has drawn than those after it do."""
NO_TESTS = 5
"""Pytest's exit status where no test was collected."""
KILLED = ("killed", "timeout")
CRASHES = tuple(-int(s) for s in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT))
"""Statuses of a process that its own instructions ended: compiled code that reads or writes beyond its arrays."""


def copy_tree() -> None:
    """The files that git knows, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in names.split("\0"):
        source, target = ROOT / name, reach.TREE / name
        if not name or not (source.exists() or source.is_symlink()):
            continue
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(source.readlink())
        elif not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def judged(
    mutant: Mutant, batches: Sequence[Sequence[str]], limit_s: float, number: int, processes: Set[str]
) -> tuple[str, str]:
    """`killed`, `timeout`, `stalled` or `survived` by batches of pytest's arguments, and the test that killed.

    A failure of a test that is one of `processes`, which start others, has to repeat itself.
    """
    path = reach.TREE / mutant.file
    content = path.read_bytes()

    def run(batches: Sequence[Sequence[str]]) -> int | None:
        def work() -> int:
            for batch in batches:
                status = pytest_status("-x", *batch, plugins=[Failures()])
                if status not in (0, NO_TESTS):
                    return status
            return 0

        beside(".failures").unlink(missing_ok=True)
        return forked(work, limit_s)

    path.write_bytes(content[: mutant.start] + mutant.new.encode() + content[mutant.end :])
    # Another time for each, so that no bytecode of the mutant before is taken for it.
    os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    try:
        status = run(batches)
        killer = " ".join(Failures.names()[:1])
        if killer in processes:
            status = run([[killer]])
            killer = " ".join(Failures.names()[:1])
    finally:
        path.write_bytes(content)
    if status is None:
        return "stalled", ""
    if status == OVERTIME:
        return "timeout", ""
    if killer:
        # A file that cannot be collected has failed as a whole.
        return "killed", next((t for batch in batches for t in batch if t.startswith(killer)), killer)
    if status == 0:
        return "survived", ""
    # It failed otherwise: by a clock, by a signal, or before pytest had a test. Without the mutant, too?
    ended = status < 0 and status not in CRASHES
    return ("not judged" if ended or beside(".clock").exists() or run(batches) != 0 else "killed"), ""


def unsound(killers: Sequence[str]) -> set[str]:
    """Those of the tests that fail on the unchanged tree."""
    if not killers:
        return set()
    status = forked(lambda: pytest_status(*killers, plugins=[Failures()]), MAP_LIMIT_S)
    if status not in (0, 1):
        raise SystemExit(f"the tests that killed did not run on the unchanged tree: status {status}")
    return set(Failures.names())


def room_of(file: str) -> str:
    return next((part for part in PARTS if file.startswith(part + "/")), file.split("/")[0])


def drawn(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """One mutant of each of `count` random lines of those that have one: the smallest hashes of seed and place."""
    lines: dict[tuple[str, int], list[Mutant]] = defaultdict(list)
    for file in files:
        for mutant in mutants_of(file, (reach.TREE / file).read_text(encoding="utf-8")):
            lines[file, mutant.line].append(mutant)

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()

    chosen = sorted(lines.values(), key=lambda of_line: rank(of_line[0].key))[:count]
    return [min(of_line, key=lambda m: rank(f"of line {m.key}")) for of_line in chosen]


def wanted(mutants: Sequence[Mutant]) -> list[str]:
    """Files of tests, those first that are the closest to the most mutants."""
    tests = sorted(str(p.relative_to(reach.TREE)) for p in (reach.TREE / "tests").rglob("test_*.py"))

    def close(test: str) -> int:
        return sum(Path(m.file).stem in test or test.split("/")[1] in Path(m.file).parts for m in mutants)

    return sorted(tests, key=lambda test: -close(test))


def table(results: Sequence[dict[str, Any]], equivalent: set[str]) -> dict[str, dict[str, int]]:
    """Verdicts by room; an equivalent mutant is no survivor."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        verdict = "equivalent" if result["key"] in equivalent else result["verdict"]
        rows[room_of(result["file"])][verdict] += 1
    return {room: dict(rows[room]) for room in sorted(rows)}


def shown(result: dict[str, Any]) -> str:
    return f"{result['verdict']} {result['file']}:{result['line']} {result['old']!r} -> {result['new']!r}"[:200]


def logged() -> list[dict[str, Any]]:
    log = WORK / "results.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class Judge:
    """Verdicts of mutants, from the log as far as neither their file nor their tests have changed since."""

    def __init__(self, known: Map, *, simulators: bool) -> None:
        self.known, self.simulators = known, simulators
        self.last: dict[tuple[str, str], dict[str, Any]] = {}
        self.passed: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.killers: dict[str, str] = {}
        """Tests that killed a mutant before its file was changed: the first to ask."""
        for row in logged():
            key = row["key"], row["digest"]
            if row["killer"] in known.seconds:
                self.killers[row["key"]] = row["killer"]
            self.passed[key] |= set(row["passed"])
            if key not in self.last or self.last[key]["verdict"] not in KILLED:
                self.last[key] = row

    def has_seen(self, mutant: Mutant) -> bool:
        """Whether it was judged before, by other tests perhaps."""
        return (mutant.key, digest(reach.TREE / mutant.file)) in self.last

    def __call__(self, number: int, mutant: Mutant) -> dict[str, Any]:
        first = [self.killers[mutant.key]] if mutant.key in self.killers else []
        tests = [*first, *(t for t in self.known.judges(mutant, uses) if t not in first)]
        limit_s = START_LIMIT_S + 5.0 * sum(self.known.seconds[t] for t in tests)
        result = self._judged(number, mutant, {f"{t} {_digest_of(t)}": t for t in tests}, limit_s)
        closest = self.known.simulators(mutant) if self.simulators and result["verdict"] not in KILLED else []
        if closest:
            state = " ".join(f"{t} {_digest_of(t)}" for t in closest)
            result = self._judged(number, mutant, {state: closest}, SIMULATORS_LIMIT_S)
        return result

    def _judged(
        self, number: int, mutant: Mutant, states: Mapping[str, str | list[str]], limit_s: float
    ) -> dict[str, Any]:
        """By the tests, or the arguments of pytest, that have not passed yet with this mutant."""
        key = mutant.key, digest(reach.TREE / mutant.file)
        result = self.last.get(key)
        if result is not None and (result["verdict"] in KILLED or self.passed[key].issuperset(states)):
            return result
        left = {state: tests for state, tests in states.items() if state not in self.passed[key]}
        names = [t for tests in left.values() for t in ([tests] if isinstance(tests, str) else tests)]
        batches = [names] if "-m" in names else [b for b in (names[:FIRST_TESTS], names[FIRST_TESTS:]) if b]
        verdict, killer = "not reached", ""
        if names:
            verdict, killer = judged(mutant, batches, limit_s, number, self.known.processes)
        if "-m" in names and verdict == "timeout":
            # Simulators may need longer than the limit without the mutant, too.
            verdict = "survived"
        result = {"key": mutant.key, "digest": key[1], "verdict": verdict, "killer": killer, **asdict(mutant)}
        result["passed"] = list(left) if verdict == "survived" else []
        with (WORK / "results.jsonl").open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        say(f"{number + 1} {shown(result)}")
        return result


def _digest_of(test: str) -> str:
    path = reach.TREE / test.split("::")[0]
    return digest(path) if path.exists() else ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants that are drawn (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--files", default="", help="only files whose path begins so, more of them with commas")
    parser.add_argument("--simulators", action="store_true", help="tests that start a simulator judge, too")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of tests of each (default %(default)g)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes (default %(default)d)")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--mapped", action="store_true", help="judge by the test files that are measured, record nothing")
    part.add_argument("--judged", action="store_true", help="judge no more, record what is judged")
    options = parser.parse_args(argv)
    WORK.mkdir(parents=True, exist_ok=True)
    # Other trees, since another run may still measure and judge.
    first = 2 * TREES if options.judged else TREES if options.mapped else 0
    workers = range(first, first + options.workers)
    for worker in workers:
        enter(worker)
        copy_tree()
    # As the tests have it: Triton decides when it is imported whether it interprets.
    os.environ["TRITON_INTERPRET"] = "1"
    # Two mutants of a file in one second, of one size: a compiled module of the first would pass for the second.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for package in LARGE:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    files = [f for f in sources(reach.TREE) if f.startswith(tuple(options.files.split(",")))]
    mutants = drawn(files, options.count, options.seed)
    tests = wanted(mutants)
    if not options.mapped and not options.judged:
        in_workers(tests, measure, workers)
    known = Map(tests, options.limit)
    committed = json.loads(COMMITTED.read_text())
    equivalent = {e["mutant"] for e in committed["equivalent"]}
    if not options.judged:
        judge = Judge(known, simulators=options.simulators)
        # All of its judges are asked of one that no test can see: last.
        in_workers(sorted(mutants, key=lambda m: (m.key in equivalent, judge.has_seen(m))), judge, workers)
    if options.mapped:
        return 0
    # Each that was judged is in the log now.
    last = Judge(known, simulators=options.simulators).last
    keys = ((mutant.key, digest(reach.TREE / mutant.file)) for mutant in mutants)
    results = [last[key] for key in keys if key in last]
    # A test that is measured as it stands has passed on the unchanged tree.
    failing = unsound(sorted({r["killer"] for r in results if r["killer"]} - known.seconds.keys()))
    results = [r | {"verdict": "not judged"} if r["killer"] in failing else r for r in results]
    verdicts = table(results, equivalent)
    total = sum((Counter(row) for row in verdicts.values()), Counter())
    killed, count = sum(total[v] for v in KILLED), total.total() - total["equivalent"]
    left = [r for r in results if r["verdict"] not in KILLED and r["key"] not in equivalent]
    for result in left:
        say(shown(result))
    for room, row in verdicts.items():
        say(f"{room:24} {row}")
    say(f"killed {killed} of {count}: {killed / max(count, 1):.1%}; {total['equivalent']} equivalent")
    if options.count and not options.files:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        committed["runs"][f"seed {options.seed}"] = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": head.decode().strip(),
            "drawn": options.count,
            "judged": len(results),
            "simulators": options.simulators,
            "killed": killed,
            "of": count,
            "rooms": verdicts,
            "survivors": [r["key"] for r in left],
        }
        COMMITTED.write_text(json.dumps(committed, indent=1) + "\n")
        publish(committed)
    return 0


def publish(committed: dict[str, Any]) -> None:
    """The scores of the recorded runs, room by room, for the page of results."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    results = importlib.import_module("results")
    blocks = [results.text(PAGE_TEXT)]
    for name, run in committed["runs"].items():
        judges = f"{'with' if run['simulators'] else 'without'} tests that start a simulator"
        counts = f"{run['drawn']} drawn, {run['judged']} judged {judges}; killed {run['killed']} of {run['of']}"
        share = f"{run['killed'] / max(run['of'], 1):.1%}"
        blocks.append(
            results.text(f"{name.capitalize()}: {counts} that are not equivalent, {share} ({run['commit']}).")
        )
        rows = [[room, *scores(row)] for room, row in run["rooms"].items()]
        head = {"room": "", "judged": "", "equivalent": "computed", "killed": "measured", "survive": "measured"}
        blocks.append(results.table(head, rows))
    results.record("mutants", "Mutants of the product", blocks, data=committed["runs"])


def scores(row: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Mutants of a room: judged, equivalent, killed and all others."""
    judged, equivalent, killed = sum(row.values()), row.get("equivalent", 0), sum(row.get(v, 0) for v in KILLED)
    return judged, equivalent, killed, judged - equivalent - killed


if __name__ == "__main__":
    sys.exit(main())
