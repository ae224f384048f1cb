"""The committed checkpoints do what they state, and both learning rules learn."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINTS = sorted((EXAMPLES / "checkpoints").glob("*.pt"))
NETS = ("looped", "ternary", "lazy", "cube", "mlp")
RULES = [
    ("looped", "eqprop"),
    ("looped", "bptt"),
    ("ternary", "bptt"),
    ("lazy", "bptt"),
    ("cube", "eqprop"),
    ("mlp", "bptt"),
]

Floats = NDArray[np.float64]
Named = dict[str, Floats]

sys.path.insert(0, str(EXAMPLES))
digits = importlib.import_module("digits")
nets = importlib.import_module("nets")
rules = importlib.import_module("rules")
train = importlib.import_module("train")
sys.path.remove(str(EXAMPLES))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def arrays(content: dict[str, Any]) -> Named:
    return {k: v.numpy().astype(np.float64) for k, v in content["state_dict"].items()}


def folded(t: Named, layer: str) -> Floats:
    """The weight of a layer with spectral norm, from the singular vectors in the file."""
    original = t[f"{layer}.parametrizations.weight.original"]
    u, v = (t[f"{layer}.parametrizations.weight.0._{s}"] for s in "uv")
    return original / (u @ original @ v)


def loop(x: Floats, w_in: Floats, b: Floats, w_rec: Floats, w_out: Floats, c: Floats, steps: int) -> Floats:
    h = np.zeros((len(x), len(b)))
    for _ in range(steps):
        h = np.tanh(x @ w_in.T + b + h @ w_rec.T)
    return h @ w_out.T + c


def looped(t: Named, config: dict[str, Any], x: Floats, steps: int) -> Floats:
    b = t["W_in.bias"] + t["W_rec.bias"]
    return loop(x, folded(t, "W_in"), b, folded(t, "W_rec"), folded(t, "W_out"), t["W_out.bias"], steps)


def ternary(t: Named, config: dict[str, Any], x: Floats, steps: int) -> Floats:
    w_in, w_rec, w_out = (
        np.sign(t[f"{n}.weight"]) * (np.abs(t[f"{n}.weight"]) > config["threshold"]) for n in ("W_in", "W_rec", "W_out")
    )
    return loop(x, w_in, t["W_in.bias"] + t["W_rec.bias"], w_rec, w_out, t["W_out.bias"], steps)


def lazy(t: Named, config: dict[str, Any], x: Floats, steps: int) -> Floats:
    """Each layer of the gated chain fires exactly once, from zero: what the gate amounts to."""
    h = x @ t["embed.weight"].T + t["embed.bias"]
    for i in range(config["num_layers"]):
        h = config["alpha"] * np.tanh(h @ folded(t, f"layers.{i}").T + t[f"layers.{i}.bias"])
    return h @ t["head.weight"].T + t["head.bias"]


def cube(t: Named, config: dict[str, Any], x: Floats, steps: int) -> Floats:
    index = t["neighbor_indices"].astype(int)
    w_rec = np.zeros((len(index), len(index)))
    for n, row in enumerate(index):
        for k, m in enumerate(row):
            if m >= 0:
                w_rec[n, m] = t["W_local"][n, k]
    return loop(x, t["W_in.weight"], t["W_in.bias"], w_rec, t["W_out.weight"], t["W_out.bias"], steps)


def mlp(t: Named, config: dict[str, Any], x: Floats, steps: int) -> Floats:
    h = np.tanh(np.tanh(x @ t["net.0.weight"].T + t["net.0.bias"]) @ t["net.2.weight"].T + t["net.2.bias"])
    return h @ t["net.4.weight"].T + t["net.4.bias"]


FORWARD = {
    "models.LoopedMLP": looped,
    "models.TernaryEqProp": ternary,
    "models.LazyEqProp": lazy,
    "models.NeuralCube": cube,
    "models.BackpropMLP": mlp,
}


def logits(content: dict[str, Any], x: Floats) -> Floats:
    """The checkpoint's output in float64 NumPy, with no code of the examples."""
    steps = content["forward_kwargs"]["steps"]
    return FORWARD[content["key"]](arrays(content), content["config"], x, steps)


def test_every_net_has_a_checkpoint() -> None:
    """A glob that finds nothing would make the tests of the checkpoints vacuous."""
    assert {p.stem for p in CHECKPOINTS} >= {f"digits_{n}" for n in NETS}


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda p: p.stem)
def test_a_checkpoint_reaches_the_accuracy_that_it_states(path: Path) -> None:
    """A checkpoint from another run than its notes would make every number about it wrong."""
    content = torch.load(path, weights_only=True)
    assert path.stat().st_size < 100_000
    assert set(content) >= {"model_class", "module", "package", "key", "config", "forward_kwargs", "state_dict"}
    assert content["trained_with"].split(" ")[0] in {"eqprop", "bptt"}
    with np.load(EXAMPLES / "data" / "digits_test.npz") as data:
        x, labels = data["x"].astype(np.float64), data["labels"]
    right = int((logits(content, x).argmax(axis=1) == labels).sum())
    assert right == round(content["test_accuracy"] * len(labels))


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda p: p.stem)
def test_the_trained_net_and_an_independent_forward_agree(path: Path) -> None:
    """Training with another update than the one that the file's class stands for would go unseen by accuracy."""
    net, content = train.load(path)
    _, test = digits.digits()
    ours = net(test.x).numpy()
    assert np.abs(ours - logits(content, test.x.numpy().astype(np.float64))).max() < 1e-3
    fewer = {**content, "forward_kwargs": {"steps": 2}}
    if content["key"] not in ("models.LazyEqProp", "models.BackpropMLP"):
        assert np.abs(ours - logits(fewer, test.x.numpy().astype(np.float64))).max() > 0.1


