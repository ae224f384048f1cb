"""State dicts of Brevitas layers: the weights that Brevitas itself computes, or a refusal that names the key."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError
from eqcompile.toolchain.importers import brevitas_state
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

SHAPES = {"W_in": (6, 5), "W_rec": (6, 6), "W_out": (4, 6)}
CASES = (
    ("Int8WeightPerTensorFloat", {}),
    ("Int8WeightPerTensorFloat", {"weight_bit_width": 4}),
    ("Int8WeightPerChannelFloat", {}),
    ("Int8WeightPerChannelFloat", {"weight_bit_width": 3}),
    ("Int8WeightPerTensorFloatMSE", {}),
    ("Int8WeightPerChannelFloatMSE", {"weight_bit_width": 5}),
    ("Int8WeightPerTensorFixedPoint", {}),
    ("SignedTernaryWeightPerTensorConst", {"weight_scaling_const": 0.3}),
    ("SignedBinaryWeightPerTensorConst", {"weight_scaling_const": 0.2}),
    ("SignedTernaryWeightPerTensorConst", {}),
)


def layers(quantizer: str, settings: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """The three layers of a LoopedMLP with Brevitas weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import brevitas.nn as qnn
        import brevitas.quant as quant

        torch.manual_seed(seed)
        options = {k: v for k, v in settings.items() if k != "weight_scaling_const"}
        chosen = getattr(quant, quantizer)
        if "weight_scaling_const" in settings:
            options["weight_scaling_const"] = settings["weight_scaling_const"]
        made = {
            name: qnn.QuantLinear(columns, rows, bias=True, weight_quant=chosen, **options)
            for name, (rows, columns) in SHAPES.items()
        }
        for layer in made.values():
            layer.eval()
            layer.quant_weight()  # statistics become parameters where the quantizer learns its scale
    return made


def checkpoint(path: Path, made: dict[str, Any]) -> Path:
    state = {f"{name}.{key}": value for name, layer in made.items() for key, value in layer.state_dict().items()}
    torch.save(state, path)
    return path


def imported(path: Path, quantizer: str, settings: dict[str, Any]) -> Any:
    given = {"weight_quant": quantizer, "steps": 5, **settings}
    return import_model(path, family="models.LoopedMLP", settings=given).net


@pytest.mark.parametrize(("quantizer", "settings"), CASES)
def test_weights_are_what_brevitas_computes(quantizer: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """One float of one weight that is not Brevitas' own is another network than the one that was trained."""
    made = layers(quantizer, settings)
    net = imported(checkpoint(tmp_path / "net.pt", made), quantizer, settings)
    for name, layer in made.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = layer.quant_weight().value.detach().numpy()
        assert (net.param(f"{name}_weight") == want.astype(np.float64)).all(), name


@pytest.mark.parametrize(("quantizer", "settings"), CASES[:3] + CASES[6:8])
def test_integers_are_brevitas_codes(quantizer: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Weights that were trained as codes lower to these codes, up to a factor of a row. Logits have one scale for
    all classes, so a readout with a scale a row is the exception."""
    made = layers(quantizer, settings)
    net = imported(checkpoint(tmp_path / "net.pt", made), quantizer, settings)
    lowered = lower(net, QuantizeOptions(), calibration=None).net
    held = ("W_in", "W_rec") if "PerChannel" in quantizer else SHAPES
    for name in held:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = made[name].quant_weight().int().numpy().astype(np.int64)
        found = next(p.value for p in lowered.params if p.source.startswith("net.pt:" + name + ".weight"))
        for mine, theirs in zip(found, want, strict=True):
            assert (mine * np.abs(theirs).max() == theirs * np.abs(mine).max()).all(), name


def test_a_rounding_of_another_kind_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The equality with Brevitas is no tolerance: a scale that is off by one part in a million fails it."""
    quantizer, settings = CASES[0]
    made = layers(quantizer, settings)
    right = brevitas_state._scale
    monkeypatch.setattr(brevitas_state, "_scale", lambda *a: right(*a) * np.float32(1.000001))
    net = imported(checkpoint(tmp_path / "net.pt", made), quantizer, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = made["W_rec"].quant_weight().value.detach().numpy()
    assert not (net.param("W_rec_weight") == want.astype(np.float64)).all()


def test_the_quantizer_has_to_be_stated(tmp_path: Path) -> None:
    """A state dict does not say which quantizer it was trained with: guessing makes another network."""
    path = checkpoint(tmp_path / "net.pt", layers(*CASES[4]))
    with pytest.raises(UsageError, match="which ones is not stated"):
        import_model(path, family="models.LoopedMLP", settings={"steps": 5})


def test_every_key_that_is_not_read_is_named(tmp_path: Path) -> None:
    """A zero point or a quantizer of activations that is dropped in silence changes what the net computes."""
    made = layers(*CASES[0])
    state = {f"{n}.{k}": v for n, layer in made.items() for k, v in layer.state_dict().items()}
    state["W_in.weight_quant.tensor_quant.zero_point_impl.value"] = torch.zeros(())
    state["W_rec.input_quant.fused_activation_quant_proxy.scale"] = torch.ones(())
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ImportFileError) as caught:
        imported(tmp_path / "net.pt", *CASES[0])
    text = str(caught.value)
    assert "zero_point_impl" in text
    assert "input_quant" in text


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"weight_bit_width": 1}, "must be 2 to 8"),
        ({"weight_bit_width": "many"}, "must be 2 to 8"),
        ({"weight_scaling_log": "maybe"}, "must be true or false"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    """A width that the quantizer does not have would be read as another network."""
    path = checkpoint(tmp_path / "net.pt", layers(*CASES[0]))
    with pytest.raises(UsageError, match=why):
        imported(path, CASES[0][0], settings)
