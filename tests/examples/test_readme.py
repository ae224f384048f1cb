"""What the README tells a newcomer to type works as it is written."""

import importlib.util
import json
import math
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.app.cli.console import EXIT_CODES
from eqcompile.app.cli.main import eqfault, eqsim, eqtune, main
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.interfaces import QuantizeOptions

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(*names: str) -> list[list[str]]:
    """Every line of a code block that starts with one of `names`, comments left out, as words."""
    blocks = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words and words[0] in names]


@pytest.mark.simulator
def test_the_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newcomer copies these lines; one that fails costs a user."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples/checkpoints/digits_looped.pt", "model.pt")
    Path("examples").symlink_to(ROOT / "examples")
    # Of a user's files nothing is said but what they hold: few samples do.
    for name, source, samples in (("train", "digits_calibration", 60), ("test", "digits_test", 40)):
        with np.load(ROOT / f"examples/data/{source}.npz") as file:
            np.savez(f"{name}.npz", **{key: file[key][:samples] for key in file.files})
    programs = {"eqcompile": main, "eqsim": eqsim, "eqtune": eqtune, "eqfault": eqfault}
    typed = commands(*programs)
    assert {"run", "inspect", "search", "tune", "fault", "targets", "doctor"} <= {words[1] for words in typed}
    for words in typed:
        assert programs[words[0]](words[1:]) == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"
    for words in typed:
        for option, name in zip(words, words[1:], strict=False):
            assert option != "-o" or Path(name).exists(), shlex.join(words)


def test_every_make_target_of_the_readme_exists() -> None:
    """`make` would answer with an error of its own."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for words in commands("make")} | set(re.findall(r"`make ([a-z-]+)", README))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_exit_codes_are_those_of_the_program() -> None:
    """Scripts rely on them."""
    table = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert [int(code) for code, _ in table] == [code for code, _ in EXIT_CODES]


def test_links_of_the_readme_lead_somewhere() -> None:
    """A dead link is a page that a reader needed."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_results_is_current() -> None:
    """`make results` writes it from what the benchmarks recorded."""
    results = benchmark("results")
    assert (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8") == results.render(), "run `make results`"
    sections = {name for names in results.SECTIONS.values() for name in names}
    for path in results.FOLDER.glob("*.json"):
        assert path.stem in sections
        tables = [b for b in json.loads(path.read_text(encoding="utf-8"))["blocks"] if "rows" in b]
        assert all(len(row) == len(t["head"]) == len(t["kinds"]) for t in tables for row in t["rows"]), path.name
        assert all(set(t["kinds"]) <= set(results.KINDS) and any(t["kinds"]) for t in tables), path.name


def test_the_page_of_support_is_current() -> None:
    """`make docs` writes it from what `make families` recorded: every class, and no cell empty."""
    support = benchmark("support")
    text = support.PAGE.read_text(encoding="utf-8")
    assert text == support.page(), "run `make docs`"
    table = [line for line in text.splitlines() if line.startswith("| `")]
    named = [name for line in table for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert sorted(set(named)) == sorted(all_families())
    assert all(cell.strip() for line in table for cell in line.strip("|").split("|"))
    with pytest.raises(ValueError, match="no words for the refusal 'something new'"):
        support.in_few_words("something new")


def test_a_result_says_its_kind_its_net_and_its_machine(tmp_path: Path) -> None:
    """A number without them cannot be compared with another."""
    results = benchmark("results")
    with pytest.raises(ValueError, match="no kind"):
        results.table({"time": "guessed"}, [])
    with pytest.raises(ValueError, match="no section"):
        results.record("other", "Other", [], data=[], folder=tmp_path)
    source = import_model(ROOT / "examples/checkpoints/digits_ternary.pt").net
    net = lower(source, QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net
    facts = results.net_facts("digits", net)
    assert facts["units"] == sum(math.prod(s.shape) for s in net.states)
    assert 0.0 < facts["density"] < 1.0
    assert facts["L"] == certify(net).bound
    blocks = [results.table({"what": "", "time": "measured"}, [["a", "1 s"]])]
    results.record("speed", "Speed", blocks, data=[{"s": 1.0, "limit": 2}], nets=[facts], folder=tmp_path)
    page = results.render(tmp_path)
    assert "| what | time, measured |" in page
    assert f"| digits | {facts['units']} | {facts['density']:.1%} | {facts['L']:.4f} |" in page
    assert f"{len(os.sched_getaffinity(0))} cores" in page


def measured(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_nets_of_the_readme_are_as_they_were_measured() -> None:
    """Figures that a README was typed with outlive the nets; those of dense recurrence come first."""
    rows = {"| " + " | ".join(row) + " |" for b in measured("trained")["blocks"] if "rows" in b for row in b["rows"]}
    shown = [line for line in README.splitlines() if line.startswith(("| `mnist_", "| `digits_"))]
    assert set(shown) <= rows
    assert re.findall(r"`(\w+)`", " ".join(shown))[:2] == ["mnist_layered", "mnist_certified"]


def test_the_ways_back_to_the_bit_are_as_they_were_measured() -> None:
    """The page recommends by them."""
    page = (ROOT / "docs" / "explanation" / "healing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+%) \| ([\d.]+%) \| ([\d.]+), ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) > 5
    known = {(r["net"], r["scheme"]): r for r in measured("exactness")["data"]["schemes"]}
    for way, *shown in rows:
        two = [known[net, way.strip("*")] for net in ("mnist_layered", "mnist_certified")]
        assert shown == [*(f"{r['exact']['share']:.2%}" for r in two), *(f"{r['ticks']:.1f}" for r in two)], way


def test_a_newcomer_reads_two_pages() -> None:
    """Results grew into the README until they were two thirds of it."""
    assert len(README.splitlines()) <= 135
