"""Which tests of the product reach which of its lines, measured in a copy of the tree by processes that are forked."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mutation import Mutant
from probes import Probes

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
"""The copy that this process changes: each worker has its own."""
ROOMS = ("app", "quantization", "targets", "sim", "rtl", "toolchain")
OVERTIME = -int(signal.SIGXCPU)
"""Status of a process that spent its seconds of the processor."""
# Seconds of the processor: of a test that may judge, of a test file whose tests may judge, and of those that judge one
# mutant. What a limit leaves out can only leave a mutant alive.
TEST_LIMIT_S, FILE_LIMIT_S, LIMIT_S = 10.0, 60.0, 20.0
MAP_LIMIT_S = 1200.0
WALL_PER_CPU, WALL_LEAST_S = 30.0, 1800.0
SIMULATOR_FILES = 2
MEMORY = 8 << 30
"""Of a process that judges, in bytes of addresses: a mutant may ask for more than there is."""
QUIET = "ignore::pytest.PytestAssertRewriteWarning"
say = functools.partial(print, flush=True)  # noqa: T201


Item = TypeVar("Item")


class TooLongError(BaseException):
    """Ends a test that spends more than `TEST_LIMIT_S` while it is mapped."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def sources(tree: Path) -> list[str]:
    """Python files of the product, without those that are emitted into artifacts."""
    paths = sorted(p.relative_to(tree) for room in ROOMS for p in (tree / room).rglob("*.py"))
    return [str(p) for p in paths if not {"templates", "__pycache__"} & set(p.parts)]


def enter(worker: int) -> None:
    """From here on, this process has a tree of its own."""
    global TREE  # noqa: PLW0603 - one for a process
    TREE = WORK / f"tree{worker}"


def beside(suffix: str) -> Path:
    """A file of this worker."""
    return TREE.with_name(TREE.name + suffix)


def in_workers(items: Sequence[Item], work: Callable[[int, Item], object], workers: Sequence[int]) -> None:
    """Each item once, by the worker that is free; each worker has its own tree."""
    claims = WORK / f"claims{workers[0]}"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir(parents=True)
    children = []
    for worker in workers:
        child = os.fork()
        if child:
            children.append(child)
            continue
        status = 1
        try:
            enter(worker)
            for number, item in enumerate(items):
                with contextlib.suppress(FileExistsError):
                    (claims / str(number)).touch(exist_ok=False)
                    work(number, item)
            status = 0
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            os._exit(status)
    if any([os.waitpid(child, 0)[1] for child in children]):
        raise SystemExit("a worker failed: its traceback is above")


def forked(work: Callable[[], int], limit_s: float) -> int | None:
    """Exit status of `work` in a child with the large packages imported; `OVERTIME` if it or a process that it starts
    spends more than `limit_s` seconds of the processor, whatever else the machine does. None where a last guard by the
    clock ended it: that says nothing of `work`.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        with beside(".log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        status = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s) + 1, int(limit_s) + 10))
            # Of what may be written: browsers and WebAssembly reserve far more.
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
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
    deadline = time.monotonic() + max(WALL_PER_CPU * limit_s, WALL_LEAST_S)
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
    finally:
        _end(child or done)
        if child:
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
    fixed = ["-p", "no:cacheprovider", "-W", QUIET, "--tb=no", f"--basetemp={beside('.tmp')}"]
    return int(pytest.main([*fixed, *arguments], plugins=list(plugins)))


class Failures:
    """Names of the tests that failed, written beside the tree as they fail.

    One that ended because a clock ran out is not among them: a loaded machine does that, too. It leaves `.clock`.
    """

    CLOCKS = frozenset({"TimeoutExpired", "TimeoutError", "DeadlineExceeded", "Timeout"})

    def __init__(self) -> None:
        for suffix in (".failures", ".clock"):
            beside(suffix).unlink(missing_ok=True)

    def pytest_exception_interact(self, node: Any, call: Any) -> None:
        error: BaseException | None = call.excinfo.value
        while error is not None:
            if type(error).__name__ in self.CLOCKS:
                beside(".clock").touch()
                return
            error = error.__cause__ or error.__context__
        with beside(".failures").open("a") as stream:
            stream.write(node.nodeid + "\n")

    @staticmethod
    def names() -> list[str]:
        path = beside(".failures")
        return path.read_text().splitlines() if path.exists() else []


def _processor_s() -> tuple[float, float]:
    """Of this process, and of those that it has waited for."""
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


class _Recorder:
    """Lines that each test reaches, its seconds of the processor, and whether it starts processes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processes: list[str] = []
        self.reached: dict[str, dict[str, list[int]]] = {}
        self.failed: set[str] = set()
        self.files = sources(TREE)
        self.probes = Probes(TREE, self.files)
        self.probes.install()
        signal.signal(signal.SIGPROF, self._too_long)

    def pytest_collection_finish(self, session: Any) -> None:
        self.session = session

    def _too_long(self, number: int, frame: object) -> None:
        raise TooLongError

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.probes.taken()
        self.start = _processor_s()
        signal.setitimer(signal.ITIMER_PROF, TEST_LIMIT_S, 1.0)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        own, children = (end - start for start, end in zip(self.start, _processor_s(), strict=True))
        self.reached[nodeid] = self.probes.taken()
        self.seconds[nodeid] = round(own + children, 3)
        if children:
            self.processes.append(nodeid)
        if sum(self.seconds.values()) > FILE_LIMIT_S:
            self.session.shouldstop = "enough of this file"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def result(self) -> dict[str, Any]:
        """What a test that fails reaches is left out: it judges nothing."""
        lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        seconds = {test: s for test, s in self.seconds.items() if test not in self.failed}
        for test in seconds:
            for file, numbers in self.reached[test].items():
                for number in numbers:
                    lines[file][number].append(test)
        loaded = {os.path.realpath(getattr(module, "__file__", None) or "") for module in [*sys.modules.values()]}
        imported = [file for file in self.files if os.path.realpath(TREE / file) in loaded]
        digests = {file: digest(TREE / file) for file in imported}
        return {"seconds": seconds, "processes": self.processes, "lines": lines, "digests": digests}


