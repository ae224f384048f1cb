"""Records of benchmarks that run net by net: rows of what did not run stay, and say when they were measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
results = importlib.import_module("results")
sys.path.pop(0)


def facts(net: str, units: int) -> dict[str, Any]:
    return {"net": net, "units": units, "density": 0.5, "L": 0.6, "steps": 3, "settled": None}


def record(folder: Path, rows: list[dict[str, Any]], units: int = 4) -> list[dict[str, Any]]:
    """One run of a benchmark that measured `rows`; what is recorded then."""
    every: list[dict[str, Any]] = results.joined("equal", rows, ("net", "form"), folder)
    blocks = [results.table({"net": "", "codes": "simulated"}, [(r["net"], r["codes"]) for r in every])]
    nets = results.joined_nets("equal", [facts(r["net"], units) for r in rows], folder)
    note, older = results.origins(every), results.older("equal", folder)
    results.record("equal", "Title", blocks, data=every, nets=nets, note=note, older=older, folder=folder)
    return every


def test_rows_of_what_did_not_run_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the commit of its own run; what did run replaces its row, where that stands."""
    monkeypatch.setattr(results, "commit", lambda: "aaa")
    record(tmp_path, [{"net": "a", "form": 1, "codes": 5}, {"net": "b", "form": 1, "codes": 6}])
    monkeypatch.setattr(results, "commit", lambda: "bbb")
    again = [{"net": "a", "form": 1, "codes": 7}, {"net": "a", "form": 2, "codes": 8}]
    found = [(r["net"], r["form"], r["codes"], r["at"]) for r in record(tmp_path, again, units=5)]
    assert found == [("a", 1, 7, "bbb"), ("b", 1, 6, "aaa"), ("a", 2, 8, "bbb")]
    document = json.loads((tmp_path / "equal.json").read_text(encoding="utf-8"))
    assert document["note"] == "Rows of b at aaa."
    assert [(n["net"], n["units"]) for n in document["nets"]] == [("a", 5), ("b", 4)]


def test_tables_without_data_stand_behind_those_of_a_new_run(tmp_path: Path) -> None:
    """Early records hold no rows, and are not lost: once, however often the benchmark runs."""
    old = {"title": "Title", "measured_at": "000", "blocks": [results.text("as it was")]}
    (tmp_path / "equal.json").write_text(json.dumps(old), encoding="utf-8")
    for codes in (1, 2):
        record(tmp_path, [{"net": "a", "form": 1, "codes": codes}])
    page = results.render(tmp_path)
    assert page.count("as it was") == 1
    assert page.index("Measured at 000, not run again since:") > page.index("| a | 2 |")


def test_a_run_of_everything_has_no_note(tmp_path: Path) -> None:
    """Nothing stays of a record whose every row ran again."""
    for codes in (1, 2):
        (row,) = record(tmp_path, [{"net": "a", "form": 1, "codes": codes}])
    assert row["codes"] == 2
    assert results.origins([row]) == ""
    assert results.older("equal", tmp_path) == []
