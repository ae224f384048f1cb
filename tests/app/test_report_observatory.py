"""What a report of a compilation has in front, the confusion matrix, and the observatory."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import eqcompile as eq
from eqcompile.app import compile as pipeline
from eqcompile.app import report
from eqcompile.app.report.figure import confusion
from eqcompile.app.report.headline import headline
from eqcompile.app.report.nudge import nudged_phase
from eqcompile.app.report.panels import cube_panels, sample_panels
from eqcompile.app.report.relaxation import relaxation
from eqcompile.app.report.slopes import slopes
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode

EXAMPLES = Path(__file__).parents[2] / "examples"


def rgb(image: ElementTree.Element) -> NDArray[np.uint8]:
    """Pixels `[y, x, 3]` of an inline PNG."""
    png = base64.b64decode(image.attrib["href"].split(",")[1])
    wide, high = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    at = png.index(b"IDAT")
    raw = zlib.decompress(png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at], "big")])
    return np.frombuffer(raw, np.uint8).reshape(high, 1 + 3 * wide)[:, 1:].reshape(high, wide, 3)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> pipeline.CompileResult:
    request = pipeline.CompileRequest(
        model=EXAMPLES / "checkpoints" / "digits_ternary.pt",
        target=NumpyTarget(),
        output=tmp_path_factory.mktemp("artifact") / "out",
        calibration=EXAMPLES / "data" / "digits_calibration.npz",
        inputs=EXAMPLES / "data" / "digits_test.npz",
        samples=2,
    )
    return pipeline.compile_model(request)


@pytest.fixture(scope="module")
def document(result: pipeline.CompileResult) -> Any:
    return report.document([result], command=["eqcompile"])


def test_a_cube_is_stepped_through_slice_by_slice(tmp_path: Path) -> None:
    """Would break if a slice were cut along another axis, or a tick were another one's."""
    request = pipeline.CompileRequest(
        model=EXAMPLES / "checkpoints" / "digits_cube.pt",
        target=NumpyTarget(),
        output=tmp_path / "out",
        calibration=EXAMPLES / "data" / "digits_calibration.npz",
        samples=2,
        verify=False,
    )
    result = pipeline.compile_model(request)
    curves = relaxation(result)
    assert curves is not None
    cube = curves["cube"]
    assert (cube["edge"], cube["ticks"][0], cube["ticks"][-1]) == (5, 1, 30)
    for tick, codes in zip(cube["ticks"], cube["codes"], strict=True):
        np.testing.assert_array_equal(codes, result.golden.states["h"][tick - 1, 0].reshape(-1))
    stretched = curves["samples"][0]["slopes"]
    name, drawn = cube_panels(cube, stretched)[1]
    assert name == f"tick {cube['ticks'][1]}"
    root, seen_from, *stacked = ElementTree.fromstring(drawn)
    assert [t.text for t in root.iter("text")] == [f"z = {z}" for z in range(5)]
    first = np.zeros_like(result.golden.states["h"][:1, 0])
    every = np.concatenate([first, result.golden.states["h"][:, 0]])
    moved = np.abs(np.diff(every, axis=0))[np.array(cube["ticks"]) - 1]
    np.testing.assert_array_equal(cube["moves"], moved.reshape(len(moved), -1))
    cells = [rgb(image) for image in seen_from.iter("image")]
    white = [z * 25 + k for z, plane in enumerate(cells) for k in np.flatnonzero((plane == 255).all(axis=2))]
    assert white == stretched["steep"][cube["ticks"][1] - 1]
    plane = np.array(cube["codes"][1]).reshape(5, 5, 5)
    for z, image in enumerate(root.iter("image")):
        rows = rgb(image).astype(int)
        np.testing.assert_array_equal(rows[..., 0] > rows[..., 2], plane[z] > 0)

    for flat, solid in zip((root, seen_from), stacked, strict=True):
        planes = [rgb(image) for image in flat.iter("image")]
        np.testing.assert_array_equal([rgb(image) for image in solid.iter("image")], planes)
        heights = [float(group.attrib["transform"].rstrip(")").split()[-1]) for group in solid.iter("g")]
        assert heights == sorted(heights, reverse=True), "z = 0 is the lowest plane, and the first that is drawn"
        assert "in 3-D" in solid.attrib["aria-label"]


