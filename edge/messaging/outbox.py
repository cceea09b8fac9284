"""Events wait on disk until the broker has them: a bounded queue in SQLite that counts its losses.

`synchronous=FULL`, because in WAL mode `NORMAL` loses committed rows in a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from edge.errors import EarmarkError
from edge.messaging.events import EVENT_LIMIT_BYTES, Gap, Sighting, encode
from edge.messaging.ulid import UlidMaker

SCHEMA = 1
_MIB = 1 << 20
# What a row costs beside its payload, roughly: key, length, page overhead.
_ROW_OVERHEAD_BYTES = 64
_POISON_ROWS = 100
_BUSY_S = 1.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, size INTEGER NOT NULL, last_seen TEXT, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS gap (
    first INTEGER NOT NULL, last INTEGER NOT NULL, lost INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS poison (
    seq INTEGER PRIMARY KEY, why TEXT NOT NULL, payload BLOB NOT NULL);
"""

T = TypeVar("T")
V = TypeVar("V", int, str)


@dataclass(frozen=True, slots=True)
class Row:
    """One waiting event: its number in the stream and its JSON."""

    seq: int
    payload: bytes


class Outbox:
    """Events in the order of their seq. Thread-safe; one process at a time.

    Full means `limit_bytes` of payload or `limit_rows`: then the oldest are dropped in the very
    transaction that stores the new ones, and `gap` counts them exactly. A damaged file is moved
    aside (`moved_aside`) and a new stream begins; seq never falls within a stream.

    Errors: EarmarkError when the file cannot be opened, is another process's, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit_bytes: int = 64 * _MIB,
        limit_rows: int = 200_000,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        self.refused = 0
        self._limit_bytes = limit_bytes
        self._limit_rows = limit_rows
        self._new_id = new_id or UlidMaker()
        self._lock = threading.RLock()
        self._stream = ""
        self._next_seq = 1
        self._rows = self._bytes = self._lost = self._aside = 0
        self._db = self._open()

    def append(self, events: Sequence[Sighting]) -> list[Sighting]:
        """Store events durably and return them with stream, seq and id filled in.

        An event of more than 16 kB is refused: counted in `refused`, and not among the returned.
        """
        return self._run(lambda: self._append(events))

    def pending(self, limit: int, *, after: int = 0) -> list[Row]:
        """Return at most `limit` waiting events with a seq above `after`, oldest first."""
        query = "SELECT seq, payload FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._run(
            lambda: [Row(seq, bytes(data)) for seq, data in self._db.execute(query, (after, limit))]
        )

    def delivered(self, seqs: Iterable[int]) -> None:
        """Forget events that the broker has taken."""
        numbers = list(seqs)
        if numbers:
            self._run(lambda: self._delivered(numbers))

    def set_aside(self, seq: int, why: str) -> None:
        """Take an event out that the broker will never accept; the last 100 are kept."""
        self._run(lambda: self._set_aside(seq, why))

    @property
    def stream(self) -> str:
        """The stream's id, 32 hex digits; a new file is a new stream."""
        return self._stream

    @property
    def last_seq(self) -> int:
        """The highest seq given out in this stream, 0 before the first."""
        return self._next_seq - 1

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._rows

    @property
    def share(self) -> float:
        """How full it is, 0..1: of its rows or its bytes, whichever is nearer the limit."""
        return max(self._rows / self._limit_rows, self._bytes / self._limit_bytes)

    @property
    def oldest(self) -> str | None:
        """`last_seen` of the oldest waiting event; None when none waits or its time is unknown."""
        query = "SELECT last_seen FROM event ORDER BY seq LIMIT 1"
        row = self._run(lambda: self._db.execute(query).fetchone())
        return None if row is None else row[0]

    @property
    def lost(self) -> int:
        """How many events were dropped since the stream began, because the outbox was full."""
        return self._lost

    @property
    def aside(self) -> int:
        """How many events the broker would never have taken, since the stream began."""
        return self._aside

    @property
    def gap(self) -> Gap | None:
        """What was dropped and not yet reported with `gap_reported`."""
        row = self._run(lambda: self._db.execute("SELECT first, last, lost FROM gap").fetchone())
        if row is None:
            return None
        return Gap(stream=self._stream, first=row[0], last=row[1], lost=row[2])

    def gap_reported(self, gap: Gap) -> None:
        """Forget a gap that subscribers know of; what was dropped meanwhile stays."""
        self._run(lambda: self._gap_reported(gap))

    def close(self) -> None:
        """Close the file; waiting events stay in it."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the work, always under the lock -------------------------------------------------------

    def _append(self, events: Sequence[Sighting]) -> list[Sighting]:
        numbered: list[Sighting] = []
        rows: list[tuple[int, int, str | None, bytes]] = []
        refused = 0
        for event in events:
            seq = self._next_seq + len(rows)
            event = msgspec.structs.replace(event, seq=seq, stream=self._stream, id=self._new_id())
            payload = encode(event)
            if len(payload) > EVENT_LIMIT_BYTES:
                refused += 1
                continue
            numbered.append(event)
            rows.append((seq, len(payload) + _ROW_OVERHEAD_BYTES, event.last_seen, payload))
        if rows:
            with self._transaction():
                self._db.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
                self._next_seq = self._put("next_seq", rows[-1][0] + 1)
                self._rows += len(rows)
                self._bytes += sum(row[1] for row in rows)
                self._evict()
        self.refused += refused
        return numbered

    def _evict(self) -> None:
        dropped: list[int] = []
        oldest = self._db.execute("SELECT seq, size FROM event ORDER BY seq")
        while self._rows > self._limit_rows or self._bytes > self._limit_bytes:
            seq, size = next(oldest)
            dropped.append(seq)
            self._rows -= 1
            self._bytes -= size
        oldest.close()
        if not dropped:
            return
        self._db.execute("DELETE FROM event WHERE seq <= ?", (dropped[-1],))
        known = self._db.execute("SELECT first, lost FROM gap").fetchone()
        first, lost = known if known else (dropped[0], 0)
        self._put_gap(first, dropped[-1], lost + len(dropped))
        self._lost = self._put("lost", self._lost + len(dropped))

    def _delivered(self, seqs: Sequence[int]) -> None:
        with self._transaction():
            for seq in seqs:
                if not self._delete(seq):
                    self._not_lost(seq)

    def _not_lost(self, seq: int) -> None:
        """An event that was dropped while on its way has arrived after all: count it back."""
        row = self._db.execute("SELECT first, last, lost FROM gap").fetchone()
        if row is None or not row[0] <= seq <= row[1]:
            return
        self._put_gap(row[0], row[1], row[2] - 1)
        self._lost = self._put("lost", self._lost - 1)

    def _set_aside(self, seq: int, why: str) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO poison SELECT seq, ?, payload FROM event WHERE seq = ?",
                (why, seq),
            )
            if self._delete(seq):
                self._aside = self._put("aside", self._aside + 1)
            self._db.execute(
                "DELETE FROM poison WHERE seq NOT IN "
                "(SELECT seq FROM poison ORDER BY seq DESC LIMIT ?)",
                (_POISON_ROWS,),
            )

    def _gap_reported(self, gap: Gap) -> None:
        with self._transaction():
            row = self._db.execute("SELECT first, last, lost FROM gap").fetchone()
            if row is not None and gap.stream == self._stream:
                self._put_gap(gap.last + 1, row[1], row[2] - gap.lost)

    def _put_gap(self, first: int, last: int, lost: int) -> None:
        self._db.execute("DELETE FROM gap")
        if lost > 0:
            self._db.execute("INSERT INTO gap VALUES (?, ?, ?)", (first, last, lost))

    def _delete(self, seq: int) -> bool:
        row = self._db.execute("SELECT size FROM event WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            return False
        self._db.execute("DELETE FROM event WHERE seq = ?", (seq,))
        self._rows -= 1
        self._bytes -= row[0]
        return True

    def _put(self, key: str, value: V) -> V:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        return value

    def _get(self, key: str, default: int) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else int(row[0])

    # -- the file ------------------------------------------------------------------------------

    def _run(self, work: Callable[[], T]) -> T:
        """Do `work` under the lock; when the file is damaged, begin a new stream and try again."""
        with self._lock:
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise EarmarkError(f"{self.path}: {_explain(error)}") from error
            self._db.close()
            self._move_aside()
            self._db = self._open()
            return work()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._recount()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
            self._move_aside()
            return self._connect()
        except sqlite3.DatabaseError as error:
            raise EarmarkError(f"{self.path}: {_explain(error)}") from error

    def _connect(self) -> sqlite3.Connection:
        self._db = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            # One owner: a second agent on the same outbox would send everything twice.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise EarmarkError(f"{self.path}: made by a newer earmark; update this one")
            check = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                raise _Damaged(check)
            self._db.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
            row = self._db.execute("SELECT value FROM meta WHERE key = 'stream'").fetchone()
            self._stream = str(row[0]) if row else uuid.uuid4().hex
            if row is None:
                self._put("stream", self._stream)
            self._recount()
        except BaseException:
            self._db.close()
            raise
        return self._db

    def _recount(self) -> None:
        self._rows, self._bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM event"
        ).fetchone()
        self._next_seq = self._get("next_seq", 1)
        self._lost = self._get("lost", 0)
        self._aside = self._get("aside", 0)

    def _move_aside(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                # One copy is kept for whoever wants to look; more would fill the disk.
                part.replace(aside.with_name(aside.name + suffix))
        self.moved_aside = aside


class _Damaged(sqlite3.DatabaseError):
    """What SQLite's own check found."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _Damaged) or (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED


def _explain(error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            "the outbox is in use; is another earmark-edge running? Stop it, or give another path"
        )
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full, the events cannot be stored; free some space"
    return f"the outbox cannot be used ({error}); check the path and its permissions"
