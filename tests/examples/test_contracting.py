"""The committed nets with a dense ternary recurrence are what their README says, and their training script runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.options import QuantizeOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
NETS = {
    "mnist_layered": (160, 160),
    "mnist_certified": (256, 0),
    "digits_layered": (72, 72),
    "digits_certified": (96, 0),
    "digits_holding": (72, 72),
}
"""Units that read the input, and the first one that the readout sees."""

EQPROP = ("mnist_eqprop", "mnist_eqprop_layered", "digits_eqprop", "digits_eqprop_layered")
LATTICE = "digits_eqprop_cube"

sys.path.insert(0, str(EXAMPLES))
bounded = importlib.import_module("bounded")
eqprop_script = importlib.import_module("train_eqprop")
contracting = importlib.import_module("contracting")
script = importlib.import_module("train_contracting")
sys.path.remove(str(EXAMPLES))


def imported(name: str) -> EqNet:
    model = import_model(EXAMPLES / "checkpoints" / f"{name}.npz")
    assert not model.assumed
    assert not model.ignored
    return model.net


def lowered(net: EqNet) -> IntNet:
    x = np.random.default_rng(0).random((50, *net.inputs[0].shape))
    return lower(net, QuantizeOptions(), calibration={"x": x}).net


@pytest.mark.parametrize("name", NETS)
def test_the_recurrence_is_dense_ternary_and_contracts_as_integers(name: str) -> None:
    """Figures made on a net that hardly recurs, or whose integer map is not proved to contract, would say nothing."""
    net = imported(name)
    w_in, w_rec, w_out = (net.param(f"{w}_weight") for w in ("W_in", "W_rec", "W_out"))
    assert (w_rec != 0).mean() >= 0.4
    for weight in (w_rec, *w_in):
        assert len(np.unique(np.abs(weight[weight != 0]))) <= 1
    reached, first_read = NETS[name]
    assert not w_in[reached:].any()
    assert not w_out[:, :first_read].any()
    certificate = certify(lowered(net))
    assert certificate.certified
    assert 0.55 < certificate.bound <= 0.7


@pytest.mark.parametrize("name", [*EQPROP, LATTICE])
def test_nets_of_equilibrium_propagation_are_dense_and_contract_as_integers(name: str) -> None:
    """Their weights must be symmetric, or no energy belongs to them; the integers must be proved to contract."""
    net = imported(name)
    if name == LATTICE:
        (weight,) = (p.value for p in net.params if p.value.shape[-1:] == (27,) and p.value.dtype.kind == "f")
        assert (weight != 0).mean() > 0.4
    else:
        w_rec = net.param("W_rec_weight")
        assert (w_rec != 0).mean() > 0.99
        np.testing.assert_array_equal(w_rec, w_rec.T)
    integers = lowered(net)
    certificate = certify(integers)
    assert certificate.certified
    assert 0.8 < certificate.bound <= 0.95


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("digits_layered", 0.97),
        ("digits_certified", 0.975),
        ("digits_holding", 0.97),
        ("digits_eqprop", 0.98),
        ("digits_eqprop_layered", 0.97),
        ("digits_eqprop_cube", 0.97),
    ],
)
def test_accuracy_of_the_integers(name: str, least: float) -> None:
    """On the 360 test images: what the README says of the float net with 8-bit states holds of the integers too."""
    net = imported(name)
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        integers = lower(net, QuantizeOptions(), calibration={"x": file["x"].astype(np.float64)}).net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x, labels = file["x"].astype(np.float64), file["labels"]
    logits = golden.run(integers, encode(integers, {"x": x})[0], trace=False).outputs["logits"]
    assert (golden.labels(logits) == labels).mean() >= least


def test_the_readme_says_what_the_files_say() -> None:
    """Its table was written by hand."""
    text = (EXAMPLES / "README_contracting.md").read_text()
    for name in (*NETS, *EQPROP, LATTICE):
        with np.load(EXAMPLES / "checkpoints" / f"{name}.npz") as file:
            test = json.loads(str(file["__training__"]))["test"]
        (row,) = re.findall(rf"\| {name}\.npz \|.*", text)
        values = [row.split("|")[i].strip() for i in (4, 5, 6, 7)]
        keys = ("accuracy", "accuracy_without_recurrence", "steps", "changes")
        assert values == [f"{test[k]:{form}}" for k, form in zip(keys, (".4f", ".4f", ".2f", ".0f"), strict=True)]


@pytest.mark.parametrize(("held", "row"), [(1.0, "gates as trained"), (0.0, "the same weights without gates: exact")])
def test_the_readme_says_what_gates_leave_out(held: float, row: str) -> None:
    """Its table of updates and additions, with the gates and without."""
    source = imported("digits_holding")
    params = (replace(p, value=p.value * held) if p.name == "threshold" else p for p in source.params)
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        calibration = {"x": file["x"].astype(np.float64)}
    net = lower(replace(source, params=tuple(params)), QuantizeOptions(), calibration=calibration).net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x, labels = file["x"].astype(np.float64), file["labels"]
    run = golden.run(net, encode(net, {"x": x})[0], evaluation="event")
    states = run.states["h"]
    moved = states != np.concatenate([np.zeros_like(states[:1]), states[:-1]])
    right = (golden.labels(run.outputs["logits"]) == labels).mean()
    event, dense = (run.details[f"additions_{how}"] for how in ("event", "dense"))
    line = f"| {row} | {right:.4f} | {1 - moved.mean():.1%} | {event:,} | {dense:,} |".replace("% |", " % |")
    assert line in (EXAMPLES / "README_contracting.md").read_text()


def test_the_readme_compares_the_rules_as_recorded() -> None:
    """Its table of seeds was written by hand, too."""
    text = (EXAMPLES / "README_contracting.md").read_text()
    record = json.loads((EXAMPLES.parent / "benchmarks" / "claims" / "trainings.json").read_text())["trainings"]
    for name in (*EQPROP, LATTICE):
        rules = (
            " ".join(f"{t['accuracy']:.4f}" for t in record if (t["net"], t["rule"]) == (name, rule))
            for rule in ("eqprop", "bptt")
        )
        assert f"| {name} | {' | '.join(rules)} |" in text


@pytest.mark.slow
def test_training_writes_a_net_of_the_norm_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the epochs: the norm is a constraint, not a result. Held-out images are left out where asked."""
    short = replace(contracting.SETTINGS["digits_layered"], epochs=1, lipschitz=0.5)
    monkeypatch.setitem(contracting.SETTINGS, "digits_layered", short)
    out = tmp_path / "net.npz"
    assert script.main(["digits_layered", "--hold-out", "-o", str(out)]) == 0
    assert "held_out" in capsys.readouterr().out
    net = import_model(out).net
    assert np.linalg.norm(net.param("W_rec_weight"), 2) == pytest.approx(0.5, abs=1e-6)
    assert script.main(["mnist_layered"]) == 2
    assert "--data mnist.npz" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits_eqprop_layered", LATTICE])
def test_equilibrium_propagation_keeps_the_norm_and_the_symmetry(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound must bind after every update, or the equilibria that are contrasted need not exist."""
    short = replace(bounded.SETTINGS[name], epochs=1, lipschitz=0.3, free_steps=6, nudged_steps=4)
    monkeypatch.setitem(bounded.SETTINGS, name, short)
    norms = []
    scale_back = bounded.scale_back

    def watched(net: Any, *arguments: Any) -> None:
        scale_back(net, *arguments)
        w_rec = net.circuit().w_rec.detach().numpy()
        np.testing.assert_array_equal(w_rec, w_rec.T)
        norms.append(np.linalg.norm(w_rec, 2))

    monkeypatch.setattr(bounded, "scale_back", watched)
    out = tmp_path / "net.npz"
    assert eqprop_script.main([name, "-o", str(out)]) == 0
    assert len(norms) > 20
    assert max(norms) <= 0.3 + 1e-6
    assert lowered(import_model(out).net)
    assert eqprop_script.main(["mnist_eqprop"]) == 2
