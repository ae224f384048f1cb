"""`eqcompile inspect` on each kind of ONNX file, and on options that have no effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eqcompile.app.cli.main import main
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir.serial import save

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_looped.pt"


def step(path: Path) -> Path:
    weights = {n: np.random.default_rng(0).normal(size=s).astype(np.float32) for n, s in (("W", (3, 3)), ("V", (3, 2)))}
    nodes = [
        helper.make_node("MatMul", ["h", "W"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["pre"]),
        helper.make_node("Tanh", ["pre"], ["h_next"]),
        helper.make_node("MatMul", ["h", "V"], ["logits"]),
    ]
    shown = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x", "h", "h_next")]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    held = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "step", shown[:2], [shown[2], logits], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_step_graph_is_inspected_with_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was called damaged, while `eqcompile` compiles it; --set was dropped."""
    assert main(["inspect", str(step(tmp_path / "step.onnx")), "--set", "steps=9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["what"], found["family"], found["steps"]) == ("ONNX graph of one step", "qonnx.Step", 9)
    assert main(["inspect", str(tmp_path / "step.onnx")]) == 2
    assert "needs steps" in capsys.readouterr().err


def test_options_of_an_import_are_refused_for_a_saved_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that are dropped in silence look as if they had a say."""
    path = tmp_path / "net.onnx"
    save(import_model(CHECKPOINT).net, path)
    assert main(["inspect", str(path)]) == 0
    assert "saved net" in capsys.readouterr().out
    assert main([str(path), "--target", "numpy", "-o", str(tmp_path / "out")]) == 3
    assert "give the checkpoint" in capsys.readouterr().err
    for option in (["--set", "steps=9"], ["--family", "models.LoopedMLP"], ["--config", "c.json"]):
        assert main(["inspect", str(path), *option]) == 2
        assert f"{option[0]} has no effect" in capsys.readouterr().err
