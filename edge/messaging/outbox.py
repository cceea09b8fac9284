"""Events wait on disk until they are taken: a bounded queue in SQLite that counts its losses."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from edge.messaging import gaps, rows
from edge.messaging.ballast import Ballast
from edge.messaging.database import Database
from edge.messaging.events import EVENT_LIMIT_BYTES, Gap, Sighting, encode
from edge.messaging.rows import NewRow, Removed, Row
from edge.messaging.tally import META, Tally, check_owner, stream_of
from edge.messaging.ulid import UlidMaker

SCHEMA = 3
_MIB = 1 << 20
# With less left in the file when the disk is low, the oldest make room for the new.
_SPARE_PAGES = 64
_PAGE_BYTES = 4096
# How much goes at once then, as a share of what waits, so that it need not be done at every commit.
_LOW_DISK_SHARE = 1 / 16
_BALLAST_EVERY_S = 60.0
_STEPS = {
    0: gaps.TABLE + META + rows.TABLES,
    1: rows.WITH_AGE,
    2: "CREATE TABLE present (animal TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;\n",
}

T = TypeVar("T")


class Outbox:
    """Events in the order of their seq. Thread-safe; one process at a time.

    Full means `limit_bytes` of payload, `limit_rows`, an event that waited for `limit_age_s`, or
    less than `keep_free_bytes` left on the disk: then the oldest are dropped in the very
    transaction that stores the new ones, and `gaps` counts them exactly. Age is the time an agent
    ran, not wall time, which a device without a clock chip does not know. A `ballast` file of
    `ballast_bytes` beside it is given up when the disk is full. A damaged file is moved aside
    (`moved_aside`) and a new stream begins; seq never falls within a stream. So is the outbox of
    another `device` (`foreign`): a device was renamed, or its disk copied. What waits in it speaks
    in that one's name, and two devices must not number one stream.

    Errors: EarmarkError when the file cannot be opened, is another process's, or the disk is full
    or fails. What failed did not happen, and works again when the cause is gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str | None = None,
        limit_bytes: int = 256 * _MIB,
        limit_rows: int = 2_000_000,
        limit_age_s: float | None = None,
        keep_free_bytes: int = 0,
        ballast_bytes: int = 0,
        new_id: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self.path = path
        self.refused = 0
        self._device = device
        self._limit_bytes = limit_bytes
        self._limit_rows = limit_rows
        self._limit_age_s = limit_age_s
        self._keep_free_bytes = keep_free_bytes
        self._new_id = new_id or UlidMaker()
        self._clock = clock
        self._free_bytes = free_bytes
        self._lock = threading.RLock()
        self._stream = ""
        self._tally = Tally()
        self._present: dict[str, bytes] = {}
        self._born_s = clock()
        self._ballast_due_s = clock()
        self._ballast = Ballast(path.with_name("ballast"), ballast_bytes)
        self._file = Database(path, SCHEMA, _STEPS, self._opened, self._ballast)
        self._run(lambda: None)
        self._tend_ballast()

    def append(self, events: Sequence[Sighting]) -> list[Sighting]:
        """Store events durably and return them with stream, seq and id filled in.

        An event of more than 16 kB is refused: counted in `refused`, and not among the returned.
        """
        numbered, refused = self._run(lambda: self._append(events))
        self.refused += refused
        self._tend_ballast()
        return numbered

    def lose(self, count: int) -> None:
        """Give numbers to `count` events that could not be stored, and count them as lost."""
        self._run(lambda: self._lose(count))

    def pending(self, limit: int, *, after: int = 0, until: int | None = None) -> list[Row]:
        """Return at most `limit` waiting events with a seq above `after`, oldest first.

        until: the highest seq wanted.
        """
        last = self.last_seq if until is None else until
        return self._run(lambda: rows.pending(self._file.connection, after, last, limit))

    def delivered(self, seqs: Iterable[int]) -> None:
        """Forget events that were taken. A power cut may bring them back, to be sent once more."""
        runs = _runs(seqs)
        if runs:
            self._run(lambda: self._delivered(runs))

    def acknowledged(self, seq: int, limit: int) -> bool:
        """Forget at most `limit` events up to `seq`, and gaps that end there; whether all are gone.

        A power cut may bring them back, to be sent once more.
        """
        return self._run(lambda: self._acknowledged(seq, limit))

    def set_aside(self, seq: int, why: str) -> None:
        """Take an event out that the broker will never accept; the last 100 are kept.

        It leaves a gap record too, for its number will not be seen.
        """
        self._run(lambda: self._set_aside(seq, why))

    def note_absent(self, after: int) -> None:
        """Let `gaps` tell of all numbers above `after` that are not here, whoever took them.

        For who waits for each of them, and must know that they are not coming from here.
        """
        self._run(lambda: self._note_absent(after))

    def note_sent(self, seq: int) -> None:
        """Remember up to where the broker has taken everything; on disk with the next event."""
        with self._lock:
            self._tally.sent = seq

    def note_present(self, seen: Mapping[str, bytes]) -> None:
        """Remember, by animal, who is about to be told as present, and with which words.

        After a power cut this is known whenever the events behind it are not waiting any more.
        """
        self._run(lambda: self._note_present(seen))

    def note_gone(self, animal: str) -> None:
        """Forget an animal of whom the broker knows that it is present no longer."""
        if animal in self._present:
            self._run(lambda: self._note_gone(animal))

    @property
    def present(self) -> dict[str, bytes]:
        """Of whom the broker may believe, by animal, that they are present; this run's or not."""
        return dict(self._present)

    @property
    def stream(self) -> str:
        """The stream's id, 32 hex digits; a new file is a new stream."""
        return self._stream

    @property
    def moved_aside(self) -> Path | None:
        """Where a damaged or foreign file lies that was found since this object was made."""
        return self._file.moved_aside

    @property
    def foreign(self) -> str | None:
        """Whose the file is that was moved aside, in words; None for a damaged one."""
        return self._file.foreign

    @property
    def last_seq(self) -> int:
        """The highest seq given out in this stream, 0 before the first."""
        return self._tally.next_seq - 1

    @property
    def sent(self) -> int:
        """What `note_sent` was told last; after a crash perhaps less."""
        return self._tally.sent

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._tally.rows

    def depth_above(self, seq: int) -> int:
        """Return how many events wait with a number above `seq`."""
        return self._run(lambda: rows.count_above(self._file.connection, seq))

    @property
    def first(self) -> int | None:
        """The lowest number that waits."""
        return self._tally.first

    @property
    def has_gap(self) -> bool:
        """Whether `gaps` has any."""
        return self._tally.gaps > 0

    @property
    def share(self) -> float:
        """How full it is, 0..1: of its rows or its bytes, whichever is nearer the limit."""
        tally = self._tally
        return max(tally.rows / self._limit_rows, tally.bytes / self._limit_bytes)

    @property
    def oldest(self) -> str | None:
        """`last_seen` of the oldest waiting event; None when none waits or its time is unknown."""
        return self._tally.oldest

    @property
    def lost(self) -> int:
        """How many events were dropped since the stream began: full, too old, no room on disk."""
        return self._tally.lost

    @property
    def aside(self) -> int:
        """How many events the broker would never have taken, since the stream began."""
        return self._tally.aside

    @property
    def gap(self) -> Gap | None:
        """The oldest gap, of `gaps`."""
        gaps = self.gaps
        return gaps[0] if gaps else None

    @property
    def gaps(self) -> list[Gap]:
        """What was dropped and not yet reported with `gap_reported`, oldest first, at most 100.

        Nothing numbered first..last waits here any more. None of it was dropped where `lost` is 0:
        see `note_absent`.
        """
        found = self._run(lambda: gaps.oldest(self._file.connection))
        return [Gap(stream=self._stream, first=row[0], last=row[1], lost=row[2]) for row in found]

    def gap_reported(self, gap: Gap) -> None:
        """Forget a gap that subscribers know of; what was dropped meanwhile stays."""
        self._run(lambda: self._gap_reported(gap))

    def close(self) -> None:
        """Close the file; waiting events stay in it."""
        with self._lock:
            self._file.close()

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

    def _append(self, events: Sequence[Sighting]) -> tuple[list[Sighting], int]:
        numbered: list[Sighting] = []
        new: list[NewRow] = []
        age_s = self._age_s()
        for event in events:
            seq = self._tally.next_seq + len(new)
            event = msgspec.structs.replace(event, seq=seq, stream=self._stream, id=self._new_id())
            payload = encode(event)
            if len(payload) > EVENT_LIMIT_BYTES:
                continue
            numbered.append(event)
            new.append(NewRow(seq, event.last_seen, payload, age_s))
        if new:
            size = sum(row.size for row in new)
            with self._transaction() as db:
                self._make_room(size)
                rows.add(db, new)
                self._tally.rows += len(new)
                self._tally.bytes += size
                self._tally.next_seq = new[-1].seq + 1
                self._tally.age_s = age_s
                self._evict(0)
        return numbered, len(events) - len(new)

    def _make_room(self, size: int) -> None:
        """On a disk that is nearly full, let the oldest go before the file has to grow."""
        if not self._keep_free_bytes or self._free() >= self._keep_free_bytes:
            return
        (spare,) = self._file.connection.execute("PRAGMA freelist_count").fetchone()
        if spare < _SPARE_PAGES + size // _PAGE_BYTES:
            self._evict(max(size, int(self._tally.bytes * _LOW_DISK_SHARE)))

    def _evict(self, size: int) -> None:
        """Drop the oldest: what is beyond the limits, and at least `size` bytes."""
        tally = self._tally
        db = self._file.connection
        too_old_s = None if self._limit_age_s is None else self._age_s() - self._limit_age_s
        gone = rows.drop_while(
            db,
            lambda gone, stored_s: (
                gone.size < size
                or tally.rows - gone.events > self._limit_rows
                or tally.bytes - gone.size > self._limit_bytes
                or (too_old_s is not None and stored_s < too_old_s)
            ),
        )
        if gone.events:
            self._forget(gone)
            tally.lost += gone.events
            gaps.add_below(db, gone.first, gone.last, gone.events)

    def _forget(self, gone: Removed) -> None:
        self._tally.rows -= gone.events
        self._tally.bytes -= gone.size

    def _lose(self, count: int) -> None:
        first = self._tally.next_seq
        with self._transaction() as db:
            gaps.add(db, first, first + count - 1, count)
            self._tally.next_seq += count
            self._tally.lost += count

    def _delivered(self, runs: Sequence[tuple[int, int]]) -> None:
        with self._transaction(durable=False) as db:
            for first, last in runs:
                gone, missing = rows.remove(db, first, last)
                self._forget(gone)
                # What was dropped while on its way has arrived after all.
                self._tally.lost -= sum(gaps.arrived(db, seq) for seq in missing)

    def _acknowledged(self, seq: int, limit: int) -> bool:
        with self._transaction(durable=False) as db:
            gone = rows.remove_oldest(db, seq, limit)
            self._forget(gone)
            done = gone.events < limit
            db.execute("DELETE FROM gap WHERE last <= ?", (seq if done else gone.last,))
        return done

    def _set_aside(self, seq: int, why: str) -> None:
        with self._transaction() as db:
            gone = rows.set_aside(db, seq, why)
            if gone.events:
                self._forget(gone)
                self._tally.aside += 1
                gaps.add(db, seq, seq, 1)

    def _note_absent(self, after: int) -> None:
        with self._transaction() as db:
            gaps.add_absent(db, after, self.last_seq)

    def _note_present(self, seen: Mapping[str, bytes]) -> None:
        # What leaves the file later is written behind it: no flush of its own is needed.
        with self._file.transaction(durable=False) as db:
            db.executemany("INSERT OR REPLACE INTO present VALUES (?, ?)", list(seen.items()))
        self._present |= seen

    def _note_gone(self, animal: str) -> None:
        with self._file.transaction(durable=False) as db:
            db.execute("DELETE FROM present WHERE animal = ?", (animal,))
        self._present.pop(animal, None)

    def _gap_reported(self, gap: Gap) -> None:
        if gap.stream == self._stream:
            with self._transaction() as db:
                gaps.reported(db, gap.first, gap.last, gap.lost)

    # -- the file ------------------------------------------------------------------------------

    def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            return self._file.run(work)

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Change rows and the tally together: both are as they were when it fails."""
        before = replace(self._tally)
        try:
            with self._file.transaction(durable=durable) as db:
                changes = db.total_changes
                yield db
                if db.total_changes != changes:
                    self._tally.take_stock(db)
                    self._tally.write(db)
        except BaseException:
            self._tally = before
            raise

    def _opened(self, db: sqlite3.Connection) -> None:
        """Take stock of a file that was just opened."""
        if self._device is not None:
            check_owner(db, self._device)
        stream = stream_of(db)
        known = Tally.read(db)
        if stream == self._stream:
            self._undo(db, known)
        known.count(db)
        self._stream, self._tally = stream, known
        self._present = {
            str(animal): payload if isinstance(payload, bytes) else b""
            for animal, payload in db.execute("SELECT animal, payload FROM present")
        }
        self._born_s = self._clock() - known.age_s

    def _undo(self, db: sqlite3.Connection, known: Tally) -> None:
        """Take back a commit that was reported as failed and is in the file all the same.

        Its events come again, under the same numbers; what it dropped to make room stays dropped.
        """
        last = self.last_seq
        db.execute("DELETE FROM event WHERE seq > ?", (last,))
        known.lost -= gaps.cut_off(db, last)
        known.next_seq, known.sent = last + 1, self._tally.sent
        known.write(db)

    def _age_s(self) -> float:
        return self._clock() - self._born_s

    def _free(self) -> int:
        try:
            return self._free_bytes(self.path.parent)
        except OSError:
            return self._keep_free_bytes

    def _tend_ballast(self) -> None:
        now_s = self._clock()
        if self._ballast.missing and now_s >= self._ballast_due_s:
            self._ballast_due_s = now_s + _BALLAST_EVERY_S
            self._ballast.restore(self._free() - self._keep_free_bytes)


def _runs(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs
