"""The ways for a class of one's own: they are named where an import ends, and the template works as it is written."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from checkpoint_files import saved, state, written

from eqcompile.app.cli.main import main
from eqcompile.toolchain.diagnostics import ImportFileError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.family import Family
from eqcompile.toolchain.reference import run_reference


def test_an_unknown_class_is_shown_the_roads(tmp_path: Path) -> None:
    """`nearest is ...` alone was a dead end."""
    path = written(tmp_path, saved({"fc_rec.weight": torch.zeros(3, 3)}))
    with pytest.raises(ImportFileError) as caught:
        import_model(path)
    hint = caught.value.diagnostics[0].hint
    assert "ONNX" in hint
    assert "NIR" in hint
    assert "eqcompile families --template" in hint


def test_the_template_is_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command writes must import, build and compute what it says."""
    path = tmp_path / "my_net.py"
    assert main(["families", "--template", str(path)]) == 0
    assert main(["families", "--template", str(path)]) == 6
    assert "the output exists already" in capsys.readouterr().err
    assert main(["families", "--template", str(tmp_path / "my-net.py")]) == 2
    spec = importlib.util.spec_from_file_location("my_net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.net, Family)
    assert f'"{module.net.key}" = "my_net:net"' in path.read_text()
    tensors = {key: tensor.double() for key, tensor in state().items()}
    net = import_model(
        written(tmp_path, saved(tensors)), known={module.net.key: module.net}, settings={"steps": 5, "alpha": 0.25}
    ).net
    x, h = torch.ones(2, 6, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    linear = torch.nn.functional.linear
    for _ in range(5):
        pre = linear(x, tensors["W_in.weight"], tensors["W_in.bias"])
        h = 0.75 * h + 0.25 * torch.tanh(pre + linear(h, tensors["W_rec.weight"], tensors["W_rec.bias"]))
    logits = linear(h, tensors["W_out.weight"], tensors["W_out.bias"])
    found = run_reference(net, {"x": x.numpy()}).outputs["logits"]
    torch.testing.assert_close(torch.from_numpy(found), logits, atol=1e-12, rtol=0)
