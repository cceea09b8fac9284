"""Sightings in PostgreSQL, in TimescaleDB's hypertable where that extension is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any

from deploy.ingest.database import DatabaseUnavailableError, RowRefusedError
from edge.errors import UsageError

try:
    import psycopg
except ImportError as missing:
    raise UsageError("PostgreSQL needs psycopg: pip install 'earmark[postgres]'") from missing

# Any number, the same for everybody who migrates earmark's tables.
_SCHEMA_LOCK = 0x6561726D
_SETTINGS = (
    # Devices delete what is acknowledged, so a commit must outlive a power cut.
    ("synchronous_commit", "on"),
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    # An ingest that hangs must not hold the locks of its streams for ever.
    ("idle_in_transaction_session_timeout", "60s"),
    ("timezone", "UTC"),
)


class Postgres:
    """A `Database` on a PostgreSQL server. name: the URL without its password."""

    types: Mapping[str, str] = MappingProxyType(
        {
            "serial": "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            "moment": "timestamptz",
            "blob": "bytea",
            "real": "double precision",
            "whole": "bigint",
        }
    )
    row_lock = "FOR UPDATE"

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        with self._errors():
            self._db = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=5,
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=20_000,
                application_name="earmark",
            )
        try:
            for setting in _SETTINGS:
                self.execute("SELECT set_config(?, ?, false)", setting)
        except BaseException:
            self._db.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit on leaving, roll back on an error."""
        with self._errors(), self._db.transaction():
            yield

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self._errors():
            cursor = self._db.execute(_own(sql), values)
            return cursor.fetchall() if cursor.description else []

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`, in one pipeline."""
        if rows:
            with self._errors(), self._db.cursor() as cursor:
                cursor.executemany(_own(sql), rows)

    def lock_schema(self) -> None:
        """Take the lock that every earmark takes before it migrates."""
        self.execute("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))

    def tables(self) -> set[str]:
        """Return the names of the tables there are in the schema that is written to."""
        rows = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return {name for (name,) in rows}

    def has_hypertables(self) -> bool:
        """Whether TimescaleDB is installed in this database."""
        return bool(self.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"))

    def moment(self, value: Any) -> datetime | None:
        """Return a time as it came out of a query."""
        assert value is None or isinstance(value, datetime)
        return value

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RowRefusedError(f"{self.name}: {_line(error)}") from error
        except psycopg.Error as error:
            raise DatabaseUnavailableError(f"{self.name}: {_line(error)}") from error


def _own(sql: str) -> Any:
    return sql.replace("%", "%%").replace("?", "%s")


def _line(error: Exception) -> str:
    """Return a driver's message, which may have several lines, as one."""
    return " ".join(str(error).split()) or type(error).__name__
