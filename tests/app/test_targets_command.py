"""`eqcompile targets MODEL`: what every target refuses of a network, in one run and without quantizing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from zoo_nets import zoo_net

from eqcompile.app.cli.main import main
from eqcompile.quantization import ground
from eqcompile.toolchain import registry
from eqcompile.toolchain.importers import api
from eqcompile.toolchain.interfaces import Imported

LOOPED = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_looped.pt"


@pytest.mark.slow
def test_all_refusals_of_all_targets_come_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if the first target that refuses ended the list, a refusal were left out, or weights got codes."""

    def never(*args: Any, **rest: Any) -> Any:
        raise AssertionError("quantized")

    monkeypatch.setattr(ground, "make_plan", never)
    file = tmp_path / "attention.pt"
    net = zoo_net("EqPropAttentionOnlyLM_release")[0]
    monkeypatch.setattr(api, "import_model", lambda path, **rest: Imported(net, net.family, path))
    assert main(["targets", str(file), "--json"]) == 0
    rows = {row["name"]: row["refusals"] for row in json.loads(capsys.readouterr().out)["targets"]}
    assert rows.keys() == {*registry.names("targets")}
    assert {name for name, refusals in rows.items() if refusals} == {"loihi", "nir"}
    assert {d["code"] for d in rows["nir"]} >= {"nir-operation"}
    assert main(["targets", str(file)]) == 0
    shown = capsys.readouterr().out
    assert all(d["what"] in shown for refusals in rows.values() for d in refusals)


def test_a_net_that_all_take_is_refused_by_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the list were of what targets have not, whatever the net needs."""
    assert main(["targets", str(LOOPED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name}: nothing is refused before quantization" for name in registry.names("targets")]
