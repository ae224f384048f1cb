"""The example of a plug-in: installed as a stranger's package is, it passes the whole conformance suite, and fails it
if one thing is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into; built from a copy, so that nothing is written to the tree."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(
        PLUGIN, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*argv, "--target", str(folder / "site"), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def run(site: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CONFORMANCE_OF": "eqplugin"}
    return subprocess.run([sys.executable, "-m", *argv], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


CONFORMANCE = ("pytest", "tests/conformance", "-p", "no:cacheprovider", "-p", "no:xdist", "-x", "--tb=short")


@pytest.mark.slow
def test_the_conformance_suite_passes_on_it(installed: Path) -> None:
    """Would break if the template that strangers copy did not do what is asked of it."""
    done = run(installed, *CONFORMANCE)
    assert done.returncode == 0, done.stdout + done.stderr


MISTAKES = {
    "one code of one state at one tick": (
        "simulator.py",
        "rows.append(states)",
        "rows.append({n: v + (tick == 2) * (np.arange(v.size).reshape(v.shape) == 0) for n, v in states.items()})",
        "test_an_artifact_computes_what_golden_computes",
    ),
    "the net is run, not the files": (
        "simulator.py",
        'json.loads((artifact.folder / FILE).read_text(encoding="utf-8"))',
        "__import__('eqplugin.target').target.listing(artifact.net)",
        "test_a_simulator_runs_the_files_of_the_artifact",
    ),
    "all nets but the plainest are refused": (
        "target.py",
        "        if net.schedule.frames:",
        "        if net.name != 'small':",
        "test_a_target_takes_the_nets_that_it_declares",
    ),
    "nothing is declared": (
        "target.py",
        '("plain", "Looped*sn", "Ternary*", "Toroidal*")',
        "()",
        "test_a_target_takes_the_nets_that_it_declares",
    ),
    "a machine's path is in the artifact": (
        "target.py",
        '"steps": net.schedule.steps,',
        '"steps": net.schedule.steps, "from": str(Path.cwd()),',
        "test_emit_stays_in_its_folder",
    ),
    "an upset acts a tick late": (
        "engine.py",
        "if upset.first <= tick <= upset.last:",
        "if upset.first < tick <= upset.last + 1:",
        "test_an_engine_gives_golden_s_results",
    ),
    "faults of units that are not there": (
        "fault_model.py",
        "int(np.prod(s.shape)), bits=1",
        "int(np.prod(s.shape)) + 9, bits=1",
        "test_a_model_draws_faults_of_the_net",
    ),
    "no tick is counted": (
        "one_clock.py",
        "schedule.advance()",
        "pass",
        "test_a_core_computes_what_golden_computes",
    ),
    "a code of a state is wrong": (
        "one_clock.py",
        "Mux(at < 0, 0, Mux",
        "Mux(at < 1, 1, Mux",
        "test_a_core_computes_what_golden_computes",
    ),
    "an architecture refuses what it declares": (
        "architecture.py",
        "faults = [*refusals(net)]",
        'faults = [*refusals(net), Diagnostic("one-clock-no", "no", net.name)]',
        "test_an_architecture_takes_the_nets_that_it_declares",
    ),
    "another key than the entry point": (
        "family.py",
        '"plugin.LeakyLoop"',
        '"plugin.Leaky"',
        "test_a_family_says_what_it_reads",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_it_fails(installed: Path, tmp_path: Path, mistake: str) -> None:
    """Would break if the suite passed whatever it is run on."""
    file, old, new, test = MISTAKES[mistake]
    site = shutil.copytree(installed, tmp_path / "site", ignore=shutil.ignore_patterns("__pycache__"))
    path = site / "eqplugin" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = run(site, *CONFORMANCE, "-k", test)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"::{test}[" in done.stdout


@pytest.mark.slow
def test_options_of_its_architecture_are_on_the_command_line(installed: Path, tmp_path: Path) -> None:
    """Would break if an architecture that joins by entry point had options that nobody can set or find."""
    shown = run(installed, "eqcompile", "--target", "rtl", "--arch", "one-clock", "--help").stdout
    assert "options of --arch one-clock (a tick in one clock" in shown
    assert "--entries N" in shown
    assert "in entries (default 4096)" in " ".join(shown.split())
    assert "--lanes" not in shown
    model = str(ROOT / "examples" / "checkpoints" / "digits_ternary.pt")
    argv = ["eqcompile", model, "--target", "rtl", "--arch", "one-clock", "-o", str(tmp_path / "out")]
    done = run(installed, *argv, "--entries", "0")
    assert done.returncode == 2
    assert "--entries: '0' is not a whole number of at least 1" in done.stderr
    assert "is too large" in run(installed, *argv, "--entries", "1").stderr


@pytest.mark.slow
def test_a_file_of_its_format_becomes_an_artifact_of_its_target(installed: Path, tmp_path: Path) -> None:
    """Would break if a plug-in passed the suite and the command did not know it."""
    rng = np.random.default_rng(0)
    shapes = {"encoder": (6, 4), "loop": (6, 6), "decoder": (3, 6)}
    tensors = {f"{name}.weight": rng.normal(size=shape) / 4 for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()}
    text = json.dumps({"tensors": {name: value.tolist() for name, value in tensors.items()}})
    (tmp_path / "net.json").write_text(text, encoding="utf-8")
    argv = ["eqcompile", str(tmp_path / "net.json"), "--family", "plugin.LeakyLoop", "--target", "listing"]
    assert "--assume" in run(installed, *argv, "-o", str(tmp_path / "none")).stderr
    argv += ["--assume"]
    done = run(installed, *argv, "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to golden" in done.stdout
    assert (tmp_path / "out" / "listing.json").exists()
