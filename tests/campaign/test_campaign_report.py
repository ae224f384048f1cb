"""The report: numbers from the store, a page without a network, the same in a browser."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, WIDTHS, legible, seen

from eqcompile.app.report.campaign import write
from eqcompile.app.report.campaign.headline import AT_ITS_END, environment_rows
from eqcompile.app.report.campaign.page import _cube, render
from eqcompile.app.report.campaign.recovery import proved_bound
from eqcompile.app.report.figure import Curve, curves, shade
from eqcompile.quantization.lower import lower
from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.definition import STORE
from eqcompile.sim.campaign.environment.rates import read
from eqcompile.sim.campaign.store import open_store
from eqcompile.toolchain.data import encode, read_inputs
from eqcompile.toolchain.diagnostics import ArtifactError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {"environment": read("avionics", part="amd-7-series-config", scrub_s=60.0, mission_s=None, devices=10)}


def net_of(name: str) -> Any:
    imported = import_model(EXAMPLES / "checkpoints" / f"{name}.pt")
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as held:
        lowered = lower(imported.net, QuantizeOptions(), calibration={"x": held["x"].astype(np.float64)})
    return lowered.net


def campaign_of(name: str, count: int) -> Any:
    net = net_of(name)
    codes, _ = encode(net, read_inputs(EXAMPLES / "data" / "digits_test.npz", net, limit=12))
    return api.define(
        net,
        codes,
        model="seu",
        options={"sites": "state,weight"},
        engine="golden",
        near=1,
        count=count,
        seed=1,
        margin=0.01,
        confidence=0.95,
        stop_at_margin=None,
        notes=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign on the cube with the feed-forward net as baseline: every figure of the page occurs."""
    path = tmp_path_factory.mktemp("report") / "campaign"
    api.create(campaign_of("digits_cube", 150), path, baselines=[campaign_of("digits_mlp", 120)], force=False)
    api.resume(path, scheduler="local", workers=1)
    write(path)
    return path


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.slow
def test_counts_are_those_of_the_store(folder: Path) -> None:
    """Would break if a figure counted other rows than the ones that were stored."""
    found = report_of(folder)
    with open_store(folder / STORE, write=False) as store:
        table = store.table()
    for row in found["outcomes"]:
        code = [o.value for o in api.Outcome if o.name.lower() == row["outcome"]][0]
        assert row["faults"] == int((table["outcome"] == code).sum())
        assert row["rate"]["low"] <= row["faults"] / 150 <= row["rate"]["high"]
    assert sum(r["faults"] for r in found["outcomes"]) == sum(r["faults"] for r in found["reset"]) == 150
    assert sum(r["faults"] for r in found["sites"]) == 150
    for drawn in found["maps"]:
        assert sum(c["faults"] for c in drawn["rows"]) == 150
        wrong = {"wrong label": (4, 7), "not healed": (2, 3, 4, 5, 7)}[drawn["measure"]]
        assert sum(c["hits"] for c in drawn["rows"]) == int(np.isin(table["outcome"], wrong).sum())
    assert sum(found["cube"]["faults"]) == sum(r["faults"] for r in found["sites"] if r["site"] == "state:h")
    assert found["baselines"][0]["baseline"]["faults"]["value"] == 120
    assert found["environment"]["total"]["bits"] == sum(r["bits"] for r in found["environment"]["sites"])


def test_a_cell_of_a_cube_is_the_unit_that_it_names() -> None:
    """Planes would be drawn in the order of other axes, or mirrored."""
    found = {"edge": 3, "state": "h", "measure": "label", "wrong": [0] * 27}
    found |= {"hits": list(range(27)), "faults": [100 - k for k in range(27)]}
    cells = re.findall(r"unit (\d+) \(z (\d+), y (\d+), x (\d+)\): (\d+) of (\d+)", _cube({"cube": found}))
    assert {int(cell[0]) for cell in cells} == set(range(27))
    for unit, z, y, x, hits, faults in (map(int, cell) for cell in cells):
        assert (z, y, x) == np.unravel_index(unit, (3, 3, 3))
        assert (hits, faults) == (unit, 100 - unit)


