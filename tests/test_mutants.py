"""The tool that draws mutants: its changes are programs, and what it is told of them is still true."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutants
import pytest
import reach
from mutants import COMMITTED, drawn, room_of, table
from mutation import Mutant, mutants_of
from probes import NAME, Probes
from reach import ROOT, Map, digest, sources, uses

SOURCE = '''
def f(a: int = 3, *, b: "x < y" = None) -> int:
    """Doc 1 < 2."""
    if a <= 1 and not b:
        raise ValueError(f"{a + 1}")
    total = 0
    for k in range(a):
        total += k << 2
        g(k)
    return total
'''


def test_every_change_is_a_program_and_another_one() -> None:
    """Would break if a mutant were no Python, so that any test killed it, or were the program itself."""
    found = list(mutants_of("f.py", SOURCE))
    whole = ast.dump(ast.parse(SOURCE))
    for mutant in found:
        content = SOURCE.encode()
        changed = (content[: mutant.start] + mutant.new.encode() + content[mutant.end :]).decode()
        assert ast.dump(ast.parse(changed)) != whole
    assert len({m.key for m in found}) == len(found)
    changes = {(m.old, m.new) for m in found}
    assert {("a <= 1", "(a < 1)"), ("not b", "(b)"), ("total += k << 2", "pass"), ("k << 2", "(k >> 2)")} <= changes
    assert {("g(k)", "pass"), ("return total", "return None"), ("0", "(1)")} <= changes
    assert not any("x < y" in old or "Doc" in old for old, _ in changes if "\n" not in old)


def test_a_place_stays_when_lines_above_move() -> None:
    """Would break if a mutant that was judged equivalent were drawn again after a comment was added."""
    before, after = ([m.key for m in mutants_of("f.py", text)] for text in (SOURCE, "# more\n" + SOURCE))
    assert before == after


def test_what_was_judged_equivalent_is_in_the_product() -> None:
    """Would break if the list kept reasons for code that is gone: a mutant of the same name would be excused."""
    listed = json.loads(COMMITTED.read_text())["equivalent"]
    files = {entry["mutant"].split(" ")[0] for entry in listed}
    assert files <= set(sources(ROOT))
    known = {m.key for file in files for m in mutants_of(file, (ROOT / file).read_text(encoding="utf-8"))}
    assert [e["mutant"] for e in listed if e["mutant"] not in known] == []
    assert all(e["reason"] for e in listed)


def test_an_equivalent_mutant_is_no_survivor() -> None:
    """Would break if the score counted what no test can see, or what nothing reaches as killed."""
    rows = [
        {"key": k, "file": "rtl/a.py", "verdict": v} for k, v in (("a", "killed"), ("b", "survived"), ("c", "survived"))
    ]
    assert table(rows, {"b"}) == {"rtl": {"killed": 1, "equivalent": 1, "survived": 1}}
    assert room_of("sim/faults/engine.py") == "sim/faults"


def test_a_draw_is_random_and_hardly_moves_with_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if an edit of one file drew other mutants of every file, so that no run could be gone on with."""
    monkeypatch.setattr(reach, "TREE", tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("\n".join(f"def f{k}():\n    return {k} < 1" for k in range(40)))
    before = drawn(["a.py", "b.py"], 10, 1)
    assert len({(m.file, m.line) for m in before}) == 10
    assert {m.key for m in drawn(["a.py", "b.py"], 10, 2)} != {m.key for m in before}
    (tmp_path / "a.py").write_text("x = 1\n" + (tmp_path / "a.py").read_text())
    assert len({m.key for m in before} & {m.key for m in drawn(["a.py", "b.py"], 10, 1)}) >= 9


def test_a_line_is_judged_by_the_closest_tests_that_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if tests were chosen that do not run the line, or a constant were judged by every test."""
    monkeypatch.setattr(reach, "TREE", tmp_path)
    (tmp_path / "sim").mkdir()
    text = "LIMIT = 6\n\ndef f(x):\n    return x < LIMIT\n"
    (tmp_path / "sim/rate.py").write_text(text)
    near, room, far = "tests/sim/test_rate.py::t", "tests/sim/test_other.py::t", "tests/app/test_cli.py::t"
    one = {
        "seconds": {near: 9.0, room: 2.0, far: 1.0},
        "processes": [],
        "lines": {"sim/rate.py": {"4": [far, near, room]}},
        "digests": {"sim/rate.py": digest(tmp_path / "sim/rate.py")},
    }
    (tmp_path / "map.json").write_text(json.dumps(one))
    monkeypatch.setattr(reach, "store_of", lambda test: tmp_path / "map.json")
    reach.words_of.cache_clear()
    known = Map(["any"])
    of_line = {m.line: known.judges(m, uses) for m in mutants_of("sim/rate.py", text)}
    assert of_line == {1: [near, room, far], 4: [near, room, far]}
    monkeypatch.setattr(known, "limit_s", 10.0)
    known.of_line["sim/rate.py", 4].discard(near)
    assert known.judges(next(m for m in mutants_of("sim/rate.py", text) if m.line == 4), uses) == [room, far]


def test_a_compiled_file_is_judged_by_the_tests_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if only tests that happen to reach a word of its line elsewhere were asked."""
    monkeypatch.setattr(reach, "TREE", tmp_path)
    (tmp_path / "sim/fast").mkdir(parents=True)
    (tmp_path / "app").mkdir()
    (tmp_path / "sim/fast/kernel.py").write_text("from numba import njit\n\ndef f(x):\n    row = x + 1\n")
    (tmp_path / "app/page.py").write_text("row = 2\n")
    beside, word, neither = "tests/sim/test_fast.py::t", "tests/app/test_page.py::t", "tests/app/test_cli.py::t"
    one = {
        "seconds": {beside: 1.0, word: 2.0, neither: 3.0},
        "processes": [],
        "lines": {"sim/fast/engine.py": {"9": [beside]}, "app/page.py": {"1": [word]}, "app/cli.py": {"1": [neither]}},
        "digests": {},
    }
    (tmp_path / "map.json").write_text(json.dumps(one))
    monkeypatch.setattr(reach, "store_of", lambda test: tmp_path / "map.json")
    reach.words_of.cache_clear()
    text = (tmp_path / "sim/fast/kernel.py").read_text()
    (mutant,) = (m for m in mutants_of("sim/fast/kernel.py", text) if m.old == "x + 1")
    assert Map(["any"]).judges(mutant, uses) == [beside, word]


PROBED = """
TOP = 1

class C:
    FIELD = 2

def f(a,
      b=3):
    \"\"\"Text.\"\"\"
    if a:
        return (b +
                1)
    elif b > 4:
        match a:
            case 0 if b < 6:
                b = 5
    def g():
        return 7
    return b
"""


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        (lambda f: f(1), {10, 11, 12}),
        (lambda f: f(0), {10, 13, 17, 19}),
        (lambda f: f(0, 5), {10, 13, 14, 15, 16, 17, 19}),
    ],
)
def test_probes_tell_the_lines_that_ran(tmp_path: Path, call: Callable[[Any], Any], lines: set[int]) -> None:
    """Would break if a test were said to reach a line that it does not run, or what runs at import had a test."""
    probes = Probes(tmp_path, ["a.py"])
    room: dict[str, Any] = {NAME: probes.ran.add}
    exec(compile(probes.probed(PROBED, 0), "a.py", "exec"), room)
    assert probes.taken() == {}
    call(room["f"])
    assert {file: set(numbers) for file, numbers in probes.taken().items()} == {"a.py": lines}
    assert probes.taken() == {}


