"""What every emitted `run.py` does with an input file."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net

from eqcompile.targets.inputs import InputError, read_codes
from eqcompile.toolchain import registry
from eqcompile.toolchain.golden import run as run_golden

NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
SCRIPTS = {"numpy": "numpy", "onnx": "onnxruntime", "nir": "nir", "hls4ml": "hls4ml", "loihi": "lava"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-B", "run.py", *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def bad_files(folder: Path) -> dict[str, Path]:
    np.savez(folder / "whole.npz", x=np.zeros((2, 2)))
    whole = (folder / "whole.npz").read_bytes()
    np.save(folder / "array.npy", np.zeros((2, 2)))
    np.savez(folder / "shape.npz", x=np.zeros((2, 3)))
    np.savez(folder / "nan.npz", x=np.full((2, 2), np.nan))
    np.savez(folder / "name.npz", y=np.zeros((2, 2)))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "middle.npz").write_bytes(whole[:60] + bytes(40) + whole[100:])
    names = ("empty.npz", "cut.npz", "middle.npz", "array.npy", "shape.npz", "nan.npz", "name.npz", "absent.npz")
    return {name: folder / name for name in names}


def test_what_is_no_input_is_refused(tmp_path: Path) -> None:
    """Would break if a damaged file ended in a traceback, or NaN became a code."""
    scale = NET.inputs[0].encoding.scale  # type: ignore[union-attr]
    described = {"x": (NET.inputs[0].shape, *NET.inputs[0].limits, scale)}
    for path in bad_files(tmp_path).values():
        with pytest.raises(InputError, match=path.stem if path.stem not in ("shape", "nan") else "x"):
            read_codes(path, described, framed=False)
    np.savez(tmp_path / "codes.npz", codes=np.array([[1, 99]]))
    with pytest.raises(InputError, match="codes 1 to 99, must be"):
        read_codes(tmp_path / "codes.npz", {"x": ((2,), -8, 7, 0.5)}, framed=False)
    np.savez(tmp_path / "real.npz", x=np.array([[0.25, -9.0]]))
    codes = read_codes(tmp_path / "real.npz", {"x": ((2,), -8, 7, 0.5)}, framed=False)
    np.testing.assert_array_equal(codes["x"], [[[0, -8]]])


@pytest.mark.slow
@pytest.mark.parametrize("target", SCRIPTS)
def test_every_script_ends_with_status_2_and_a_message(target: str, tmp_path: Path) -> None:
    """Would break if a user of an artifact met a traceback for an empty, cut or other file."""
    if find_spec(SCRIPTS[target]) is None:
        pytest.skip(f"{SCRIPTS[target]} is not installed")
    folder = emitted(registry.target_class(target)(), NET, tmp_path / "out").folder
    files = bad_files(tmp_path)
    for name in ("empty.npz", "array.npy") if target == "loihi" else files:
        done = run(folder, "-i", str(files[name]), "-o", str(tmp_path / "y.npz"))
        assert done.returncode == 2, (name, done.stderr)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("target", ["numpy", "onnx", "nir", pytest.param("hls4ml", marks=pytest.mark.simulator)])
def test_real_values_are_encoded_by_the_script(target: str, tmp_path: Path) -> None:
    """Would break if one target's script wanted codes where the others take real values."""
    if find_spec(SCRIPTS[target]) is None:
        pytest.skip(f"{SCRIPTS[target]} is not installed")
    folder = emitted(registry.target_class(target)(), NET, tmp_path / "out").folder
    codes = np.array([[1, 0], [-3, 2]] * 300)
    np.savez(tmp_path / "x.npz", x=codes * NET.inputs[0].encoding.scale)  # type: ignore[union-attr]
    done = run(folder, "-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as file:
        np.testing.assert_array_equal(file["o"], run_golden(NET, {"x": codes}).outputs["o"])
