"""Reports: the JSON holds every number with its kind, the page holds nothing else and needs nothing else."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import CHROMIUM, WIDTHS, legible, seen

from eqcompile.app import compile as pipeline
from eqcompile.app import report
from eqcompile.app.accuracy import Accuracy, Judgement
from eqcompile.app.report.data import histogram
from eqcompile.app.report.details import facts
from eqcompile.app.report.formats import format_tables
from eqcompile.app.report.panels import overall, sample_panels, settling_panel
from eqcompile.app.report.relaxation import relaxation
from eqcompile.app.report.write import _overview
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain.diagnostics import ArtifactError
from eqcompile.toolchain.golden import run as run_golden

EXAMPLES = Path(__file__).parents[2] / "examples"
VOID = {"meta", "br", "link", "img", "input", "hr"}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> pipeline.CompileResult:
    request = pipeline.CompileRequest(
        model=EXAMPLES / "checkpoints" / "digits_looped.pt",
        target=NumpyTarget(),
        output=tmp_path_factory.mktemp("artifact") / "out",
        calibration=EXAMPLES / "data" / "digits_calibration.npz",
        samples=5,
    )
    return pipeline.compile_model(request)


@pytest.fixture(scope="module")
def document(result: pipeline.CompileResult) -> dict[str, Any]:
    labelled = replace(
        result, judgement=Judgement(Accuracy(360, 342, 333, "digits_test.npz", np.diag([33] * 9 + [36])), ())
    )
    made = report.document([labelled], command=["eqcompile"])
    found: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return found


class Page(HTMLParser):
    """Checks that tags close in order; collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(k, v or "") for k, v in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text.append(text)


def parsed(document: Mapping[str, Any]) -> Page:
    page = Page()
    page.feed(report.render_page(document))
    page.close()
    return page


def panels(curves: Any) -> list[Any]:
    """Those of all samples together, and of the first one."""
    return [*overall(curves), *sample_panels(curves["samples"][0])]


def test_the_page_is_well_formed_and_loads_nothing(document: dict[str, Any]) -> None:
    """Would break if the page needed a network, ran a script, or left a tag open."""
    page = parsed(document)
    assert page.open == []
    assert page.tags & {"script", "link", "iframe", "img"} == set()
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("data:image/png;base64,")
    rest = re.sub(r'"data:image/png;base64,[^"]*"', "", report.render_page(document))
    assert re.findall(r"//[a-z]|url\(|@import", rest) == []


def test_every_number_of_the_page_comes_from_the_document(document: dict[str, Any]) -> None:
    """Would break if the page held a number of its own: each one changed in the JSON must change on the page."""
    changed = copy.deepcopy(document)
    r = changed["results"][0]
    marks = {
        "steps": (r["verification"][0]["steps"], 987_001),
        "values": (r["verification"][0]["values"], 987_002),
        "mismatches": (r["verification"][0]["mismatches"], 987_003),
        "samples": (r["verification"][0]["samples"], 987_004),
        "labels": (r["agreement"]["labels_equal"], 987_005),
        "settled": (r["settling"]["median"], 987_006),
    }
    for place, value in marks.values():
        assert f"{value:,}" not in report.render_page(changed)
        place["value"] = value
    page = report.render_page(changed)
    for _, value in marks.values():
        assert f"{value:,}" in page
    r["accuracy"]["integer"]["value"] = 0.123
    r["agreement"]["state_error_lsb"]["h"]["value"] = 55.5
    page = report.render_page(changed)
    assert "12.3%" in page
    assert "55.5 LSB" in page


def test_each_column_of_the_overview_has_its_head(document: dict[str, Any]) -> None:
    """Would break if accuracies stood under no head, or under that of another column."""
    changed = copy.deepcopy(document)
    table = _overview(changed["results"])
    [row] = table["rows"]
    shown = dict(zip(table["head"], map(str, row), strict=True))
    assert "95.0%" in shown["accuracy float"]
    assert "92.5%" in shown["accuracy int"]
    del changed["results"][0]["accuracy"]
    assert len(_overview(changed["results"])["head"]) == len(row) - 2