def nudged_by_autograd(
    x: Any, label: Any, layers: Any, beta: float, ticks: int
) -> tuple[list[Any], list[Any], list[Any]]:
    """The nudged phase by PyTorch, where the derivative of the loss is not written down: states, pushes, losses."""
    inner, outer, head = layers
    h = torch.zeros(len(x), inner.in_features, dtype=torch.float64)
    for _ in range(40):
        h = torch.tanh(inner(h) + outer(x)).detach()
    states, pushes, losses = [h], [], []
    for tick in range(ticks + 1):
        h = h.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(head(h), label, reduction="none")
        losses.append(loss.detach())
        [slope] = torch.autograd.grad(loss.sum(), h)
        if tick < ticks:
            pushes.append(-beta * slope)
            h = torch.tanh(inner(h) + outer(x) + pushes[-1])
            states.append(h.detach())
    return states, pushes, losses


@pytest.mark.slow
def test_a_nudged_phase_is_that_of_equilibrium_propagation() -> None:
    """Every state, push and loss of every tick. Would break with another sign, a nudge behind the nonlinearity, the
    loss of another label, or one of the state before."""
    torch.manual_seed(0)
    inner, outer, head = (torch.nn.Linear(a, b).double() for a, b in ((6, 6), (3, 6), (6, 4)))
    model = eq.load(
        lambda h, x: torch.tanh(inner(h) + outer(x)),
        example=(torch.zeros(2, 6).double(), torch.ones(2, 3).double()),
        steps=40,
        readout=head,
    )
    x, label = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 1])
    [clamped] = model.net.inputs
    phase = nudged_phase(model.net, {clamped.name: x.numpy()}, label.numpy(), beta=0.7, ticks=12)
    assert phase is not None
    with torch.enable_grad():
        states, pushes, losses = nudged_by_autograd(x, label, (inner, outer, head), 0.7, 12)
    np.testing.assert_allclose(phase.states, np.stack([s.numpy() for s in states]), atol=1e-10)
    np.testing.assert_allclose(phase.push, np.stack([p.detach().numpy() for p in pushes]), atol=1e-10)
    np.testing.assert_allclose(phase.loss, np.stack([one.numpy() for one in losses]), atol=1e-10)
    assert (phase.loss[-1] < phase.loss[0]).all()
    lazy = eq.load(EXAMPLES / "checkpoints" / "digits_lazy.pt").net
    assert nudged_phase(lazy, {}, label.numpy()) is None


def test_blue_is_the_push_of_the_nudge(document: Any) -> None:
    """Would break if the free phase had blue, or the blue of a unit or a tick were another's."""
    sample = document["results"][0]["relaxation"]["samples"][0]
    panels = {panel.attrib["class"]: panel for panel in map(ElementTree.fromstring, sample_panels(sample))}
    [free], [nudged] = (list(panels[name].iter("image")) for name in ("observatory", "nudged"))
    push = np.abs(sample["nudge"]["push"])
    assert push.shape == (15, 96)
    blue = rgb(nudged)[::-1, :, 2].T / 255
    np.testing.assert_allclose(blue, push / push.max(), atol=1 / 255)
    steep = (rgb(free) == 255).all(axis=2)
    assert not rgb(free)[..., 2][~steep].any()
    assert sample["nudge"]["loss"][1] < sample["nudge"]["loss"][0]
    assert sample_panels({key: value for key, value in sample.items() if key != "nudge"})  # type: ignore[typeddict-item]


def test_slopes_are_the_jacobian_of_the_step(result: pipeline.CompileResult) -> None:
    """Against the derivative of tanh, written down; a column in place of a row, or another tick, would differ."""
    torch.manual_seed(0)
    inner, outer, head = torch.nn.Linear(6, 6), torch.nn.Linear(3, 6), torch.nn.Linear(6, 2)
    inner.weight.data *= 3.0
    model = eq.load(
        lambda h, x: torch.tanh(inner(h) + outer(x)),
        example=(torch.zeros(2, 6), torch.ones(2, 3)),
        steps=4,
        readout=head,
    )
    rng = np.random.default_rng(1)
    [state], [clamped] = model.net.states, model.net.inputs
    x, states = rng.normal(size=(1, 3)), rng.normal(size=(5, 6))
    stretched = slopes(model.net, {clamped.name: x}, {state.name: states})
    assert stretched is not None
    weight, bias = (p.detach().double().numpy() for p in (inner.weight, inner.bias))
    drive = x @ outer.weight.detach().double().numpy().T + outer.bias.detach().double().numpy() + bias
    matrices = [(1 - np.tanh(h @ weight.T + drive[0]) ** 2)[:, None] * weight for h in states]
    np.testing.assert_allclose(stretched.gain, [np.linalg.norm(m, axis=1) for m in matrices], rtol=1e-6)
    assert stretched.radius == pytest.approx(np.abs(np.linalg.eigvals(matrices[-1])).max(), rel=1e-6)
    assert slopes(model.net, {clamped.name: x}, {}) is None


