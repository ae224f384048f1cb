"""Random mutants of the product, judged by the tests that reach their line: `make mutants`.

    python tests/support/mutants.py --count 200 --seed 1

The tree is copied to build/mutants/tree and changed there, never in place. Each test file is run once under coverage,
which gives the lines that each test reaches and how long it takes; a mutant is judged by the tests that reach its line,
shortest first, up to a budget. Both are kept under build/mutants, so that a run that was interrupted goes on; a change
of a file discards what was learnt of it. Processes are forked from one that has imported the large packages.

tests/support/mutants.json holds the last complete run and the mutants that were judged equivalent, with reasons.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mutation import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
COMMITTED = Path(__file__).with_name("mutants.json")
ROOMS = ("app", "quantization", "targets", "sim", "rtl", "toolchain")
PARTS = ("toolchain/importers", "toolchain/ir", "toolchain/certificate", "sim/faults", "sim/campaign")
LARGE = ("numpy", "onnx", "hypothesis", "pytest", "scipy.stats", "amaranth", "amaranth.sim", "coverage", "xdist")
MAP_LIMIT_S, TESTS_LIMIT_S, START_LIMIT_S = 1200.0, 60.0, 60.0
QUIET = "ignore::pytest.PytestAssertRewriteWarning"
KILLED = ("killed", "timeout")
say = functools.partial(print, flush=True)  # noqa: T201


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def sources(tree: Path) -> list[str]:
    """Python files of the product, without those that are emitted into artifacts."""
    paths = sorted(p.relative_to(tree) for room in ROOMS for p in (tree / room).rglob("*.py"))
    return [str(p) for p in paths if not {"templates", "__pycache__"} & set(p.parts)]


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


def forked(work: Callable[[], int], limit_s: float) -> int | None:
    """Exit status of `work` in a child with the large packages imported; None past the limit."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with (WORK / "log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        status = 3
        try:
            os.chdir(TREE)
            sys.path[:0] = [str(TREE / "src"), str(TREE / "tests" / "support")]
            os.environ["PYTHONPATH"] = str(TREE / "src")
            status = work()
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _end(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    _end(child)
    os.waitpid(child, 0)
    return None


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def pytest_status(*arguments: str, plugins: Sequence[Any]) -> int:
    import pytest

    return int(pytest.main(["-p", "no:cacheprovider", "-W", QUIET, "--tb=no", *arguments], plugins=list(plugins)))


class _Recorder:
    """Lines that each test reaches, and its duration."""

    def __init__(self) -> None:
        from coverage import Coverage

        self.seconds: dict[str, float] = defaultdict(float)
        self.coverage = Coverage(data_file=None, source=[str(TREE / room) for room in ROOMS])
        self.coverage.start()

    def pytest_runtest_setup(self, item: Any) -> None:
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            # It judges nothing.
            self.seconds[report.nodeid] = float("inf")

    def result(self) -> dict[str, Any]:
        self.coverage.stop()
        data, lines, digests = self.coverage.get_data(), {}, {}
        for path in data.measured_files():
            name = str(Path(path).relative_to(TREE))
            digests[name] = digest(Path(path))
            lines[name] = {n: [c for c in contexts] for n, contexts in data.contexts_by_lineno(path).items()}
        seconds = {test: s for test, s in self.seconds.items() if s != float("inf")}
        return {"seconds": seconds, "lines": lines, "digests": digests}


def mapped(test: str, simulators: bool) -> dict[str, Any]:
    """What the tests of a file reach, measured once: `{"seconds": {test: s}, "lines": {file: {line: [test]}}}`."""
    store = WORK / "map" / f"{test.replace('/', '.')}.json"
    if store.exists():
        found: dict[str, Any] = json.loads(store.read_text())
        if found["digest"] == digest(TREE / test):
            return found

    def work() -> int:
        recorder = _Recorder()
        pytest_status(test, *(() if simulators else ("-m", "not simulator")), plugins=[recorder])
        store.with_suffix(".part").write_text(json.dumps({"digest": digest(TREE / test), **recorder.result()}))
        return 0

    store.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    forked(work, MAP_LIMIT_S)
    part = store.with_suffix(".part")
    if not part.exists():
        part.write_text(json.dumps({"digest": digest(TREE / test), "seconds": {}, "lines": {}, "digests": {}}))
    part.rename(store)
    say(f"map {test}: {time.monotonic() - start:.0f} s")
    found = json.loads(store.read_text())
    return found


class Map:
    """Which tests reach a line."""

    def __init__(self, tests: Sequence[str], simulators: bool) -> None:
        self.seconds: dict[str, float] = {}
        self.of_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.of_file: dict[str, set[str]] = defaultdict(set)
        for test in tests:
            found = mapped(test, simulators)
            self.seconds |= found["seconds"]
            for file, lines in found["lines"].items():
                if not (TREE / file).exists() or digest(TREE / file) != found["digests"][file]:
                    # The lines have moved since they were measured.
                    self.of_file[file] |= set().union(*lines.values()) & set(found["seconds"])
                    continue
                for line, contexts in lines.items():
                    # A line that runs at import serves every test of the file.
                    names = found["seconds"] if "" in contexts else contexts
                    self.of_line[file, int(line)] |= set(names) & set(found["seconds"])

    def judges(self, mutant: Mutant) -> list[str]:
        """Tests that reach the line, those of the room itself first, then the shortest, as many as the limit allows."""
        room = mutant.file.split("/")[-2]
        names = self.of_line[mutant.file, mutant.line] | self.of_file[mutant.file]
        ordered = sorted(names, key=lambda n: (f"/{room}/" not in n, self.seconds[n]))
        ends = itertools.accumulate(self.seconds[n] for n in ordered)
        return [n for n, end in zip(ordered, ends, strict=True) if end < TESTS_LIMIT_S] or ordered[:1]


def judged(mutant: Mutant, tests: Sequence[str], seconds: float, number: int) -> str:
    """`killed`, `timeout` or `survived`."""
    path = TREE / mutant.file
    content = path.read_bytes()
    path.write_bytes(content[: mutant.start] + mutant.new.encode() + content[mutant.end :])
    # Another time for each, so that no bytecode of the mutant before is taken for it.
    os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    try:
        status = forked(lambda: pytest_status("-x", *tests, plugins=()), START_LIMIT_S + 10.0 * seconds)
    finally:
        path.write_bytes(content)
    return "timeout" if status is None else "survived" if status == 0 else "killed"


def room_of(file: str) -> str:
    return next((part for part in PARTS if file.startswith(part + "/")), file.split("/")[0])


def drawn(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """One mutant of each of `count` random lines of those that have one."""
    lines: dict[tuple[str, int], list[Mutant]] = defaultdict(list)
    for file in files:
        for mutant in mutants_of(file, (TREE / file).read_text(encoding="utf-8")):
            lines[file, mutant.line].append(mutant)
    source = random.Random(seed)
    return [source.choice(lines[at]) for at in source.sample(sorted(lines), min(count, len(lines)))]


def table(results: Sequence[dict[str, Any]], equivalent: set[str]) -> dict[str, dict[str, int]]:
    """Verdicts by room; an equivalent mutant is no survivor."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        verdict = "equivalent" if result["key"] in equivalent else result["verdict"]
        rows[room_of(result["file"])][verdict] += 1
    return {room: dict(rows[room]) for room in sorted(rows)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants that are drawn (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--files", default="", help="only files whose path begins so, more of them with commas")
    parser.add_argument("--tests", default="tests", help="only test files whose path begins so, more with commas")
    parser.add_argument("--simulators", action="store_true", help="tests that start a simulator judge, too")
    options = parser.parse_args(argv)
    committed = json.loads(COMMITTED.read_text())
    say(f"last run: {json.dumps(committed['last_run'])}")
    WORK.mkdir(parents=True, exist_ok=True)
    copy_tree()
    for package in LARGE:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    tests = sorted(str(p.relative_to(TREE)) for p in (TREE / "tests").rglob("test_*.py"))
    known = Map([t for part in options.tests.split(",") for t in tests if t.startswith(part)], options.simulators)
    log = WORK / "results.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    # A mutant that survived is tried again: there may be a new test.
    done = {(r["key"], r["digest"]): r for r in rows if r["verdict"] in KILLED}
    files = [f for f in sources(TREE) if f.startswith(tuple(options.files.split(",")))]
    results = []
    for number, mutant in enumerate(drawn(files, options.count, options.seed)):
        state = digest(TREE / mutant.file)
        result = done.get((mutant.key, state))
        if result is None:
            judges = known.judges(mutant)
            seconds = sum(known.seconds[t] for t in judges)
            verdict = judged(mutant, judges, seconds, number) if judges else "not reached"
            result = {"key": mutant.key, "digest": state, "verdict": verdict, "tests": len(judges), **asdict(mutant)}
            with log.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            change = f"{mutant.old!r} -> {mutant.new!r}"
            say(f"{number + 1} {verdict} {mutant.file}:{mutant.line} {change:.120}")
        results.append(result)
    verdicts = table(results, {e["mutant"] for e in committed["equivalent"]})
    total = sum((Counter(row) for row in verdicts.values()), Counter())
    killed, count = sum(total[v] for v in KILLED), total.total() - total["equivalent"]
    for room, row in verdicts.items():
        say(f"{room:24} {row}")
    say(f"killed {killed} of {count}: {killed / max(count, 1):.1%}; {total['equivalent']} equivalent")
    if options.count:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        committed["last_run"] = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": head.decode().strip(),
            **{k: v for k, v in vars(options).items() if v},
            "killed": killed,
            "of": count,
            "rooms": verdicts,
        }
        COMMITTED.write_text(json.dumps(committed, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
