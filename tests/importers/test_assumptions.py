"""What an import assumes: said first where it may be another net, refused where it empties a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import saved, state, written

from eqcompile.app.cli.main import main
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.importers.api import import_model

TERNARY = {"models.TernaryEqProp": ["W_in", "W_rec", "W_out"], "archive.TernaryEqProp": ["W_in", "layers.0"]}


@pytest.mark.parametrize("family", sorted(TERNARY))
def test_an_assumed_threshold_that_empties_a_weight_stops(tmp_path: Path, family: str) -> None:
    """A net trained at threshold 0.1 was read at 0.5, lost its recurrent weights and was certified for it."""
    names = {"W_rec": "layers.0", "W_out": "head"} if family.startswith("archive") else {}
    tensors = {}
    for key, tensor in state().items():
        name, _, part = key.partition(".")
        tensors[f"{names.get(name, name)}.{part}"] = 0.1 * tensor if name in ("W_rec", "W_out") else tensor
    path = written(tmp_path, saved(tensors))
    with pytest.raises(UsageError) as caught:
        import_model(path, family=family)
    (fault,) = caught.value.diagnostics
    assert fault.code == "assumption-empties"
    assert "threshold = 0.5 is assumed" in fault.what
    assert TERNARY[family][1] in fault.what
    assert "--set threshold=" in fault.hint
    assert import_model(path, family=family, settings={"threshold": ".01"}).net.param("W_in_ternary").any()
    assert import_model(path, family=family, settings={"threshold": 0.5}).given["threshold"] == 0.5


def test_assumed_settings_are_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A default among twenty lines of output is not read: another number of steps is another network."""
    path = written(tmp_path, saved({"state_dict": state(), "key": "models.LoopedMLP"}))
    target = ["--target", "numpy", "-o", str(tmp_path / "out"), "--verify", "2"]
    for argv in (["inspect", str(path)], [str(path), *target, "--report", str(tmp_path / "report")]):
        assert main(argv) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("WARNING: steps = 30 is a default of models.LoopedMLP")
        assert main([*argv, "--force", "--set", "steps=7"] if target[0] in argv else [*argv, "--set", "steps=7"]) == 0
        assert "WARNING" not in capsys.readouterr().out
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 6)))
    assert main(["run", str(path), "-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")]) == 0
    assert capsys.readouterr().out.startswith("WARNING: steps = 30")
    assert main([str(path), *target, "--force", "--report", str(tmp_path / "again")]) == 0
    assert "steps = 30 is a default" in (tmp_path / "again" / "report.html").read_text()


def test_feed_forward_nets_assume_nothing_that_matters(tmp_path: Path) -> None:
    """One tick computes them whatever is said: a warning there would teach people to skip warnings."""
    arrays = {"net.0.weight": np.ones((4, 3)), "net.0.bias": np.ones(4), "net.2.weight": np.ones((2, 4))}
    np.savez(tmp_path / "a.npz", **arrays, **{"net.2.bias": np.ones(2)})
    done = import_model(tmp_path / "a.npz")
    assert [a.name for a in done.assumed] == ["steps"]
    assert done.warnings == ()
