"""Widths of single tensors, a contraction that is asked for, and the search for the smallest widths."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from quantize_nets import inputs_of, loop

from eqcompile.app.cli.main import main
from eqcompile.app.report.pareto import front
from eqcompile.quantization.lower import lower
from eqcompile.quantization.search import Trial, search
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Input, Output, Param, Schedule, State, ops

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPED = EXAMPLES / "checkpoints" / "digits_looped.pt"
LAZY = EXAMPLES / "checkpoints" / "digits_lazy.pt"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"
TEST = EXAMPLES / "data" / "digits_test.npz"


def test_a_tensor_has_its_own_width() -> None:
    """A short name, a dotted key and the full name all mean the tensor; the others keep the common width."""
    source = import_model(LOOPED).net
    for name in ("W_rec", "W_rec.weight", "W_rec_weight"):
        made = lower(source, QuantizeOptions(weights="int6", widths={name: "int3"}), calibration=None)
        kinds = {r["name"]: r["kind"] for r in made.choices if r["what"] == "tensor"}
        assert kinds == {"W_in_weight": "int6", "W_rec_weight": "int3", "W_out_weight": "int6"}
        assert np.abs(made.net.param("W_rec_weight")).max() <= 3


def test_every_unknown_tensor_is_named_with_those_there_are() -> None:
    """A width that silently applies to nothing would pass for chosen."""
    source = import_model(LOOPED).net
    with pytest.raises(UsageError) as caught:
        lower(source, QuantizeOptions(widths={"W": "int4", "Wrec": "int4"}), calibration=None)
    first, second = caught.value.diagnostics
    assert "begins several weights" in first.what
    assert "stands for no weight" in second.what
    assert "W_in_weight, W_rec_weight, W_out_weight" in second.hint
    with pytest.raises(UsageError, match="int9"):
        lower(source, QuantizeOptions(widths={"W_rec": "int9"}), calibration=None)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_contraction_is_obtained_and_said(alpha: float) -> None:
    """The bound asked for holds for the integers, is not missed by much, and the row says by how much weights fell."""
    made = loop(np.random.default_rng(0), alpha=alpha, gain=3.0)
    x = inputs_of(np.random.default_rng(1), made.net, 30)
    plain = lower(made.net, QuantizeOptions(), calibration=x)
    assert certify(plain.net).bound > 0.8
    weak = lower(made.net, QuantizeOptions(max_lipschitz=0.8), calibration=x)
    bound = certify(weak.net).bound
    assert 0.79 < bound <= 0.8
    (row,) = [r for r in weak.choices if r["what"] == "contraction"]
    assert (row["asked"], row["bound"]) == (0.8, bound)
    assert set(row["factors"]) == {"W"}
    assert 0.0 < row["factors"]["W"] < 1.0
    assert np.array_equal(weak.net.param("A"), plain.net.param("A"))
    assert not [r for r in plain.choices if r["what"] == "contraction"]


def test_a_contraction_that_holds_already_changes_nothing() -> None:
    """Weights must not be touched for a bound that the net has."""
    made = loop(np.random.default_rng(2), gain=0.3)
    plain = lower(made.net, QuantizeOptions(), calibration=None)
    asked = lower(made.net, QuantizeOptions(max_lipschitz=0.95), calibration=None)
    assert asked.net == plain.net
    assert asked.choices[-1]["factors"] == {}


def test_a_contraction_that_cannot_be_had_is_refused() -> None:
    """A gate holds its state whatever the weights; damping alone may be above what is asked; both must say why."""
    with pytest.raises(UsageError, match="a gate holds its state"):
        lower(import_model(LAZY).net, QuantizeOptions(max_lipschitz=0.9), calibration=None)
    made = loop(np.random.default_rng(3), alpha=0.3, gain=2.0)
    with pytest.raises(UsageError, match=r"without any weight .* is 0\.7"):
        lower(made.net, QuantizeOptions(max_lipschitz=0.6), calibration=None)
    with pytest.raises(UsageError, match="between 0 and 1"):
        lower(made.net, QuantizeOptions(max_lipschitz=1.5), calibration=None)


def test_compile_says_what_a_contraction_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """L before and after, and the labels without and with it, in text, JSON and the manifest."""
    argv = [str(LOOPED), "--target", "numpy", "-o", str(tmp_path / "out"), "--calibrate", str(CALIBRATION)]
    argv += ["--inputs", str(TEST), "--max-lipschitz", "0.5", "--weights", "W_rec=int4", "--no-verify"]
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["contraction"]
    assert document["integer"] <= 0.5 < document["float"]
    cost = document["cost"]
    assert cost["labels"] == 360
    assert cost["labels_equal_with"] < cost["labels_equal_without"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["contraction"]["cost"] == cost
    assert main([*argv, "--force"]) == 0
    text = capsys.readouterr().out
    assert "L float 1.0" in text
    assert f"{cost['labels_equal_without']} of 360 without it, {cost['labels_equal_with']} with it" in text
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "certified: contracts, L = 0.4" in capsys.readouterr().out


def test_a_net_that_contracts_less_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ternary rounding raises the norm of this net's recurrent weights: silence would be the fault."""
    argv = [str(LOOPED), "--target", "numpy", "--calibrate", str(CALIBRATION), "--no-verify"]
    assert main([*argv, "-o", str(tmp_path / "a"), "--weights", "ternary"]) == 0
    assert "WARNING: as far as is proved, the integer net contracts less" in capsys.readouterr().out
    assert main([*argv, "-o", str(tmp_path / "b")]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_the_search_narrows_until_labels_change() -> None:
    """Every accepted step meets the target, costs less than the one before, and the last is what a lowering with these
    widths gives; a target of little finds narrower widths than one of much."""
    made = loop(np.random.default_rng(4), units=12)
    x = inputs_of(np.random.default_rng(5), made.net, 60)
    strict, loose = (
        search(made.net, QuantizeOptions(), calibration=None, inputs=x, target=target) for target in (0.99, 0.6)
    )
    for found, target in ((strict, 0.99), (loose, 0.6)):
        accepted = [t for t in found.trials if t.accepted]
        assert found.required == min(1.0, target + (target * (1 - target) / 30) ** 0.5)
        assert accepted[0].agreement >= target
        assert all(t.agreement >= found.required for t in accepted[1:])
        assert [t.bits for t in accepted] == sorted((t.bits for t in accepted), reverse=True)
        assert all(t.agreement < found.required for t in found.trials if not t.accepted)
        assert found.best.labels == found.validation.labels == 30
    assert loose.best.bits < strict.best.bits < strict.trials[0].bits
    best = strict.best
    options = QuantizeOptions(widths=best.kinds, state_bits=best.state_bits, input_bits=best.input_bits)
    first = {"x": x["x"][0::2]}
    lowered = lower(made.net, options, calibration=first)
    kinds = {r["name"]: r["kind"] for r in lowered.choices if r["what"] == "tensor"}
    assert kinds == dict(best.kinds)
    assert lowered.net.digest == strict.validation.digest


def test_the_validation_half_chooses_nothing() -> None:
    """Other validation inputs must leave every trial as it was."""
    made = loop(np.random.default_rng(6), units=6)
    x = inputs_of(np.random.default_rng(7), made.net, 40)["x"]
    other = x.copy()
    other[1::2] = np.random.default_rng(8).uniform(-1.0, 1.0, other[1::2].shape)
    found = [
        search(made.net, QuantizeOptions(), calibration=None, inputs={"x": data}, target=0.9).trials
        for data in (x, other)
    ]
    assert [t.to_json() for t in found[0]] == [t.to_json() for t in found[1]]


def test_a_choice_that_misses_on_the_validation_half_gives_way_to_a_wider_one() -> None:
    """Widths that keep the labels of one half only must not be handed out, and a miss must be told as one."""
    made = loop(np.random.default_rng(4), units=12)
    x = inputs_of(np.random.default_rng(5), made.net, 60)["x"]
    results = [
        search(made.net, QuantizeOptions(), calibration=None, inputs={"x": order.permutation(x)}, target=0.97)
        for order in map(np.random.default_rng, (0, 1))
    ]
    assert {len(r.judgements) > 1 for r in results} == {True, False}
    for r in results:
        accepted = [t for t in r.trials if t.accepted][::-1]
        assert [j.trial for j in r.judgements] == accepted[: len(r.judgements)]
        assert all(j.agreement < r.target for j in r.judgements[:-1])
        assert r.meets_target == (r.validation.agreement >= r.target)
        assert r.meets_target or len(r.judgements) == len(accepted)


def test_taps_outside_the_lattice_hold_no_codes() -> None:
    """A lattice whose weights are ternary, but for what stands outside, keeps its codes as the lowering does."""
    weight = np.array([[0.5, 7.3], [-0.5, 0.5], [0.0, -0.5]])
    index = np.array([[1, -1], [0, 2], [1, 0]])
    net = EqNet(
        name="lattice",
        family="test",
        inputs=(Input("x", (3,)),),
        params=(Param("w", weight, "test"), Param("i", index, "test")),
        states=(State("h", (3,), "y"),),
        drive=(),
        step=(
            ops.Stencil(out="s", x="h", weight="w", index="i"),
            ops.Add(out="a", a="s", b="x"),
            ops.Activation(out="y", x="a", kind="tanh"),
        ),
        readout=(),
        outputs=(Output("o", "h", "classes"),),
        schedule=Schedule(4),
    )
    x = {"x": np.random.default_rng(0).uniform(-1, 1, (20, 3))}
    options = QuantizeOptions(per_row=False)
    found = search(net, options, calibration=None, inputs=x, target=0.5)
    assert found.kept == ("w",)
    rows = [r for r in lower(net, options, calibration=x).choices if r["what"] == "tensor"]
    assert [(r["name"], r["kind"], r["exact"]) for r in rows] == [("w", "ternary", True)]
    assert found.best.kinds == {"w": "ternary"}


def test_tensors_that_hold_codes_are_left_alone() -> None:
    """A ternary tensor has nothing to narrow: trying would waste runs and count bits that are not saved."""
    made = loop(np.random.default_rng(9), ternary_scale=0.11)
    x = inputs_of(np.random.default_rng(10), made.net, 30)
    found = search(made.net, QuantizeOptions(), calibration=None, inputs=x, target=0.5)
    assert found.kept == ("A", "W", "R")
    assert {t.changed for t in found.trials} <= {"", "state bits", "input bits"}
    assert set(found.best.kinds.values()) == {"ternary"}


def test_a_target_out_of_reach_is_refused() -> None:
    """Not even the widest setting keeps all labels: the numbers must be said, no result given."""
    made = loop(np.random.default_rng(11), units=8)
    x = inputs_of(np.random.default_rng(12), made.net, 200)
    with pytest.raises(UsageError, match=r"at the widest setting \d+ of 100"):
        search(made.net, QuantizeOptions(state_bits=2, input_bits=2), calibration=None, inputs=x, target=0.999)
    with pytest.raises(UsageError, match="cannot be split"):
        search(made.net, QuantizeOptions(), calibration=None, inputs={"x": x["x"][:1]}, target=0.5)


def test_the_front_holds_what_nothing_beats() -> None:
    """A trial that costs more and keeps less must not be drawn as a choice."""
    sizes = ((10, 90), (5, 80), (7, 80), (8, 95), (4, 20))
    trials = [Trial({}, 8, 8, "", bits, equal, 100, accepted=False) for bits, equal in sizes]
    assert [(t.bits, t.equal) for t in front(trials)] == [(4, 20), (5, 80), (8, 95)]


@pytest.mark.slow
def test_the_command_writes_a_table_a_plot_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed command line must compile, with the widths that were found; a result is not overwritten unasked."""
    argv = ["search", str(LOOPED), "--inputs", str(TEST), "--calibrate", str(CALIBRATION), "--samples", "40"]
    argv += ["--target-agreement", "0.95", "--state-bits", "4", "--input-bits", "2", "-o", str(tmp_path / "s")]
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "s" / "search.json").read_text()) == document
    assert document["validation"]["labels"] == document["best"]["labels"] == 20
    drawn = ElementTree.parse(tmp_path / "s" / "pareto.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == len(document["trials"]) + 1
    (line,) = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    centres = {f"{c.attrib['cx']},{c.attrib['cy']}" for c in circles}
    assert len(line.attrib["points"].split()) == len(document["front"])
    assert set(line.attrib["points"].split()) <= centres
    assert main(argv) == 6
    assert "output-exists" in capsys.readouterr().err
    assert main([*argv, "--force"]) == 0
    text = capsys.readouterr().out
    assert document["command"] in text
    assert "validation " in text
    words = document["command"].split()[1:]
    words[words.index("out")] = str(tmp_path / "out")
    assert main([*words, "--no-verify", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["quantization"]["choices"]["rows"]
    found = {r["name"]: r["kind"] for r in rows if r["what"] == "tensor"}
    assert found == document["best"]["weights"]


def test_the_command_line_gives_the_net_that_was_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --calibrate the search half calibrates: the printed command must do so too, or it makes another net; so
    it does where a file of settings is left out."""
    (tmp_path / "c.json").write_text('{"steps": 9}')
    argv = ["search", str(LOOPED), "--inputs", str(TEST), "--samples", "30", "--target-agreement", "0.8"]
    argv += ["--config", str(tmp_path / "c.json")]
    argv += ["--state-bits", "4", "--input-bits", "3", "-o", str(tmp_path / "s"), "--json"]
    assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    words = document["command"].split()[1:]
    words[words.index("out")] = str(tmp_path / "out")
    assert main([*words, "--no-verify", "--json"]) == 0
    capsys.readouterr()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["ir_digest"] == document["digest"]


def test_a_miss_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that goes on with widths that lose labels must be stopped by the exit code; the result is there."""
    data = dict(np.load(TEST))
    data["x"] = np.stack([data["x"][: len(data["x"]) // 2]] * 2, axis=1).reshape(-1, *data["x"].shape[1:])[:40]
    noise = np.random.default_rng(0).normal(0.0, 1.0, data["x"][1::2].shape)
    data["x"][1::2] = data["x"][1::2] * 0.01 + noise
    np.savez(tmp_path / "x.npz", x=data["x"])
    argv = ["search", str(LOOPED), "--inputs", str(tmp_path / "x.npz"), "--target-agreement", "0.95"]
    argv += ["--state-bits", "4", "--input-bits", "4", "-o", str(tmp_path / "s")]
    assert main(argv) == 9
    assert "MISSES" in capsys.readouterr().out
    document = json.loads((tmp_path / "s" / "search.json").read_text())
    assert not document["validation"]["meets_target"]
    assert document["validation"]["judged"] == sum(t["accepted"] for t in document["trials"])


def test_an_interrupted_search_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst must leave neither half a result nor a temporary file."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eqcompile.quantization.search.labels_agreeing", interrupted)
    argv = ["search", str(LOOPED), "--inputs", str(TEST), "-o", str(tmp_path / "s"), "--samples", "4"]
    assert main(argv) == 130
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_same_tensor_twice_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which of two widths was meant is not for the program to guess."""
    argv = [str(LOOPED), "--target", "numpy", "-o", str(tmp_path / "o"), "--weights", "int4", "--weights", "int5"]
    assert main(argv) == 2
    assert "given twice for all tensors" in capsys.readouterr().err
