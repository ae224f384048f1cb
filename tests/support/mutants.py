"""Random mutants of the product, judged by the tests that reach their line: `make mutants`.

    python tests/support/mutants.py --count 200 --seed 1

The tree is copied to build/mutants/tree and changed there, never in place. Each test file is run once under coverage,
which gives the lines that each test reaches and how long it takes. A mutant is judged by the tests that reach its line,
those that bear the name of its file or room first, then the shortest, up to a budget and to the first failure; with
`--simulators`, what is left over is judged by the closest files of tests that start a simulator. Map and verdicts are
kept under build/mutants, so that a run that was interrupted goes on; a change of a file discards what was learnt of it.
Judges are forked from a process that has imported the large packages, and Hypothesis does not shrink. At the end the
tests that killed run on the unchanged tree: one that fails there has judged nothing.

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
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mutation import Mutant, mutants_of
from reach import (
    FAILURES,
    MAP_LIMIT_S,
    ROOT,
    TREE,
    WORK,
    Failures,
    Map,
    digest,
    forked,
    pytest_status,
    say,
    sources,
    uses,
)

COMMITTED = Path(__file__).with_name("mutants.json")
PARTS = ("toolchain/importers", "toolchain/ir", "toolchain/certificate", "sim/faults", "sim/campaign")
LARGE = (
    *("numpy", "onnx", "onnxruntime", "hypothesis", "pytest", "scipy.stats", "amaranth", "amaranth.sim", "coverage"),
    *("xdist", "torch", "numba", "jinja2", "sklearn.datasets", "duckdb", "safetensors.numpy", "packaging.requirements"),
)
START_LIMIT_S, SIMULATORS_LIMIT_S, FIRST_TESTS = 60.0, 300.0, 8
NO_TESTS = 5
"""Pytest's exit status where no test was collected."""
KILLED = ("killed", "timeout")


def copy_tree() -> None:
    """The files that git knows, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in names.split("\0"):
        source, target = ROOT / name, TREE / name
        if not name or not (source.exists() or source.is_symlink()):
            continue
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(source.readlink())
        elif not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def judged(mutant: Mutant, batches: Sequence[Sequence[str]], limit_s: float, number: int) -> tuple[str, str]:
    """`killed`, `timeout` or `survived` by batches of pytest's arguments, and the test that killed."""
    path = TREE / mutant.file
    content = path.read_bytes()

    def work() -> int:
        status = 0
        for batch in batches:
            status = status or pytest_status("-x", *batch, plugins=[Failures()])
        return 0 if status == NO_TESTS else status

    def run() -> int | None:
        return forked(work, limit_s)

    path.write_bytes(content[: mutant.start] + mutant.new.encode() + content[mutant.end :])
    # Another time for each, so that no bytecode of the mutant before is taken for it.
    os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    FAILURES.unlink(missing_ok=True)
    try:
        status = run()
    finally:
        path.write_bytes(content)
    killer = " ".join(Failures.names()[:1])
    if status is None:
        return "timeout", killer
    if status and not killer and run():
        # It fails without the mutant, too: a test that is not there any more, say.
        return "not judged", killer
    return ("killed" if status else "survived"), killer


def unsound(killers: Sequence[str]) -> set[str]:
    """Those of the tests that fail on the unchanged tree."""
    if killers:
        forked(lambda: pytest_status(*killers, plugins=[Failures()]), MAP_LIMIT_S)
    return set(Failures.names()) if killers else set()


def room_of(file: str) -> str:
    return next((part for part in PARTS if file.startswith(part + "/")), file.split("/")[0])


