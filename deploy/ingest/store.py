"""Batches of records become rows, each batch in one transaction, and the watermarks move on.

Whoever writes a stream's rows holds the lock of its row in `stream`: several ingests may write to
one database, and the watermark sees what all of them have committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from deploy.ingest.database import Database, DatabaseUnavailableError, RowRefusedError
from deploy.ingest.records import Elsewhere, Record, Refused, Seen, Warned, refuse, speaker
from deploy.ingest.schema import migrate
from deploy.ingest.watermark import Span, advance
from edge.messaging.events import SCHEMA, Ingested, encode
from edge.messaging.topics import ROOT, Topics

REJECTED_ROWS = 1000
# Rows of a query that is read until the first hole: small when there is one at once.
_FIRST_PAGE, _LARGEST_PAGE = 8, 4096
_KEYS = 10_000

_COLUMNS = (
    *("stream_id", "seq", "id", "type", "camera", "track", "animal", "reason", "confidence"),
    *("distance", "margin", "votes", "x1", "y1", "x2", "y2", "first_seen", "last_seen", "clock"),
    *("boot", "monotonic", "release", "means_seq", "replayed", "received_at", "seen_at"),
)
_INSERT = (
    f"INSERT INTO sighting ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT DO NOTHING"
)

Key = tuple[str, str]
# First, last, and how many of them are lost.
Gap = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch came to.

    conflicts: how many of `refused` have the number of another event. devices: of whom something
    was stored, came again, or was refused.
    """

    stored: int
    duplicates: int
    alarms: int
    refused: Sequence[Refused]
    conflicts: int
    devices: frozenset[str]

    @property
    def rejected(self) -> int:
        """How many were refused."""
        return len(self.refused)


@dataclass(frozen=True, slots=True)
class Hole:
    """Events of a stream that are neither stored nor known to be lost."""

    device: str
    stream: str
    first: int
    last: int


@dataclass(slots=True)
class _Stream:
    """A row of `stream`, and what the batch does to it."""

    id: int
    watermark: int
    highest: int
    added: list[int] = field(default_factory=list)


class _RollBackError(Exception):
    """What was tried worked; it shall not stay."""