def test_each_column_of_the_formats_has_its_head() -> None:
    """Would break if a column that has no words of its own had no head at all."""
    rows = [{"what": "state", "name": "h", "frac": 7, "saturates_high": True}]
    [(title, head, cells)] = format_tables(rows)
    assert title == "States"
    assert head == ["name", "fraction bits", "saturates high"]
    assert cells == [["h", "7", "yes"]]


def test_a_mismatch_is_shown_as_bad(document: dict[str, Any]) -> None:
    """Would break if a failed comparison looked like a passed one."""
    assert 'class="bad"' not in report.render_page(document)
    changed = copy.deepcopy(document)
    changed["results"][0]["verification"][0]["mismatches"]["value"] = 1
    assert 'class="bad"' in report.render_page(changed)


def test_text_from_files_cannot_become_markup(document: dict[str, Any]) -> None:
    """Would break if a name in an untrusted checkpoint could put a script into the report."""
    changed = copy.deepcopy(document)
    for place, key in (
        (changed["results"][0]["model"], "file"),
        (changed["results"][0]["model"], "family"),
        (changed["results"][0]["relaxation"]["samples"][0]["units"], "state"),
        (changed["results"][0]["samples"], "source"),
    ):
        place[key] = "<script>alert(1)</script>"
    changed["results"][0]["quantization"]["choices"]["rows"][0]["name"] = "<b>"
    changed["command"] = ["<i>"]
    assert parsed(changed).tags & {"script", "b", "i"} == set()


def test_a_simulator_that_is_missing_is_on_the_page(document: dict[str, Any]) -> None:
    """Would break if an artifact that nobody ran looked verified."""
    changed = copy.deepcopy(document)
    missing = {"simulator": "lava", "status": "missing", "reason": "lava-nc is not installed", "install": "pip it"}
    changed["results"][0]["verification"] = [missing]
    text = " ".join(parsed(changed).text)
    assert "not verified: lava-nc is not installed; pip it" in text
    changed["results"][0]["verification"] = []
    assert "not verified" in " ".join(parsed(changed).text)


def test_curves_are_those_of_golden(result: pipeline.CompileResult) -> None:
    """Would break if a curve were of other codes, shifted by a tick, or of the wrong axis."""
    curves = relaxation(result)
    assert curves is not None
    codes = result.golden.states["h"]
    padded = np.concatenate([np.zeros_like(codes[:1]), codes])
    for sample in range(5):
        for tick in range(30):
            move = np.abs(padded[tick + 1, sample] - padded[tick, sample])
            assert curves["movement"]["samples"][sample][tick] == move.max()
    changing = [(padded[t + 1] != padded[t]).mean() for t in range(30)]
    np.testing.assert_allclose(curves["changing"]["mean"], changing)
    assert [s["sample"] for s in curves["samples"]] == list(range(5))
    for k, sample in enumerate(curves["samples"]):
        np.testing.assert_array_equal(sample["units"]["codes"], codes[:, k])
        assert sample["logits"]["codes"][-1] == result.golden.outputs["logits"][k].tolist()
        assert sample["integer_label"] == [int(result.golden.outputs["logits"][k].argmax())]
        assert sample["steps"] == result.golden.steps[k]
    assert curves["first_tick"] == 1
    logits = curves["samples"][0]["logits"]
    assert logits["ticks"] == list(range(1, 31))
    assert logits["codes"][-1] == result.golden.outputs["logits"][0].tolist()
    one = run_golden
    first = {n: c[:1] for n, c in result.samples.codes.items()}
    net = replace(result.net, schedule=replace(result.net.schedule, steps=4))
    assert logits["codes"][3] == one(net, first, trace=False).outputs["logits"][0].tolist()


def test_pictures_are_xml_with_title_units_and_labels(document: dict[str, Any]) -> None:
    """Would break if a panel could not be drawn, or an axis had no label."""
    drawn = panels(document["results"][0]["relaxation"])
    assert len(drawn) == 6
    for svg in drawn:
        texts = [t.text or "" for t in ElementTree.fromstring(svg).iter("text")]
        assert len(texts) > 6
        assert any("tick" in t for t in texts)
    assert "LSB" in drawn[0]
    assert "fraction of 64 units" in drawn[1]
    assert "State h, sample 0" in drawn[2]


