"""The databases that sightings can lie in: one small face for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from edge.errors import EarmarkError, UsageError

DEFAULT = "sightings.db"
HELP = (
    f"SQLite file (by default {DEFAULT}), or postgresql://USER@HOST/NAME; passwords belong in "
    "~/.pgpass or PGPASSWORD"
)
_POSTGRES = ("postgresql", "postgres")


class DatabaseError(EarmarkError):
    """A database that cannot be used as it is."""


class DatabaseUnavailableError(DatabaseError):
    """It cannot be reached, or broke off: nothing was committed, and later it may work."""


class RowRefusedError(DatabaseError):
    """It does not take these values: the same will happen with them every time."""


class Database(Protocol):
    """An open database. Parameters are `?` in order; times go in as aware datetimes.

    types: what this database calls `serial`, `moment`, `blob`, `real`, `whole`. row_lock: what ends
    a query whose rows nobody else may change until the transaction is over.
    Errors: DatabaseUnavailableError, after which it must be closed; RowRefusedError.
    """

    name: str
    types: Mapping[str, str]
    row_lock: str

    def transaction(self) -> AbstractContextManager[None]:
        """Commit durably on leaving, roll back on an error."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""

    def lock_schema(self) -> None:
        """Within a transaction: let nobody else migrate until it is over."""

    def tables(self) -> set[str]:
        """Return the names of the tables there are."""

    def has_hypertables(self) -> bool:
        """Whether TimescaleDB is installed in this database."""

    def moment(self, value: Any) -> datetime | None:
        """Return a time as it came out of a query."""

    def close(self) -> None:
        """Close it; what is not committed is rolled back."""


def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open a database by URL or path.

    read_only: for reports; a SQLite file must be there then. UsageError for what cannot be a
    database, DatabaseUnavailableError when it cannot be opened now.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme in _POSTGRES:
        if not urlsplit(url).path.strip("/"):
            raise UsageError(f"{without_password(url)}: name the database after the host")
        from deploy.ingest.postgres import Postgres

        return Postgres(url, without_password(url))
    if scheme not in ("", "sqlite"):
        raise UsageError(f"--db {without_password(url)}: give a file or postgresql://HOST/NAME")
    from deploy.ingest.sqlite import Sqlite

    # As in SQLAlchemy's URLs: three slashes and a relative path, four and an absolute one.
    path = url[len("sqlite:///") :] if scheme else url
    if not path or (scheme and not url.lower().startswith("sqlite:///")):
        raise UsageError(f"--db {url}: write sqlite:///FILE, or the file alone")
    return Sqlite(Path(path), read_only=read_only)


def marks(values: Sequence[object]) -> str:
    """Return the parameters of a query, one for each of `values`."""
    return ", ".join("?" * len(values))


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    head, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{head}{separator}{user.partition(':')[0]}{at}{host}{slash}{path.partition('?')[0]}"
