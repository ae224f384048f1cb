"""Nets of other research codes, from their own files, against what their own code computed in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import saved, written
from published_nets import NETS, PUBLISHED, PublishedNet

from eqcompile.app.cli.main import main
from eqcompile.toolchain.diagnostics import Diagnostic, EqcompileError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families, fit
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.reference import run_reference

BOUND = 1e-9
STORED = [name for name in NETS if name != "torchdeq"]
"""The class of the torchdeq file was solved by Anderson's method, which no schedule of plain steps repeats."""


def error(case: PublishedNet, net: EqNet) -> float:
    """Largest difference from the stored outputs and states; infinite where shapes differ."""
    data = case.data()
    run = run_reference(net, {"x": data["x"]})
    pairs = [(run.outputs["logits"], data["out"])]
    none = np.zeros(0)
    stored = {key.removeprefix("states/"): a for key, a in data.items() if "states/" in key}
    pairs += [(run.states.get(name, none)[: len(a)], a) for name, a in stored.items()]
    return max(float(np.abs(a - b).max()) if a.shape == b.shape else np.inf for a, b in pairs)


def only(path: Path, **options: Any) -> list[Diagnostic]:
    with pytest.raises(EqcompileError) as caught:
        import_model(path, **options)
    return list(caught.value.diagnostics)


@pytest.mark.parametrize("name", STORED)
def test_float_equals_the_original(name: str) -> None:
    """An importer that computes another net than the one that was trained."""
    assert error(NETS[name], NETS[name].build()) <= BOUND


OTHER = {
    "act": "sigmoid",
    "alpha": "0.5",
    "height": "9",
    "loss": "cel",
    "m": "0.9",
    "mode": "synchronous",
    "paddings": "0",
    "pools": "ma",
    "softmax": "true",
    "steps": "3",
    "solver": "peaceman-rachford",
    "strides": "2",
    "tau": "0.9",
    "width": "9",
}
MISFITS = ("paddings", "strides")
"""Settings whose other value makes layers of another size than the weights have."""


@pytest.mark.parametrize(("name", "setting"), [(n, s) for n in STORED for s in NETS[n].settings])
def test_every_setting_matters(name: str, setting: str) -> None:
    """The comparison must fail for another activation, pool, fewer steps and so on: else it proves nothing of them."""
    case = NETS[name]
    value = OTHER[setting] if OTHER[setting] != case.settings[setting] else "forward-backward"
    if setting in MISFITS:
        (refusal,) = only(case.path, family=case.family, settings={**case.settings, setting: value})
        assert refusal.code == "setting-value"
        return
    net = case.build(**{setting: value})
    if setting in ("height", "width"):
        with pytest.raises(EqcompileError, match="input-shape"):
            error(case, net)
    else:
        assert error(case, net) > BOUND


@pytest.mark.parametrize("name", list(NETS))
def test_every_tensor_is_needed(name: str) -> None:
    """A layout so loose that a file with a hole, or with a foreign tensor, passes as the family."""
    case = NETS[name]
    family, file = all_families()[case.family], load_file(case.path)
    reading = fit(family, Tensors(file.label, file.arrays), case.settings)
    assert (reading.missing, reading.unexpected, reading.faults) == ((), (), ())
    stranger = Tensors(file.label, {**file.arrays, "stranger": np.zeros((2, 2))})
    assert fit(family, stranger, case.settings).unexpected == ("stranger",)
    for key in file.arrays:
        rest = Tensors(file.label, {k: a for k, a in file.arrays.items() if k != key})
        without = fit(family, rest, case.settings)
        assert not without.fits or without.faults, f"a file without {key} passes"


def test_plain_steps_of_the_deq_keep_the_labels_of_andersons_method() -> None:
    """The net has more than one equilibrium for some inputs: outputs differ by up to 0.4, no label does."""
    case = NETS["torchdeq"]
    data = case.data()
    run = run_reference(case.build(), {"x": data["x"]})
    assert (run.outputs["logits"].argmax(1) == data["out"].argmax(1)).all()
    assert error(case, case.build()) > BOUND


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_two_colours_are_every_other_step_of_all_layers(layers: int) -> None:
    """Odd and even layers in turn, T times, is what all layers together compute in 2T steps, or 2T - 1 for an odd
    number of layers: the schedule that every target has."""
    generator = np.random.default_rng(layers)
    sizes = [6, 5, 4, 5, 3][: layers + 1]
    pairs = list(zip(sizes, sizes[1:], strict=False))
    tensors = [generator.normal(size=n) for n in sizes[1:]] + [generator.normal(size=p) / 2 for p in pairs]
    family = all_families()["hopfield.DeepHopfieldEnergy"]
    held = Tensors("list.pt", {str(i): t for i, t in enumerate(tensors)})
    x = {"x": generator.normal(size=(7, 6))}
    turns = run_reference(family.build(held, {"steps": 2, "mode": "asynchronous"}), x)
    count = 4 - layers % 2
    together = run_reference(family.build(held, {"steps": count, "mode": "synchronous"}), x)
    wrong = run_reference(family.build(held, {"steps": count - 1, "mode": "synchronous"}), x)
    last = turns.outputs["logits"]
    assert np.abs(together.outputs["logits"] - last).max() <= BOUND
    assert np.abs(wrong.outputs["logits"] - last).max() > BOUND