def test_logits_are_drawn_in_their_unit(document: dict[str, Any]) -> None:
    """Would break if codes were drawn, or moved by the scale in place of being multiplied by it."""
    sample = copy.deepcopy(document["results"][0]["relaxation"]["samples"][0])
    sample["logits"] |= {"codes": [[0, 400], [0, 400]], "ticks": [1, 2], "scale": 0.5}
    texts = [t.text or "" for t in ElementTree.fromstring(sample_panels(sample)[2]).iter("text")]
    assert max(float(t) for t in texts if re.fullmatch(r"[0-9.]+", t)) == 200.0


def test_a_net_that_never_moves_can_be_drawn(document: dict[str, Any]) -> None:
    """Would break if all-zero curves divided by zero."""
    curves = copy.deepcopy(document["results"][0]["relaxation"])
    curves["movement"]["samples"] = [[0] * 30]
    curves["changing"]["mean"] = [0.0] * 30
    curves["samples"][0]["units"]["codes"] = [[0]]
    curves["samples"][0]["logits"]["codes"] = [[0, 0]] * 30
    for svg in panels(curves):
        ElementTree.fromstring(svg)
        assert "nan" not in svg


def test_the_line_of_the_largest_movement_is_where_the_numbers_are(document: dict[str, Any]) -> None:
    """Would break if the scale were wrong: doubling 1 + movement must be one equal distance on the axis."""
    curves = copy.deepcopy(document["results"][0]["relaxation"])
    curves["movement"]["samples"] = [[0, 1, 3, 7]]
    root = ElementTree.fromstring(panels(curves)[0])
    points = list(root.iter("polyline"))[-1].attrib["points"].split()
    heights = [float(p.split(",")[1]) for p in points]
    steps = np.diff(heights)
    assert (steps < 0).all()
    np.testing.assert_allclose(steps, steps[0], atol=0.15)


def test_files_are_written_and_replaced_only_with_force(result: pipeline.CompileResult, tmp_path: Path) -> None:
    """Would break if a report were overwritten unasked, or the page and the JSON differed."""
    folder = tmp_path / "a" / "b"
    made = report.write([result], folder, command=["eqcompile"])
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json"]
    stored = json.loads((folder / "report.json").read_text())
    assert stored == json.loads(json.dumps(made))
    assert (folder / "report.html").read_text() == report.render_page(stored)
    with pytest.raises(ArtifactError, match="there is a report already"):
        report.write([result], folder, command=["eqcompile"])
    report.write([result], folder, command=["eqcompile", "again"], force=True)
    assert json.loads((folder / "report.json").read_text())["command"] == ["eqcompile", "again"]
    with pytest.raises(ArtifactError, match="cannot write"):
        report.write([result], Path("/proc/nowhere"), command=["eqcompile"])


def test_several_results_share_one_table(document: dict[str, Any]) -> None:
    """Would break if the overview showed the first network only."""
    changed = copy.deepcopy(document)
    second = copy.deepcopy(changed["results"][0])
    second["model"]["file"] = "other.pt"
    second["target"]["name"] = "loihi"
    changed["results"].append(second)
    table = report.render_page(changed).split("</table>")[0]
    assert table.count("<tr>") == 3
    assert "other.pt" in table
    assert "loihi" in table
    assert "95.0%" in table


def test_samples_are_picked_by_their_true_label(document: dict[str, Any]) -> None:
    """Would break if a sample that is told wrong looked right, or a second result had the picker of the first."""
    changed = copy.deepcopy(document)
    first, second = changed["results"][0]["relaxation"]["samples"][:2]
    first |= {"label": [3], "float_label": [3], "integer_label": [8]}
    second |= {"label": [3], "float_label": [8], "integer_label": [3], "settled": False, "steps": 30}
    changed["results"][0]["relaxation"]["samples"][2]["label"] = []
    other = copy.deepcopy(changed["results"][0]) | {"ir_digest": "other"}
    changed["results"].append(other)
    page = report.render_page(changed)
    assert "true label 3; float64 says 3; integers say 8; settled after" in page
    assert "true label 3; float64 says 8; integers say 3; not settled after 30 steps" in page
    labels = re.findall(r'<label for="(samples-[01]-[0-9])">([^<]*)</label>', page)
    assert labels[:3] == [("samples-0-1", "0: wrong"), ("samples-0-2", "1: right"), ("samples-0-3", "2")]
    assert len(set(labels)) == len(labels) == 10
    assert len(re.findall(r'<input type="radio" name="samples-[01]"[^>]* checked>', page)) == 2