def drawn(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """One mutant of each of `count` random lines of those that have one: the smallest hashes of seed and place."""
    lines: dict[tuple[str, int], list[Mutant]] = defaultdict(list)
    for file in files:
        for mutant in mutants_of(file, (TREE / file).read_text(encoding="utf-8")):
            lines[file, mutant.line].append(mutant)

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()

    chosen = sorted(lines.values(), key=lambda of_line: rank(of_line[0].key))[:count]
    return [min(of_line, key=lambda m: rank(f"of line {m.key}")) for of_line in chosen]


def table(results: Sequence[dict[str, Any]], equivalent: set[str]) -> dict[str, dict[str, int]]:
    """Verdicts by room; an equivalent mutant is no survivor."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        verdict = "equivalent" if result["key"] in equivalent else result["verdict"]
        rows[room_of(result["file"])][verdict] += 1
    return {room: dict(rows[room]) for room in sorted(rows)}


def shown(result: dict[str, Any]) -> str:
    return f"{result['verdict']} {result['file']}:{result['line']} {result['old']!r} -> {result['new']!r}"[:200]


def verdicts_of(mutants: Sequence[Mutant], known: Map, *, simulators: bool) -> list[dict[str, Any]]:
    """The verdict of each, from the log where neither its file nor its tests have changed since."""
    log = WORK / "results.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["key"], r["digest"], r["state"]): r for r in rows}
    killed = {(r["key"], r["digest"]): r for r in rows if r["verdict"] in KILLED}
    results = []
    for number, mutant in enumerate(mutants):
        file = digest(TREE / mutant.file)
        result = killed.get((mutant.key, file))
        judges = known.judges(mutant, uses)
        seconds = sum(known.seconds[t] for t in judges)
        stages = [([b for b in (judges[:FIRST_TESTS], judges[FIRST_TESTS:]) if b], START_LIMIT_S + 10.0 * seconds)]
        if simulators:
            closest = known.simulators(mutant)
            stages += [([closest], SIMULATORS_LIMIT_S)] if closest else []
        for batches, limit_s in stages:
            if result is not None and result["verdict"] in KILLED:
                break
            tests = [t for batch in batches for t in batch]
            parts = [*tests, *(digest(TREE / f) for f in sorted({t.split("::")[0] for t in tests if "/" in t}))]
            state = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
            result = done.get((mutant.key, file, state))
            if result is None:
                verdict, killer = judged(mutant, batches, limit_s, number) if tests else ("not reached", "")
                if batches == [known.simulators(mutant)] and verdict == "timeout":
                    # Simulators may need longer than the limit without the mutant, too.
                    verdict = "survived"
                result = {"key": mutant.key, "digest": file, "state": state, "verdict": verdict, "killer": killer}
                result |= {"tests": len(tests), **asdict(mutant)}
                with log.open("a") as stream:
                    stream.write(json.dumps(result) + "\n")
                say(f"{number + 1} {shown(result)}")
        assert result is not None
        results.append(result)
    failing = unsound(sorted({r["killer"] for r in results if r["killer"]}))
    return [r | {"verdict": "not judged"} if r["killer"] in failing else r for r in results]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants that are drawn (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--files", default="", help="only files whose path begins so, more of them with commas")
    parser.add_argument("--simulators", action="store_true", help="tests that start a simulator judge, too")
    options = parser.parse_args(argv)
    WORK.mkdir(parents=True, exist_ok=True)
    copy_tree()
    # As the tests have it: Triton decides when it is imported whether it interprets.
    os.environ["TRITON_INTERPRET"] = "1"
    for package in LARGE:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    tests = sorted(str(p.relative_to(TREE)) for p in (TREE / "tests").rglob("test_*.py"))
    known = Map(tests)
    files = [f for f in sources(TREE) if f.startswith(tuple(options.files.split(",")))]
    results = verdicts_of(drawn(files, options.count, options.seed), known, simulators=options.simulators)
    committed = json.loads(COMMITTED.read_text())
    equivalent = {e["mutant"] for e in committed["equivalent"]}
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
            "simulators": options.simulators,
            "killed": killed,
            "of": count,
            "rooms": verdicts,
            "survivors": [r["key"] for r in left],
        }
        COMMITTED.write_text(json.dumps(committed, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
