"""The objects of the stages: each is frozen and shows itself as text, as a table and as a picture."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eqcompile as eq
from eqcompile.app.stages.campaign import Replay
from eqcompile.sim.campaign import api
from eqcompile.toolchain.diagnostics import ArtifactError, ImportFileError, SimulatorError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "checkpoints" / "digits_looped.pt"
CALIBRATION, TEST = EXAMPLES / "data" / "digits_calibration.npz", EXAMPLES / "data" / "digits_test.npz"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One object of each stage."""
    folder = tmp_path_factory.mktemp("stages")
    net = eq.load(CHECKPOINT)
    q = eq.quantize(net, calibrate=CALIBRATION, weights="int4")
    art = eq.compile(q, target="numpy", out=folder / "out", inputs=TEST, samples=4)
    golden, run = eq.golden(q, TEST, limit=20), art.run(TEST, limit=20)
    campaign = eq.campaign(q, model="seu", inputs=TEST, limit=4, faults=20, workers=1, out=folder / "campaign")
    return {
        "model": net,
        "quantization": q,
        "build": art,
        "inference": run,
        "floats": net.run(TEST, limit=20),
        "difference": eq.compare(golden, run),
        "verified": art.verify(TEST, limit=4),
        "certification": eq.certify(q, TEST, limit=4, ticks=4),
        "campaign": campaign,
        "replay": campaign.replay("0.1"),
    }


NAMES = (
    "model",
    "quantization",
    "build",
    "inference",
    "floats",
    "difference",
    "verified",
    "certification",
    "campaign",
    "replay",
)


@pytest.mark.slow
def test_a_build_says_what_verified_it(objects: dict[str, Any]) -> None:
    """A build that nothing checked would look like one that was."""
    assert ("verified by numpy", "equal, 4 samples") in objects["build"].rows()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_object_shows_itself(objects: dict[str, Any], name: str) -> None:
    """A cell of a notebook would show the address of an object."""
    shown = objects[name]
    html = shown._repr_html_()
    for row in ET.fromstring(f"<a>{html}</a>").iter("tr"):
        assert "".join(row.itertext()).strip()
    assert html.count("<tr") >= len(shown.rows()) > 0
    for label, _ in shown.rows():
        assert label in str(shown)
    picture = shown.plot()
    assert picture.panels or name == "certification"
    assert all(panel in html for panel in picture.panels)
    with pytest.raises(dataclasses.FrozenInstanceError):
        shown.other = 1


def test_numbers_say_their_kind(objects: dict[str, Any]) -> None:
    """A number without its kind is taken for more than it is."""
    assert "[simulated]" in str(objects["inference"])
    assert "[measured]" in str(objects["floats"])
    assert "[proved]" in str(objects["certification"])
    assert "(estimated)" in str(objects["campaign"])


def test_accuracy_is_that_of_the_labels(objects: dict[str, Any]) -> None:
    """A share of other samples, or of the float net, would be believed."""
    run = objects["inference"]
    with np.load(TEST) as file:
        labels = file["labels"][:20]
    assert run.accuracy == np.mean(run.labels == labels)
    assert run.labels.tolist() == objects["floats"].labels.tolist()
    assert eq.golden(objects["quantization"], {"x": np.zeros((2, 64))}).accuracy is None


def test_samples_are_files_or_arrays(objects: dict[str, Any], tmp_path: Path) -> None:
    """The same samples would otherwise give other results in another form, or be checked in one form alone."""
    q = objects["quantization"]
    with np.load(TEST) as file:
        x = file["x"][:5]
    np.savez(tmp_path / "x.npz", x=x)
    forms = (x, {"x": x}, tmp_path / "x.npz", str(tmp_path / "x.npz"))
    runs = [eq.golden(q, form) for form in forms]
    assert all(eq.compare(runs[0], run).ok for run in runs)
    with pytest.raises(ImportFileError, match="input-shape"):
        eq.golden(q, x[:, :3])
    with pytest.raises(ImportFileError, match="NaN"):
        eq.golden(q, x * np.nan)


