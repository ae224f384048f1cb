"""Lines of the product that a test reaches: a call before each statement of a function, put in when it is imported.

A call costs less than a tracer, which is told of the lines of every library, too. What runs when a module is imported
has no probe, since only the first test that imports the module would reach it. Files that Numba compiles have none.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["NAME", "Probes"]

NAME = "__reached__"
"""What the program calls."""
LINES = 100_000
"""More than any file has: a probe's number is `file * LINES + line`."""
COMPILED = "numba"


class Probes:
    """Probes of Python files below `root`; `ran` holds those that ran since the last `taken`."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.files = list(files)
        self._numbers = {os.path.realpath(root / f): k for k, f in enumerate(files)}
        self.ran: set[int] = set()
        self._lines: dict[int, list[int]] = {}

    def install(self) -> None:
        """Every later import of one of the files has its probes."""
        setattr(builtins, NAME, self.ran.add)
        loader: Any = importlib.machinery.SourceFileLoader
        plain = loader.get_code

        def get_code(this: Any, name: str) -> CodeType | None:
            path = os.path.realpath(this.get_filename(name))
            number = self._numbers.get(path)
            text = Path(path).read_text(encoding="utf-8") if number is not None else COMPILED
            if number is None or COMPILED in text:
                code: CodeType | None = plain(this, name)
                return code
            return compile(self.probed(text, number), path, "exec", dont_inherit=True)

        loader.get_code = get_code

    def probed(self, text: str, number: int) -> ast.Module:
        """The program with its probes; line numbers stay."""
        tree = ast.parse(text)
        self._visit(tree, number * LINES, inside=False)
        return ast.fix_missing_locations(tree)

    def _visit(self, node: ast.AST, base: int, *, inside: bool) -> None:
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            inside and not isinstance(node, ast.ClassDef)
        )
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, field, None)
            if not isinstance(children, list):
                continue
            statements: list[ast.AST] = []
            for child in children:
                self._visit(child, base, inside=inside)
                if inside and isinstance(child, ast.stmt) and not _is_text(child):
                    key = base + child.lineno
                    self._lines[key] = [base + line for line in _lines(child)]
                    call = ast.Call(ast.Name(NAME, ast.Load()), [ast.Constant(key)], [])
                    statements.append(ast.copy_location(ast.Expr(call), child))
                statements.append(child)
            setattr(node, field, statements)

    def taken(self) -> dict[str, list[int]]:
        """Lines of each file that ran since the last call."""
        lines = defaultdict(list)
        for key in {line for probe in self.ran for line in self._lines[probe]}:
            lines[self.files[key // LINES]].append(key % LINES)
        self.ran.clear()
        return dict(lines)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _lines(node: ast.stmt) -> Iterator[int]:
    """Those of the statement; of its header alone if it has a body, and of the guards if it has cases."""
    end = node.end_lineno or node.lineno
    match node:
        case ast.Match(cases=cases):
            end = node.subject.end_lineno or end
            for guard in (case.guard for case in cases if case.guard is not None):
                yield from range(guard.lineno, (guard.end_lineno or guard.lineno) + 1)
        case _ if getattr(node, "body", None):
            end = max(int(node.body[0].lineno) - 1, node.lineno)  # type: ignore[attr-defined]
    yield from range(node.lineno, end + 1)
