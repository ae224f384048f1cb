"""JSON values of a target or a simulator as tables: one table of names and values, one for each list of objects, bars
for the use of a part's resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from eqcompile.toolchain.typed_json import JSON, JsonObject

from ..wording import percent, shown
from .figure import BLUE, RED, Bar, bars
from .kit import table

__all__ = ["facts"]

_HIDDEN = ("kind", "how", "summary")
"""Said elsewhere: by the mark of the section, and as lines."""
_ROWS = 40
_WIDE = 6
"""Columns beyond which a single object is a table of names and values."""
_USAGE = {"label", "needed", "available"}
"""Keys of a row that says how many cells of a part are taken."""


def facts(value: JsonObject) -> Markup:
    """Everything in the object but its kind, how and summary; long lists by their length."""
    rows = list(_rows("", {k: v for k, v in value.items() if k not in _HIDDEN}))
    parts = [table(["name", "value"], rows, wide=1)] if rows else []
    parts += [_titled(name, part) for name, part in _lists("", value) if name.rpartition(".")[2] not in _HIDDEN]
    return Markup("").join(parts)


def _rows(path: str, value: JSON) -> Iterator[list[str]]:
    """Names and values of what is no list of objects; names of nested ones as a path."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _rows(f"{path} {key}".strip().replace("_", " "), part)
    elif not _is_table(value) and value not in (None, [], ()):
        yield [path, _listed(value)]


def _listed(value: JSON) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= _ROWS:
        return ", ".join(shown(part) for part in value)
    return shown(value)


def _lists(path: str, value: JSON) -> Iterator[tuple[str, Sequence[JsonObject]]]:
    """Lists of objects, by path."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _lists(f"{path}.{key}".strip("."), part)
    elif isinstance(value, Sequence) and _is_table(value):
        rows = [row for row in value if isinstance(row, Mapping)]
        yield path, rows
        for k, row in enumerate(rows):
            yield from _lists(f"{path}.{row.get('part', k + 1)}", row)


def _is_table(value: JSON) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(row, Mapping) for row in value)
    )


def _titled(name: str, rows: Sequence[JsonObject]) -> Markup:
    title = Markup("<h4>{}</h4>").format(name.replace("_", " ").replace(".", ", "))
    if all(_USAGE <= row.keys() for row in rows):
        return title + _usage(rows)
    if len(rows) == 1 and len(rows[0]) > _WIDE:
        only = {key: value for key, value in rows[0].items() if key not in _HIDDEN}
        return title + table(["name", "value"], list(_rows("", only)), wide=1)
    head = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _HIDDEN]
    head = [key for key in head if not all(_is_table(row.get(key)) for row in rows)]
    cells = [[_listed(row.get(key, "")) for key in head] for row in rows[:_ROWS]]
    text = [k for k, key in enumerate(head) if isinstance(rows[0].get(key), str)]
    more = f"the first {_ROWS} of {len(rows)}" if len(rows) > _ROWS else ""
    return (
        title
        + table([key.replace("_", " ") for key in head], cells, text)
        + Markup("<p>{}</p>").format(more) * bool(more)
    )


def _usage(rows: Sequence[JsonObject]) -> Markup:
    drawn = []
    for row in rows:
        needed, available = row["needed"], row["available"]
        if not isinstance(needed, int) or not isinstance(available, int) or not available:
            continue
        share = needed / available
        note = f"{needed:,} of {available:,}, {percent(share)}"
        drawn.append(Bar(str(row["label"]), share, colour=RED if share > 1 else BLUE, note=note))
    return bars("usage", drawn, limit=max(1.0, *(bar.value for bar in drawn))) if drawn else Markup("")
