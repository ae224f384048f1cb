"""Every diagnostic is provoked: its text is the golden one, and its exception and message those of the catalogue.

`GOLDEN=write python -m pytest -n 0 tests/toolchain/test_diagnostic_texts.py` writes the golden texts anew.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from provocations.case import ROOT, Case, PrintedError, failure
from provocations.tables import TABLES

from eqcompile.toolchain import diagnostics as diagnostics_module
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.diagnostics.catalogue import Entry, catalogue
from eqcompile.toolchain.diagnostics.page import exit_code_of

GOLDEN = Path(__file__).parent / "diagnostics"
WRITE = os.environ.get("GOLDEN") == "write"
CODES = [(room, code) for room, table in TABLES.items() for code in sorted(table)]
SUMMARIES = {"usage"}
"""Codes of many messages: the catalogue says what they have in common."""


def entry_of(code: str) -> Entry:
    """The entry of a code, or the one whose `*` stands for a word of it."""
    known = catalogue()
    if code in known:
        return known[code]
    entries = [e for e in known.values() if re.fullmatch(e.code.replace("*", ".+"), code)]
    assert len(entries) == 1, f"{code} is not in the catalogue"
    return entries[0]


def fits(text: str, template: str) -> bool:
    """Whether a text is a template with something in place of each `…`."""
    return re.fullmatch(".+".join(map(re.escape, template.split("…"))), " ".join(text.split()), re.DOTALL) is not None


def shown(diagnostic: Diagnostic, folder: Path) -> str:
    """The text without what differs from machine to machine."""
    text = str(diagnostic).replace(f"{folder}/", "").replace(f"{ROOT}/", "")
    text = text.replace(str(folder), "FOLDER").replace(str(ROOT), "REPOSITORY")
    return re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)


@cache
def golden_texts(room: str) -> dict[str, str]:
    """The golden texts of a room by code."""
    path = GOLDEN / f"{room}.txt"
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n") if path.exists() else []
    return {block[block.index("[") + 1 : block.index("]")]: block for block in blocks}


@pytest.mark.parametrize(("room", "code"), CODES, ids=[code for _, code in CODES])
def test_a_diagnostic_says_what_its_golden_text_says(
    room: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that nobody reads before a user does; an exit code that the page states and no command returns."""
    monkeypatch.chdir(tmp_path)
    error = failure(TABLES[room][code], Case(tmp_path, monkeypatch))
    diagnostics = [d for d in error.diagnostics if d.code == code]
    assert diagnostics, f"{code} was not provoked:\n{error}"
    text, entry = shown(diagnostics[0], tmp_path), entry_of(code)
    if WRITE:
        texts = {**golden_texts(room), code: text}
        golden_texts(room)[code] = text
        content = "\n\n".join(texts[c] for c in sorted(set(texts) & set(TABLES[room]))) + "\n"
        (GOLDEN / f"{room}.txt").write_text(content, encoding="utf-8")
    assert error.exit_code == exit_code_of(entry)
    if not isinstance(error, PrintedError):
        assert entry.error == next(
            cls.__name__ for cls in type(error).__mro__ if cls.__name__ in diagnostics_module.__all__
        )
    if entry.code not in SUMMARIES and "*" not in entry.code:
        assert fits(diagnostics[0].what, entry.message), f"the catalogue says {entry.message!r}: {diagnostics[0].what}"
        assert fits(diagnostics[0].remedy, entry.remedy), (
            f"the catalogue says {entry.remedy!r}: {diagnostics[0].remedy}"
        )
    assert golden_texts(room)[code] == text


def test_every_code_is_provoked() -> None:
    """A code that nothing provokes is dead, or its message was never seen."""
    assert [entry for entry in catalogue() if not any(fnmatchcase(code, entry) for _, code in CODES)] == []


def test_no_golden_text_is_left_of_a_code_that_is_gone() -> None:
    """Would break if a code went and its text stayed."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(TABLES)
    assert all(set(golden_texts(room)) == set(table) for room, table in TABLES.items())


def test_a_template_is_the_text_with_gaps() -> None:
    """Would break if the comparison with the catalogue could not fail."""
    assert fits("a 3 of 4", "a … of …")
    assert not fits("a 3 or 4", "a … of …")
    assert not fits("a 3 of ", "a … of …")