def test_a_whole_module_is_refused_with_the_way_out() -> None:
    """`torch.save(model)` holds code: it must not run, and the message must say what to save instead."""
    (refusal,) = only(PUBLISHED / "laborieux_pcnn_module.pt")
    assert refusal.code == "pickle-global"
    assert "model_utils.P_CNN" in refusal.what
    assert "torch.save(model.state_dict(), path)" in refusal.hint


def test_what_training_saves_beside_the_net_is_left_out(tmp_path: Path) -> None:
    """The code's own checkpoint holds the optimizer's moments too, which are tensors as well."""
    state = torch.load(PUBLISHED / "laborieux_pmlp.pt", weights_only=True)
    moments = {i: {"step": torch.tensor(3.0), "exp_avg": t} for i, t in enumerate(state.values())}
    content = {"model_state_dict": state, "opt": {"state": moments}, "scheduler": None, "epoch": 2, "train_acc": [0.5]}
    path = written(tmp_path, saved(content), "checkpoint.tar")
    case = NETS["P_MLP"]
    assert import_model(path, family=case.family, settings=case.settings).net == case.build()


def test_a_list_of_other_couplings_is_told_apart(tmp_path: Path) -> None:
    """Lists have no names: shapes alone say that a residual net is no chain, and no setting can make it one."""
    net, kernels = "hopfield.ConvHopfieldEnergy32", [(4, 2, 3, 3), (3, 5, 3, 3)]
    tensors = [torch.zeros(n) for n in (4, 3, 6)] + [torch.zeros(k) for k in kernels] + [torch.zeros(3, 2, 2, 6)]
    sizes = {"height": "8", "width": "8", "padding": "1", "pool_type": "conv_max_pool"}
    (fault,) = only(written(tmp_path, saved(tensors)), family=net, settings=sizes)
    assert fault.code == "tensors-do-not-fit"
    assert "[3, 5, 3, 3] behind a layer of 4 channels" in fault.what


def test_settings_are_asked_for_with_options_that_work() -> None:
    """A message whose example is refused in its turn sends its reader in a circle."""
    for case in NETS.values():
        family = all_families()[case.family]
        needed = [s for s in family.settings if s.default is None]
        if not needed:
            continue
        (missing,) = only(case.path, family=case.family)
        assert missing.code == "missing-setting"
        for s in needed:
            assert f"--set {s.name}={s.example}" in missing.hint
            assert s.name in missing.what


def test_codes_with_equal_keys_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of one magnitude are those of two classes; which one must never be guessed."""
    (ambiguous,) = only(PUBLISHED / "laydevant_fc.pt")
    assert ambiguous.code == "family-ambiguous"
    assert "--family laydevant.Network_fc_bin_W " in ambiguous.hint
    assert "--family laydevant.Network_fc_bin_W_N " in ambiguous.hint
    assert main(["inspect", str(PUBLISHED / "laydevant_fc.pt"), "--family", "Network_fc_bin_W"]) == 0
    assert "steps = 150 is a default" in "".join(capsys.readouterr())


def test_wrong_settings_are_listed_at_once() -> None:
    """One fault a run makes a net of eight settings a matter of an afternoon."""
    wrong = {"act": "hard", "pools": "ax", "strides": "1,1,1", "paddings": "-1", "loss": "nll"}
    faults = only(NETS["P_CNN"].path, family="P_CNN", settings={**NETS["P_CNN"].settings, **wrong})
    assert {d.what.split(" ")[0] for d in faults} == set(wrong)
    (size,) = only(NETS["P_CNN"].path, family="P_CNN", settings={**NETS["P_CNN"].settings, "height": "12"})
    assert size.what.startswith("height is 12")
    assert "[10, 64]" in size.what
    assert "[16, 3, 2]" in size.what


def test_a_list_of_an_odd_number_is_no_chain(tmp_path: Path) -> None:
    """A bare list has no names: its length is the first thing that can be wrong with it."""
    path = written(tmp_path, saved([torch.zeros(3), torch.zeros(2), torch.zeros(4, 3)]))
    faults = only(path, family="hopfield.DeepHopfieldEnergy")
    assert any("the list holds 3 tensors" in d.what for d in faults)