def judges_nothing(test: str) -> bool:
    """Whether all tests of a file start a simulator, or are of the text of the repository and run no product."""
    return test.count("/") == 1 or "\npytestmark = pytest.mark.simulator" in (TREE / test).read_text(encoding="utf-8")


def store_of(test: str) -> Path:
    """Where the map of this text of a test file is kept."""
    return WORK / "map" / f"{test.replace('/', '.')}.{digest(TREE / test)}.json"


def measure(number: int, test: str) -> None:
    """What the tests of a file reach: `{"seconds": {test: s}, "lines": {file: {line: [test]}}, ...}`, once.

    Tests that start a simulator are left out.
    """
    store = store_of(test)
    if store.exists():
        return
    part = store.with_suffix(".part")
    empty: dict[str, Any] = {"seconds": {}, "processes": [], "lines": {}, "digests": {}}
    part.parent.mkdir(exist_ok=True)
    part.write_text(json.dumps(empty))

    def work() -> int:
        recorder = _Recorder()
        pytest_status(test, "-m", "not simulator", plugins=[recorder])
        part.write_text(json.dumps(recorder.result()))
        return 0

    start = time.monotonic(), sum(_processor_s())
    status = 0 if judges_nothing(test) else forked(work, MAP_LIMIT_S)
    wall, cpu = time.monotonic() - start[0], sum(_processor_s()) - start[1]
    count = len(json.loads(part.read_text())["seconds"])
    say(f"map {number + 1} {test}: {count} tests, {cpu:.0f} s of the processor, {wall:.0f} s, status {status}")
    part.rename(store)


class Map:
    """Which tests reach a line, of the test files that are measured."""

    def __init__(self, tests: Sequence[str], limit_s: float = LIMIT_S) -> None:
        self.tests, self.limit_s = tests, limit_s
        self.seconds: dict[str, float] = {}
        self.of_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.of_file: dict[str, set[str]] = defaultdict(set)
        self.importers: dict[str, set[str]] = defaultdict(set)
        self.moved: set[str] = set()
        self.processes: set[str] = set()
        for test in tests:
            if not store_of(test).exists():
                continue
            reached = json.loads(store_of(test).read_text())
            self.processes |= set(reached["processes"])
            seconds = reached["seconds"]
            self.seconds |= seconds
            for file, before in reached["digests"].items():
                # What runs at import, and what Numba compiles, has no test of its own.
                self.importers[file] |= set(seconds)
                if not (TREE / file).exists() or digest(TREE / file) != before:
                    self.moved.add(file)
            for file, lines in reached["lines"].items():
                self.of_file[file] |= set().union(*lines.values())
                for line, names in lines.items():
                    self.of_line[file, int(line)] |= set(names)

    def judges(self, mutant: Mutant, uses: Callable[[Mutant], Sequence[tuple[str, int]]]) -> list[str]:
        """Tests that reach the line, the closest by name first, then the shortest, as many as the limit allows.

        A line that runs at import is reached where the name that it binds is used. A file that has no probes, since it
        is compiled, may be reached by every test that reaches its folder.
        """
        file, stem = mutant.file, Path(mutant.file).stem
        names = self.of_file[file] if file in self.moved else self.of_line[file, mutant.line]
        names = names or set().union(*(self.of_line[at] for at in uses(mutant)))
        names = names or self.of_file[file] or self.importers[file]
        if not self.of_file[file]:
            folder = Path(file).parent
            names = names.union(*(self.of_file[other] for other in [*self.of_file] if Path(other).parent == folder))
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
    bound = re.match(r"\s*(?:(?:async )?def |class )?(\w+)", line)
    return words_of(TREE)[bound[1]] if bound else []
