"""The set of operations is closed: type checking names every place that a new one has to be written in."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

from eqcompile.toolchain.ir import LEGAL, ops

ROOT = Path(__file__).parents[2]
ROOMS = ("app", "quantization", "rtl", "sim", "targets", "toolchain")
MANY = 10
"""Cases from which on a `match` over operations counts as one that has to know all of them."""


def matches() -> list[tuple[str, ast.Match]]:
    """Every long `match op` of the product, with its file."""
    found = []
    for path in (p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Match) and ast.unparse(node.subject) == "op" and len(node.cases) >= MANY:
                found.append((str(path.relative_to(ROOT)), node))
    return found


def test_long_matches_over_operations_end_in_assert_never() -> None:
    """A fall-through would turn a new operation into an error at run time, on a user's net."""
    found = matches()
    assert len(found) >= 14
    open_ended = [path for path, node in found if ast.unparse(node.cases[-1].body[0]) != "assert_never(op)"]
    assert open_ended == []


def test_the_union_holds_every_operation() -> None:
    """An operation that is no member of `Op` would pass every `match` unseen."""
    defined = {c for c in ops.Operation.__subclasses__() if c.__module__ == ops.__name__}
    assert set(get_args(ops.Op)) == defined
    assert set(LEGAL) == set(get_args(ops.Op))
    assert not set(get_args(ops.FloatOp)) & set(get_args(ops.IntegerOp))
