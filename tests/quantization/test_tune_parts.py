"""Training for the integers, part by part: network, weights, forward pass, checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float_nets import float_nets
from numpy.typing import NDArray
from zoo_nets import NAMES, zoo_net

from eqcompile.quantization.qat.checkpoint import Checkpoint
from eqcompile.quantization.qat.learner import Learner
from eqcompile.quantization.qat.network import relax
from eqcompile.quantization.qat.train import calibrated_gain
from eqcompile.quantization.qat.weights import QuantizedWeight, straight
from eqcompile.quantization.weights import quantize_weights
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Stop
from eqcompile.toolchain.reference import run_reference

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
DIGITS = ("digits_looped.pt", "digits_ternary.pt", "digits_lazy.pt", "digits_cube.pt")
X = np.random.default_rng(5).integers(0, 17, (40, 64)) / 16.0
FLOATS = {name: net for name, net in float_nets().items() if not net.schedule.frames and net.schedule.stop is None}


def same_as_reference(net: EqNet, x: dict[str, NDArray[Any]]) -> None:
    wanted, found = run_reference(net, x).outputs, relax(net, x)
    for name, value in wanted.items():
        # A net that does not contract makes a few units in the last place of float32 larger with every tick.
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(value).max()))


@pytest.mark.parametrize("name", FLOATS)
def test_every_operation_equals_the_reference(name: str) -> None:
    """Would break if an operation in PyTorch had another equation than the float level."""
    draw = np.random.default_rng(0)
    net = FLOATS[name]
    x = {
        i.name: draw.integers(0, i.rows, (3, *i.shape)) if i.rows is not None else draw.normal(size=(3, *i.shape))
        for i in net.inputs
    }
    same_as_reference(net, x)


@pytest.mark.parametrize("name", NAMES)
def test_every_family_equals_the_reference(name: str) -> None:
    """Would break if the order of blocks, initial states or nested relaxations were read differently."""
    net, x = zoo_net(name)
    if net.schedule.frames or net.schedule.stop is not None:
        pytest.skip("frames and stop rules are not trained")
    same_as_reference(net, x)


@pytest.mark.parametrize(("kind", "bits"), [("ternary", 2), ("int3", 3), ("int4", 4), ("int8", 8)])
@pytest.mark.parametrize("per_row", [True, False])
def test_a_quantized_weight_is_exactly_scale_times_codes(kind: str, bits: int, per_row: bool) -> None:
    """Would break if a product were rounded: the lowering would then find other codes than training saw."""
    weight = np.random.default_rng(1).normal(size=(6, 50))
    start = quantize_weights(weight, kind, per_row=per_row)
    module = QuantizedWeight(weight, start.codes, start.scale, bits)
    value = module().detach().numpy().astype(np.float64)
    found = quantize_weights(value, kind, per_row=per_row)
    assert found.exact
    np.testing.assert_array_equal(found.real(slice(None)), value)
    np.testing.assert_array_equal(np.clip(start.codes, 1 - 2 ** (bits - 1), None), found.codes)
    np.testing.assert_allclose(found.scale, start.scale, rtol=2.0**-16)


def test_a_quantized_weight_learns_latent_and_scale() -> None:
    """Would break if rounding stopped the gradient, or let it through where a code is clipped: scales would then drift
    against the loss."""
    weight, codes = np.array([[0.2, -0.9, 2.0, 0.4]]), np.array([[0, -1, 1, 0]])
    module = QuantizedWeight(weight, codes, np.array([0.5]), 2)
    with torch.no_grad():
        module.latent.copy_(torch.tensor(weight) / 0.5)
    module().sum().backward()  # type: ignore[no-untyped-call]
    scale = next(p for n, p in module.named_parameters() if "latent" not in n)
    assert module.latent.grad is not None
    np.testing.assert_array_equal(module.latent.grad != 0, [[True, False, False, True]])
    assert scale.grad is not None
    assert float(scale.grad.abs().sum()) > 0.0


@pytest.mark.parametrize("per_row", [False, True])
def test_a_weight_shrinks_with_its_codes(per_row: bool) -> None:
    """Would break if a smaller scale rounded the latents to other codes."""
    weight = np.random.default_rng(2).normal(size=(6, 5))
    start = quantize_weights(weight, "int4", per_row=per_row)
    module = QuantizedWeight(weight, start.codes, start.scale, 4)
    before = module().detach().numpy()
    module.shrink(0.7)
    after = module().detach().numpy()
    np.testing.assert_allclose(after, 0.7 * before, rtol=2.0**-14)
    scale = 0.7 * start.scale.reshape(-1, 1)
    np.testing.assert_array_equal(np.round(after / scale), start.codes)


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_the_gain_is_that_of_the_labels(gain: float) -> None:
    """Would break if small logits met the labels as they are: the loss would then make them large, not right."""
    draw = np.random.default_rng(3)
    logits = draw.normal(size=(20_000, 10))
    labels = (gain * logits + draw.gumbel(size=logits.shape)).argmax(axis=1)
    assert calibrated_gain(logits, labels) == pytest.approx(gain, rel=0.05)


def test_straight_gives_the_hard_value_to_the_last_bit() -> None:
    """Would break with `soft + (hard - soft).detach()`, which rounds."""
    soft = torch.tensor([0.3, 1e-9], requires_grad=True)
    hard = torch.tensor([100.0, 16777216.0])
    made = straight(soft, hard)
    assert torch.equal(made, hard)
    made.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(soft.grad, torch.ones(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DIGITS)
def test_the_forward_pass_is_golden(name: str) -> None:
    """Would break if training saw other states or logits than the integers have, or no gradient reached a weight."""
    learner = Learner(Checkpoint(import_model(CHECKPOINTS / name)), QuantizeOptions(weights="int4"), {"x": X})
    made = learner({"x": X}, None)
    codes, _ = data.encode(made.net, {"x": X})
    wanted = golden.run(made.net, codes)
    scale = made.net.outputs[0].scale
    assert scale is not None
    np.testing.assert_array_equal(made.logits.detach().numpy(), (wanted.outputs["logits"] * scale).astype(np.float32))
    made.logits.square().mean().backward()
    for key, parameter in learner.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all()
        if key.endswith("latent"):
            assert float(parameter.grad.abs().max()) > 0.0, key


@pytest.mark.parametrize("name", DIGITS)
def test_a_written_checkpoint_is_the_trained_net(name: str, tmp_path: Path) -> None:
    """Would break if a tensor were written under a wrong key, or the family read it in another way."""
    checkpoint = Checkpoint(import_model(CHECKPOINTS / name))
    learner = Learner(checkpoint, QuantizeOptions(weights="int4"), {"x": X})
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.05 * torch.sin(torch.arange(parameter.numel()).reshape(parameter.shape))
    content = checkpoint.content(learner.arrays())
    state = {k: torch.tensor(a) for k, a in content["state_dict"].items()}
    torch.save({**content, "state_dict": state}, tmp_path / "tuned.pt")
    back = import_model(tmp_path / "tuned.pt")
    assert back.family == checkpoint.family.key
    assert not back.assumed
    assert not any("spectral" in p.source for p in back.net.params)
    assert back.net == learner.net()
    assert len(checkpoint.trainable) == sum(p.value.dtype.kind == "f" and p.name != "epsilon" for p in back.net.params)


def test_what_a_family_derives_is_left_alone(tmp_path: Path) -> None:
    """Would break if the trained values of a symmetrised or transposed matrix were written as if they were free."""
    with np.load(Path(__file__).parents[1] / "data" / "zoo" / "LoopedMLP_archive_symmetric_sn.npz") as file:
        arrays = {k.removeprefix("weights/"): file[k] for k in file.files if k.startswith("weights/")}
    np.savez(tmp_path / "symmetric.npz", **arrays)
    imported = import_model(
        tmp_path / "symmetric.npz", family="archive.LoopedMLP", settings={"symmetric": True, "steps": 4}
    )
    checkpoint = Checkpoint(imported)
    assert "_Wh_symmetric" not in {t.param for t in checkpoint.trainable}
    assert "Wx_weight" in {t.param for t in checkpoint.trainable}
    learner = Learner(checkpoint, QuantizeOptions(weights="int4"), {"x": np.ones((2, *imported.net.inputs[0].shape))})
    assert list(learner.frozen) == ["_Wh_symmetric"]


def test_a_net_that_is_not_its_files_is_refused() -> None:
    """Would break if a net that an importer changed on the way, as Brevitas' quantizers do, were written back as if it
    were the file's."""
    imported = import_model(CHECKPOINTS / "digits_looped.pt")
    params = tuple(replace(p, value=p.value * 2.0) for p in imported.net.params)
    with pytest.raises(UnsupportedError, match="tune-source"):
        Checkpoint(replace(imported, net=replace(imported.net, params=params)))


