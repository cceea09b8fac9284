"""Sightings in one file. WAL, so that reports read while ingest writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.ingest.database import DatabaseUnavailableError, RowRefusedError
from edge.errors import UsageError
from edge.messaging.events import timestamp

# Several ingests may share the file; each holds the lock for one batch.
_BUSY_S = 10.0


class Sqlite:
    """A `Database` in a file; times are RFC 3339 in UTC with milliseconds, which sort as text."""

    types: Mapping[str, str] = MappingProxyType(
        {
            "serial": "INTEGER PRIMARY KEY",
            "moment": "TEXT",
            "blob": "BLOB",
            "real": "REAL",
            "whole": "INTEGER",
        }
    )
    row_lock = ""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.name = str(path)
        if read_only and not path.is_file():
            raise UsageError(f"{path}: no such database; is it where earmark-deploy ingest runs?")
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnavailableError(f"{path}: cannot be opened ({error})") from error
        try:
            with self._errors():
                if read_only:
                    self._db.execute("PRAGMA query_only=ON")
                else:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    # In WAL mode NORMAL loses committed rows in a power cut, and the devices
                    # have deleted theirs by then.
                    self._db.execute("PRAGMA synchronous=FULL")
        except BaseException:
            self._db.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the write lock from the beginning on."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._errors():
                self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self._errors():
            return self._db.execute(sql, _adapted(values)).fetchall()

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""
        with self._errors():
            self._db.executemany(sql, map(_adapted, rows))

    def lock_schema(self) -> None:
        """The transaction holds the only lock there is."""

    def tables(self) -> set[str]:
        """Return the names of the tables there are."""
        return {name for (name,) in self.execute("SELECT name FROM sqlite_master")}

    def has_hypertables(self) -> bool:
        """SQLite has none."""
        return False

    def moment(self, value: Any) -> datetime | None:
        """Return a time as it came out of a query."""
        return None if value is None else datetime.fromisoformat(value)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError) as error:
            raise RowRefusedError(f"{self.name}: {error}") from error
        except OverflowError as error:
            raise RowRefusedError(f"{self.name}: {error}") from error
        except sqlite3.Error as error:
            raise DatabaseUnavailableError(f"{self.name}: {_explain(error)}") from error


def _explain(error: sqlite3.Error) -> str:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "the disk is full; free some space"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another process holds the file's lock"
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"not a usable SQLite file ({error}); move it away or name another"
    return str(error)


def _adapted(values: Sequence[Any]) -> list[Any]:
    return [timestamp(value) if isinstance(value, datetime) else value for value in values]
