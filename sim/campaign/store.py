"""Results in a DuckDB file: a chunk is there with all its rows or not at all, and never twice.

One process writes. A chunk is one transaction, and its number is a primary key; DuckDB's log is on the disk when a
commit returns, so that a killed campaign goes on from its last chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import ArtifactError, Diagnostic, MissingToolError
from ..faults.engine import RESULT
from .chunks import NOT_RUN, ChunkResult

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["COLUMNS", "Store", "Strata", "counted", "open_store"]

Table: TypeAlias = dict[str, NDArray[Any]]
"""Columns by name, `[rows]` each, of the dtypes that DuckDB gives: integers, float64, bool, and object for text."""
COLUMNS = {
    "chunk": "INTEGER",
    "number": "INTEGER",
    "sample": "INTEGER",
    "site": "VARCHAR",
    "unit": "INTEGER",
    "bit": "SMALLINT",
    "tick": "INTEGER",
    "outcome": "UTINYINT",
    "label": "INTEGER",
    "rejoin": "INTEGER",
    "distance_max": "INTEGER",
    "distance_end": "INTEGER",
    "differ_end": "INTEGER",
    "output_differs": "BOOLEAN",
    "aborted": "BOOLEAN",
    "found_by": "VARCHAR",
    "corrected": "INTEGER",
    "after_reset": "UTINYINT",
}
"""The columns of table `results`; a fault is named by (chunk, number). `found_by`: the mechanisms that reported it,
with commas."""

_COUNTS = {
    "site": "VARCHAR",
    "unit": "INTEGER",
    "bit": "SMALLINT",
    "tick": "INTEGER",
    "outcome": "UTINYINT",
    "faults": "BIGINT",
}
"""The columns of table `counts` of counted campaigns, whose `results` are a few of their faults."""


@dataclass(frozen=True)
class Strata:
    """Groups of faults. `keys`: what each has in common, in the order of the columns; `faults` `[strata]` int64: how
    many; `counts` `[strata]` int64 by name: how many of them ended so."""

    keys: list[tuple[str | int, ...]]
    faults: NDArray[np.int64]
    counts: Mapping[str, NDArray[np.int64]]


class Store:
    """An open store. Make it with `open_store`."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._db = connection

    def append(self, chunk: ChunkResult) -> None:
        """Add all rows of a chunk, durably; a chunk that is there already is an error of DuckDB."""
        rows = _rows(chunk)
        names = ", ".join(COLUMNS)
        self._db.begin()
        try:
            self._db.execute(
                "INSERT INTO chunks VALUES (?, ?, ?, ?)",
                [chunk.number, chunk.size, chunk.digest, chunk.seconds],
            )
            self._db.register("arriving", rows)
            self._db.execute(f"INSERT INTO results ({names}) SELECT {names} FROM arriving")
            if chunk.counts is not None:
                self._db.register("counted", vars(chunk.counts))
                columns = ", ".join(_COUNTS)
                self._db.execute(f"INSERT INTO counts SELECT {chunk.number}, {columns} FROM counted")
                self._db.unregister("counted")
            for curve in chunk.curves:
                row = [chunk.number, curve.number, list(curve.distance), curve.norm]
                self._db.execute("INSERT INTO curves VALUES (?, ?, ?, ?)", row)
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise
        finally:
            self._db.unregister("arriving")

    def chunks(self) -> dict[int, str]:
        """Digest of the faults of each chunk that is there, by number."""
        return dict(self._db.execute("SELECT chunk, digest FROM chunks ORDER BY chunk").fetchall())

    def seconds(self) -> float:
        """Time spent injecting, all workers together."""
        (total,) = self.query("SELECT coalesce(sum(seconds), 0) AS total FROM chunks")["total"].tolist()
        return float(total)

    def outcomes(self, below: int | None = None) -> dict[int, int]:
        """How many faults had each outcome, of the chunks below a number or of all."""
        where = "" if below is None else f"WHERE chunk < {int(below)}"
        sql = f"SELECT outcome, {counted()} FROM tally {where} GROUP BY outcome"
        return dict(self._db.execute(sql).fetchall())

    def curves(self) -> list[tuple[int, int, int, list[int], float]]:
        """Chunk, number, outcome, distance and norm of each fault whose curve is stored (`curves.Curve`), in order."""
        return self._db.execute(
            "SELECT chunk, number, outcome, distance, norm FROM curves JOIN results USING (chunk, number) "
            "ORDER BY chunk, number"
        ).fetchall()

    def grouped(
        self,
        keys: Sequence[str],
        counts: Mapping[str, Sequence[int]],
        where: str = "TRUE",
        values: Sequence[str | int] = (),
    ) -> Strata:
        """Strata by `keys`, in order: their faults, and under each name of `counts` how many ended with one of its
        outcomes. `where` is SQL with a `?` for each of `values`."""
        by = ", ".join(keys)
        columns = [f"{counted(f'outcome IN ({_codes(outcomes)})')} AS {name}" for name, outcomes in counts.items()]
        sql = f"SELECT {', '.join([by, f'{counted()} AS faults', *columns])} FROM tally WHERE {where}"
        table = self.query(f"{sql} GROUP BY {by} ORDER BY {by}", values)
        rows = list(zip(*(table[key].tolist() for key in keys), strict=True))
        return Strata(rows, table["faults"].astype(np.int64), {name: table[name].astype(np.int64) for name in counts})

    def query(self, sql: str, values: Sequence[str | int] = ()) -> Table:
        """Columns of a query, as arrays."""
        columns: Table = self._db.execute(sql, list(values)).fetchnumpy()
        # No column holds NULL, yet an empty or small result may come as a masked array.
        return {name: np.asarray(column) for name, column in columns.items()}

    def table(self) -> Table:
        """All results in order."""
        return self.query("SELECT * FROM results ORDER BY chunk, number")


