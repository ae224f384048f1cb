"""What `eqcompile certify` says of samples for which nothing holds for all upsets, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from quantize_nets import latch, loop

from eqcompile.app.cli.main import main
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir.serial import save


def test_a_latch_is_called_vacuous_with_a_run_that_shows_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A radius is proved, a run to the other fixed point is shown, and each figure says its kind."""
    save(latch(), tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 5)))
    command = ["certify", str(tmp_path / "net.onnx"), "--inputs", str(tmp_path / "x.npz")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "theorem       vacuous: of no sample" in text
    assert "of 2 samples without a proof for any size" in text
    assert "stay if no unit moves by more than" in text
    assert "two fixed points" in text
    assert "[simulated]" in text
    assert main([*command, "--json"]) == 0
    samples = json.loads(capsys.readouterr().out)["recovery"]
    assert samples["local"]["share"]["kind"] == samples["local"]["rate"]["kind"] == "proved"
    assert [e["sample"] for e in samples["counterexamples"]] == [0, 1]


def test_a_theorem_and_the_exit_code_of_a_share_that_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A contracting net has a theorem; `--safe` turns the share into an exit code; without samples it is refused."""
    made = loop(np.random.default_rng(3), steps=14, gain=0.3).net
    save(lower(made, QuantizeOptions(state_bits=6), calibration=None).net, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(-1.0, 1.0, (4, 5)))
    command = ["certify", str(tmp_path / "net.onnx"), "--inputs", str(tmp_path / "x.npz")]
    assert main([*command, "--safe", "1.0"]) == 0
    text = capsys.readouterr().out
    assert "theorem       after 10 ticks an upset of any size in any number of states is within" in text
    assert "for 100.00 % of these samples the label cannot change" in text
    assert main([*command, "--ticks", "1", "--safe", "1.0"]) == 9
    capsys.readouterr()
    assert main(["certify", str(tmp_path / "net.onnx"), "--safe", "1.0"]) == 2
    assert "--inputs" in capsys.readouterr().err
