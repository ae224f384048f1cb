"""What newcomers stumbled on stays closed: each line of first_hour.toml names tests that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TABLE: dict[str, dict[str, list[str]]] = tomllib.loads((HERE / "first_hour.toml").read_text(encoding="utf-8"))


def absent(names: list[str]) -> list[str]:
    """Those of `FILE::TEST` that are no test."""
    return [
        name
        for file, _, test in (name.partition("::") for name in names)
        if not (HERE / file).is_file()
        or not re.search(rf"^def {test}\(", (HERE / file).read_text(encoding="utf-8"), re.MULTILINE)
        for name in [f"{file}::{test}"]
    ]


def test_every_line_has_its_tests() -> None:
    """A test that is renamed or dropped would open a defect again without a sign."""
    for lines in TABLE.values():
        for line, names in lines.items():
            assert names, line
            assert absent(names) == [], line


def test_a_test_that_is_gone_is_noticed() -> None:
    """The test above could otherwise not fail."""
    assert absent(["test_first_hour.py::test_gone", "gone.py::test_gone", "test_first_hour.py::absent"]) == [
        "test_first_hour.py::test_gone",
        "gone.py::test_gone",
    ]
