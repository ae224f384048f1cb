"""What a campaign says first, and the pack that is handed over."""

from __future__ import annotations

import copy
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from strategies import small_net

from eqcompile.app.cli.main import eqfault
from eqcompile.app.report.campaign import write
from eqcompile.app.report.campaign.headline import assumptions, exclusions, headline_rows
from eqcompile.app.report.campaign.page import render
from eqcompile.sim.faults.sites import KINDS
from eqcompile.toolchain.ir.serial import save

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
ORBIT = """title = "an orbit"
[rate]
upsets_per_bit_day = 1e-3
source = "made up, by the test"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    save(NET, folder / "net.onnx")
    (folder / "orbit.toml").write_text(ORBIT)
    words = ["run", str(folder / "net.onnx"), "--model", "seu", "--sites", "state", "--faults", "300", "--workers", "1"]
    words += ["--env", str(folder / "orbit.toml"), "--mission", "365d", "--seed", "7"]
    assert eqfault([*words, "-o", str(folder / "c")]) == 0
    return folder


@pytest.fixture(scope="module")
def report(place: Path) -> Any:
    return write(place / "c")


@pytest.mark.slow
def test_a_pack_holds_all_that_repeats_the_campaign(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a file or its hash were missing, or two packs of one campaign differed."""
    for name in ("a.zip", "b.zip"):
        assert eqfault(["pack", str(place / "c"), "-o", str(place / name)]) == 0
    assert (place / "a.zip").read_bytes() == (place / "b.zip").read_bytes()
    with zipfile.ZipFile(place / "a.zip") as archive:
        names = archive.namelist()
        sums = dict(reversed(line.split("  ")) for line in archive.read("SHA256SUMS").decode().splitlines())
        assert {hashlib.sha256(archive.read(n)).hexdigest() == sums[n] for n in names if n != "SHA256SUMS"} == {True}
        text = archive.read("EVIDENCE.md").decode()
    assert names[0] == "EVIDENCE.md"
    assert sorted(names) == sorted([*sums, "SHA256SUMS"])
    assert {"campaign.json", "inputs.npz", "net.onnx", "report.html", "report.json", "results.duckdb"} <= set(names)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads[:4] == ["## What is not covered", "## Assumptions", "## Result", "## How to repeat it"]
    assert "- options of the model: sites state\n" in text
    assert "{" not in text
    for part in ("--seed 7", "seed 7", NET.digest, "numpy ", "made up, by the test", "Total ionizing dose"):
        assert part in text
    capsys.readouterr()
    assert eqfault(["pack", str(place / "c"), "-o", str(place / "a.zip")]) == 6
    assert "add --force" in capsys.readouterr().err
    inside = place / "c" / "inside.zip"
    assert eqfault(["pack", str(place / "c"), "-o", str(inside), "--force"]) == 0
    assert eqfault(["pack", str(place / "c"), "-o", str(inside), "--force"]) == 0
    assert "inside.zip" not in zipfile.ZipFile(inside).namelist()
    inside.unlink()


def test_the_headline_has_mttf_between_its_bounds(report: Any) -> None:
    """Would break if the bounds were swapped, or a campaign without a failure stated a time."""
    rows = {name: value for name, value, _ in headline_rows(report)}
    total = report["environment"]["total"]
    assert 0 < total["fit_low"] < total["fit"] < total["fit_high"]
    least, middle, most = (1e9 / total[key] for key in ("fit_high", "fit", "fit_low"))
    assert rows["MTTF, an orbit"] == f"{middle:.4g} h, at least {least:.4g} h, at most {most:.4g} h"
    measure = report["measures"][0]
    assert f"{measure['rate']['estimate']:.3%} of faults" in rows[measure["measure"]]
    assert "MTTF, an orbit" in render(report).partition("<h2>")[0]
    none = copy.deepcopy(report)
    none["environment"]["total"] |= {"fit_low": 0.0, "fit": 0.0}
    del none["environment"]["total"]["mttf_hours"]
    rows = {name: value for name, value, _ in headline_rows(none)}
    assert rows["MTTF, an orbit"] == f"no failure seen, at least {least:.4g} h, no upper bound"


def test_what_was_not_struck_is_named(report: Any) -> None:
    """Would break if a rate of states alone looked like that of the device."""
    text = " ".join(exclusions(report))
    for kind in KINDS[1:]:
        assert kind in text
    assert "struck were state:h" in text
    assert "NOT FINISHED" not in text
    changed = copy.deepcopy(report)
    changed["finished"] = False
    changed["sites"].append({**changed["sites"][0], "site": "weight:w"})
    text = " ".join(exclusions(changed))
    assert "NOT FINISHED" in text
    assert "drive, table, constant; struck" in text.replace("accumulator, ", "")
    assert "seed 7" in " ".join(assumptions(report))
