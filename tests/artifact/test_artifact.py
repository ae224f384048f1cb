"""An artifact folder is opened in one place, which notices every change."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import saved, state, written
from strategies import small_net

from eqcompile.app.cli.main import eqfault, eqsim, main
from eqcompile.toolchain.artifact import Artifact, CoreDescription, manifest_of, seal, write_arrays
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

NET = small_net([[1, -1], [0, 1]], table=[-2, 0, 3], first=-1, steps=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifact"
    (path / "inner").mkdir(parents=True)
    (path / "code.txt").write_text("code", encoding="utf-8")
    (path / "inner" / "data.txt").write_text("data", encoding="utf-8")
    core = CoreDescription(evaluation="event", accumulators=("a",), options={"arch": "serial", "lanes": 2})
    seal(path, NET, manifest_of(NET, target="t", options={"a": None}, details={"n": [1, 2.5, "x"]}, core=core))
    return path


def faults(folder: Path) -> list[Diagnostic]:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder)
    return list(caught.value.diagnostics)


def test_what_is_written_is_read(folder: Path) -> None:
    """Would break if a field of the manifest were lost or came back as another type."""
    artifact = Artifact.open(folder)
    assert artifact.net == NET
    assert set(artifact.files) == {"code.txt", "inner/data.txt", "net.onnx"}
    manifest = artifact.manifest
    assert (manifest.target, manifest.ir_digest, manifest.details) == ("t", NET.digest, {"n": [1, 2.5, "x"]})
    assert manifest.interface.inputs == NET.inputs
    assert manifest.schedule == NET.schedule
    assert manifest.core == CoreDescription(
        evaluation="event", accumulators=("a",), options={"arch": "serial", "lanes": 2}
    )


def test_every_fault_is_reported_at_once(folder: Path) -> None:
    """Would break if a second changed file stayed unseen until the first was repaired."""
    (folder / "code.txt").write_text("cod3", encoding="utf-8")
    (folder / "inner" / "data.txt").unlink()
    first, second = faults(folder)
    assert (first.code, second.code) == ("artifact-changed", "artifact-file-missing")
    assert "code.txt has SHA-256 " in first.what
    assert first.hint == second.hint == "compile it again"


def test_links_are_refused_and_other_files_are_not(folder: Path) -> None:
    """Would break if a listed file could lie outside of the folder, or a build's output spoilt the artifact."""
    (folder / "build.log").write_text("built", encoding="utf-8")
    assert "build.log" not in Artifact.open(folder).files
    outside = folder.with_name("outside")
    shutil.move(folder / "inner", outside)
    (folder / "inner").symlink_to(outside)
    (fault,) = faults(folder)
    assert fault.code == "artifact-changed"
    assert "symbolic link" in fault.what


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"manifest_version": 1}, "manifest-version"),
        ({"target": 3}, "manifest-damaged"),
        ({"unknown": 3}, "manifest-damaged"),
        ({"files": {"../code.txt": "0"}}, "manifest-damaged"),
        ({"files": {}}, "artifact-file-missing"),
        ({"ir_digest": "0" * 64}, "artifact-changed"),
    ],
)
def test_a_manifest_that_is_no_such_is_refused(change: dict[str, object], code: str, folder: Path) -> None:
    """Would break if a manifest of an older version, or one that was edited, were half understood."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    assert code in [d.code for d in faults(folder)]


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    """Would break if a hostile manifest ended in a traceback."""
    for text in ("", "[" * 100_000, "{", "[]"):
        (folder / "manifest.json").write_text(text, encoding="utf-8")
        assert faults(folder)[0].code in ("not-an-artifact", "manifest-version")


def test_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    """Would break if the hash of a file of arrays depended on the time."""
    arrays = {"a": np.arange(6).reshape(2, 3)[:, ::-1], "file": np.array(3), "empty": np.zeros((0, 2))}
    write_arrays(tmp_path / "a.npz", arrays.items())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file.files == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)
            assert file[name].shape == array.shape
    assert b"\x00\x00\x21\x00" in (tmp_path / "a.npz").read_bytes()  # 1980-01-01 00:00


@pytest.mark.parametrize("command", ["eqsim", "inspect", "synth", "fault"])
@pytest.mark.slow
def test_one_changed_bit_stops_every_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a command ran an artifact whose weights are not those that were verified."""
    monkeypatch.chdir(tmp_path)
    model = written(tmp_path, saved(state()))
    argv = [str(model), "--family", "models.LoopedMLP", "--target", "numpy", "-o", "out", "--no-verify"]
    assert main([*argv, "--assume"]) == 0
    np.savez(tmp_path / "x.npz", x=np.zeros((2, *Artifact.open(Path("out")).net.inputs[0].shape)))
    run = {
        "eqsim": lambda: eqsim(["out", "-i", "x.npz", "-o", "y.npz"]),
        "inspect": lambda: main(["inspect", "out"]),
        "synth": lambda: main(["synth", "out", "--part", "up5k"]),
        "fault": lambda: eqfault(["run", "out", "--model", "seu", "-o", "c", "--faults", "20"]),
    }[command]
    content = bytearray((tmp_path / "out" / "weights.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "out" / "weights.npz").write_bytes(content)
    assert run() == 6
    shown = capsys.readouterr().err
    assert "error[artifact-changed]: weights.npz has SHA-256" in shown
    assert {p.name for p in tmp_path.iterdir()} == {model.name, "out", "x.npz"}


def test_a_sealed_artifact_is_the_opened_one(folder: Path) -> None:
    """Would break if what the pipeline hands to simulators were not what is opened later."""
    opened = Artifact.open(folder)
    assert seal(folder, NET, replace(opened.manifest, files={})) == opened
