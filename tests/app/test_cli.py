"""`eqcompile` in process: what a command prints, writes and returns when all is well."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from eqcompile.app.cli import console
from eqcompile.app.cli.main import main
from eqcompile.app.cli.options import add_target_options, build_target, parse_settings
from eqcompile.app.numbers import number
from eqcompile.sim.simulators import NumpySimulator
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, UsageError
from eqcompile.toolchain.interfaces import QuantizeOptions, Refusals, Target
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.ir.serial import load

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPED = EXAMPLES / "checkpoints" / "digits_looped.pt"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"
TEST = EXAMPLES / "data" / "digits_test.npz"
KINDS = {"measured", "simulated", "estimated", "proved"}
# What the user or the file said, and shapes: facts that are no result.
NO_RESULTS = {"model", "settings", "options", "inputs", "states", "outputs", "steps", "text", "manifest", "shape"}
NO_RESULTS |= {"output_scale", "report_version", "tools", "tensors", "families", "assumed"}


def compiled(*extra: str, out: Path, target: str = "numpy") -> int:
    return main([str(LOOPED), "--target", target, "-o", str(out), "--calibrate", str(CALIBRATION), *extra])


def unlabelled(value: Any, path: str = "") -> Iterator[str]:
    """Paths of numbers in a JSON document that stand in no object with a known kind."""
    match value:
        case dict():
            if "kind" in value and value["kind"] in KINDS:
                return
            for key, inner in value.items():
                if key not in NO_RESULTS or (isinstance(inner, dict) and "kind" in inner):
                    yield from unlabelled(inner, f"{path}.{key}")
        case list():
            for k, inner in enumerate(value):
                yield from unlabelled(inner, f"{path}[{k}]")
        case bool():
            return
        case int() | float():
            yield path


def test_compile_writes_a_whole_artifact_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the folder lacked its net or manifest, or the summary hid how the numbers came about."""
    assert compiled(out=tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert {"net.onnx", "manifest.json", "kernel.py"} <= {p.name for p in (tmp_path / "out").iterdir()}
    manifest = Artifact.open(tmp_path / "out").manifest
    assert manifest.ir_digest == load(tmp_path / "out" / "net.onnx").digest
    assert manifest.ir_digest in text
    assert manifest.source is not None
    assert manifest.source.file == LOOPED.name
    assert manifest.verification[0].status == "equal"
    assert "models.LoopedMLP (family from the file)" in text
    assert re.search(r"numpy +16 +480 +[\d,]+ +0 +16 equal", text), text
    assert "of 16 labels equal [measured]" in text
    assert "[proved: interval arithmetic" in text
    assert re.search(r"^ +needs numpy$", text, re.M), text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_compile_json_is_one_document_and_every_result_has_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a number lost its kind, or anything but JSON came to standard output."""
    assert compiled("--json", "--verify", "4", out=tmp_path / "out") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert list(unlabelled(document)) == []
    check = document["verification"][0]
    assert check["steps"] == {"value": 4 * 30, "kind": "simulated", "unit": "steps", "how": check["steps"]["how"]}
    assert check["mismatches"]["value"] == 0
    assert document["samples"]["count"]["value"] == 4
    assert document["agreement"]["labels"]["value"] == 4
    assert document["ir_digest"] == Artifact.open(tmp_path / "out").manifest.ir_digest


def test_the_check_for_kinds_finds_a_bare_number() -> None:
    """Would break if the test above could not fail."""
    assert list(unlabelled({"a": {"b": [1.5]}, "c": {"kind": "guessed", "value": 2}})) == [".a.b[0]", ".c.value"]


def test_without_data_samples_are_generated_and_the_summary_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if made-up inputs passed for data, or the assumed input range went unsaid."""
    assert main([str(LOOPED), "--target", "numpy", "-o", str(tmp_path / "o"), "--input-range", "0", "1"]) == 0
    text = capsys.readouterr().out
    assert "generated, uniform in [0, 1], seed 0" in text
    assert re.search(r"range of input x = \[0\.0, 1\.0\] \(ASSUMED", text), text


def test_generated_samples_are_the_same_each_time(tmp_path: Path) -> None:
    """Would break if a run could not be repeated."""
    for name in ("a", "b"):
        assert main([str(LOOPED), "--target", "numpy", "-o", str(tmp_path / name), "--verify", "3"]) == 0
    a, b = (Artifact.open(tmp_path / n).manifest for n in ("a", "b"))
    again = [replace(check, seconds=b.verification[0].seconds) for check in a.verification]
    assert replace(a, verification=tuple(again)) == b


def test_assumed_settings_are_shown_with_their_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a default of the source code went unsaid: the number of steps is part of the model."""
    bare = tmp_path / "bare.npz"
    generator = np.random.default_rng(0)
    shapes = {"W_in": (6, 4), "W_rec": (6, 6), "W_out": (3, 6)}
    arrays = {f"{n}.weight": generator.normal(size=s) / 4 for n, s in shapes.items()}
    np.savez(bare, **arrays, **{f"{n}.bias": np.zeros(s[0]) for n, s in shapes.items()})
    argv = [str(bare), "--target", "numpy", "-o", str(tmp_path / "out"), "--family", "models.LoopedMLP"]
    assert main([*argv, "--assume"]) == 0
    text = capsys.readouterr().out
    assert "models.LoopedMLP (family from the command line)" in text
    assert "steps = 30 (ASSUMED: default of models.LoopedMLP)" in text
    assert main([*argv, "--force", "--set", "steps=7"]) == 0
    text = capsys.readouterr().out
    assert "steps = 7 (from --set)" in text
    assert "7 steps" in text


def test_quantization_options_reach_the_net(tmp_path: Path) -> None:
    """Would break if an option were parsed and dropped."""
    options = ["--weights", "ternary", "--state-bits", "6", "--input-bits", "5", "--tolerance", "1", "--per-tensor"]
    assert compiled(*options, out=tmp_path / "out") == 0
    net = load(tmp_path / "out" / "net.onnx")
    assert str(net.formats["h"]) == "i6"  # type: ignore[union-attr]
    assert net.inputs[0].encoding is not None
    assert net.inputs[0].encoding.format.bits == 5
    assert net.schedule.tolerance == 1
    source = Artifact.open(tmp_path / "out").manifest.source
    assert source is not None
    assert source.quantize.weights == "ternary"
    assert source.quantize.per_row is False


def test_no_verify_runs_no_simulator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if --no-verify still started a simulator, or did not say that nothing was verified."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(NumpySimulator, "run", fail)
    assert compiled("--no-verify", out=tmp_path / "out") == 0
    assert "verification  off (--no-verify)" in capsys.readouterr().out


@pytest.mark.parametrize(("asked", "code"), [((), 0), (("--verify", "2"), 7), (("--simulator", "numpy"), 7)])
def test_a_missing_simulator_leaves_the_artifact_and_says_not_verified(
    asked: tuple[str, ...],
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Would break if an absent tool passed for a verification, or failed a user who did not ask for one."""

    def absent(*args: Any, **kwargs: Any) -> None:
        raise MissingToolError(Diagnostic("missing-tool", "lava-nc is not installed", hint="pip install lava-nc"))

    monkeypatch.setattr(NumpySimulator, "run", absent)
    assert compiled(*asked, out=tmp_path / "out") == code
    text = capsys.readouterr().out
    assert "NOT VERIFIED: lava-nc is not installed; install with: pip install lava-nc" in text
    assert Artifact.open(tmp_path / "out").manifest.verification[0].status == "missing"


def test_targets_lists_every_target_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if an absent tool were an error, or its install command were not shown."""
    numpy_target = registry.target_class("numpy")
    monkeypatch.setattr(numpy_target, "missing", lambda self: ["frobnicator"])
    monkeypatch.setattr(numpy_target, "install", "pip install frobnicator")
    assert main(["targets"]) == 0
    text = capsys.readouterr().out
    assert "missing: frobnicator" in text
    assert "install the tools of numpy: pip install frobnicator" in text
    assert main(["targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["targets"]
    assert [r["name"] for r in rows] == list(registry.names("targets"))
    assert {tuple(sorted(r)) for r in rows} == {("install", "installed", "missing", "name", "simulators", "summary")}
    assert next(r for r in rows if r["name"] == "numpy")["installed"] is False


def test_targets_lists_a_target_that_cannot_be_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a plug-in whose package is absent took the whole list down."""

    def broken(name: str) -> type[Target]:
        raise MissingToolError(Diagnostic("missing-tool", f"{name} needs a package that is not installed"))

    monkeypatch.setattr(registry, "target_class", broken)
    assert main(["targets"]) == 0
    assert "numpy needs a package that is not installed" in capsys.readouterr().out


def test_families_lists_settings_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a user could not find out what may be set."""
    assert main(["families", "--json"]) == 0
    rows = {r["family"]: r for r in json.loads(capsys.readouterr().out)["families"]}
    assert {"name": "steps", "default": 30} == {
        k: v for k, v in rows["models.LoopedMLP"]["settings"][0].items() if k != "doc"
    }
    assert rows["models.LoopedMLP"]["same_as"] is None
    assert rows["algorithms.StandardFA"]["same_as"] == "algorithms.BackpropBaseline"
    assert main(["families"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "undamped tanh loop" in lines["models.LoopedMLP"]
    assert lines["eqprop_torch.LoopedMLP"].endswith("the same as models.LoopedMLP")


def test_help_of_a_target_shows_its_options_and_plain_help_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if exit codes or options of a target were undocumented."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for code, meaning in console.EXIT_CODES:
        assert re.search(rf"^ +{code}  {re.escape(meaning)}$", text, re.M)
    assert main(["--target", "loihi", "--help"]) == 0
    text = capsys.readouterr().out
    assert "options of target loihi" in text
    assert "--chip {" in text


def test_defaults_in_the_help_are_the_real_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the help, written without importing NumPy, and the options drifted apart."""
    main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    options = QuantizeOptions()
    assert f"(default {options.weights})" in text
    assert f"--state-bits N width of the states (default {options.state_bits})" in text
    assert f"weights read them without these bits (default {options.guard_bits})" in text
    assert f"--input-bits N width of the inputs (default {options.input_bits})" in text
    assert "(default {:g} {:g})".format(*options.input_range) in text
    assert f"0 is exact (default {options.tolerance})" in text
    assert f"upsets before heal to the bit (default {options.dither})" in text
    assert {f.name for f in fields(options)} == {
        "weights",
        "per_row",
        "state_bits",
        "guard_bits",
        "input_bits",
        "input_range",
        "tolerance",
        "dither",
        "widths",
        "states",
        "guards",
        "keep_labels",
        "max_lipschitz",
    }
    assert (dict(options.widths), dict(options.states), dict(options.guards)) == ({}, {}, {})
    assert options.max_lipschitz is options.keep_labels is None


@dataclass(frozen=True)
class Board(Target):
    """A target of a plug-in, for the options."""

    chip: Literal["small", "large"] = field(default="small", metadata={"help": "which one, 100 % of it"})
    clock_hz: int = field(default=5, metadata={"help": "clock"})
    margin: float | None = field(default=None, metadata={"help": "margin"})
    fold: bool = field(default=True, metadata={"help": "fold"})
    name: ClassVar[str] = "board"
    summary: ClassVar[str] = "a board"

    def missing(self) -> list[str]:
        return []

    def plan(self, net: IntNet, source: EqNet | None = None) -> Refusals:
        return Refusals(())


def test_options_of_a_target_are_the_fields_of_its_dataclass() -> None:
    """Would break if a plug-in had to write its own command line, or a default were lost."""
    parser = console.Parser(prog="p", description="d", examples="e")
    add_target_options(parser, Board)
    assert build_target(Board, parser.parse_all([])) == Board()
    given = parser.parse_all(["--chip", "large", "--clock-hz", "7", "--margin", "0.5", "--no-fold"])
    assert build_target(Board, given) == Board(chip="large", clock_hz=7, margin=0.5, fold=False)
    assert "which one, 100 % of it (default small)" in " ".join(parser.format_help().split())
    with pytest.raises(UsageError, match=r"invalid choice: 'medium' \(choose from 'small', 'large'\)"):
        parser.parse_all(["--chip", "medium"])


def test_settings_are_read_as_names_and_texts() -> None:
    """Would break if a value with `=` were cut."""
    assert parse_settings(["steps=20", "mode=a=b"]) == {"steps": "20", "mode": "a=b"}


def test_numbers_of_the_command_line_are_finite() -> None:
    """Would break if NaN could become the range of an input."""
    assert number(float)("-1e-3") == -0.001
    for text in ("nan", "inf", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a finite number"):
            number(float)(text)


def test_inspect_shows_weights_settings_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the norm shown were not that of the deployed weight."""
    assert main(["inspect", str(LOOPED), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["what"] == "checkpoint"
    assert document["family"] == "models.LoopedMLP"
    assert list(unlabelled({k: v for k, v in document.items() if k != "weights"})) == []
    recurrent = next(w for w in document["weights"] if w["shape"] == [64, 64] and "rec" in w["name"])
    assert recurrent["norm"]["kind"] == "measured"
    assert abs(recurrent["norm"]["value"] - 1.0) < 0.1
    assert recurrent["ternary"] is False
    assert main(["inspect", str(LOOPED)]) == 0
    text = capsys.readouterr().out
    assert document["text"].strip() in text
    assert "steps = 30" in text


def test_inspect_of_a_ternary_net_says_ternary(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if sparsity and ternary weights were not recognised."""
    assert main(["inspect", str(EXAMPLES / "checkpoints" / "digits_ternary.pt"), "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert all(w["ternary"] for w in weights)
    assert all(0.0 < w["density"]["value"] < 1.0 for w in weights)


def test_inspect_of_an_artifact_and_of_its_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if an artifact did not hold the net that it was made from."""
    assert compiled(out=tmp_path / "out") == 0
    capsys.readouterr()
    found = []
    for path in (tmp_path / "out", tmp_path / "out" / "net.onnx"):
        assert main(["inspect", str(path), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [d["what"] for d in found] == ["artifact for numpy", "saved net"]
    assert found[0]["digest"] == found[1]["digest"] == found[0]["manifest"]["ir_digest"]


def test_inspect_of_an_open_family_lists_the_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if inspect failed just where a user asks which family a file may be."""
    bare = tmp_path / "bare.npz"
    shapes = {"W_in": (6, 4), "W_rec": (6, 6), "W_out": (3, 6)}
    np.savez(
        bare,
        **{f"{n}.weight": np.full(s, 0.25) for n, s in shapes.items()},
        **{f"{n}.bias": np.zeros(s[0]) for n, s in shapes.items()},
    )
    assert main(["inspect", str(bare), "--json"]) == 0
    candidates = [c["family"] for c in json.loads(capsys.readouterr().out)["candidates"]]
    assert {"models.LoopedMLP", "models.TernaryEqProp"} <= set(candidates)
    assert main(["inspect", str(bare)]) == 0
    assert "--family models.TernaryEqProp" in capsys.readouterr().out


def test_force_replaces_an_artifact(tmp_path: Path) -> None:
    """Would break if a second run could not replace the first, or left files of it behind."""
    out = tmp_path / "out"
    assert compiled(out=out) == 0
    (out / "stale").write_text("from before")
    assert compiled("--force", "--state-bits", "5", out=out) == 0
    assert not (out / "stale").exists()
    assert str(load(out / "net.onnx").formats["h"]) == "i5"  # type: ignore[union-attr]


def test_the_installed_command_runs(tmp_path: Path) -> None:
    """Would break if the entry point or `python -m` did not reach main."""
    argv = [sys.executable, "-m", "eqcompile.app.cli.main", "targets", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert {r["name"] for r in json.loads(done.stdout)["targets"]} >= {"numpy", "loihi"}
