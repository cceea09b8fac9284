"""Which numbers of a stream will not be sent any more: exact, disjoint ranges in the outbox's file.

A range may span events that were delivered, and be of these alone; nothing in it waits any more.
"""

from __future__ import annotations

import heapq
import sqlite3

TABLE = "CREATE TABLE gap (first INTEGER NOT NULL, last INTEGER NOT NULL, lost INTEGER NOT NULL);\n"
_MOST = 100


def oldest(db: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """Return first, last and how many were lost, of the oldest hundred."""
    query = "SELECT first, last, lost FROM gap ORDER BY first LIMIT ?"
    return db.execute(query, (_MOST,)).fetchall()


def add(db: sqlite3.Connection, first: int, last: int, lost: int) -> None:
    """Record a range in which nothing waits, as part of the one that ends right before it."""
    changed = db.execute(
        "UPDATE gap SET last = ?, lost = lost + ? WHERE last = ?", (last, lost, first - 1)
    )
    if not changed.rowcount:
        db.execute("INSERT INTO gap VALUES (?, ?, ?)", (first, last, lost))


def add_below(db: sqlite3.Connection, first: int, last: int, lost: int) -> None:
    """Record a range below whose end nothing waits: one record tells of all that is missing there.

    It grows at its end only, so that who has reported its beginning knows what is new.
    """
    start, end, known = db.execute(
        "SELECT min(first), max(last), total(lost) FROM gap WHERE first <= ?", (last,)
    ).fetchone()
    if start is not None:
        db.execute("DELETE FROM gap WHERE first <= ?", (last,))
        first, last, lost = min(first, start), max(last, end), lost + int(known)
    db.execute("INSERT INTO gap VALUES (?, ?, ?)", (first, last, lost))


def add_absent(db: sqlite3.Connection, after: int, until: int) -> None:
    """Record, as ranges without a loss, what of `after`..`until` neither waits nor lies in one."""
    if not _absent(db, after, until):
        return
    waiting = db.execute("SELECT seq, seq FROM event WHERE seq > ? ORDER BY seq", (after,))
    known = db.execute("SELECT first, last FROM gap WHERE last > ? ORDER BY first", (after,))
    found, end = [], after
    for first, last in heapq.merge(waiting, known, [(until + 1, until + 1)]):
        if first > end + 1:
            found.append((end + 1, first - 1))
        end = max(end, last)
    db.executemany("INSERT INTO gap VALUES (?, ?, 0)", found)


def _absent(db: sqlite3.Connection, after: int, until: int) -> int:
    """Count them, without reading all that waits."""
    (waiting,) = db.execute("SELECT count(*) FROM event WHERE seq > ?", (after,)).fetchone()
    (known,) = db.execute(
        "SELECT total(last - max(first - 1, ?1)) FROM gap WHERE last > ?1", (after,)
    ).fetchone()
    return until - after - int(waiting) - int(known)


def arrived(db: sqlite3.Connection, seq: int) -> bool:
    """Count back an event that was dropped on its way; whether a record spoke of it."""
    row = db.execute(
        "SELECT rowid, lost FROM gap WHERE ? BETWEEN first AND last AND lost > 0", (seq,)
    ).fetchone()
    if row is None:
        return False
    if row[1] > 1:
        db.execute("UPDATE gap SET lost = lost - 1 WHERE rowid = ?", row[:1])
    else:
        db.execute("DELETE FROM gap WHERE rowid = ?", row[:1])
    return True


def reported(db: sqlite3.Connection, first: int, last: int, lost: int) -> None:
    """Forget the oldest record as it was reported; what was dropped since lies beyond its end."""
    db.execute("DELETE FROM gap WHERE first >= ? AND last <= ?", (first, last))
    db.execute(
        "UPDATE gap SET first = ?, lost = lost - ? WHERE first <= ? AND last > ?",
        (last + 1, lost, last, last),
    )
    db.execute("DELETE FROM gap WHERE lost <= 0")


def cut_off(db: sqlite3.Connection, last: int) -> int:
    """Forget that numbers above `last` were given out and lost; how many those were."""
    forgotten = 0
    beyond = db.execute("SELECT first, last, lost FROM gap WHERE last > ?", (last,)).fetchall()
    for first, end, lost in beyond:
        never = min(lost, end - max(first - 1, last))
        forgotten += never
        db.execute("UPDATE gap SET last = ?, lost = ? WHERE first = ?", (last, lost - never, first))
    db.execute("DELETE FROM gap WHERE last < first")
    return forgotten
