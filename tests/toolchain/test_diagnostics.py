"""The catalogue of diagnostics is whole: each code of the product is in it, and each of its codes is in the product."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eqcompile.toolchain.diagnostics.catalogue import catalogue
from eqcompile.toolchain.diagnostics.page import exit_code_of, page

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "quantization", "rtl", "sim", "targets", "toolchain")
HELPERS = {"Diagnostic": 0, "refuse": 0, "_fault": 1, "_wide": 0}
"""Functions that take a code, and at which position."""
SUBCLASSES = {"UnsupportedError": ("DoesNotFitError",)}
HOW = (
    "add its line to toolchain/diagnostics/catalogue.toml, what provokes it to tests/support/provocations; `make docs`"
)


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
        assert entry.remedy or entry.error == "KeyboardInterrupt", f"{entry.code} has no next step"
        assert exit_code_of(entry) in {1, 2, 3, 4, 5, 6, 7, 8, 130}, entry.code


def test_the_reference_page_is_current() -> None:
    """`make docs` writes it."""
    assert (ROOT / "docs" / "reference" / "diagnostics.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def classes_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Code and exception of every `raise Error(Diagnostic(code, ...))`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
            for inner in ast.walk(node):
                if inner is not node and isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "Diagnostic":
                    for code in codes_of(ast.Expression(inner)):
                        yield code, str(getattr(node.func, "id", ""))


def test_the_exception_of_a_code_is_the_one_that_is_raised(sources: dict[Path, str]) -> None:
    """The page states exit codes: a code that is raised as two exceptions has two."""
    known = catalogue()
    wrong = [
        f"{path.relative_to(ROOT)}: {code} is raised as {error}, the catalogue says {known[code].error}"
        for path, text in sources.items()
        for code, error in classes_of(ast.parse(text))
        if error not in (known[code].error, *SUBCLASSES.get(known[code].error, ()))
    ]
    assert wrong == []


def test_a_wrong_exception_would_be_noticed() -> None:
    """Would break if the walk saw no exception, or took that of another statement."""
    text = 'raise UsageError([Diagnostic("a", "x")])\nx = [Diagnostic("b", "")]\nraise ImportFileError(x)'
    assert list(classes_of(ast.parse(text))) == [("a", "UsageError")]


def test_a_code_outside_of_the_catalogue_is_noticed() -> None:
    """The walk must see a plain code, a choice of two, an f-string and a helper."""
    text = 'Diagnostic("a", "x"); Diagnostic("b" if x else "c", ""); d.Diagnostic(f"d-{e}", ""); _fault(path, "f", "")'
    assert list(codes_of(ast.parse(text))) == ["a", "b", "c", "d-*", "f"]