def test_the_ternary_checkpoint_is_accurate_sparse_and_settled() -> None:
    """A ternary net that oscillates, or whose weights never cross the threshold, is no basis for exact hardware."""
    net, _ = train.load(EXAMPLES / "checkpoints" / "digits_ternary.pt")
    measured = digits.measure(net, digits.digits()[1])
    assert measured.accuracy >= 0.97
    assert measured.accuracy_8bit >= 0.97
    assert measured.settled_8bit >= 0.95
    w_rec = net.circuit().w_rec
    assert set(w_rec.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert 0.005 < float((w_rec != 0).double().mean()) < 0.1


def test_the_readme_states_the_accuracy_of_each_checkpoint() -> None:
    """A table that is not renewed with the files would mislead."""
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in CHECKPOINTS:
        content = torch.load(path, weights_only=True)
        row = next(line for line in readme.splitlines() if line.startswith(f"| {path.name} "))
        assert f"| {content['trained_with']} | {content['test_accuracy']:.4f} |" in row


def test_the_data_files_are_the_split_of_the_checkpoints() -> None:
    """Test inputs that were trained on, or calibration inputs taken from the test set, would flatter the numbers."""
    training, test = digits.digits()
    with np.load(EXAMPLES / "data" / "digits_test.npz") as data:
        assert data["x"].dtype == np.float32
        assert np.array_equal(data["x"], test.x.numpy())
        assert np.array_equal(data["labels"], test.y.numpy())
    seen = {row.tobytes() for row in training.x.numpy()}
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as data:
        assert {row.tobytes() for row in data["x"]} <= seen
    assert not {row.tobytes() for row in test.x.numpy()} <= seen


def small_circuit(symmetric: bool = True) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A random contracting circuit in float64, 6-10-4, with inputs and labels."""
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    w = normal(10, 10)
    w = w + w.T if symmetric else w - w.T
    w = 0.9 * w / torch.linalg.matrix_norm(w, 2)
    circuit = nets.Circuit(normal(10, 6) / 2, normal(10) / 4, w, normal(4, 10) / 3, normal(4) / 4)
    return circuit, normal(12, 6), torch.randint(4, (12,), generator=g)


def true_gradient(circuit: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Backpropagation through 200 steps; that of w_rec projected on the symmetric matrices, where EqProp lives."""
    leaves = nets.Circuit(*(w.clone().requires_grad_() for w in circuit))
    loss = torch.nn.functional.cross_entropy(leaves.logits(nets.relax(leaves, x, 200)[-1]), y)
    gradient = nets.Circuit(*torch.autograd.grad(loss, leaves))
    return gradient._replace(w_rec=(gradient.w_rec + gradient.w_rec.T) / 2)


def alignment(a: Any, b: Any) -> list[float]:
    """Cosine of the angle between two gradients, for w_in, bias, w_rec, w_out, c."""
    return [float((p * q).sum() / (p.norm() * q.norm())) for p, q in zip(a, b, strict=True)]


def estimate(circuit: Any, x: torch.Tensor, y: torch.Tensor, beta: float) -> Any:
    return rules.contrast(circuit, x, y, beta=beta, gain=1.0, free_steps=200, nudged_steps=200)[0]


def test_the_contrast_of_two_phases_is_the_gradient_of_the_loss() -> None:
    """A wrong sign, factor or phase in the rule; training might still succeed through the readout alone."""
    circuit, x, y = small_circuit()
    truth, found = true_gradient(circuit, x, y), estimate(circuit, x, y, 0.05)
    assert min(alignment(found, truth)) > 0.999
    for a, b in zip(found, truth, strict=True):
        assert float(a.norm() / b.norm()) == pytest.approx(1, rel=0.01)
    flipped = nets.Circuit(*(-w for w in found))
    assert max(alignment(flipped, truth)) < 0.95
    assert max(alignment(estimate(circuit, x, y, -0.05), truth)) > 0.999, "the centered contrast is even in beta"


def test_the_centered_contrast_has_an_error_of_second_order() -> None:
    """A one-sided contrast would be ten, not a hundred, times better at a tenth of beta."""
    circuit, x, y = small_circuit()
    truth = true_gradient(circuit, x, y).w_rec
    coarse, fine = ((estimate(circuit, x, y, beta).w_rec - truth).norm() for beta in (0.5, 0.05))
    assert 60 < float(coarse / fine) < 140


def test_without_symmetry_the_contrast_is_not_the_gradient() -> None:
    """The assumption in the docstring is real: leaving out `symmetrise` must not go unnoticed."""
    circuit, x, y = small_circuit(symmetric=False)
    assert min(alignment(estimate(circuit, x, y, 0.05), true_gradient(circuit, x, y))) < 0.9


def loss_of(net: Any, split: Any, gain: float) -> float:
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(gain * net.eval()(split.x), split.y))


