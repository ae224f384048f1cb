"""Which tests of the product reach which of its lines, measured in a copy of the tree by processes that are forked."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mutation import Mutant

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
FAILURES = WORK / "failures"
ROOMS = ("app", "quantization", "targets", "sim", "rtl", "toolchain")
MAP_LIMIT_S = 1200.0
# Seconds of tests that judge a mutant, and files of tests that start a simulator.
LIMIT_S, SIMULATOR_FILES = 60.0, 4
QUIET = "ignore::pytest.PytestAssertRewriteWarning"
say = functools.partial(print, flush=True)  # noqa: T201


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def sources(tree: Path) -> list[str]:
    """Python files of the product, without those that are emitted into artifacts."""
    paths = sorted(p.relative_to(tree) for room in ROOMS for p in (tree / room).rglob("*.py"))
    return [str(p) for p in paths if not {"templates", "__pycache__"} & set(p.parts)]


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
    import hypothesis
    import pytest

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    return int(pytest.main(["-p", "no:cacheprovider", "-W", QUIET, "--tb=no", *arguments], plugins=list(plugins)))


class Failures:
    """Names of the tests that failed, written down as they fail."""

    def __init__(self) -> None:
        FAILURES.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with FAILURES.open("a") as stream:
                stream.write(report.nodeid + "\n")

    @staticmethod
    def names() -> list[str]:
        return FAILURES.read_text().splitlines() if FAILURES.exists() else []


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


def mapped(test: str) -> dict[str, Any]:
    """What the tests of a file reach, measured once: `{"seconds": {test: s}, "lines": {file: {line: [test]}}}`.

    Tests that start a simulator are left out.
    """
    store = WORK / "map" / f"{test.replace('/', '.')}.json"
    state = {"digest": digest(TREE / test)}
    if store.exists():
        reached: dict[str, Any] = json.loads(store.read_text())
        if reached["digest"] == state["digest"]:
            return reached

    part = store.with_suffix(".part")

    def work() -> int:
        recorder = _Recorder()
        pytest_status(test, "-m", "not simulator", plugins=[recorder])
        part.write_text(json.dumps(state | recorder.result()))
        return 0

    store.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    forked(work, MAP_LIMIT_S)
    say(f"map {test}: {time.monotonic() - start:.0f} s")
    if not part.exists():
        part.write_text(json.dumps(state | {"seconds": {}, "lines": {}, "digests": {}}))
    part.rename(store)
    reached = json.loads(store.read_text())
    return reached


class Map:
    """Which tests reach a line."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.tests = tests
        self.limit_s = LIMIT_S
        self.seconds: dict[str, float] = {}
        self.of_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.of_file: dict[str, set[str]] = defaultdict(set)
        self.importers: dict[str, set[str]] = defaultdict(set)
        self.moved: set[str] = set()
        for test in tests:
            reached = mapped(test)
            seconds = reached["seconds"]
            self.seconds |= seconds
            for file, lines in reached["lines"].items():
                contexts = set().union(*lines.values()) & set(seconds)
                self.of_file[file] |= contexts
                # What runs at import, and what Numba compiles, has no test of its own.
                self.importers[file] |= set(seconds)
                if not (TREE / file).exists() or digest(TREE / file) != reached["digests"][file]:
                    self.moved.add(file)
                for line, names in lines.items():
                    self.of_line[file, int(line)] |= set(names) & set(seconds)

    def judges(self, mutant: Mutant, uses: Callable[[Mutant], Sequence[tuple[str, int]]]) -> list[str]:
        """Tests that reach the line, the closest by name first, then the shortest, as many as the limit allows.

        A line that runs at import is reached where the name that it binds is used.
        """
        file, stem = mutant.file, Path(mutant.file).stem
        names = self.of_file[file] if file in self.moved else self.of_line[file, mutant.line]
        names = names or set().union(*(self.of_line[at] for at in uses(mutant)))
        names = names or self.of_file[file] or self.importers[file]
        rooms = {f"tests/{part}/" for part in Path(file).parent.parts}

        def distance(name: str) -> int:
            return 0 if stem in name.split("::")[0] else 1 if any(map(name.startswith, rooms)) else 2

        ordered = sorted(names, key=lambda n: (distance(n), self.seconds[n]))
        ends = itertools.accumulate(self.seconds[n] for n in ordered)
        return [n for n, end in zip(ordered, ends, strict=True) if end < self.limit_s] or ordered[:1]

    def simulators(self, mutant: Mutant) -> list[str]:
        """Arguments of pytest: the closest test files by name that start a simulator."""
        words = {*Path(mutant.file).parent.parts, Path(mutant.file).stem}
        files = [t for t in self.tests if "mark.simulator" in (TREE / t).read_text(encoding="utf-8")]

        def distance(test: str) -> tuple[int, int, str]:
            common = sum(word in test for word in words)
            return -common, (TREE / test).stat().st_size, test

        close = [t for t in sorted(files, key=distance) if distance(t)[0] < 0][:SIMULATOR_FILES]
        return ["-m", "simulator", *close] if close else []


@functools.cache
def words_of(tree: Path) -> dict[str, list[tuple[str, int]]]:
    """Places of every word of the product."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file in sources(tree):
        for number, line in enumerate((tree / file).read_text(encoding="utf-8").splitlines(), 1):
            for word in set(re.findall(r"\w+", line)):
                places[word].append((file, number))
    return places


def uses(mutant: Mutant) -> list[tuple[str, int]]:
    """Lines that use the name which the mutant's line binds, a constant or a field."""
    line = (TREE / mutant.file).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
    bound = re.match(r"\s*(\w+)", line)
    return words_of(TREE)[bound[1]] if bound else []
