"""Parts of the page: sections with their kind and their CSV, tables, intervals."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["csv_link", "interval", "kind_mark", "raw", "section", "table"]


def kind_mark(kind: str) -> str:
    return f'<span class="kind">{escape(kind)}</span>'


def interval(rate: Mapping[str, float]) -> list[str]:
    return [f"{rate[k]:.3%}" for k in ("estimate", "low", "high")]


def raw(rate: Mapping[str, float]) -> list[float]:
    return [rate[k] for k in ("estimate", "low", "high")]


def section(
    title: str,
    kind: str,
    body: str,
    *,
    note: str = "",
    data: tuple[str, Sequence[str], Sequence[Sequence[Any]]] | None = None,
) -> str:
    link = "" if data is None else csv_link(*data)
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<h2>{title}{kind_mark(kind)}{link}</h2>{told}{body}"


def csv_link(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    content = base64.b64encode(text.getvalue().encode()).decode()
    return f'<a class="csv" download="{name}.csv" href="data:text/csv;base64,{content}">{name}.csv</a>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, wide: int | None = None) -> str:
    """The first column holds text, and column `wide` long text."""
    marks = ["t" if k == 0 else "w" if k == wide else "" for k in range(len(head))]
    cells = "".join(f'<th class="{"t" if m else ""}">{escape(h)}</th>' for h, m in zip(head, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td class="{m}">{escape(c)}</td>' for c, m in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
