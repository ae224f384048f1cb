"""The report on cores: rates side by side, what each mechanism found, and what it costs. Nothing is simulated here."""

from __future__ import annotations

import base64
import csv
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_sessions import instrumented
from strategies import small_net

from eqcompile.app.report.campaign import write
from eqcompile.app.report.campaign.page import render
from eqcompile.rtl.harden.mechanisms import FLAGS
from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.chunks import NOT_RUN, ChunkResult, table_digest
from eqcompile.sim.campaign.definition import STORE, baselines_of
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.campaign.store import open_store
from eqcompile.sim.faults.engine import RESULT, Outcome

# One worker builds what all tests here share.
pytestmark = pytest.mark.xdist_group("campaign_cores")

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
INPUTS = {"x": np.array([[3, -7, 5], [100, 0, -128]])}
FAULTS = 200
HARDENED, BARE = {"arch": "serial", "lanes": 2, "harden": "secded,residue"}, {"arch": "serial", "lanes": 2}
SPREAD = {
    "bare": {"masked": 90, "sdc": 40, "silent": 30, "hang": 25, "near": 15},
    "hardened": {"masked": 100, "repaired": 40, "residue": 30, "both": 5, "unflagged": 5, "sdc": 12, "silent": 8},
}
"""How many faults end how, in each core."""


def figures(lut: int) -> dict[str, Any]:
    """A synthesis as the command line takes it from an artifact."""
    known = {"part": "ecp5-25k", "kind": "estimated", "how": "place and route", "cells": {"lut": lut, "bram": 3}}
    return {
        **known,
        "flip_flops": 77,
        "fmax_mhz": 51.5,
        "fmax_range_mhz": [50.0, 53.0],
        "seeds": 3,
        "tools": ["Yosys 9"],
    }


@cache
def instrument(target: str, core: tuple[tuple[str, Any], ...]) -> Path:
    """Every campaign copies it."""
    return instrumented(target, NET, dict(core))


def campaign(core: dict[str, Any], synthesis: dict[str, Any] | None) -> Any:
    return api.define(
        NET,
        INPUTS,
        model="core",
        options={"words": "engine.*", "clocks": 20},
        engine="rtl",
        near=1,
        count=FAULTS,
        seed=1,
        margin=0.01,
        confidence=0.95,
        stop_at_margin=None,
        notes={"source": {"path": "x", "target": "rtl", **({} if synthesis is None else {"synthesis": [synthesis]})}},
        core=core,
        instrument=lambda target: instrument(target, tuple(core.items())),
    )


def rows_of(spread: dict[str, int]) -> Any:
    """Results with these ends; `silent`: the label is right, an output is not."""
    rows = np.zeros(sum(spread.values()), RESULT)
    at = 0
    for name, count in spread.items():
        part = rows[at : at + count]
        at += count
        match name:
            case "repaired":
                part["corrected"] = 2
            case "residue" | "both" | "unflagged":
                part["outcome"], part["aborted"] = Outcome.DETECTED, True
                part["flags"] = {"residue": 8, "both": 12, "unflagged": 0}[name]
            case "silent":
                part["outcome"], part["output_differs"] = Outcome.OTHER, True
            case _:
                part["outcome"] = Outcome[name.upper()]
    return rows


def filled(folder: Path, spread: dict[str, int]) -> None:
    """Store results as a worker would have found them."""
    from eqcompile.sim.campaign.definition import read_campaign

    made, rows = read_campaign(folder), rows_of(spread)
    with open_store(folder / STORE, write=True) as store:
        for number in range(made.plan.chunks):
            table = made.faults(number)
            start = number * made.plan.chunk
            store.append(
                ChunkResult(
                    number,
                    table.sites,
                    table.faults,
                    rows[start : start + len(table)],
                    np.full(len(table), NOT_RUN, np.uint8),
                    table_digest(table),
                    0.1,
                    FLAGS,
                )
            )


def reported(path: Path, hardened: dict[str, Any] | None, bare: list[dict[str, Any] | None]) -> dict[str, Any]:
    api.create(campaign(HARDENED, hardened), path, baselines=[campaign(BARE, cost) for cost in bare], force=False)
    filled(path, SPREAD["hardened"])
    for place in baselines_of(path):
        filled(place, SPREAD["bare"])
    return write(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("cores") / "campaign"
    reported(path, figures(4000), [figures(3000), None])
    return path


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    return write(folder)


@pytest.mark.slow
def test_rates_stand_side_by_side(document: dict[str, Any]) -> None:
    """A rate that counts other rows, or a repaired fault that counts as unprotected, would sell or hide a mechanism."""
    hardened, bare, other = document["cores"]["rows"]
    assert [r["label"] for r in document["cores"]["rows"]] == [
        "secded,residue",
        "no hardening",
        "no hardening (2)",
    ]
    counts = {"wrong label": 12, "wrong output": 8, "hang": 0, "unprotected": 20, "detected": 40, "repaired": 40}
    assert {r["outcome"]: r["faults"] for r in hardened["rates"]} == counts
    counts = {"wrong label": 40, "wrong output": 30, "hang": 25, "unprotected": 95, "detected": 0, "repaired": 0}
    for core in (bare, other):
        assert {r["outcome"]: r["faults"] for r in core["rates"]} == counts
    plan = document["campaign"]["plan"]
    want = wilson(20, FAULTS, confidence=0.95, population=plan["population"])
    got = next(r["rate"] for r in hardened["rates"] if r["outcome"] == "unprotected")
    assert (got["low"], got["high"], got["kind"]) == (want.low, want.high, "estimated")
    first, second = document["baselines"]
    assert first["difference"] == second["difference"]


def test_what_each_mechanism_found_is_told(document: dict[str, Any]) -> None:
    """A detection that is credited to another mechanism, or to none."""
    hardened, bare, _ = document["cores"]["rows"]
    assert [(f["mechanisms"], f["faults"], f["aborted"]) for f in hardened["found_by"]] == [
        (["residue"], 30, 30),
        ([], 5, 5),
        (["weights", "residue"], 5, 5),
    ]
    assert bare["found_by"] == []


def test_the_page_shows_cost_and_benefit(folder: Path, document: dict[str, Any]) -> None:
    """A core without figures must be named, not drawn at nought; those with figures stand where they belong."""
    text = (folder / "report.html").read_text()
    assert "Cores and their hardening" in text
    drawn = re.search(r'<svg class="cores".*?</svg>', text, re.S)
    assert drawn is not None
    points = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>([^<]*)<', drawn[0])
    found = {label.split(":")[0]: (float(x), float(y)) for x, y, label in points}
    assert set(found) == {"secded,residue", "no hardening"}
    (x, y), (bare_x, bare_y) = found["secded,residue"], found["no hardening"]
    assert x > bare_x
    assert y > bare_y
    assert "LUTs of the core on ecp5-25k (estimated)" in drawn[0]
    assert "Without figures of cost: no hardening (2)." in text
    assert "3 seed(s), Yosys 9" in text
    (link,) = re.findall(r'download="cores.csv" href="data:text/csv;base64,([^"]+)"', text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link).decode())))
    assert [(r["lut"], r["ff"], r["fmax_mhz"], r["detected"]) for r in rows] == [
        ("4000", "77", "51.5", "40"),
        ("3000", "77", "51.5", "0"),
        ("", "", "", "0"),
    ]
    evil = {**document, "cores": {**document["cores"], "part": "<script>"}}
    evil["cores"]["rows"][0]["label"] = "<script>"
    evil["cores"]["rows"][0]["synthesis"][0]["tools"] = ["<script>"]
    assert "<script" not in render(evil)


def test_without_any_figures_nothing_is_drawn(tmp_path: Path) -> None:
    """An axis of cost that nobody measured."""
    reported(tmp_path / "c", None, [None])
    text = (tmp_path / "c" / "report.html").read_text()
    assert 'svg class="cores"' not in text
    assert text.count("absent") >= 8
    assert "Without figures of cost: secded,residue; no hardening." in text


def test_a_net_without_a_core_has_no_such_section(tmp_path: Path) -> None:
    """Faults of the net alone say nothing of a core, whatever the artifact holds."""
    made = campaign(BARE, None)
    plain = type(made)(**{**{n: getattr(made, n) for n in type(made).__dataclass_fields__}, "engine": "golden"})
    api.create(plain, tmp_path / "c", force=False)
    filled(tmp_path / "c", SPREAD["bare"])
    assert write(tmp_path / "c")["cores"] is None