def test_an_alias_is_written_back_under_its_name(tmp_path: Path) -> None:
    """A class that is another family by another name was refused as a graph."""
    state = torch.load(CHECKPOINTS / "digits_looped.pt", weights_only=True)["state_dict"]
    torch.save(state, tmp_path / "bare.pt")
    checkpoint = Checkpoint(import_model(tmp_path / "bare.pt", family="eqprop_torch.LoopedMLP"))
    assert checkpoint.content({})["key"] == "eqprop_torch.LoopedMLP"


def test_a_wrapped_checkpoint_is_trained_under_its_own_keys(tmp_path: Path) -> None:
    """A prefix that the import removed would leave the trainer without tensors."""
    plain = import_model(CHECKPOINTS / "digits_looped.pt")
    stored = torch.load(CHECKPOINTS / "digits_looped.pt", weights_only=True)
    wrapped = {f"model.{key}": tensor for key, tensor in stored["state_dict"].items()}
    torch.save({**stored, "state_dict": wrapped}, tmp_path / "wrapped.pt")
    checkpoint = Checkpoint(import_model(tmp_path / "wrapped.pt"))
    assert checkpoint.net.digest == plain.net.digest
    assert set(checkpoint.content({})["state_dict"]) == set(Checkpoint(plain).content({})["state_dict"])


def test_a_net_with_a_stop_rule_is_trained_without_it() -> None:
    """The integers make all steps, and so must what is trained for them; the rule itself has no integer form."""
    imported = import_model(CHECKPOINTS / "digits_looped.pt")
    net = replace(imported.net, schedule=replace(imported.net.schedule, stop=Stop("h", 0.1, 5, 2.0)))
    checkpoint = Checkpoint(imported)
    checkpoint.net = net
    learner = Learner(checkpoint, QuantizeOptions(weights="int4"), {"x": X})
    assert learner.source.schedule.stop is None
    assert learner.lowered().schedule.steps == net.schedule.steps