def test_samples_that_did_not_settle_are_told_apart_from_those_that_did_at_the_last_step() -> None:
    """Both made the whole budget of steps: a histogram of steps alone would show one column."""
    steps = np.array([4, 30, 30, 30, 17])
    rows = histogram(steps, np.array([False, True, False, True, False]))
    assert [(r["first"], r["settled"], r["not_settled"]) for r in rows if r["settled"] + r["not_settled"]] == [
        (4, 1, 0),
        (17, 1, 0),
        (30, 1, 2),
    ]
    wide = histogram(np.array([1, 500]), np.array([False, True]))
    assert len(wide) <= 30
    assert (wide[0]["first"], wide[-1]["last"], wide[-1]["not_settled"]) == (1, 500, 1)
    assert all(a["last"] + 1 == b["first"] for a, b in itertools.pairwise(wide))
    lost = {"value": 2, "kind": "simulated", "unit": "samples"}
    drawn = settling_panel({"not_settled": lost, "histogram": {"bins": rows}})  # type: ignore[typeddict-item]
    root = ElementTree.fromstring(drawn)
    assert "Settling: 2 of 5 samples not settled" in root.attrib["aria-label"]
    tall = [float(r.attrib["height"]) for r in root.iter("rect") if "steps 30:" in (r[0].text or "")]
    assert tall[1] == pytest.approx(2 * tall[0], rel=0.02)


def test_details_of_a_target_are_tables_and_the_use_of_a_part_is_bars() -> None:
    """Would break if a reader had to parse JSON, a figure was left out, or a part that is too small looked full."""
    usage = [
        {"key": "lut", "label": "LUTs", "core": 900, "harness": 100, "available": 2000, "needed": 1000},
        {"key": "bram", "label": "block <RAMs>", "core": 35, "harness": 0, "available": 30, "needed": 35},
    ]
    synthesis = [{"part": "ecp5", "fmax_mhz": 51.25, "usage": usage, "seeds": [{"seed": 1}, {"seed": 2}]}]
    engine = {"arch": "serial", "clocks": {"sweeps": {"drive_64": 40}}, "memories": [{"name": "t", "width": 8}]}
    page = facts({"kind": "estimated", "how": "x", "engine": engine, "synthesis": synthesis, "lanes": None})
    text = re.sub("<[^>]*>", " ", page)
    for word in (
        "engine arch",
        "engine clocks sweeps drive 64",
        "40",
        "51.25",
        "1,000 of 2,000, 50%",
        "35 of 30, 117%",
    ):
        assert word in text, word
    assert "{" not in text
    assert "lanes" not in text
    assert "block &lt;RAMs&gt;" in page
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([0-9.]+)"[^>]*><title>', page)]
    assert widths[0] / widths[1] == pytest.approx(0.5 / (35 / 30), rel=0.01)


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_draws_the_page(document: dict[str, Any], tmp_path: Path, width: int) -> None:
    """Would break if text ran out of a figure or shrank, or a telephone's screen had to be moved sideways."""
    told = seen(report.render_page(document), width, tmp_path)
    assert told["width"] == width
    assert told["figures"] == 8, "of all samples three, of the one that is picked four, and the confusion matrix"
    assert told["empty"] == told["silent"] == 0
    assert told["out"] == []
    assert told["size"] >= 8
    assert told["wide"] <= 0
    assert told["bad"] is False


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_nothing_of_the_page_is_cut(document: dict[str, Any], tmp_path: Path) -> None:
    """Would break if a value in front lay beyond the edge of a telephone, or a table beyond that of the paper."""
    synthesis = {"part": "ecp5-25k", "cells": {f"CELL_{k}": k for k in range(9)}, "notes": ["a long note"] * 6}
    synthesis |= {name: 100.0 for name in ("fmax_mhz", "clock_mhz", "flip_flops", "lut4")}
    synthesis["slowest"] = "core.engine.sweep_drive_64.drive_linear_sum_1_TRELLIS_FF_Q_3"
    document["results"][0]["target"]["details"] |= {"synthesis": [synthesis], "summary": [synthesis["slowest"]]}
    legible(report.render_page(document), tmp_path)
