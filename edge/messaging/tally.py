"""What an outbox knows of its file without asking it, and what the file says of itself."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass

from edge.messaging.database import Damaged, Foreign

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;\n"
# What of the tally is in the file; the rest can be counted there.
_KEPT = ("next_seq", "lost", "aside", "sent", "age_s")
# Beyond that JSON's readers round, and SQLite ends soon after.
_NUMBERS = 1 << 53


@dataclass(slots=True)
class Tally:
    """Numbers that change, and are taken back, together with the rows of a transaction.

    rows, bytes, first, oldest: of what waits. gaps: records of what is missing. lost: dropped.
    aside: poison. sent: up to where the broker has taken everything. age_s: for how long an agent
    ran on this outbox.
    """

    next_seq: int = 1
    rows: int = 0
    bytes: int = 0
    first: int | None = None
    oldest: str | None = None
    gaps: int = 0
    lost: int = 0
    aside: int = 0
    sent: int = 0
    age_s: float = 0.0

    @classmethod
    def read(cls, db: sqlite3.Connection) -> Tally:
        """Return what is kept in the file, nothing counted yet; Damaged when it cannot be."""
        meta = dict(db.execute("SELECT key, value FROM meta"))
        try:
            tally = cls(
                next_seq=int(meta.get("next_seq", 1)),
                lost=int(meta.get("lost", 0)),
                aside=int(meta.get("aside", 0)),
                sent=int(meta.get("sent", 0)),
                age_s=float(meta.get("age_s", 0.0)),
            )
        except (TypeError, ValueError) as error:
            raise Damaged(str(error)) from error
        if not (0 < tally.next_seq < _NUMBERS and 0 <= tally.age_s < _NUMBERS):
            raise Damaged("numbers")
        return tally

    def count(self, db: sqlite3.Connection) -> None:
        """Count what waits; no number that is in use is given out again."""
        rows, size, last = db.execute(
            "SELECT count(*), total(size), coalesce(max(seq), 0) FROM event"
        ).fetchone()
        self.rows, self.bytes = rows, int(size)
        self.next_seq = max(self.next_seq, last + 1)
        self.take_stock(db)

    def take_stock(self, db: sqlite3.Connection) -> None:
        """See what is the oldest now, and whether anything is missing."""
        row = db.execute("SELECT seq, last_seen FROM event ORDER BY seq LIMIT 1").fetchone()
        self.first, self.oldest = row or (None, None)
        (self.gaps,) = db.execute("SELECT count(*) FROM gap").fetchone()

    def write(self, db: sqlite3.Connection) -> None:
        """Write what is kept."""
        values = [(name, getattr(self, name)) for name in _KEPT]
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)


def check_owner(db: sqlite3.Connection, device: str) -> None:
    """Make the file this device's; Foreign when it is another's, and says how much waits."""
    owner = _said(db, "device")
    if owner is None:
        db.execute("INSERT INTO meta VALUES ('device', ?)", (device,))
    elif owner != device:
        (count,) = db.execute("SELECT count(*) FROM event").fetchone()
        raise Foreign(f"the outbox is of the device {owner!r}, with {count} events that wait")


def stream_of(db: sqlite3.Connection) -> str:
    """Return the stream's id, 32 hex digits; a new file gets one."""
    stream = _said(db, "stream")
    if stream is None:
        stream = uuid.uuid4().hex
        db.execute("INSERT INTO meta VALUES ('stream', ?)", (stream,))
    return stream


def _said(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if not isinstance(row[0], str):
        raise Damaged(key)
    return row[0]
