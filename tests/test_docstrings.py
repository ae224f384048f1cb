"""Docstrings of exported functions are contracts: shapes and dtypes of arrays, units of times, and errors raised.

A dtype may stand in the annotation (`NDArray[np.int64]`, or a name for it); "codes" are integers of a format. The unit
of a number is checked where its name says that it is a time or a frequency.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("app", "quantization", "rtl", "sim", "targets", "toolchain")
_ARRAY = re.compile(r"\b(NDArray|Array|ndarray|Codes|Numbers|Reals|Singles)\b")
_DTYPE = re.compile(r"u?int\d*\b|float\d*\b|bool|\bcodes?\b|\breals?\b|\bnumbers\b|dtype|as in `", re.IGNORECASE)
_TIME = re.compile(r"time|clock|freq|delay|second|period|duration")
_UNIT = re.compile(r"_(s|ms|us|ns|hz|mhz|ticks|steps|clocks|days|hours)$")
_SHAPE = re.compile(r"\[[^\]]+\]|scalar|shape|as in `")


def exported(tree: ast.Module) -> set[str]:
    """The names of `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return set(names)
    return set()


def untyped_arrays(tree: ast.Module) -> set[str]:
    """Names that a module gives to arrays of any dtype."""
    own = {ast.unparse(n.targets[0]): ast.unparse(n.value) for n in tree.body if isinstance(n, ast.Assign)}
    imported = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    loose = {name for name, value in own.items() if value == "NDArray[Any]"}
    return loose | ({"Array"} & imported)


def faults(text: str) -> Iterator[tuple[str, str]]:
    """Exported functions of a module and what they lack: `docstring`, `shape`, `dtype`, `unit` or `raises`."""
    tree = ast.parse(text)
    untyped = untyped_arrays(tree)
    names = exported(tree)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name not in names:
            continue
        if any(ast.unparse(d) == "overload" for d in node.decorator_list):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None:
            yield node.name, "docstring"
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        hints = [a.annotation for a in arguments] + [node.returns]
        if any(h is not None and _ARRAY.search(ast.unparse(h)) for h in hints) and not _SHAPE.search(docstring):
            yield node.name, "shape"
        words = {word for h in hints if h is not None for word in re.findall(r"NDArray\[Any\]|\w+", ast.unparse(h))}
        if words & {"NDArray[Any]", *untyped} and not _DTYPE.search(docstring):
            yield node.name, "dtype"
        for a in arguments:
            number = a.annotation is not None and ast.unparse(a.annotation) in ("float", "float | None")
            if number and _TIME.search(a.arg) and not _UNIT.search(a.arg) and f"`{a.arg}`" not in docstring:
                yield node.name, "unit"
        calls = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
        raised = [c for c in calls if ast.unparse(c.func) != "AssertionError"]
        if raised and "raise" not in docstring.lower() and "Error" not in docstring:
            yield node.name, "raises"


def test_docstrings_of_exported_functions() -> None:
    """A reader should not have to open the body for a shape or an error."""
    lacking = {
        f"{path.relative_to(ROOT)}:{name} {what}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, what in faults(path.read_text(encoding="utf-8"))
    }
    assert sorted(lacking) == [], "say shapes as `[batch, units]`, and what is raised, in these docstrings"


@pytest.mark.parametrize(
    ("text", "lack"),
    [
        ("def f(): pass", "docstring"),
        ("def f(x: NDArray[int]) -> None:\n    'Codes.'", "shape"),
        ("def f(x: NDArray[int]) -> None:\n    'Codes [batch, units].'", None),
        ("def f(x: NDArray[Any]) -> None:\n    'What is [batch, units].'", "dtype"),
        ("Array = NDArray[Any]\ndef f(x: Array) -> None:\n    'What is [batch, units].'", "dtype"),
        ("def f(x: NDArray[Any]) -> None:\n    'What is [batch, units], int64.'", None),
        ("def f(clock: float) -> None:\n    'Text.'", "unit"),
        ("def f(clock_hz: float) -> None:\n    'Text.'", None),
        ("def f():\n    'Text.'\n    raise ValueError('x')", "raises"),
        ("def f():\n    'Raises ValueError.'\n    raise ValueError('x')", None),
    ],
)
def test_what_a_docstring_lacks_is_noticed(text: str, lack: str | None) -> None:
    """The check must be able to fail."""
    assert [what for _, what in faults(f'__all__ = ["f"]\n{text}\n')] == ([] if lack is None else [lack])
