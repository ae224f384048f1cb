"""`eqsim`: what it writes equals golden and the float reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eqcompile.app.cli.main import eqsim, main
from eqcompile.sim.simulators import NumpySimulator
from eqcompile.toolchain import data
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir.serial import load
from eqcompile.toolchain.reference import run_reference

EXAMPLES = Path(__file__).parents[2] / "examples"
LAZY = EXAMPLES / "checkpoints" / "digits_lazy.pt"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"
TEST = EXAMPLES / "data" / "digits_test.npz"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "out"
    argv = [str(LAZY), "--target", "numpy", "-o", str(out), "--calibrate", str(CALIBRATION), "--no-verify"]
    assert main(argv) == 0
    return out


def arrays(path: Path) -> dict[str, NDArray[np.int64]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("simulator", ["golden", "numpy", None])
@pytest.mark.slow
def test_an_artifact_gives_goldens_codes(simulator: str | None, artifact: Path, tmp_path: Path) -> None:
    """Would break if eqsim wrote other codes, labels, steps or states than the definition of right."""
    net = load(artifact / "net.onnx")
    codes, _ = data.encode(net, data.read_inputs(TEST, net, limit=5))  # type: ignore[arg-type]
    golden = run_golden(net, codes, trace=True)
    argv = [str(artifact), "-i", str(TEST), "-o", str(tmp_path / "y.npz"), "--trace", "--limit", "5"]
    assert eqsim(argv + ([] if simulator is None else ["--simulator", simulator])) == 0
    found = arrays(tmp_path / "y.npz")
    assert set(found) == {"logits", "labels", "steps", *(f"state.{s.name}" for s in net.states)}
    np.testing.assert_array_equal(found["logits"], golden.outputs["logits"])
    np.testing.assert_array_equal(found["labels"], golden.outputs["logits"].argmax(-1))
    np.testing.assert_array_equal(found["steps"], golden.steps)
    for s in net.states:
        np.testing.assert_array_equal(found[f"state.{s.name}"], golden.states[s.name])


def test_a_checkpoint_gives_the_float_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a checkpoint were quantized on the way, or cut to fewer steps."""
    argv = [str(LAZY), "-i", str(TEST), "-o", str(tmp_path / "y.npz"), "--trace", "--limit", "3", "--json"]
    assert eqsim(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["simulator"] == "float64 reference"
    assert document["samples"]["value"] == 3
    net = import_model(LAZY).net
    real = run_reference(net, data.read_inputs(TEST, net, limit=3), trace=True)
    found = arrays(tmp_path / "y.npz")
    assert document["keys"] == list(found)
    np.testing.assert_array_equal(found["logits"], real.outputs["logits"])
    assert real.trace is not None
    for name, trace in real.trace.items():
        np.testing.assert_array_equal(found[f"state.{name}"], trace)


@pytest.mark.parametrize("source", ["artifact", "checkpoint"])
def test_labels_of_the_samples_are_counted(
    source: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever hands over labels wants to know how many are right; without labels nothing is said of them."""
    where = str(artifact if source == "artifact" else LAZY)
    assert eqsim([where, "-i", str(TEST), "-o", str(tmp_path / "y.npz"), "--limit", "40"]) == 0
    labels, true = arrays(tmp_path / "y.npz")["labels"], arrays(TEST)["labels"][:40]
    assert f"labels: {np.sum(labels == true)} of 40 right [" in capsys.readouterr().out
    np.savez(tmp_path / "bare.npz", x=arrays(TEST)["x"][:2])
    assert eqsim([where, "-i", str(tmp_path / "bare.npz"), "-o", str(tmp_path / "z.npz")]) == 0
    assert "labels: " not in capsys.readouterr().out


def test_without_trace_there_are_no_states(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if every run wrote its trace, which may be large."""
    assert eqsim([str(artifact), "-i", str(TEST), "-o", str(tmp_path / "y.npz")]) == 0
    assert set(arrays(tmp_path / "y.npz")) == {"logits", "labels", "steps"}
    assert "360 samples [measured] through numpy" in capsys.readouterr().out


def test_json_says_scale_digest_and_kinds(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if codes came without the scale that gives them meaning."""
    argv = [str(artifact), "-i", str(TEST), "-o", str(tmp_path / "y.npz"), "--simulator", "golden", "--json"]
    assert eqsim(argv) == 0
    document = json.loads(capsys.readouterr().out)
    net = load(artifact / "net.onnx")
    assert document["digest"] == net.digest
    assert document["output_scale"] == {"logits": net.outputs[0].scale}
    assert document["steps"]["largest"]["kind"] == "simulated"
    assert document["details"]["kind"] == "simulated"


def test_an_output_that_exists_needs_force(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if results were overwritten unasked."""
    target = tmp_path / "y.npz"
    target.write_bytes(b"mine")
    argv = [str(artifact), "-i", str(TEST), "-o", str(target), "--limit", "1"]
    assert eqsim(argv) == 6
    assert "error[output-exists]" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert eqsim([*argv, "--force"]) == 0
    assert len(arrays(target)["labels"]) == 1


def test_an_interrupted_run_leaves_no_file(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if half a result file stayed after Ctrl-C, or an old one were lost."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NumpySimulator, "run", interrupted)
    target = tmp_path / "y.npz"
    target.write_bytes(b"mine")
    assert eqsim([str(artifact), "-i", str(TEST), "-o", str(target), "--force"]) == 130
    assert capsys.readouterr().err.startswith("error[interrupted]")
    assert [p.name for p in tmp_path.iterdir()] == ["y.npz"]
    assert target.read_bytes() == b"mine"


def test_an_artifact_whose_net_was_swapped_is_refused(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if the net and the manifest of a folder could belong to different compilations."""
    changed = tmp_path / "changed"
    shutil.copytree(artifact, changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["ir_digest"] = "0" * 64
    (changed / "manifest.json").write_text(json.dumps(manifest))
    assert eqsim([str(changed), "-i", str(TEST), "-o", str(tmp_path / "y.npz")]) == 6
    assert "error[artifact-changed]" in capsys.readouterr().err


def test_data_of_a_wrong_shape_is_told_with_both_shapes(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a wrong file were a traceback of NumPy."""
    wrong = tmp_path / "x.npz"
    np.savez(wrong, x=np.zeros((2, 7)))
    assert eqsim([str(artifact), "-i", str(wrong), "-o", str(tmp_path / "y.npz")]) == 3
    err = capsys.readouterr().err
    assert "7" in err
    assert "64" in err


SIM_MISTAKES = {
    "no arguments": ([], 2, "usage", "required: DIR|MODEL"),
    "no such source": (["nowhere", "-i", "DATA", "-o", "y.npz"], 3, "file-not-readable", "No such file"),
    "no artifact": ([".", "-i", "DATA", "-o", "y.npz"], 6, "not-an-artifact", "manifest.json"),
    "no data": (["MODEL", "-i", "no.npz", "-o", "y.npz"], 3, "file-not-readable", "No such file"),
    "simulator of a checkpoint": (
        ["MODEL", "-i", "DATA", "-o", "y.npz", "--simulator", "numpy"],
        2,
        "usage",
        "compile it first",
    ),
    "unknown simulator": (
        ["ARTIFACT", "-i", "DATA", "-o", "y.npz", "--simulator", "numbpy"],
        2,
        "unknown-simulator",
        "did you mean 'numpy'?",
    ),
    "simulator of another target": (
        ["ARTIFACT", "-i", "DATA", "-o", "y.npz", "--simulator", "lava-loihi2"],
        2,
        "simulator-of-other-target",
        "runs artifacts of loihi",
    ),
    "family of an artifact": (
        ["ARTIFACT", "-i", "DATA", "-o", "y.npz", "--family", "models.LoopedMLP"],
        2,
        "usage",
        "this is an artifact folder",
    ),
    "output is a folder": (["ARTIFACT", "-i", "DATA", "-o", "."], 6, "output-is-folder", "folder"),
    "output cannot be written": (
        ["ARTIFACT", "-i", "DATA", "-o", "/proc/nowhere/y.npz"],
        6,
        "output-not-writable",
        "/proc",
    ),
    "no samples": (["ARTIFACT", "-i", "DATA", "-o", "y.npz", "--limit", "0"], 2, "usage", "at least 1"),
    "unknown option": (["ARTIFACT", "-i", "DATA", "-o", "y.npz", "--tracee"], 2, "unknown-option", "--trace"),
}


@pytest.mark.parametrize("name", SIM_MISTAKES)
def test_a_mistake_of_eqsim_is_named_and_leaves_nothing(
    name: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a mistake passed, showed a traceback, had another exit code, or left a file behind."""
    argv, exit_code, code, words = SIM_MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    paths = {"MODEL": str(LAZY), "ARTIFACT": str(artifact), "DATA": str(CALIBRATION)}
    argv = [paths.get(a, a) for a in argv]
    assert eqsim(argv) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error[{code}]" in captured.err
    assert words in captured.err
    assert list(tmp_path.iterdir()) == []
    assert eqsim([*argv, "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out)["error"][0]["code"] == code
