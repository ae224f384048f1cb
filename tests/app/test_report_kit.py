"""What both reports share: the page, tables, text alternatives, and files that are whole."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import CHROMIUM
from markupsafe import Markup
from PIL import Image

from eqcompile.app.report import kit
from eqcompile.app.report.campaign.document import _ranking
from eqcompile.app.report.figure import Bar, bars, raster
from eqcompile.sim.campaign.statistics import rank
from eqcompile.toolchain.diagnostics import ArtifactError


def test_a_page_fits_a_telephone_and_a_dark_room() -> None:
    """Would break if a page were drawn for a wide and light screen alone."""
    page = kit.render("page.html", title="<t>", heading="h", intro="", body=kit.table(["a"], [["<b>"]]))
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "prefers-color-scheme: dark" in page
    assert "<title>&lt;t&gt;</title>" in page
    assert '<div class="wide"><table>' in page
    assert '<td class="t">&lt;b&gt;</td>' in page
    assert kit.table(["a"], []) == '<p class="note">none</p>'


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_a_page_is_dark_in_a_dark_room(tmp_path: Path) -> None:
    """A rule that no browser applies is a page that blinds, and dark ink on dark paper one that nobody reads."""
    (tmp_path / "page.html").write_text(kit.render("page.html", title="t", heading="h", intro="", body="<p>█</p>"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "docs")
        import pictures
    for scheme, paper, ink in (("light", 255, 60), ("dark", 30, 220)):
        pictures.picture(tmp_path / "page.html", tmp_path / f"{scheme}.png", 500, 300, scheme)
        with Image.open(tmp_path / f"{scheme}.png") as image:
            grey = np.asarray(image.convert("L")).astype(int)
        assert abs(grey[-1, -1] - paper) < 15, scheme
        assert np.abs(grey - grey[-1, -1]).max() > abs(paper - ink) - 15, scheme


def test_figures_say_what_they_show() -> None:
    """Would break if a figure were silent to those who do not see it, or a label in it became markup."""
    drawn = bars("x", [Bar("<site>", 0.25, 0.2, 0.3, "#123456")])
    assert isinstance(drawn, Markup)
    assert ElementTree.fromstring(drawn).attrib["aria-label"] == "Bars: <site> 25%"


def test_a_long_label_has_a_line_of_its_own() -> None:
    """A measure that is cut in the middle of its name could be any of two; one below another would cover it."""
    long, note = "healed exactly, of faults that disturbed", "83.97% [79.49%, 87.63%]"
    drawn = ElementTree.fromstring(bars("x", [Bar(long, 0.8, 0.7, 0.9, "#123456", note) for _ in range(2)]))
    texts = [(float(t.attrib["y"]), t.text) for t in drawn.iter("text") if t.text in (long, note)]
    assert [text for _, text in texts] == [long, note] * 2
    heights = [y for y, _ in texts]
    assert all(lower - upper >= 14 for upper, lower in zip(heights, heights[1:], strict=False))
    short = ElementTree.fromstring(bars("x", [Bar("healed", 0.8, 0.7, 0.9, "#123456", note)]))
    [[y, _], [other, _]] = [(t.attrib["y"], t.text) for t in short.iter("text") if t.text in ("healed", note)]
    assert y == other
    assert float(drawn.attrib["viewBox"].split()[3]) >= max(heights) + 40


def test_a_number_bears_the_mark_of_its_kind() -> None:
    """Would break if an estimate read like a measurement, or its text were lost."""
    texts = {name: kit.marked("<3 s>", name) for name in ("measured", "simulated", "estimated", "proved")}
    assert all("&lt;3 s&gt;" in text and name in text for name, text in texts.items())
    assert len(set(texts.values())) == 4


def test_no_line_of_a_grid_crosses_an_image() -> None:
    """Would break if lines that are no codes were drawn over them."""
    image = ElementTree.fromstring(raster("a", [[1, 2], [3, 4]], (-8, 7), title="t", unit="unit"))
    marks = [{k: float(line.attrib[k]) for k in ("x1", "x2", "y1", "y2")} for line in image.iter("line")]
    assert marks
    assert all(m["x1"] == m["x2"] and m["y2"] - m["y1"] == 4.0 for m in marks)


def test_a_colour_says_how_large_a_code_is() -> None:
    """Small codes would look like the largest ones, or all alike."""
    drawn = {str(raster("a", [[code]], (-8, 7), title="", unit="")).partition("base64,")[2][:120] for code in (1, 4, 7)}
    assert len(drawn) == 3


def test_a_rate_of_one_fault_does_not_lead() -> None:
    """One hit of one fault is a rate of 100 %, of which nothing is known."""
    ranked = rank(np.array([1, 90, 5]), np.array([1, 100, 100]), confidence=0.95)
    assert [r.index for r in ranked] == [1, 2, 0] or [r.index for r in ranked] == [1, 0, 2]
    assert ranked[0].hits == 90


def test_the_ranking_of_a_report_goes_by_the_lower_end() -> None:
    """Would break if the page sorted by the rate itself what the test above has ranked."""
    counts = SimpleNamespace(keys=[("w", 0), ("w", 1)], counts={"hits": np.array([1, 90])}, faults=np.array([1, 100]))
    store: Any = SimpleNamespace(grouped=lambda *_: counts)
    campaign: Any = SimpleNamespace(plan=SimpleNamespace(confidence=0.95))
    rows = _ranking(campaign, store, "unit", (), "silent")["rows"]
    assert [(row["number"], row["hits"]) for row in rows] == [(1, 90), (0, 1)]


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a full disk left half a page in place of the last one."""
    kit.write(tmp_path, {"a": 1}, "first")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ArtifactError, match="No space left"):
        kit.write(tmp_path, {"a": 2}, "second")
    assert (tmp_path / "report.html").read_bytes() == b"first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]
