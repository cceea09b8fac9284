"""Records as rows: sightings once each, alarms once each, of what was refused the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from deploy.ingest.database import Database, marks
from deploy.ingest.records import Refused, Seen, Warned, refuse
from deploy.ingest.streams import Key, Stream
from edge.messaging.events import encode
from edge.messaging.topics import Topics

REJECTED_ROWS = 1000

_COLUMNS = (
    *("stream_id", "seq", "id", "type", "camera", "track", "animal", "reason", "confidence"),
    *("distance", "margin", "votes", "x1", "y1", "x2", "y2", "first_seen", "last_seen", "clock"),
    *("boot", "monotonic", "release", "means_seq", "replayed", "received_at", "seen_at"),
)
_INSERT = (
    f"INSERT INTO sighting ({', '.join(_COLUMNS)}) VALUES ({marks(_COLUMNS)}) "
    "ON CONFLICT DO NOTHING"
)


def add_sightings(
    database: Database,
    seen: Sequence[Seen],
    ids: Mapping[Key, int],
    streams: Mapping[int, Stream],
    now: datetime,
) -> tuple[int, list[Refused]]:
    """Store what is new; return how many, and the events whose number another one has.

    streams: locked, by id; they learn what was added to them.
    """
    known: dict[tuple[int, int], str] = {}
    numbered = [((ids[key_of(record)], record.event.seq), record) for record in seen]
    for stream in streams.values():
        again = {
            seq for (number, seq), _ in numbered if number == stream.id and seq <= stream.highest
        }
        for seq, name in _stored_of(database, stream.id, sorted(again)):
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


def add_alarms(database: Database, warned: Sequence[Warned], now: datetime) -> None:
    """Store alarms that are not stored yet."""
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


def add_rejected(database: Database, refused: Sequence[Refused], now: datetime) -> None:
    """Count what was refused, and keep the newest thousand."""
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
    database.execute("UPDATE tally SET value = value + ? WHERE name = 'rejected'", (len(refused),))


def key_of(record: Seen) -> Key:
    """Return the stream of a sighting."""
    return record.event.device, record.event.stream


def _stored_of(database: Database, number: int, seqs: Sequence[int]) -> list[tuple[int, str]]:
    """Return seq and id of those that are stored."""
    if not seqs:
        return []
    rows = database.execute(
        f"SELECT seq, id FROM sighting WHERE stream_id = ? AND seq IN ({marks(seqs)})",
        (number, *seqs),
    )
    return [(seq, name) for seq, name in rows]


def _conflict(record: Seen) -> Refused:
    event = record.event
    return refuse(
        Topics(event.device).sighting,
        encode(event),
        f"another event of this number is stored in stream {event.stream[:8]}; was the device's "
        "disk copied, or restored from an image?",
    )


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
