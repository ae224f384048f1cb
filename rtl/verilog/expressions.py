"""Operators of RTLIL as expressions of Verilog.

Every result that is wider than one bit has a wire of its own, or is all of the right side of an assignment of the same
width: Verilog computes in the width of the widest operand around, so nothing wide may stand inside something wider.
Truth values may stand anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .names import written
from .rtlil import Cell, Chunk, Module, Spec, bits_of

__all__ = ["Expressions", "constant", "primary", "span"]

_BINARY = {
    "$add": "+",
    "$sub": "-",
    "$mul": "*",
    "$and": "&",
    "$or": "|",
    "$xor": "^",
    "$eq": "==",
    "$ne": "!=",
    "$lt": "<",
    "$gt": ">",
    "$le": "<=",
    "$ge": ">=",
    "$shl": "<<",
    "$shr": ">>",
    "$sshr": ">>>",
    "$shift": ">>",
}
_UNARY = {"$neg": "-", "$not": "~", "$reduce_or": "|", "$reduce_bool": "|", "$reduce_and": "&", "$reduce_xor": "^"}
_LOGICAL = {"$and": "&&", "$or": "||"}
_COMPARISONS = ("$eq", "$ne", "$lt", "$gt", "$le", "$ge")
_SHIFTS = ("$shl", "$shr", "$sshr", "$shift")
_TRUTHS = (*_COMPARISONS, "$reduce_or", "$reduce_bool", "$reduce_and", "$reduce_xor")
_PRIMARY = re.compile(r"\w+(\[[\d:]+\])?|\\\S+ |\{[^{}]*\}|\$signed\([^()]*\)")
INLINE_CHARACTERS = 72
"""Longer expressions get a wire of their own."""


def span(width: int) -> str:
    """The range of a declaration, with a space behind it; nothing for one bit."""
    return f"[{width - 1}:0] " if width > 1 else ""


def constant(bits: str, *, signed: bool = False) -> str:
    """A constant of the width of `bits`, highest first."""
    width, value = len(bits), int(bits, 2)
    if signed:
        value -= (bits[0] == "1") << width
        return f"-{width}'sd{-value}" if value < 0 else f"{width}'sd{value}"
    if width == 1:
        return f"1'b{value}"
    return f"{width}'d{value}" if width <= 16 else f"{width}'h{value:x}"


def primary(text: str) -> str:
    """An expression as an operand of a sign in front of it."""
    return text if _PRIMARY.fullmatch(text) else f"({text})"


class Expressions:
    """Expressions of one module. `names`: of its wires."""

    def __init__(self, module: Module, names: Mapping[str, str], readers: Mapping[str, int]) -> None:
        self.module, self.names, self.readers = module, names, readers
        self.drivers = {
            wire: cell for cell in module.cells for wire in cell.driven if cell.kind in (*_BINARY, *_UNARY, "$mux")
        }
        self._inline: dict[str, str | None] = {}
        self._reads: dict[str, frozenset[str]] = {}

    def inlined(self, wire: str) -> bool:
        """Whether a truth value stands where it is read, and has no wire."""
        return self._truth(wire) is not None

    def _truth(self, wire: str) -> str | None:
        if wire not in self._inline:
            self._inline[wire] = None
            cell = self.drivers.get(wire)
            if cell is not None and wire.startswith("$") and self.readers.get(wire) == 1 and self._is_truth(cell):
                text = self.operator(cell)
                self._inline[wire] = text if len(text) <= INLINE_CHARACTERS else None
        return self._inline[wire]

    def _is_truth(self, cell: Cell) -> bool:
        if cell.kind in _TRUTHS:
            return True
        widths = [sum(c.width for c in spec) for spec in cell.ports.values()]
        return cell.kind in (*_LOGICAL, "$not", "$xor", "$mux") and max(widths) == 1

    def chunk(self, chunk: Chunk, *, nested: bool = False) -> str:
        """One chunk. `nested`: it is an operand, and has parentheses if it is an expression."""
        if not chunk.wire:
            return constant(chunk.bits)
        width = self.module.wires[chunk.wire].width
        if chunk.width == width:
            truth = self._truth(chunk.wire)
            if truth is not None:
                return f"({truth})" if nested and " " in truth else truth
            return written(self.names[chunk.wire])
        name = written(self.names[chunk.wire])
        return f"{name}[{chunk.low}]" if chunk.width == 1 else f"{name}[{chunk.low + chunk.width - 1}:{chunk.low}]"

    def spec(self, spec: Spec, *, nested: bool = False) -> str:
        """A concatenation; runs of the same chunk are repeated, as in `{4{a[7]}}`."""
        if not spec:
            return "1'b0"
        if len(spec) == 1:
            return self.chunk(spec[0], nested=nested)
        parts: list[str] = []
        at = 0
        while at < len(spec):
            run = 1
            while at + run < len(spec) and spec[at + run] == spec[at]:
                run += 1
            text = self.chunk(spec[at])
            parts.append(f"{{{run}{{{text}}}}}" if run > 1 else text)
            at += run
        return parts[0] if len(parts) == 1 else f"{{{', '.join(parts)}}}"

    def right(self, spec: Spec) -> str:
        """All of the right side of an assignment, as wide as the left one."""
        if len(spec) == 1 and (cell := self.whole(spec[0])) is not None:
            return self.operator(cell)
        return self.spec(spec)

    def whole(self, chunk: Chunk) -> Cell | None:
        """The operator that makes all of a nameless wire which nothing else reads."""
        cell = self.drivers.get(chunk.wire)
        alone = chunk.wire.startswith("$") and self.readers.get(chunk.wire) == 1
        return cell if alone and cell is not None and chunk.width == self.module.wires[chunk.wire].width else None

    def operator(self, cell: Cell) -> str:
        """The right side of an assignment to the operator's result."""
        kind, ports = cell.kind, cell.ports
        if kind == "$mux":
            choice = (self.spec(ports[p], nested=True) for p in ("S", "B", "A"))
            return "{} ? {} : {}".format(*choice)
        a = ports["A"]
        if kind in _UNARY:
            sign = "!" if bits_of(a) == 1 and kind == "$not" else _UNARY[kind]
            operand = self._operand(cell, "A", cell.integer("Y_WIDTH")) if kind == "$neg" else self.spec(a)
            return f"{sign}{primary(operand)}"
        b = ports["B"]
        if cell.parameters.get("B_SIGNED") == "0" and self._always(kind, a, b):
            return "1'b1"
        if kind in _SHIFTS:
            width = cell.integer("Y_WIDTH") if kind in ("$shl", "$shift") else bits_of(a)
            return f"{self._operand(cell, 'A', max(width, bits_of(a)))} {_BINARY[kind]} {self.spec(b, nested=True)}"
        logical = bits_of(a) == bits_of(b) == cell.integer("Y_WIDTH") == 1
        sign = _LOGICAL.get(kind, _BINARY[kind]) if logical else _BINARY[kind]
        width = max(bits_of(a), bits_of(b)) if kind in _COMPARISONS else cell.integer("Y_WIDTH")
        return f"{self._operand(cell, 'A', width)} {sign} {self._operand(cell, 'B', width)}"

    def _always(self, kind: str, a: Spec, b: Spec) -> bool:
        """Whether an unsigned comparison with the least or the greatest value is true of every operand."""
        bits = "".join(c.bits if not c.wire else "x" for c in b).rjust(bits_of(a), "0")
        return (kind == "$ge" and "1" not in bits and "x" not in bits) or (kind == "$le" and set(bits) == {"1"})

    def _operand(self, cell: Cell, port: str, width: int) -> str:
        """An operand; a constant has the width of its operation, anything else is extended by the rules of Verilog."""
        spec, signed = cell.ports[port], cell.parameters[f"{port}_SIGNED"] == "1"
        missing = width - bits_of(spec)
        if not spec:
            return constant("0" * max(width, 1), signed=signed)
        if all(not chunk.wire for chunk in spec):
            bits = "".join(chunk.bits for chunk in spec)
            return constant((bits[0] if signed else "0") * max(missing, 0) + bits, signed=signed)
        return f"$signed({self.spec(spec)})" if signed else self.spec(spec, nested=True)
