"""The catalogue of diagnostics is whole: each code of the product is in it, and each of its codes is in the product."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eqcompile.toolchain.diagnostics.catalogue import catalogue, page

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "quantization", "rtl", "sim", "targets", "toolchain")
HELPERS = {"Diagnostic": 0, "refuse": 0, "_fault": 1, "_wide": 0}
"""Functions that take a code, and at which position."""
UNTESTED = Path(__file__).with_name("diagnostics_untested.txt")
HOW = "add its line to toolchain/diagnostics/catalogue.toml, name it in a test that triggers it, and run `make docs`"


def codes_of(tree: ast.AST) -> Iterator[str]:
    """Codes that are written out in calls of `HELPERS`; what an f-string fills in is a `*`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        position = HELPERS.get(name)
        if position is None or len(node.args) <= position:
            continue
        argument = node.args[position]
        for part in (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,):
            pieces = part.values if isinstance(part, ast.JoinedStr) else [part]
            code = "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in pieces)
            # Another function of a helper's name may take a sentence first.
            if re.fullmatch(r"[a-z0-9*]+(-[a-z0-9*]+)*", code) and code != "*":
                yield code


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    return {p: p.read_text(encoding="utf-8") for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))}


def test_every_code_of_the_product_is_in_the_catalogue(sources: dict[Path, str]) -> None:
    """A code that the reference page does not know sends a user to the source."""
    known = catalogue()
    for path, text in sources.items():
        missing = sorted(set(codes_of(ast.parse(text))) - set(known))
        assert not missing, f"{path.relative_to(ROOT)}: {', '.join(missing)} is not in the catalogue: {HOW}"


def test_every_code_of_the_catalogue_is_in_the_product(sources: dict[Path, str]) -> None:
    """A page that explains what nobody says any more is worse than none."""
    text = "\n".join(sources.values())
    stale = [code for code in catalogue() if code.strip("*") not in text]
    assert stale == [], "no module names these codes any more: delete their lines and run `make docs`"


def test_the_catalogue_is_in_order_and_its_exceptions_exist() -> None:
    """Order keeps two branches from adding a code at the same place; the exception decides the exit code."""
    entries = list(catalogue().values())
    assert [e.code for e in entries] == sorted(e.code for e in entries)
    for entry in entries:
        assert entry.message, entry.code
        assert entry.exit_code in {1, 2, 3, 4, 5, 6, 7, 8, 130}, entry.code


def test_the_reference_page_is_current() -> None:
    """`make docs` writes it."""
    assert (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_a_code_is_named_in_a_test_that_triggers_it() -> None:
    """The list of those that no test names may only become shorter."""
    here = {UNTESTED, Path(__file__)}
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py") if p not in here)
    untested = {c for c in catalogue() if "*" not in c and not re.search(rf"(?<![\w-]){re.escape(c)}(?![\w-])", tests)}
    listed = set(UNTESTED.read_text(encoding="utf-8").split())
    assert untested - listed == set(), f"no test triggers these codes: {HOW}"
    assert listed - untested == set(), f"these are tested now: delete their lines from {UNTESTED.name}"


def test_a_code_outside_of_the_catalogue_is_noticed() -> None:
    """The walk must see a plain code, a choice of two, an f-string and a helper."""
    text = 'Diagnostic("a", "x"); Diagnostic("b" if x else "c", ""); d.Diagnostic(f"d-{e}", ""); _fault(path, "f", "")'
    assert list(codes_of(ast.parse(text))) == ["a", "b", "c", "d-*", "f"]
