"""The table `stream`: every stream's id, up to where it is settled, and its highest event.

Whoever writes a stream's rows holds the lock of its row here: several ingests may write to one
database, and the watermark sees what all of them have committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from deploy.ingest.database import Database, marks

_REMEMBERED = 10_000

# Device and stream.
Key = tuple[str, str]


@dataclass(slots=True)
class Stream:
    """A row of `stream`, and the seqs of the events that a batch adds to it."""

    id: int
    watermark: int
    highest: int
    added: list[int] = field(default_factory=list)


class StreamIds:
    """The ids of streams, remembered from transactions that were committed."""

    def __init__(self) -> None:
        self._ids: dict[Key, int] = {}

    def find(self, database: Database, keys: Iterable[Key], now: datetime) -> dict[Key, int]:
        """Return the ids of streams; new ones get a row."""
        if len(self._ids) > _REMEMBERED:
            self._ids.clear()
        # In one order for everybody, or two ingests could wait for each other.
        wanted = sorted(set(keys))
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

    def remember(self, ids: Mapping[Key, int]) -> None:
        """Keep what a transaction found, once it is committed: before, they are nobody's."""
        self._ids.update(ids)

    def clear(self) -> None:
        """Forget them all."""
        self._ids.clear()


def lock(database: Database, ids: Iterable[int]) -> dict[int, Stream]:
    """Return streams by id, which nobody else may change until the transaction is over."""
    wanted = sorted(ids)
    if not wanted:
        return {}
    rows = database.execute(
        f"SELECT id, watermark, highest FROM stream WHERE id IN ({marks(wanted)}) "
        f"ORDER BY id {database.row_lock}",
        wanted,
    )
    return {row[0]: Stream(*row) for row in rows}


def update(database: Database, streams: Iterable[Stream], now: datetime) -> None:
    """Write what has become of streams; those with something new were heard of now."""
    heard, silent = [], []
    for stream in streams:
        if stream.added:
            highest = max(stream.highest, stream.added[-1])
            heard.append((stream.watermark, highest, now, stream.id))
        else:
            silent.append((stream.watermark, stream.highest, stream.id))
    database.execute_many(
        "UPDATE stream SET watermark = ?, highest = ?, heard_at = ? WHERE id = ?", heard
    )
    database.execute_many("UPDATE stream SET watermark = ?, highest = ? WHERE id = ?", silent)