def short_run(name: str, rule: str, lr_factor: float = 1.0) -> tuple[float, float]:
    """Loss on 256 training samples before and after 8 epochs on them."""
    recipe = train.RECIPES[name]
    recipe = replace(recipe, lr=recipe.lr * lr_factor)
    few = digits.Split(*(t[:256] for t in digits.digits()[0]))
    torch.manual_seed(0)
    before = loss_of(recipe.build(), few, recipe.gain)
    return before, loss_of(train.train(recipe, rule, few, seed=0, epochs=8, progress=False), few, recipe.gain)


@pytest.mark.parametrize(("name", "rule"), RULES)
@pytest.mark.slow
def test_a_short_training_lowers_the_loss(name: str, rule: str) -> None:
    """A rule whose gradients do not reach the parameters."""
    before, after = short_run(name, rule)
    assert after < 0.7 * before


def test_the_loss_does_not_fall_without_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above must be able to fail: with no step size, and with the contrast the wrong way round."""
    before, after = short_run("looped", "bptt", lr_factor=1e-9)
    assert after > 0.7 * before
    true_contrast = rules.contrast

    def flipped(*args: Any, **kwargs: Any) -> Any:
        gradient, loss = true_contrast(*args, **kwargs)
        return nets.Circuit(*(-w for w in gradient)), loss

    monkeypatch.setattr(rules, "contrast", flipped)
    before, after = short_run("looped", "eqprop")
    assert after > before


@pytest.mark.parametrize("name", ["looped", "cube"])
def test_symmetrise_makes_the_deployed_weights_symmetric(name: str) -> None:
    """The parameters may be symmetric and the deployed matrix not, for instance by a wrong neighbour index."""
    torch.manual_seed(0)
    net = train.RECIPES[name].build()
    net.symmetrise()
    w = net.circuit().w_rec.detach()
    assert float(w.abs().max()) > 0
    assert torch.equal(w, w.T)


def test_the_same_seed_gives_the_same_net() -> None:
    """Without it nobody could make the committed files again."""
    few = digits.Split(*(t[:128] for t in digits.digits()[0]))
    runs = [
        train.train(train.RECIPES["looped"], "eqprop", few, seed=seed, epochs=2, progress=False).state_dict()
        for seed in (0, 0, 1)
    ]
    key = "W_rec.parametrizations.weight.original"
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])
    assert not torch.equal(runs[0][key], runs[2][key])


def test_the_command_writes_a_checkpoint_and_says_how_good_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command prints, what the file states and what the file computes must be one number."""
    path = tmp_path / "new" / "looped.pt"
    assert train.main(["looped", "--rule", "eqprop", "--epochs", "1", "-o", str(path)]) == 0
    content = torch.load(path, weights_only=True)
    assert f"test {content['test_accuracy']:.4f}" in capsys.readouterr().out
    assert content["trained_with"] == "eqprop (free and nudged phases, beta=0.2)"
    assert [p.name for p in path.parent.iterdir()] == ["looped.pt"]
    assert train.main(["evaluate", str(path)]) == 0
    assert f"| looped.pt | {content['trained_with']} | {content['test_accuracy']:.4f} |" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["train", "save"])
def test_an_interrupted_training_leaves_the_old_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during training or writing must not cost the checkpoint of the day before."""
    path = tmp_path / "net.pt"
    path.write_bytes(b"old")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    if where == "train":
        monkeypatch.setattr(train, "train", interrupted)
    else:
        monkeypatch.setattr(torch, "save", interrupted)
    assert train.main(["looped", "--epochs", "1", "-o", str(path)]) == 130
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_file_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback tells nobody which of many files is wrong."""
    absent, text, other = tmp_path / "absent.pt", tmp_path / "text.pt", tmp_path / "other.pt"
    text.write_text("no checkpoint", encoding="utf-8")
    torch.save({"key": "models.ConvEqProp"}, other)
    for path, name in ((absent, "absent.pt"), (text, "text.pt"), (other, "other.pt")):
        assert train.main(["evaluate", str(path)]) == 1
        assert name in capsys.readouterr().err


def test_held_out_samples_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Choices made on samples that were trained on, or on the test set, are no choices."""
    training, _ = digits.digits()
    keep, held = digits.hold_out(training, 0.2, 0)
    kept = {row.tobytes() for row in keep.x.numpy()}
    assert len(keep.y) + len(held.y) == len(training.y)
    assert sum(row.tobytes() in kept for row in held.x.numpy()) < 3
    assert train.main(["looped", "--epochs", "1", "--hold-out", "0.2", "-o", str(tmp_path / "net.pt")]) == 0
    assert "held-out" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_script_runs_as_a_script() -> None:
    """The modules beside the script must be found without installing anything."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "train.py"), "looped", "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "--rule" in done.stdout