def in_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[], int], limit_s: float) -> int | None:
    monkeypatch.setattr(reach, "TREE", tmp_path / "tree")
    (tmp_path / "tree").mkdir(exist_ok=True)
    return reach.forked(work, limit_s)


def spin() -> int:
    while True:
        pass


def test_a_limit_is_of_the_processor_not_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a test that waits while the machine serves others were taken for one that never ends."""

    def wait() -> int:
        time.sleep(1.5)
        return 7

    assert in_child(tmp_path, monkeypatch, wait, 0.2) == 7
    assert in_child(tmp_path, monkeypatch, spin, 0.2) == reach.OVERTIME
    monkeypatch.setattr(reach, "WALL_LEAST_S", 0.1)
    monkeypatch.setattr(reach, "WALL_PER_CPU", 0.0)
    assert in_child(tmp_path, monkeypatch, wait, 5.0) is None


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A product of one function, `f(x) = x`."""
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src/product_of_a_test.py").write_text("def f(x):\n    return x\n")
    monkeypatch.setattr(reach, "TREE", tree)
    return tree


def verdict_of(tree: Path, body: str, new: str) -> tuple[str, str]:
    """Of a test of `f`, where `f` becomes `new`."""
    (tree / "test_f.py").write_text(f"from product_of_a_test import f\ndef test_f():\n    f(0)\n    {body}\n")
    mutant = Mutant("src/product_of_a_test.py", 2, 14, 22, "", "return x", new)
    return mutants.judged(mutant, [["test_f.py::test_f"]], 60.0, 0, {"test_f.py::test_f"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("assert f(1) == 1", "survived"),
        ("assert f(1) == 2", "killed"),
        ("import subprocess; subprocess.run(['sleep', '9'], timeout=0.01)", "not judged"),
        ("raise RuntimeError from TimeoutError()", "not judged"),
    ],
)
def test_a_clock_that_runs_out_kills_nothing(tree: Path, body: str, verdict: str) -> None:
    """Would break if a test that gives up on a loaded machine were counted as one that sees the mutant. The change
    changes nothing: only the test decides."""
    assert verdict_of(tree, body, "return x") == (verdict, "test_f.py::test_f" if verdict == "killed" else "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "new", "verdict"),
    [
        ("pass", "__import__('os').abort()", "killed"),
        ("pass", "__import__('ctypes').string_at(0)", "killed"),
        ("pass", "__import__('os').kill(0, 9)", "not judged"),
        ("__import__('os').abort()", "return x", "not judged"),
    ],
)
def test_a_crash_kills_where_there_is_none_without_the_mutant(tree: Path, body: str, new: str, verdict: str) -> None:
    """Would break if code that writes beyond its arrays passed for code that no test sees, or a process that the
    machine ended for one that a test did."""
    assert verdict_of(tree, body, new) == (verdict, "")
