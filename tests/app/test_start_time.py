"""Help must be instant: counted in imported modules, which is steadier than seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numpy", "onnx", "torch", "onnxruntime", "lava", "scipy", "sklearn", "matplotlib", "safetensors", "tqdm"}
MAX_MODULES = 160
"""A bare interpreter has about 60, argparse and dataclasses bring them to about 110; NumPy alone adds more than 100."""

PROGRAM = """
import importlib, json, sys
from eqcompile.app.cli.main import {program}
code = {program}({argv})
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


def modules_after(name: str, argv: list[str]) -> tuple[int, set[str]]:
    program = PROGRAM.format(program=name, argv=argv)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize("name", ["main", "eqsim", "eqfault", "eqtune"])
def test_help_imports_nothing_heavy(name: str) -> None:
    """Would break if a module imported by `--help` imported NumPy, ONNX or PyTorch at its top."""
    code, names = modules_after(name, ["--help"])
    assert code == 0
    assert names & HEAVY == set()
    assert len(names) < MAX_MODULES, sorted(names)


def test_a_usage_error_imports_nothing_heavy() -> None:
    """Would break if a typing mistake took as long to report as a compilation."""
    code, names = modules_after("main", ["model.pt", "-o", "out"])
    assert code == 2
    assert names & HEAVY == set()


@pytest.mark.parametrize("argv", [["targets"], ["families"], ["--target", "loihi", "--help"]])
@pytest.mark.slow
def test_listing_imports_no_framework(argv: list[str]) -> None:
    """Would break if listing what is installed loaded it: PyTorch takes seconds, Lava changes global state."""
    code, names = modules_after("main", argv)
    assert code == 0
    assert names & {"torch", "lava", "onnxruntime", "scipy", "sklearn", "matplotlib", "onnx"} == set()


def test_the_count_sees_a_heavy_import(tmp_path: Path) -> None:
    """Would break if the tests above could not fail: inspecting a file does import NumPy."""
    _, names = modules_after("main", ["inspect", str(tmp_path / "none.pt")])
    assert "numpy" in names
    assert len(names) >= MAX_MODULES