def test_the_observatory_is_red_for_codes_green_for_motion_and_white_for_steep_units(document: Any) -> None:
    """Would break if colours were of another tick or unit, or a unit that stretches an upset looked like another."""
    sample = document["results"][0]["relaxation"]["samples"][0]
    [image] = ElementTree.fromstring(sample_panels(sample)[1]).iter("image")
    pixels = rgb(image)[::-1].transpose(1, 0, 2)  # [tick, unit]
    codes = np.array(sample["units"]["codes"])
    moved = np.abs(np.diff(codes, axis=0, prepend=0))
    white = np.zeros(codes.shape, bool)
    for tick, units in enumerate(sample["slopes"]["steep"]):
        white[tick, units] = True
    assert white.any()
    assert not white.all()
    np.testing.assert_array_equal((pixels == 255).all(axis=2), white)
    np.testing.assert_array_equal(pixels[~white][:, 0], np.rint(255 * np.abs(codes[~white]) / 128))
    np.testing.assert_array_equal(pixels[~white][:, 1] > 0, moved[~white] > 0)
    assert not pixels[~white][:, 2].any()
    assert not any(units for units in sample["slopes"]["steep"][int(sample["steps"]) :])


def test_the_confusion_matrix_counts_what_golden_says(result: pipeline.CompileResult, document: Any) -> None:
    """Would break if rows were labels of the net, or a sample were counted twice."""
    accuracy = result.judgement.accuracy
    assert accuracy is not None
    assert accuracy.confusion is not None
    data = np.load(EXAMPLES / "data" / "digits_test.npz")
    codes, _ = encode(result.net, {"x": data["x"]})
    labels = golden.run(result.net, codes, trace=False).outputs["logits"].argmax(axis=1)
    for true in range(10):
        np.testing.assert_array_equal(
            accuracy.confusion[true], np.bincount(labels[data["labels"] == true], minlength=10)
        )
    assert accuracy.confusion.trace() == accuracy.int_correct < accuracy.samples
    assert document["results"][0]["accuracy"]["confusion"]["counts"] == accuracy.confusion.tolist()
    root = ElementTree.fromstring(confusion("confusion", [[8, 2], [0, 5]]))
    assert "13 of 15 labels are right; most often 0 is taken for 1, 2 times" in root.attrib["aria-label"]
    titles = [t.text for t in root.iter("title")]
    assert titles[1] == "true 0, integers say 1: 2 of 10"


def test_what_matters_stands_in_front(document: Any) -> None:
    """Would break if a missed clock looked well, or a figure had no kind."""
    r = document["results"][0]
    part = {"part": "ecp5-25k", "fmax_mhz": 41.5, "clock_mhz": 40.0, "meets_clock": True}
    slow = {"part": "up5k", "fmax_mhz": 9.5, "clock_mhz": 40.0, "meets_clock": False}
    times = {"latency_us": {"median": 3.25, "worst": 4.5}}
    details = {**r["target"]["details"], "synthesis": [{**part, "times": times}, slow]}
    cost = {"total_nj": 12.5, "source": "a paper"}
    energy = {**r["verification"][0], "details": {"estimates": {"loihi2": cost, "loihi1": {"none": "it does not fit"}}}}
    changed = {**r, "target": {**r["target"], "details": details}, "verification": [energy]}
    rows = {str(name): str(value) for name, value in headline(changed)}
    assert re.search(r"98\.33% as floats.*measured.*98\.33% as integers.*simulated.*of 360", rows["right labels"])
    assert 'class="good">0 of' in rows["equal to golden"]
    assert "0 of 2 samples not settled after 30 steps" in rows["settling"]
    assert "not certified" in rows["certificate of h"]
    assert "proved" in rows["certificate of h"]
    assert rows["spectral radius of the step"].startswith("0.")
    assert 'class="good">41.5 MHz, meets --clock 40 MHz' in rows["clock on ecp5-25k"]
    assert 'class="bad">9.5 MHz, MISSES --clock 40 MHz' in rows["clock on up5k"]
    assert "3.25 us median, 4.50 us worst" in rows["latency on ecp5-25k"]
    assert "a paper" in rows["energy of a sample on loihi2"]
    assert "it does not fit" in rows["energy of a sample on loihi1"]
    assert "not verified" in str(dict((str(a), b) for a, b in headline({**r, "verification": []}))["equal to golden"])
