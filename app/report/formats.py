"""The integers of a net as tables of a report: inputs, states, tensors, tables and biases, a table for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eqcompile.toolchain.typed_json import JSON, JsonObject

from ..wording import shown
from .kit import JSON as FILE

__all__ = ["format_tables"]

_TITLES = {
    "input": "Inputs",
    "state": "States",
    "tensor": "Tensors",
    "table": "Tables of functions",
    "bias": "Biases",
}
_HEADS = {
    "range_from": "range is",
    "max_error": "largest error",
    "max_error_lsb": "largest error, LSB",
    "frac": "fraction bits",
    "kind": "codes",
    "form": "kept as",
    "exact": "codes exact",
    "exact_rows": "exact rows",
    "least_error_of": "least error of",
    "density": "not zero",
    "largest_change": "largest change",
    "source": "key in the file",
}
_SHOWN_ENTRIES = 4


def format_tables(rows: Sequence[JsonObject]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, head and rows of a table for each sort of thing that has a format, with the columns that it has values
    in."""
    for what in dict.fromkeys(str(row["what"]) for row in rows):
        same = [row for row in rows if row["what"] == what]
        keys = [key for key in dict.fromkeys(key for row in same for key in row) if key != "what"]
        head = [_head(what, key) for key in keys]
        yield _TITLES.get(what, what.capitalize()), head, [[_cell(row.get(key, "")) for key in keys] for row in same]


def _head(what: str, key: str) -> str:
    if what == "table" and key == "kind":
        return "function"
    return _HEADS.get(key, key.replace("_", " "))


def _cell(value: JSON) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_ENTRIES:
        return f"{len(value)} entries, in {FILE}"
    return shown(value)