def counted(condition: str = "TRUE") -> str:
    """SQL of the number of faults of `tally` for which a condition holds."""
    return f"CAST(coalesce(sum(faults) FILTER (WHERE {condition}), 0) AS BIGINT)"


def _codes(outcomes: Sequence[int]) -> str:
    return ", ".join(str(int(o)) for o in outcomes)


def _tally(connection: DuckDBPyConnection) -> str:
    """SQL of the faults by what tells them apart: those of a counted campaign stand for many, and have no other
    columns."""
    one = "SELECT *, 1 AS faults FROM results"
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "counts" not in tables:
        return one
    many = f"SELECT chunk, site, unit, bit, tick, outcome, {NOT_RUN} AS after_reset, faults FROM counts"
    return f"{one} WHERE NOT EXISTS (SELECT 1 FROM counts) UNION ALL BY NAME {many}"


def _rows(chunk: ChunkResult) -> Table:
    count = len(chunk.faults)
    sites = np.array(chunk.sites or ("",), dtype=object)
    rows: Table = {
        "chunk": np.full(count, chunk.number, np.int32),
        "number": (np.arange(count) if chunk.which is None else chunk.which).astype(np.int32),
        "site": sites[chunk.faults["site"]],
        "after_reset": chunk.after_reset,
        **{key: chunk.faults[key] for key in ("sample", "unit", "bit", "tick")},
        **{key: chunk.results[key] for key in COLUMNS if key in (RESULT.names or ())},
        "found_by": _names(chunk.mechanisms)[chunk.results["flags"]],
    }
    return {key: np.ascontiguousarray(column) for key, column in rows.items()}


def _names(mechanisms: Sequence[str]) -> NDArray[np.object_]:
    """What each number of flags says."""
    numbers = range(1 << len(mechanisms))
    return np.array([",".join(n for bit, n in enumerate(mechanisms) if k >> bit & 1) for k in numbers], dtype=object)


@contextmanager
def open_store(path: Path, *, write: bool) -> Iterator[Store]:
    """Open, or with `write` make, a store.

    Raises MissingToolError without DuckDB, ArtifactError if the file is no store or another process has it.
    """
    try:
        import duckdb
    except ImportError as error:
        what = "the results of a campaign are kept in DuckDB, which is not installed"
        raise MissingToolError(Diagnostic("missing-tool", what, hint="pip install 'eqcompile[faults]'")) from error
    if not write and not path.exists():
        what = "the campaign has no results yet"
        raise ArtifactError(Diagnostic("no-results", what, str(path), "eqfault resume goes on with it"))
    try:
        connection = duckdb.connect(str(path), read_only=not write)
    except duckdb.Error as error:
        text = str(error).splitlines()[0]
        what = f"cannot open the results: {text}"
        hint = "another eqfault holds it: wait or end it" if "lock" in text else "run the campaign anew"
        raise ArtifactError(Diagnostic("store", what, str(path), hint)) from error
    try:
        if write:
            columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COLUMNS.items())
            connection.execute(
                "CREATE TABLE IF NOT EXISTS chunks "
                "(chunk INTEGER PRIMARY KEY, rows BIGINT NOT NULL, digest VARCHAR NOT NULL, seconds DOUBLE NOT NULL)"
            )
            connection.execute(f"CREATE TABLE IF NOT EXISTS results ({columns})")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS curves (chunk INTEGER, number INTEGER, distance INTEGER[], norm DOUBLE)"
            )
            counts = ", ".join(f"{name} {kind} NOT NULL" for name, kind in _COUNTS.items())
            connection.execute(f"CREATE TABLE IF NOT EXISTS counts (chunk INTEGER NOT NULL, {counts})")
        connection.execute(f"CREATE TEMP VIEW tally AS {_tally(connection)}")
        yield Store(connection)
    except (duckdb.IOException, duckdb.FatalException) as error:
        what = f"cannot write the results: {str(error).splitlines()[0]}"
        hint = "free some space: eqfault resume goes on with what is stored"
        raise ArtifactError(Diagnostic("output-not-writable", what, str(path), hint)) from error
    finally:
        connection.close()
