"""One batch of records becomes rows, and moves the watermarks of its streams on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from deploy.ingest.database import Database
from deploy.ingest.records import Elsewhere, Record, Refused, Seen, Warned
from deploy.ingest.rows import add_alarms, add_rejected, add_sightings, key_of
from deploy.ingest.settling import all_lost, note_gap, settle
from deploy.ingest.streams import Key, StreamIds, lock, update


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


def apply(
    database: Database, known: StreamIds, records: Sequence[Record], now: datetime
) -> tuple[dict[Key, int], Written]:
    """Write a batch within a transaction; return the ids of its streams, and what it came to."""
    seen = [record for record in records if isinstance(record, Seen)]
    warned = [record for record in records if isinstance(record, Warned)]
    elsewhere = [record for record in records if isinstance(record, Elsewhere)]
    refused = [record for record in records if isinstance(record, Refused)]
    keys = {key_of(record) for record in seen}
    keys |= {(told.device, told.stream) for told in elsewhere}
    keys |= {
        (record.alarm.device, record.alarm.gap.stream) for record in warned if record.alarm.gap
    }
    missing = [record.event for record in refused if record.event is not None]
    keys |= {(device, stream) for device, stream, _ in missing}
    ids = known.find(database, keys, now)
    streams = lock(database, ids.values())
    added, conflicts = add_sightings(database, seen, ids, streams, now)
    add_alarms(database, warned, now)
    for record in warned:
        gap = record.alarm.gap
        if gap is not None:
            number = ids[record.alarm.device, gap.stream]
            note_gap(database, number, (gap.first, gap.last, gap.lost), record.alarm.kind, now)
    for told in elsewhere:
        stream = streams[ids[told.device, told.stream]]
        if told.seq > stream.watermark:
            row = all_lost(stream.watermark + 1, told.seq)
            note_gap(database, stream.id, row, "acknowledged before", now)
    settle(database, streams.values(), with_gaps=bool(elsewhere or warned))
    for device, name, seq in missing:
        # Seen as a hole, though nothing may ever follow it.
        stream = streams[ids[device, name]]
        stream.highest = max(stream.highest, seq)
    update(database, streams.values(), now)
    refused += conflicts
    add_rejected(database, refused, now)
    return ids, Written(
        stored=added,
        duplicates=len(seen) - added - len(conflicts),
        alarms=len(warned),
        refused=refused,
        conflicts=len(conflicts),
        devices=frozenset(device for device, _ in keys),
    )
