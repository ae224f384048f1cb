"""A campaign in an orbit: rates by kind of memory cell, and intervals of rate and failing share together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_campaigns import define, made

from eqcompile.app.report.campaign.document import document
from eqcompile.app.report.campaign.environment_page import environment_section
from eqcompile.sim.campaign.environment import rates
from eqcompile.sim.campaign.environment.joint import Part, draw_failures, interval
from eqcompile.sim.campaign.run import run_campaign
from eqcompile.toolchain.diagnostics import UsageError

SEU = {"model": "seu", "engine": "golden", "options": {"sites": "state,weight"}}
ORBIT = """\
title = "made up"
[kinds.flip-flop]
source = "s"
upsets_per_bit_day = 2.4e-7
factor = 1.5
[kinds.block-ram]
source = "s"
upsets_per_bit_day = 2.4e-6
bits = 5000
[kinds.configuration]
source = "s"
upsets_per_bit_day = 2.4e-9
bits = 1000
failing = 0.25
"""


def read(folder: Path, text: str = ORBIT) -> Any:
    path = folder / "orbit.toml"
    path.write_text(text)
    return rates.read(str(path), part=None, scrub_s=None, mission_s=3600.0, devices=1)


def test_rates_of_a_campaign_are_given_by_kind_and_totalled(tmp_path: Path) -> None:
    """Would break if weights had the rate of flip-flops, configuration memory were left out, or the sum were wrong."""
    made(tmp_path / "c", **SEU, count=400, notes={"environment": read(tmp_path)})
    run_campaign(tmp_path / "c", workers=1)
    found = document(tmp_path / "c")["environment"]
    rows = {row["site"]: row for row in found["sites"]}
    cells = {"state:h": "flip-flop", "configuration (stated)": "configuration"}
    assert {site: row["cell"] for site, row in rows.items()} == {s: cells.get(s, "block-ram") for s in rows}
    assert rows["state:h"]["upsets_per_hour"] == pytest.approx(1e-8 * rows["state:h"]["bits"], rel=1e-9, abs=0)
    stated = rows["configuration (stated)"]
    assert stated["failures_per_hour"] == pytest.approx(1e-10 * 1000 * 0.25, rel=1e-9, abs=0)
    assert stated["fit_low"] == pytest.approx(stated["fit"])
    (weights,) = (row for site, row in rows.items() if site.startswith("weight"))
    assert f"not counted: {5000 - weights['bits']:,} bits of block-ram" in found["note"]
    for key in ("bits", "upsets_per_hour", "fit"):
        total = sum(row[key] for row in found["by_kind"])
        assert total == pytest.approx(found["total"][key], rel=1e-9, abs=0) == sum(r[key] for r in rows.values())
    for row in [*found["sites"], *found["by_kind"], found["total"]]:
        assert row["fit_low"] <= row["fit"] * (1 + 1e-9)
        assert row["fit"] <= row["fit_high"] * (1 + 1e-9)
    page = str(environment_section(document(tmp_path / "c")))
    assert "kind of cell" in page
    assert "within a factor of 1.5" in page


def test_a_site_without_a_rate_is_refused_before_a_fault_is_injected(tmp_path: Path) -> None:
    """Would break if hours of injection ended in a report without a rate, or another cell's rate were taken."""
    text = ORBIT.replace("[kinds.block-ram]", "[kinds.lut-ram]")
    with pytest.raises(UsageError, match="no rate of the memory cells that hold site weight:"):
        define(**SEU, count=10, notes={"environment": read(tmp_path, text)})
    text += "[sites]\nweight = 'lut-ram'\n"
    campaign = define(**SEU, count=10, notes={"environment": read(tmp_path, text)})
    site = next(s.name for s in campaign.population.sites if s.name.startswith("weight"))
    assert rates.kind_of(campaign.notes["environment"], site) == "lut-ram"


def test_a_site_may_be_assigned_by_its_whole_name(tmp_path: Path) -> None:
    """Would break if a single memory could not be in other cells than its kind's."""
    stated = read(tmp_path, ORBIT + "[sites]\n'weight:T' = 'flip-flop'\n")
    assert rates.kind_of(stated, "weight:T") == "flip-flop"
    assert rates.kind_of(stated, "weight:U") == "block-ram"


def test_a_joint_interval_covers_as_often_as_it_says() -> None:
    """A beam test and a campaign estimate rates and shares: 95 % intervals hold in 90 to 99 % of 400 worlds. Would
    break if either uncertainty, or what sites share, were left out."""
    generator = np.random.default_rng(5)
    shares, bits, factor = np.array([0.02, 0.3, 0.6]), np.array([3.0, 2.0, 1.0]), 1.6
    held = 0
    worlds = 400
    for _ in range(worlds):
        estimates = np.exp(math.log(factor) / 1.96 * generator.standard_normal(2))[[0, 0, 1]]
        hits = generator.binomial(150, shares)
        parts = [
            Part(float(b * e), kind, factor, False, int(x), 150)
            for b, e, kind, x in zip(bits, estimates, ("a", "a", "b"), hits, strict=True)
        ]
        drawn = draw_failures(parts, factor=1.0, generator=generator, draws=2000)
        low, high = interval(drawn.sum(axis=1), 0.95)
        held += low <= (bits * shares).sum() <= high
    assert 0.90 <= held / worlds <= 0.99


@pytest.mark.parametrize("left_out", ["share", "factor", "shared"])
def test_a_mutant_of_the_joint_interval_covers_too_seldom(left_out: str) -> None:
    """The check above could otherwise not fail: without one of the uncertainties the interval is too short."""
    whole = [Part(1.0, "a", 1.6, False, 15, 150), Part(1.0, "a", 1.6, False, 15, 150)]
    match left_out:
        case "share":
            mutant = [Part(1.0, "a", 1.6, False, share=0.1)] * 2
        case "factor":
            mutant = [Part(1.0, "a", 1.0, False, 15, 150)] * 2
        case _:
            mutant = [whole[0], Part(1.0, "b", 1.6, False, 15, 150)]
    widths = []
    for parts in (whole, mutant):
        drawn = draw_failures(parts, factor=1.0, generator=np.random.default_rng(1))
        low, high = interval(drawn.sum(axis=1), 0.95)
        widths.append(high - low)
    assert widths[1] < 0.9 * widths[0]


def test_a_flux_is_wrong_for_all_kinds_alike() -> None:
    """Would break if the factor of the flux were drawn for each kind, or moved rates that were stated."""
    parts = [
        Part(1.0, "a", 1.0, True, share=0.5),
        Part(2.0, "b", 1.0, True, share=0.5),
        Part(1.0, "c", 1.0, False, share=1),
    ]
    drawn = draw_failures(parts, factor=3.0, generator=np.random.default_rng(2))
    assert drawn[:, 1] == pytest.approx(2 * drawn[:, 0])
    assert (drawn[:, 2] == 1.0).all()
    assert (np.abs(np.log(drawn[:, 0] / 0.5)) < math.log(3.0)).mean() == pytest.approx(0.95, abs=0.01)