class Store:
    """Writes to the database that `connect` opens; opened anew after each failure.

    Errors: DatabaseUnavailableError, and then nothing of the batch was stored.
    """

    def __init__(
        self,
        connect: Callable[[], Database],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._database: Database | None = None
        self._ids: dict[Key, int] = {}

    def open(self) -> Database:
        """Return the database with its tables up to date."""
        if self._database is None:
            database = self._connect()
            try:
                migrate(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._ids.clear()

    def write(self, records: Sequence[Record]) -> Written:
        """Store a batch, all of it or nothing.

        What the database will not take is stored among the rejected instead.
        """
        try:
            try:
                return self._write(records)
            except RowRefusedError:
                return self._write(self._without_refused(records))
        except DatabaseUnavailableError:
            self.close()
            raise

    def watermarks(self, devices: Iterable[str] | None = None) -> list[Ingested]:
        """Return how far the current stream of each device is settled; None for all devices."""
        where, values = "", []
        if devices is not None:
            values = sorted(set(devices))
            where = f"WHERE device IN ({_marks(values)})"
        rows = self._read(
            f"SELECT device, stream, watermark FROM stream {where} ORDER BY heard_at, id", values
        )
        newest = {device: (stream, watermark) for device, stream, watermark in rows}
        return [
            Ingested(schema=SCHEMA, device=device, stream=stream, seq=watermark)
            for device, (stream, watermark) in newest.items()
        ]

    def holes(self, device: str | None = None) -> list[Hole]:
        """Return what is missing below each stream's highest event."""
        rows = self._read(
            "SELECT id, device, stream, watermark, highest FROM stream "
            "WHERE watermark < highest ORDER BY device, heard_at",
        )
        found = []
        for number, name, stream, watermark, highest in rows:
            if device not in (None, name):
                continue
            gaps = self._gaps_above(self.open(), number, watermark)
            while watermark < highest:
                following = advance(watermark, self._stored_after(number, watermark), gaps)
                if following >= highest:
                    break
                next_seq = next(iter(self._stored_after(number, following)), highest + 1)
                starts = [first for first, _ in gaps if first > following]
                last = min([next_seq, *starts]) - 1
                found.append(Hole(name, stream, following + 1, last))
                watermark = last
        return found

    def give_up(self, device: str | None) -> list[Hole]:
        """Count what is missing of a device, None for all, as lost, and return it."""
        database = self.open()
        now = self._clock()
        with database.transaction():
            rows = database.execute(
                "SELECT id FROM stream WHERE device = ? OR ?", (device or "", device is None)
            )
            streams = self._lock(database, [number for (number,) in rows])
            holes = self.holes(device)
            ids = self._known(database, {(hole.device, hole.stream) for hole in holes}, now)
            for hole in holes:
                number = ids[hole.device, hole.stream]
                gap = _all_lost(hole.first, hole.last)
                self._note_gap(database, number, gap, "given up", now)
            self._advance(database, streams.values(), with_gaps=True)
            self._update(database, streams.values(), now)
        return holes

    def behind(self) -> dict[Key, int]:
        """Return the watermark of each stream that has events beyond it."""
        rows = self._read("SELECT device, stream, watermark FROM stream WHERE watermark < highest")
        return {(device, stream): watermark for device, stream, watermark in rows}

    # -- one batch -------------------------------------------------------------------------------

    def _write(self, records: Sequence[Record]) -> Written:
        database = self.open()
        with database.transaction():
            ids, written = self._apply(database, records)
        # Only now: ids from a transaction that was rolled back are nobody's.
        self._ids.update(ids)
        return written

    def _apply(
        self, database: Database, records: Sequence[Record]
    ) -> tuple[dict[Key, int], Written]:
        now = self._clock()
        seen = [record for record in records if isinstance(record, Seen)]
        warned = [record for record in records if isinstance(record, Warned)]
        elsewhere = [record for record in records if isinstance(record, Elsewhere)]
        refused = [record for record in records if isinstance(record, Refused)]
        keys = {_key(record) for record in seen}
        keys |= {(told.device, told.stream) for told in elsewhere}
        keys |= {
            (record.alarm.device, record.alarm.gap.stream) for record in warned if record.alarm.gap
        }
        missing = [record.event for record in refused if record.event is not None]
        keys |= {(device, stream) for device, stream, _ in missing}
        ids = self._known(database, keys, now)
        streams = self._lock(database, ids.values())
        added, conflicts = self._add_sightings(database, seen, ids, streams, now)
        self._add_alarms(database, warned, now)
        for record in warned:
            gap = record.alarm.gap
            if gap is not None:
                number = ids[record.alarm.device, gap.stream]
                row = (gap.first, gap.last, gap.lost)
                self._note_gap(database, number, row, record.alarm.kind, now)
        for told in elsewhere:
            stream = streams[ids[told.device, told.stream]]
            if told.seq > stream.watermark:
                row = _all_lost(stream.watermark + 1, told.seq)
                self._note_gap(database, stream.id, row, "acknowledged before", now)
        self._advance(database, streams.values(), with_gaps=bool(elsewhere or warned))
        for device, name, seq in missing:
            # Seen as a hole, though nothing may ever follow it.
            stream = streams[ids[device, name]]
            stream.highest = max(stream.highest, seq)
        self._update(database, streams.values(), now)
        refused += conflicts
        self._add_rejected(database, refused, now)
        return ids, Written(
            stored=added,
            duplicates=len(seen) - added - len(conflicts),
            alarms=len(warned),
            refused=refused,
            conflicts=len(conflicts),
            devices=frozenset(device for device, _ in keys),
        )

    def _known(self, database: Database, keys: Iterable[Key], now: datetime) -> dict[Key, int]:
        """Return the ids of streams; new ones get a row."""
        if len(self._ids) > _KEYS:
            self._ids.clear()
        # In one order for everybody, or two ingests could wait for each other.
        wanted = sorted(keys)
        new = [key for key in wanted if key not in self._ids]
        database.execute_many(
            "INSERT INTO stream (device, stream, watermark, highest, heard_at) "
            "VALUES (?, ?, 0, 0, ?) ON CONFLICT DO NOTHING",
            [(*key, now) for key in new],
        )
        found = {}
        for device, stream in new:
            rows = database.execute(
                "SELECT id FROM stream WHERE device = ? AND stream = ?", (device, stream)
            )
            found[device, stream] = int(rows[0][0])
        return {key: found.get(key) or self._ids[key] for key in wanted}

    @staticmethod
    def _lock(database: Database, ids: Iterable[int]) -> dict[int, _Stream]:
        wanted = sorted(ids)
        if not wanted:
            return {}
        rows = database.execute(
            f"SELECT id, watermark, highest FROM stream WHERE id IN ({_marks(wanted)}) "
            f"ORDER BY id {database.row_lock}",
            wanted,
        )
        return {row[0]: _Stream(*row) for row in rows}

    def _add_sightings(
        self,
        database: Database,
        seen: Sequence[Seen],
        ids: dict[Key, int],
        streams: dict[int, _Stream],
        now: datetime,
    ) -> tuple[int, list[Refused]]:
        """Store what is new; return how many, and the events whose number another one has."""
        known: dict[tuple[int, int], str] = {}
        numbered = [((ids[_key(record)], record.event.seq), record) for record in seen]
        for stream in streams.values():
            again = {
                seq
                for (number, seq), _ in numbered
                if number == stream.id and seq <= stream.highest
            }
            for seq, name in self._stored_of(database, stream.id, sorted(again)):
                known[stream.id, seq] = name
        rows: list[tuple[Any, ...]] = []
        conflicts: list[Refused] = []
        for key, record in numbered:
            number, seq = key
            stored = known.get(key)
            if stored is None:
                known[key] = record.event.id
                rows.append(_row(number, record, now))
                streams[number].added.append(seq)
            elif stored != record.event.id:
                conflicts.append(_conflict(record))
        database.execute_many(_INSERT, rows)
        return len(rows), conflicts

    @staticmethod
    def _stored_of(database: Database, number: int, seqs: Sequence[int]) -> list[tuple[int, str]]:
        """Return seq and id of those that are stored."""
        if not seqs:
            return []
        rows = database.execute(
            f"SELECT seq, id FROM sighting WHERE stream_id = ? AND seq IN ({_marks(seqs)})",
            (number, *seqs),
        )
        return [(seq, name) for seq, name in rows]

    @staticmethod
    def _add_alarms(database: Database, warned: Sequence[Warned], now: datetime) -> None:
        database.execute_many(
            "INSERT INTO alarm (device, digest, kind, text, boot, raised_at, received_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [
                (
                    *(record.alarm.device, record.digest, record.alarm.kind),
                    # PostgreSQL's text cannot hold the zero character.
                    record.alarm.text.replace("\0", "\N{REPLACEMENT CHARACTER}"),
                    *(record.alarm.boot, record.at, now),
                )
                for record in warned
            ],
        )

    @staticmethod
    def _note_gap(database: Database, number: int, gap: Gap, why: str, now: datetime) -> None:
        database.execute(
            "INSERT INTO gap (stream_id, first_seq, last_seq, lost, why, noted_at) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (number, *gap, why, now),
        )

    def _advance(self, database: Database, streams: Iterable[_Stream], *, with_gaps: bool) -> None:
        for stream in streams:
            stream.added.sort()
            begin = stream.watermark + 1
            if stream.added == list(range(begin, begin + len(stream.added))) and (
                stream.highest == stream.watermark and not with_gaps
            ):
                # Next in line and nothing beyond: the rule, and it needs no query.
                stream.watermark += len(stream.added)
                continue
            gaps = self._gaps_above(database, stream.id, stream.watermark)
            stored = self._stored_after(stream.id, stream.watermark)
            stream.watermark = advance(stream.watermark, stored, gaps)

    @staticmethod
    def _gaps_above(database: Database, number: int, watermark: int) -> list[Span]:
        rows = database.execute(
            "SELECT first_seq, last_seq FROM gap WHERE stream_id = ? AND last_seq > ?",
            (number, watermark),
        )
        return [(first, last) for first, last in rows]

    def _stored_after(self, number: int, seq: int) -> Iterator[int]:
        """Yield the stored seqs above `seq`, rising, page by page."""
        page = _FIRST_PAGE
        while True:
            rows = self.open().execute(
                "SELECT seq FROM sighting WHERE stream_id = ? AND seq > ? ORDER BY seq LIMIT ?",
                (number, seq, page),
            )
            for (seq,) in rows:
                yield seq
            if len(rows) < page:
                return
            page = min(page * 8, _LARGEST_PAGE)

    @staticmethod
    def _update(database: Database, streams: Iterable[_Stream], now: datetime) -> None:
        database.execute_many(
            "UPDATE stream SET watermark = ?, highest = ?, heard_at = ? WHERE id = ?",
            [
                (stream.watermark, max(stream.highest, stream.added[-1]), now, stream.id)
                for stream in streams
                if stream.added
            ],
        )
        database.execute_many(
            "UPDATE stream SET watermark = ?, highest = ? WHERE id = ?",
            [
                (stream.watermark, stream.highest, stream.id)
                for stream in streams
                if not stream.added
            ],
        )

    @staticmethod
    def _add_rejected(database: Database, refused: Sequence[Refused], now: datetime) -> None:
        if not refused:
            return
        database.execute_many(
            "INSERT INTO rejected (received_at, topic, why, payload) VALUES (?, ?, ?, ?)",
            [(now, each.topic, each.why, each.payload) for each in refused[-REJECTED_ROWS:]],
        )
        database.execute(
            "DELETE FROM rejected WHERE id <= (SELECT id FROM rejected ORDER BY id DESC "
            "LIMIT 1 OFFSET ?)",
            (REJECTED_ROWS,),
        )
        database.execute(
            "UPDATE tally SET value = value + ? WHERE name = 'rejected'", (len(refused),)
        )

    def _without_refused(self, records: Sequence[Record]) -> list[Record]:
        """Try each record by itself, and roll it back; those that are refused become Refused."""
        database = self.open()
        kept: list[Record] = []
        for record in records:
            try:
                with database.transaction():
                    self._apply(database, [record])
                    raise _RollBackError
            except _RollBackError:
                kept.append(record)
            except RowRefusedError as error:
                kept.append(refuse(f"{ROOT}/{speaker(record)}", b"", str(error), _numbered(record)))
        return kept

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.open().execute(sql, values)
        except DatabaseUnavailableError:
            self.close()
            raise


def _key(record: Seen) -> Key:
    return record.event.device, record.event.stream


def _conflict(record: Seen) -> Refused:
    event = record.event
    return refuse(
        Topics(event.device).sighting,
        encode(event),
        f"another event of this number is stored in stream {event.stream[:8]}; was the device's "
        "disk copied, or restored from an image?",
    )


def _numbered(record: Record) -> tuple[str, str, int] | None:
    return (*_key(record), record.event.seq) if isinstance(record, Seen) else None


def _row(number: int, record: Seen, now: datetime) -> tuple[Any, ...]:
    event = record.event
    return (
        *(number, event.seq, event.id, event.type, event.camera, event.track, event.animal),
        *(event.reason, event.confidence, event.distance, event.margin),
        msgspec.json.encode(event.votes, order="sorted").decode(),
        *event.box,
        *(record.first_seen, record.last_seen, event.clock, event.boot, event.monotonic),
        *(event.release, event.means_seq, int(event.replayed), now),
        # Nothing is received before it has been seen, whatever a device's clock says.
        min(record.last_seen or now, now),
    )


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _all_lost(first: int, last: int) -> Gap:
    return first, last, last - first + 1
