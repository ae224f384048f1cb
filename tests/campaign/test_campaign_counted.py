"""Counted campaigns: drawn by a counter, counted where faults are injected; the same counts on every engine."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_campaigns import define, made, rows

from eqcompile.app.report.campaign.document import document
from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.chunks import KEPT, run_chunk
from eqcompile.sim.campaign.definition import STORE, read_campaign, read_content
from eqcompile.sim.campaign.run import run_campaign
from eqcompile.sim.campaign.store import open_store
from eqcompile.toolchain.diagnostics import UsageError

SEU: dict[str, Any] = {"model": "seu", "engine": "golden", "options": {"sites": "state"}, "counted": True}
CARD = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")), reason="Triton is not installed"
)
ENGINES = ["golden", "fast", pytest.param("gpu", marks=CARD)]


def counts(folder: Path) -> Counter[tuple[Any, ...]]:
    keys = "site, unit, bit, tick, outcome"
    with open_store(folder / STORE, write=False) as store:
        table = store.query(f"SELECT {keys}, sum(faults) AS faults FROM tally GROUP BY {keys}")
    rows = zip(*(table[key].tolist() for key in keys.split(", ")), strict=True)
    return Counter(dict(zip(rows, map(int, table["faults"].tolist()), strict=True)))


@pytest.mark.parametrize("engine", ENGINES)
def test_counts_are_those_of_every_fault_injected_by_golden(engine: str, tmp_path: Path) -> None:
    """Would break if an engine drew other faults than a campaign names, or counted one twice or elsewhere."""
    folder = made(tmp_path / "c", **{**SEU, "engine": engine}, count=800)
    run_campaign(folder, workers=1)
    campaign = read_campaign(folder)
    session = api.open_engine(read_campaign(made(tmp_path / "g", **SEU, count=10)))
    expected: Counter[tuple[Any, ...]] = Counter()
    bad = []
    for chunk in range(campaign.plan.chunks):
        table = campaign.faults(chunk)
        outcomes = session.run(table)["outcome"].tolist()
        for number, (fault, outcome) in enumerate(zip(table, outcomes, strict=True)):
            expected[fault.site, fault.unit, fault.bit, fault.upsets[0].first, outcome] += 1
            bad += [(chunk, number)] if outcome in KEPT else []
    assert counts(folder) == expected
    assert expected.total() == 800
    stored = rows(folder)
    listed = zip(stored["chunk"], stored["number"], stored["outcome"], strict=True)
    assert [(c, n) for c, n, outcome in listed if outcome in KEPT] == bad


def test_rates_of_a_report_are_of_all_counted_faults(tmp_path: Path) -> None:
    """Rows of a counted campaign are a few of its faults: a rate of these alone would be wrong."""
    folder = made(tmp_path / "c", **SEU, count=1000)
    run_campaign(folder, workers=1)
    report, found = document(folder), counts(folder)
    assert report["faults"]["value"] == 1000
    for row in report["outcomes"]:
        code = {name.lower(): int(o) for name, o in api.Outcome.__members__.items()}[row["outcome"]]
        assert row["faults"] == sum(n for key, n in found.items() if key[-1] == code)
        assert row["rate"]["estimate"] == pytest.approx(row["faults"] / 1000)
    assert sum(row["faults"] for row in report["sites"]) == 1000
    assert sum(row["faults"] for row in report["reset"]) == 1000
    assert api.standing(folder)["campaign"]["outcomes"]["healed"]["faults"] == report["outcomes"][1]["faults"]
    assert report["recovery"]["curves"]


def test_a_fault_is_replayed_by_its_number(tmp_path: Path) -> None:
    """Its id leads to the same fault in any engine, though the campaign stored no row of it."""
    folder = made(tmp_path / "c", **SEU, count=1000)
    run_campaign(folder, workers=1)
    for number in (0, 7, 249):
        replayed, _ = api.replay(folder, f"3.{number}", engine=None)
        assert replayed["fault"] == str(read_campaign(folder).faults(3)[number])
        again, _ = api.replay(folder, replayed["fault"], engine="golden")
        assert again["ticks"] == replayed["ticks"]


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """Chunks that are there are not counted again."""
    whole, part = (made(tmp_path / name, **SEU, count=1200) for name in ("whole", "part"))
    with open_store(part / STORE, write=True) as store:
        store.append(run_chunk(read_content(part), 2))
    for folder in (whole, part):
        assert run_campaign(folder, workers=1).finished
    assert counts(whole) == counts(part)
    assert json.loads((whole / "campaign.json").read_text())["plan"]["counted"]


def test_seeds_tell_chunks_apart() -> None:
    """Chunks of the same faults would make an interval too narrow."""
    campaign = define(**SEU, count=4000)
    first, second = campaign.faults(0).faults, campaign.faults(1).faults
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, define(**SEU, count=4000, seed=4).faults(0).faults)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "stuck", "options": {}},
        {"options": {"sites": "state,weight"}},
        {"model": "pair", "options": {"across": "neighbours"}},
        {"count": "exhaustive"},
        {"strata": "bit"},
        {"stop_at_margin": 0.1},
    ],
)
def test_what_cannot_be_counted_is_refused(changes: dict[str, Any]) -> None:
    """Faults that a reset leaves, or rules that need rows, would be reported wrongly."""
    with pytest.raises(UsageError, match="counted"):
        define(**{**SEU, **changes})