def test_every_result_says_its_kind(folder: Path) -> None:
    """Would break if a number could be read as measured that was estimated."""

    def check(value: Any, kind: str) -> None:
        if isinstance(value, dict):
            kind = value.get("kind", kind)
            if {"estimate", "low", "high"} <= set(value):
                assert kind == "estimated", value
            for name, inner in value.items():
                # What was asked for is no result.
                if name not in ("campaign", "report_version"):
                    check(inner, kind)
        elif isinstance(value, list):
            for inner in value:
                check(inner, kind)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            assert kind in {"measured", "simulated", "estimated", "proved"}, value

    check(report_of(folder), "")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "rect", "line", "polyline", "path", "image"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(folder: Path) -> None:
    """Would break if the page needed a network, a script of another host, or had a tag left open."""
    text = (folder / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    loaded = [a.get(k) or "" for _, a in page.tags for k in ("src", "href", "xlink:href") if k in a]
    assert loaded
    assert all(u.startswith("data:text/csv;base64,") for u in loaded)
    assert "<script" not in text
    assert "url(" not in text
    titles = re.findall(r"<h2>([^<]+)<", text)
    for wanted in ("What became", "Against baseline", "By site", "Site by bit", "Recovery", "Slices", "Environment"):
        assert any(t.startswith(wanted) for t in titles), (wanted, titles)
    assert len(re.findall(r"<h2>[^<]+<span class=\"kind\">", text)) == len(titles)


def test_each_csv_holds_the_numbers_of_its_figure(folder: Path) -> None:
    """Would break if a download were empty or of another figure."""
    text = (folder / "report.html").read_text()
    files = dict(re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', text))
    assert len(files) >= 9
    rows = {n: list(csv.DictReader(io.StringIO(base64.b64decode(c).decode()))) for n, c in files.items()}
    assert all(rows.values())
    found = report_of(folder)
    assert [int(r["faults"]) for r in rows["outcomes.csv"]] == [o["faults"] for o in found["outcomes"]]
    assert len(rows["cube.csv"]) == 125
    assert {r["outcome"] for r in rows["recovery.csv"]} <= {o["outcome"] for o in found["outcomes"]}


def bars_of(folder: Path, figure: str) -> list[tuple[str, float]]:
    """Name and opacity of each bar of a figure, from the top."""
    text = (folder / "report.html").read_text()
    drawn = text[text.index(f'<svg class="{figure}"') :]
    found = re.findall(r'fill-opacity="([0-9.]+)"><title>([^:<]+):', drawn[: drawn.index("</svg>")])
    return [(name, float(opacity)) for opacity, name in found]


def test_only_what_is_compared_with_is_faint(folder: Path) -> None:
    """Would break if the bars of the net and of its baseline, or of a reset, could not be told apart."""
    for figure, second in (("outcomes", "after a reset"), ("baseline", "baseline")):
        bars = bars_of(folder, figure)
        assert len(bars) >= 4
        for k, (name, opacity) in enumerate(bars):
            assert (name == second) == bool(k % 2)
            assert (opacity < 0.7) == bool(k % 2), name


def test_outcomes_that_a_campaign_cannot_have_are_not_drawn(folder: Path) -> None:
    """Would break if a page on a net without detection showed a bar of detected faults, or hid an outcome that has
    faults."""
    found = report_of(folder)
    rare = {"detected", "hang", "unsettled"}
    shown = {o["outcome"] for o in found["outcomes"] if o["faults"] or o["outcome"] not in rare}
    assert {name for name, _ in bars_of(folder, "outcomes")} - {"after a reset"} == shown
    assert rare - shown
    found["outcomes"] = [o | {"faults": 1} if o["outcome"] == "detected" else o for o in found["outcomes"]]
    assert "<title>detected:" in render(found)


def test_a_dashed_curve_is_dashed_in_the_legend_too() -> None:
    """Would break if a bound that is proved looked like a run that was seen."""
    lines = [
        Curve([1.0, 0.5], "#111111", 1.0, label="proved", dashed=True),
        Curve([1.0, 0.2], "#222222", 1.0, label="seen"),
    ]
    drawn = curves("c", lines, x_label="x", y_label="y", log=False)
    for colour, dashed in (("#111111", True), ("#222222", False)):
        parts = re.findall(rf'<(?:polyline|line)[^>]*stroke="{colour}"[^>]*>', drawn)
        assert len(parts) == 2
        assert all(("stroke-dasharray" in part) == dashed for part in parts)


def test_text_of_a_net_cannot_become_markup(folder: Path) -> None:
    """Would break if the name of a net, a site or a command could add a script to the page."""
    found = report_of(folder)
    evil = "<script>alert(1)</script>"
    found["campaign"] |= {"net": evil, "family": evil, "command": evil, "model": evil}
    found["sites"][0]["site"] = found["maps"][0]["rows"][0]["site"] = evil
    found["environment"]["title"] = evil
    found["wrong_ids"] = [evil]
    assert "<script" not in render(found)


@pytest.mark.slow
def test_an_unfinished_campaign_says_so_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    """Would break if a report of half a campaign looked like a whole one."""
    from eqcompile.sim.campaign.chunks import run_chunk
    from eqcompile.sim.campaign.definition import read_content

    folder = tmp_path / "half"
    api.create(campaign_of("digits_mlp", 450), folder, force=False)
    with pytest.raises(ArtifactError, match="no-results"):
        write(folder)
    with open_store(folder / STORE, write=True) as store:
        store.append(run_chunk(read_content(folder), 1))
    found = write(folder)
    assert not found["finished"]
    assert "not finished" in (folder / "report.html").read_text()


def test_shades_run_from_white_to_dark() -> None:
    """Would break if a larger rate could look lighter."""
    light = [sum(int(shade(k / 20)[i : i + 2], 16) for i in (1, 3, 5)) for k in range(21)]
    assert light == sorted(light, reverse=True)
    assert shade(0.0) == "#ffffff"


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_draws_every_figure_without_a_complaint(folder: Path, tmp_path: Path, width: int) -> None:
    """Would break if a figure had no size, text ran out of it or shrank, or the page were wider than the screen."""
    told = seen((folder / "report.html").read_text(), width, tmp_path)
    assert told["width"] == width
    assert told["figures"] >= 10
    assert told["empty"] == told["silent"] == 0
    assert told["out"] == []
    assert told["size"] >= 8
    assert told["wide"] <= 0
    assert told["bad"] is False


@pytest.mark.parametrize(("low", "said"), [(40.0, False), (100.0, True)])
def test_an_estimate_at_the_end_of_its_interval_says_why(low: float, said: bool) -> None:
    """Would break if a mean time were "17 years, at most 17 years" without a word: sites of which no fault failed add
    nothing to an estimate, and what may fail there to its bounds."""
    total = {"fit": 100.0, "fit_low": low, "fit_high": 200.0, "mttf_hours": 1e7, "bits": 8}
    report: Any = {"environment": {"title": "an orbit", "total": total}}
    [(name, value, kind), _] = environment_rows(report)
    assert (name, kind) == ("MTTF, an orbit", "estimated")
    assert value.startswith("1141 years, at least 570.4 years, at most ")
    assert value.endswith(AT_ITS_END) is said


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_nothing_of_the_page_is_cut(folder: Path, tmp_path: Path) -> None:
    """Would break if a value in front lay beyond the edge of a telephone, or a table beyond that of the paper."""
    legible((folder / "report.html").read_text(), tmp_path)


def test_the_bound_stands_beside_a_contraction_and_nowhere_else() -> None:
    """A curve that is proved of no net must not be drawn beside its runs."""
    looped, cube = campaign_of("digits_looped", 1), campaign_of("digits_cube", 1)
    found = proved_bound(looped, [64.0, 2.0], 4)
    assert found is not None
    assert found["kind"] == "proved"
    assert 0.0 < found["factor"] < 1.0
    assert found["distance"][0] == pytest.approx(64.0)
    assert all(a > b for a, b in itertools.pairwise(found["contraction"]))
    assert all(far >= near for far, near in zip(found["distance"], found["contraction"], strict=True))
    assert proved_bound(cube, [64.0], 4) is None


def test_both_nets_are_compared_at_the_same_exposure(folder: Path) -> None:
    """Rates of faults each somewhere in one inference: the net of one step has a short one, and more bits to hit."""
    found = report_of(folder)
    for part in (found, found["baselines"][0]["baseline"]):
        sites = campaign_of(_name(part), 1).population.sites
        bits = {site.name: site.units * site.bits for site in sites}
        exposure = part["exposure"]
        assert exposure["bits"] == sum(bits.values())
        assert exposure["failing"] == pytest.approx(sum(bits[r["site"]] * r["rate"]["estimate"] for r in part["sites"]))
        assert exposure["low"] <= exposure["failing"] <= exposure["high"] <= exposure["bits"]
    page = (folder / "report.html").read_text()
    assert "Same exposure: upsets of a bit and hour" in page
    assert f"{found['baselines'][0]['baseline']['exposure']['bits']:,}" in page
    outcomes = {o["outcome"]: o["faults"] for o in found["baselines"][0]["baseline"]["outcomes"]}
    assert outcomes["unsettled"] == 0


def _name(part: dict[str, Any]) -> str:
    return "digits_cube" if part["campaign"]["schedule"]["steps"] > 1 else "digits_mlp"
