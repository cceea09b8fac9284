"""A SQLite file of one process that outlives damage, a full disk and a medium that fails.

`synchronous=FULL`, because in WAL mode `NORMAL` loses committed rows in a power cut.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from edge.errors import EarmarkError
from edge.messaging.ballast import Ballast

_BUSY_S = 1.0
_ATTEMPTS = 3
# 2 MiB, well below the ballast: the log is what grows while a full disk is emptied.
_LOG_PAGES = 512
# The last ones mean that our SQL does not fit the tables: then they are not what we made.
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_ERROR,
}
# No schema of ours will ever have such a number.
_ABSURD_VERSION = 1000
# What may be gone when the file is opened again: the medium answered with an error.
_REOPEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}

_UNREADABLE = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}

T = TypeVar("T")


class Damaged(sqlite3.DatabaseError):
    """Bytes that are not what was written."""


class Foreign(sqlite3.DatabaseError):
    """A sound file that belongs to somebody else; its text says to whom."""


class Database:
    """The file, opened when needed. Not thread-safe.

    schema: the version of its tables. steps: SQL that brings a file of version n to n + 1; 0 is a
    new one. opened: called with every newly opened connection; Damaged when what it finds cannot
    be, Foreign when it is not ours. EarmarkError, in one line, for whatever it cannot help.

    moved_aside: where such a file lies that was found last; foreign: whose it was, in words, None
    for a damaged one.
    """

    def __init__(
        self,
        path: Path,
        schema: int,
        steps: dict[int, str],
        opened: Callable[[sqlite3.Connection], None],
        ballast: Ballast,
    ) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        self.foreign: str | None = None
        self._schema = schema
        self._steps = steps
        self._opened = opened
        self._ballast = ballast
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._durable = True

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection, for work within `run`."""
        assert self._db is not None
        return self._db

    def run(self, work: Callable[[], T]) -> T:
        """Do `work`, and again after a failure that this object can mend.

        A damaged or foreign file is moved aside and a new one begun, a full disk gets the ballast,
        after an I/O error the file is opened anew.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._attempt(work)
            except sqlite3.Error as error:
                if not left or not self._mend(error):
                    raise EarmarkError(f"{self.path}: {_explain(error)}") from error
        raise AssertionError

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Commit what the block does, all or nothing.

        durable: whether a power cut right after it must not undo it; costs a flush to the medium.
        """
        db = self.connection
        if durable != self._durable:
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file for good."""
        self._closed = True
        self._drop()

    # ----------------------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise EarmarkError(f"{self.path}: closed already")
        try:
            if self._db is None:
                self._open()
            return work()
        except sqlite3.OperationalError as error:
            # Text that is no UTF-8 has no error code, and can only be damage. What cannot be read
            # when the file is opened will not be read later: better a new stream than none.
            unreadable = self._db is None and _extended_code(error) in _UNREADABLE
            if unreadable or "Could not decode" in str(error):
                raise Damaged(str(error)) from error
            raise

    def _mend(self, error: sqlite3.Error) -> bool:
        code = _code(error)
        if isinstance(error, Foreign):
            self._drop()
            self._move_aside("other-device")
            self.foreign = str(error)
            return True
        if isinstance(error, Damaged) or code in _DAMAGED:
            self._drop()
            self._move_aside("damaged")
            self.foreign = None
            return True
        if code == sqlite3.SQLITE_FULL:
            return self._ballast.release() or self._begin_log_anew()
        if code in _REOPEN and self._db is not None:
            # What the kernel holds after a failed flush is not to be trusted, nor is our cache.
            self._drop()
            return True
        return False

    def _open(self) -> None:
        new_folder = not self.path.parent.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EarmarkError(
                f"{self.path.parent}: cannot be made ({error.strerror}); correct state_dir"
            ) from error
        db = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            # One owner: a second agent on the same file would send everything twice.
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            self._durable = True
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if not 0 <= version < _ABSURD_VERSION:
                raise Damaged(f"version {version}")
            if version > self._schema:
                raise EarmarkError(f"{self.path}: made by a newer earmark; update this one")
            check = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                raise Damaged(check)
            if version < self._schema:
                steps = "".join(self._steps[step] for step in range(version, self._schema))
                db.executescript(
                    f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={self._schema};COMMIT;"
                )
            self._db = db
            self._opened(db)
        except BaseException:
            self._db = None
            db.close()
            raise
        # SQLite flushes what is in its files; that the files are there is the folder's to know.
        flush_folder(self.path.parent)
        if new_folder:
            flush_folder(self.path.parent.parent)

    def _begin_log_anew(self) -> bool:
        """Write over the log's own blocks from here on, which a full disk still has."""
        if self._db is None:
            return False
        with contextlib.suppress(sqlite3.Error):
            busy, pages, _ = self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            return not busy and pages > 0
        return False

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _move_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.{why}")
        try:
            for suffix in ("", "-wal", "-shm"):
                # One copy is kept for whoever wants to look; more would fill the disk.
                kept = aside.with_name(aside.name + suffix)
                kept.unlink(missing_ok=True)
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.replace(kept)
        except OSError as error:
            raise EarmarkError(
                f"{self.path}: {why}, and cannot be moved aside ({error.strerror})"
            ) from error
        flush_folder(self.path.parent)
        self.moved_aside = aside


def flush_folder(folder: Path) -> None:
    """Make sure that a power cut does not take the folder's entries back, where that can be."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _extended_code(error: sqlite3.Error) -> int:
    # Python's own complaints have none.
    return int(getattr(error, "sqlite_errorcode", 0))


def _code(error: sqlite3.Error) -> int:
    return _extended_code(error) & 0xFF


def _explain(error: sqlite3.Error) -> str:
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            "the outbox is in use; is another earmark-edge running? Stop it, or give another path"
        )
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full, events cannot be stored; free some space"
    if code == sqlite3.SQLITE_IOERR:
        return f"the disk fails ({error}), events cannot be stored; look at it, or replace it"
    return f"the outbox cannot be used ({error}); check the path and its permissions"
