"""Two builds side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, legible

from eqcompile.app.cli.main import main
from eqcompile.app.comparison import compare_builds
from eqcompile.app.report.comparison import comparison_page
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.golden import run as run_golden

EXAMPLES = Path(__file__).parents[2] / "examples"
TEST = EXAMPLES / "data" / "digits_test.npz"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same net for two targets (`a`, `c`), with int4 weights (`b`), and with wider states (`w`)."""
    folder = tmp_path_factory.mktemp("builds")
    data = EXAMPLES / "data" / "digits_calibration.npz"
    call = [str(EXAMPLES / "checkpoints" / "digits_looped.pt"), "--calibrate", str(data), "--no-verify", "--target"]
    for name, words in {
        "a": ["numpy"],
        "b": ["numpy", "--weights", "int4"],
        "c": ["c"],
        "w": ["numpy", "--state-bits", "10"],
    }.items():
        assert main([*call, *words, "-o", str(folder / name)]) == 0
    return folder


def differing(document: Any) -> set[str]:
    return {fact["name"] for fact in document["facts"] if not fact["same"]}


def test_the_same_integers_for_two_targets_differ_in_no_code(place: Path) -> None:
    """Would break if a target's name made another net, or equal builds seemed to differ."""
    document = compare_builds(place / "a", place / "c", TEST, limit=5)
    assert document["same_net"]
    assert "target" in differing(document)
    assert not any(name.startswith(("IR digest", "state ", "parameter ")) for name in differing(document))
    run = document["run"]
    assert (run["samples"], run["labels"], run["labels_equal"], run["difference"]) == (5, 5, 5, "")
    assert "neighbourhood" not in run
    assert "No code differs." in comparison_page(document)


def test_the_first_difference_is_shown_in_its_neighbourhood(place: Path) -> None:
    """Would break if codes around it were those of another tick, unit, sample or build."""
    document = compare_builds(place / "a", place / "b", TEST, limit=3)
    assert not document["same_net"]
    assert {"IR digest", "source quantize weights"} <= differing(document)
    around = document["run"]["neighbourhood"]
    traces = []
    for name in ("a", "b"):
        net = Artifact.open(place / name).net
        scale = net.inputs[0].encoding
        assert scale is not None
        codes = np.clip(np.rint(np.load(TEST)["x"][:3] / scale.scale), scale.format.lo, scale.format.hi)
        traces.append(run_golden(net, {"x": codes.astype(np.int64)}).states["h"])
    tick, sample, unit = np.argwhere(traces[0] != traces[1])[0]
    assert f"h[{unit}] of sample {sample} after tick {tick}: " in document["run"]["difference"]
    assert around["ticks"] == [t for t in range(tick - 2, tick + 3) if t >= 0]
    assert around["units"] == [u for u in range(unit - 3, unit + 4) if 0 <= u < 64]
    for trace, codes in zip(traces, around["codes"], strict=True):
        np.testing.assert_array_equal(codes, trace[:, sample][np.ix_(around["ticks"], around["units"])])
    page = comparison_page(document)
    k = around["units"].index(unit)
    a, b = (codes[around["ticks"].index(tick)][k] for codes in around["codes"])
    assert f'<span class="bad">{a} / {b}</span>' in page


def test_states_of_other_scales_are_not_compared(place: Path) -> None:
    """A code of 10 bits beside one of 8 would always differ, and say nothing."""
    document = compare_builds(place / "a", place / "w", TEST, limit=3)
    assert "other names or scales" in document["run"]["difference"]
    assert "labels_equal" in document["run"]
    assert "state h" in differing(document)


def test_the_command_tells_and_writes_it(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the page were of another document than the one printed."""
    words = ["compare", str(place / "a"), str(place / "b"), "--inputs", str(TEST), "--limit", "3"]
    assert main([*words, "--report", str(tmp_path / "page")]) == 0
    said = capsys.readouterr().out
    assert "the integers are not the same" in said
    assert "first difference: state h" in said
    told = [line for line in said.splitlines() if line.startswith(("bytes", "contraction", "parameter"))]
    assert re.search(r"\d,\d{3} +\d{2,3},\d{3}$", told[0]), "bytes of the folder"
    assert any(re.search(r" 0\.\d{4} +0\.\d{4}$", line) for line in told), "a bound has the digits that are read"
    assert not any("['" in line or "[], " in line or " lines" in line for line in told)
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "page" / "report.json").read_text()) == document
    assert (tmp_path / "page" / "report.html").read_text() == comparison_page(document)
    assert main(["compare", str(place / "a"), str(tmp_path)]) == 6


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_nothing_of_the_page_is_cut(place: Path, tmp_path: Path) -> None:
    """Would break if a digest or the path of a folder were wider than a screen; names are those that tell builds
    apart, and a field without a value in either is not shown."""
    page = comparison_page(compare_builds(place / "a", place / "b", TEST, limit=3))
    legible(page, tmp_path)
    assert f'<th class="t">{place.name}' not in page
    assert '<th class="t">a</th><th class="t">b</th>' in page
    assert "source assumed" not in page
    assert "parameter W_<wbr>in_<wbr>weight" in page
