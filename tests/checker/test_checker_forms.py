"""Nets beyond one linear map and a table: gates, maps in a chain, convolutions, sums over axes, counts of ticks."""

from __future__ import annotations

import copy
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from certificates import Document, certificate_of, sealed
from quantize_nets import holding, loop, net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import checker
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Output, State, ops

STEPS = 12


def gated(rng: np.random.Generator) -> EqNet:
    """Units that a state of its own switches, and that may hold an upset for ever."""
    of = loop(rng, steps=STEPS, gain=0.5).net
    (state,) = of.states
    step = (
        *of.step,
        ops.Greater(out="open", a="h", b="b"),
        ops.Select(out="next", condition="open", a=state.update, b="h"),
    )
    return replace(of, step=step, states=(replace(state, update="next"),))


def chain(rng: np.random.Generator) -> EqNet:
    """Two maps in one tick, a table between them."""
    units = 8
    first, second, into, out = (rng.normal(size=s) for s in ((units, units), (units, units), (units, 5), (3, units)))
    params = {"A": 0.8 * first / np.linalg.norm(first, 2), "B": 0.8 * second / np.linalg.norm(second, 2)}
    return net(
        params | {"C": into, "R": out},
        x=(5,),
        states=[State("h", (units,), "new")],
        drive=[ops.Linear(out="drive", x="x", weight="C")],
        step=[
            ops.Linear(out="first", x="h", weight="A"),
            ops.Add(out="pre", a="first", b="drive"),
            ops.Activation(out="middle", x="pre", kind="tanh"),
            ops.Linear(out="second", x="middle", weight="B"),
            ops.Activation(out="new", x="second", kind="tanh"),
        ],
        readout=[ops.Linear(out="logits", x="h", weight="R")],
        output="logits",
        steps=STEPS,
    )


def convolved(rng: np.random.Generator) -> EqNet:
    """Two channels on three by three places, and the mean of all units beside them."""
    shape = (2, 3, 3)
    return net(
        {"K": 0.1 * rng.normal(size=(2, 2, 3, 3)), "C": rng.normal(size=(18, 5)), "R": rng.normal(size=(3, 18))},
        x=(5,),
        states=[State("h", shape, "new")],
        drive=[ops.Linear(out="flat", x="x", weight="C"), ops.Reshape(out="drive", x="flat", shape=shape)],
        step=[
            ops.Conv(out="near", x="h", weight="K", stride=1, padding=1),
            ops.Reduce(out="mean", x="h", kind="mean", axes=(-2, -1), keep=True),
            ops.Scale(out="weak", x="mean", factor=0.2),
            ops.Add(out="both", a="near", b="weak"),
            ops.Add(out="pre", a="both", b="drive"),
            ops.Activation(out="new", x="pre", kind="tanh"),
        ],
        readout=[ops.Reshape(out="row", x="h", shape=(18,)), ops.Linear(out="logits", x="row", weight="R")],
        output="logits",
        steps=STEPS,
    )


FORMS = {
    "hold": lambda rng: holding(loop(rng, steps=STEPS, gain=0.6).net, 0.1),
    "gate": gated,
    "chain": chain,
    "conv": convolved,
    "count": lambda rng: loop(rng, steps=STEPS, gain=0.6).net,
}


def document_of(form: str, seed: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> Document:
    rng = np.random.default_rng(seed)
    made = FORMS[form](rng)
    made = replace(made, outputs=(Output("logits", "logits", "classes"),))
    options = QuantizeOptions(dither=5 if form == "count" else 0, per_row=form != "count")
    lowered = lower(made, options, calibration=None).net
    return certificate_of(lowered, {"x": rng.uniform(-1.0, 1.0, (3, 5))}, folder, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_certificates_of_all_forms_are_replayed(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the compiler proves follows a second time; what is a little stronger does not."""
    # Of a convolution the compiler proves the root of row and column sums, the checker its norm.
    less = {"conv": 0.3, "chain": 0.7}.get(form, 0.97)
    for seed in range(2):
        document = document_of(form, seed, tmp_path, capsys)
        content = (tmp_path / "net.onnx").read_bytes()
        checker.check(json.dumps(document).encode(), content)
        (block,) = document["certificate"]["blocks"]
        assert bool(block["gates"]) is (form == "gate")
        assert ("counts" in document["certificate"]) is ("not_hit" in document["recovery"]) is (form == "count")
        for key in ("bound", "rounding_lsb"):
            forged = copy.deepcopy(document)
            forged["certificate"]["blocks"][0][key] *= less
            with pytest.raises(checker.RefusalError):
                checker.check(sealed(forged), content)


@pytest.mark.parametrize("place", ["flow", "spread", "boxes", "recovery"])
def test_a_gate_that_holds_less_than_it_does_is_refused(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that forgets what a gate holds, in any of its four bounds."""
    module = importlib.import_module(f"eqcompile.toolchain.certificate.{place}")
    hold = module.hold
    monkeypatch.setattr(module, "hold", lambda net, op: 0.0 * hold(net, op))
    for seed in range(4):
        document = document_of("hold", seed, tmp_path, capsys)
        try:
            checker.check(json.dumps(document).encode(), (tmp_path / "net.onnx").read_bytes())
        except checker.RefusalError:
            return
    pytest.fail("no certificate was refused")


def test_a_gate_or_a_count_that_is_kept_back_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its gate the bound would be that of a net which is always open; without its count, of other upsets."""
    forged = document_of("gate", 0, tmp_path, capsys)
    forged["certificate"]["blocks"][0]["gates"] = []
    with pytest.raises(checker.RefusalError, match="L = "):
        checker.check(sealed(forged), (tmp_path / "net.onnx").read_bytes())
    forged = document_of("count", 0, tmp_path, capsys)
    del forged["certificate"]["counts"]
    with pytest.raises(checker.RefusalError, match="count ticks"):
        checker.check(sealed(forged), (tmp_path / "net.onnx").read_bytes())
    forged = document_of("count", 0, tmp_path, capsys)
    del forged["recovery"]["not_hit"]
    with pytest.raises(checker.RefusalError, match="not hit"):
        checker.check(sealed(forged), (tmp_path / "net.onnx").read_bytes())


def test_maps_in_a_chain_contract_by_the_product_of_their_norms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The norm of the product of absolute values says 1 or more here, which would be no certificate."""
    made = chain(np.random.default_rng(0))
    document = document_of("chain", 0, tmp_path, capsys)
    (block,) = document["certificate"]["blocks"]
    assert block["bound"] < 1.0
    (norm,) = (n for n in block["norms"] if n["norm"] == "2")
    assert norm["bound"] <= block["bound"] * (1 + 1e-8)
    a, b = (np.abs(made.param(name)) for name in "AB")
    assert np.linalg.norm(b @ a, 2) > 1.0
    assert certify(made).bound == pytest.approx(0.64, rel=1e-3)
