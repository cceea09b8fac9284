"""What is missing, and may still come or never: found, and given up when a person says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deploy.ingest.database import Database
from deploy.ingest.settling import all_lost, gaps_above, note_gap, settle, stored_after
from deploy.ingest.streams import StreamIds, lock, update
from deploy.ingest.watermark import advance


@dataclass(frozen=True, slots=True)
class Hole:
    """Events of a stream that are neither stored nor known to be lost."""

    device: str
    stream: str
    first: int
    last: int


def find(database: Database, device: str | None = None) -> list[Hole]:
    """Return what is missing below each stream's highest event; of one device, None for all."""
    rows = database.execute(
        "SELECT id, device, stream, watermark, highest FROM stream "
        "WHERE watermark < highest ORDER BY device, heard_at",
    )
    found = []
    for number, name, stream, watermark, highest in rows:
        if device not in (None, name):
            continue
        gaps = gaps_above(database, number, watermark)
        while watermark < highest:
            following = advance(watermark, stored_after(database, number, watermark), gaps)
            if following >= highest:
                break
            next_seq = next(iter(stored_after(database, number, following)), highest + 1)
            starts = [first for first, _ in gaps if first > following]
            last = min([next_seq, *starts]) - 1
            found.append(Hole(name, stream, following + 1, last))
            watermark = last
    return found


def give_up(database: Database, ids: StreamIds, device: str | None, now: datetime) -> list[Hole]:
    """Count what is missing as lost, and return it; within a transaction."""
    rows = database.execute(
        "SELECT id FROM stream WHERE device = ? OR ?", (device or "", device is None)
    )
    streams = lock(database, [number for (number,) in rows])
    holes = find(database, device)
    numbers = ids.find(database, {(hole.device, hole.stream) for hole in holes}, now)
    for hole in holes:
        number = numbers[hole.device, hole.stream]
        note_gap(database, number, all_lost(hole.first, hole.last), "given up", now)
    settle(database, streams.values(), with_gaps=True)
    update(database, streams.values(), now)
    return holes
