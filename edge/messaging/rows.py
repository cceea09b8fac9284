"""The events that wait, and those set aside, as rows of the outbox's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

TABLES = """
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, size INTEGER NOT NULL, last_seen TEXT, payload BLOB NOT NULL);
CREATE TABLE poison (seq INTEGER PRIMARY KEY, why TEXT NOT NULL, payload BLOB NOT NULL);
"""
WITH_AGE = "ALTER TABLE event ADD COLUMN stored REAL NOT NULL DEFAULT 0;\n"
# What a row costs beside its payload, roughly: key, length, page overhead.
_OVERHEAD_BYTES = 64
_POISON = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One waiting event: its number in the stream and its JSON."""

    seq: int
    payload: bytes


class NewRow(NamedTuple):
    """An event to be stored. stored_s: the outbox's age then."""

    seq: int
    last_seen: str | None
    payload: bytes
    stored_s: float

    @property
    def size(self) -> int:
        """What it counts for."""
        return len(self.payload) + _OVERHEAD_BYTES


class Removed(NamedTuple):
    """What went: the numbers of the first and the last event, how many, and their size."""

    first: int = 0
    last: int = 0
    events: int = 0
    size: int = 0


def add(db: sqlite3.Connection, rows: Sequence[NewRow]) -> None:
    """Store new events."""
    db.executemany(
        "INSERT INTO event (seq, size, last_seen, payload, stored) VALUES (?, ?, ?, ?, ?)",
        [(row.seq, row.size, row.last_seen, row.payload, row.stored_s) for row in rows],
    )


def pending(db: sqlite3.Connection, after: int, until: int, limit: int) -> list[Row]:
    """Return at most `limit` events numbered `after` + 1 to `until`, oldest first."""
    query = "SELECT seq, payload FROM event WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    return [
        # Damage may have made a number of it, which is nobody's JSON.
        Row(seq, payload if isinstance(payload, bytes) else b"")
        for seq, payload in db.execute(query, (after, until, limit))
    ]


def count_above(db: sqlite3.Connection, seq: int) -> int:
    """Return how many events wait with a number above `seq`."""
    (count,) = db.execute("SELECT count(*) FROM event WHERE seq > ?", (seq,)).fetchone()
    return int(count)


def drop_while(db: sqlite3.Connection, goes: Callable[[Removed, float], bool]) -> Removed:
    """Drop the oldest, one after the other, as long as they must go.

    goes: whether the next one must, after what went so far, and with its `stored_s`.
    """
    gone = Removed()
    oldest = db.execute("SELECT seq, size, stored FROM event ORDER BY seq")
    for seq, size, stored_s in oldest:
        if not goes(gone, stored_s):
            break
        gone = Removed(gone.first or seq, seq, gone.events + 1, gone.size + size)
    oldest.close()
    if gone.events:
        db.execute("DELETE FROM event WHERE seq <= ?", (gone.last,))
    return gone


def remove(db: sqlite3.Connection, first: int, last: int) -> tuple[Removed, set[int]]:
    """Remove the events numbered first..last; return what went, and which were not there."""
    here = (first, last)
    count, size = db.execute(
        "SELECT count(*), total(size) FROM event WHERE seq BETWEEN ? AND ?", here
    ).fetchone()
    missing: set[int] = set()
    if count <= last - first:
        found = db.execute("SELECT seq FROM event WHERE seq BETWEEN ? AND ?", here)
        missing = set(range(first, last + 1)).difference(row[0] for row in found)
    db.execute("DELETE FROM event WHERE seq BETWEEN ? AND ?", here)
    return Removed(first, last, count, int(size)), missing


def remove_oldest(db: sqlite3.Connection, until: int, limit: int) -> Removed:
    """Remove at most `limit` events up to the number `until`."""
    found = db.execute(
        "SELECT seq, size FROM event WHERE seq <= ? ORDER BY seq LIMIT ?", (until, limit)
    ).fetchall()
    if not found:
        return Removed()
    first, last = found[0][0], found[-1][0]
    db.execute("DELETE FROM event WHERE seq <= ?", (last,))
    return Removed(first, last, len(found), sum(size for _, size in found))


def set_aside(db: sqlite3.Connection, seq: int, why: str) -> Removed:
    """Move an event to those that are kept for a person to see, the last hundred."""
    row = db.execute("SELECT size FROM event WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return Removed()
    db.execute(
        "INSERT OR REPLACE INTO poison SELECT seq, ?, payload FROM event WHERE seq = ?", (why, seq)
    )
    db.execute("DELETE FROM event WHERE seq = ?", (seq,))
    db.execute(
        "DELETE FROM poison WHERE seq NOT IN (SELECT seq FROM poison ORDER BY seq DESC LIMIT ?)",
        (_POISON,),
    )
    return Removed(seq, seq, 1, row[0])