def test_the_way_back_is_drawn_in_powers_of_two() -> None:
    """The last codes of a way back from a large upset would lie on the axis."""
    ticks = [api.ReplayTick(tick=k, differ=1, distance=v) for k, v in enumerate((128, 31, 7, 2, 1, 0))]
    (panel,) = Replay("a fault", "golden", ticks, {}).plot().panels
    marks = {"".join(text.itertext()) for text in ET.fromstring(panel).iter() if text.tag.endswith("text")}
    assert {"2", "8", "32", "128"} <= marks


def test_a_build_that_was_changed_is_noticed(objects: dict[str, Any]) -> None:
    """Weights that someone edited would run as if they were the net's."""
    weights = objects["build"].folder / "weights.npz"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(ArtifactError, match="artifact-changed"):
            objects["build"].verify()
    finally:
        weights.write_bytes(kept)


def test_a_difference_is_drawn_where_it_is(objects: dict[str, Any]) -> None:
    """Equality would be shown of runs that differ."""
    golden = eq.golden(objects["quantization"], TEST, limit=2)
    states = {name: codes.copy() for name, codes in golden.run.states.items()}
    states["h"][7, 1, 3] += 2
    other = dataclasses.replace(golden, run=dataclasses.replace(golden.run, states=states))
    difference = eq.compare(golden, other)
    assert "DIFFERS" in str(difference)
    assert "h[3] of sample 1 after tick 7" in str(difference)
    with pytest.raises(SimulatorError, match="compare-diverges"):
        difference.require()


def test_pictures_and_runs_are_written_whole(objects: dict[str, Any], tmp_path: Path) -> None:
    """A file that is there would be lost."""
    objects["campaign"].plot().save(tmp_path / "outcomes.svg")
    assert ET.parse(tmp_path / "outcomes.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    objects["inference"].plot().save(tmp_path / "run.html")
    document = objects["inference"].save(tmp_path / "run.npz", trace=True)
    with np.load(tmp_path / "run.npz") as file:
        assert set(file.files) == {"logits", "labels", "steps", "state.h"} == set(document["keys"])
    for path in ("outcomes.svg", "run.npz"):
        with pytest.raises(ArtifactError, match="output-exists"):
            objects["replay"].save(tmp_path / path)


def test_every_wrong_keyword_is_told(objects: dict[str, Any], tmp_path: Path) -> None:
    """One run per typing mistake."""
    with pytest.raises(UsageError, match=r"(?s)wieghts.*did you mean weights.*state_bits is 40"):
        eq.quantize(objects["model"], wieghts="int4", state_bits=40)
    with pytest.raises(UsageError, match=r"(?s)'sties'.*did you mean sites.*margin is 2"):
        eq.campaign(objects["build"], model="seu", sties="state", margin=2, out=tmp_path / "none")
    with pytest.raises(UsageError, match="sites is 3, must be a text"):
        eq.campaign(objects["build"], model="seu", sites=3, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_campaign_goes_on_and_is_opened(objects: dict[str, Any], tmp_path: Path) -> None:
    """What is stored would be reached in the session alone that began it."""
    campaign = objects["campaign"]
    again = eq.open_campaign(campaign.folder).resume(workers=1, progress=False)
    assert again.finished
    assert again.outcomes == campaign.outcomes
    assert sum(row["faults"] for row in again.outcomes.values()) == 20
    assert again.report(campaign).exists()
    with pytest.raises(UsageError, match="'worker'"):
        again.resume(worker=1)
    assert eq.plan_campaign(population=1000, margin=0.05)["faults"] == 278
    assert eq.plan_campaign(objects["quantization"], model="seu", faults=7, inputs=TEST, limit=2)["size"] == 7
