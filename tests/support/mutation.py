"""The mutants of a source file: comparisons, arithmetic, conditions, constants, results and statements, one changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants_of"]

SWAPS = {
    getattr(ast, name): [getattr(ast, other) for other in others.split(",")]
    for name, others in (
        pair.split(":")
        for pair in (
            "Lt:LtE,GtE LtE:Lt,Gt Gt:GtE,LtE GtE:Gt,Lt Eq:NotEq NotEq:Eq In:NotIn NotIn:In Is:IsNot IsNot:Is "
            "Add:Sub Sub:Add Mult:Add FloorDiv:Mult Div:Mult Mod:FloorDiv LShift:RShift RShift:LShift "
            "BitAnd:BitOr BitOr:BitAnd BitXor:BitOr And:Or Or:And"
        ).split()
    )
}


@dataclass(frozen=True)
class Mutant:
    """One change: `old` at `line` of `file` becomes `new`. `place`, its AST path, stays when lines above move."""

    file: str
    line: int
    start: int
    end: int
    place: str
    old: str
    new: str

    @property
    def key(self) -> str:
        return f"{self.file} {self.place}: {self.old} -> {self.new}"


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """The changes of one node: comparison, arithmetic, boolean, constant, return, deleted statement."""

    def changed(**fields: Any) -> ast.AST:
        return type(node)(**{**dict(ast.iter_fields(node)), **fields})

    match node:
        case ast.Compare(ops=[op]):
            yield from (changed(ops=[other()]) for other in SWAPS[type(op)])
        case ast.BinOp(op=op, left=left, right=right):
            texts = (ast.JoinedStr, ast.List, ast.Tuple)
            if not any(
                isinstance(x, texts) or (isinstance(x, ast.Constant) and isinstance(x.value, str))
                for x in (left, right)
            ):
                yield from (changed(op=other()) for other in SWAPS.get(type(op), ()))
        case ast.BoolOp(op=op):
            yield from (changed(op=other()) for other in SWAPS[type(op)])
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a source file; annotations, texts and imports have none."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def visit(node: ast.AST, place: str) -> Iterator[Mutant]:
        if isinstance(node, (ast.stmt, ast.expr)) and not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            old = text.encode()[start:end].decode()
            for other in variants(node):
                new = ast.unparse(ast.fix_missing_locations(other))
                yield Mutant(
                    file, node.lineno, start, end, place, old, f"({new})" if isinstance(other, ast.expr) else new
                )
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(node, ast.JoinedStr):
                continue
            for k, child in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(child, ast.AST):
                    label = getattr(child, "name", None) if isinstance(child, ast.stmt) else None
                    yield from visit(child, f"{place}/{label or f'{name}{k}' if isinstance(value, list) else name}")

    yield from visit(ast.parse(text), "")
