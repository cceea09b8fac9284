"""Batches of records become rows, each batch in one transaction, and the watermarks move on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from deploy.ingest import holes
from deploy.ingest.batch import Written, apply
from deploy.ingest.database import Database, DatabaseUnavailableError, RowRefusedError, marks
from deploy.ingest.holes import Hole
from deploy.ingest.records import Record, Seen, refuse, speaker
from deploy.ingest.rows import key_of
from deploy.ingest.schema import migrate
from deploy.ingest.streams import Key, StreamIds
from edge.messaging.events import SCHEMA, Ingested
from edge.messaging.topics import ROOT


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
        self._ids = StreamIds()

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
        with self._opened():
            try:
                return self._write(records)
            except RowRefusedError:
                return self._write(self._without_refused(records))

    def watermarks(self, devices: Iterable[str] | None = None) -> list[Ingested]:
        """Return how far the current stream of each device is settled; None for all devices."""
        where, values = "", []
        if devices is not None:
            values = sorted(set(devices))
            where = f"WHERE device IN ({marks(values)})"
        with self._opened() as database:
            rows = database.execute(
                f"SELECT device, stream, watermark FROM stream {where} ORDER BY heard_at, id",
                values,
            )
        newest = {device: (stream, watermark) for device, stream, watermark in rows}
        return [
            Ingested(schema=SCHEMA, device=device, stream=stream, seq=watermark)
            for device, (stream, watermark) in newest.items()
        ]

    def holes(self, device: str | None = None) -> list[Hole]:
        """Return what is missing below each stream's highest event."""
        with self._opened() as database:
            return holes.find(database, device)

    def give_up(self, device: str | None) -> list[Hole]:
        """Count what is missing of a device, None for all, as lost, and return it."""
        with self._opened() as database, database.transaction():
            return holes.give_up(database, self._ids, device, self._clock())

    def behind(self) -> dict[Key, int]:
        """Return the watermark of each stream that has events beyond it."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT device, stream, watermark FROM stream WHERE watermark < highest"
            )
        return {(device, stream): watermark for device, stream, watermark in rows}

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        """Lend the database; one that breaks off is closed, to be opened anew."""
        try:
            yield self.open()
        except DatabaseUnavailableError:
            self.close()
            raise

    def _write(self, records: Sequence[Record]) -> Written:
        database = self.open()
        with database.transaction():
            ids, written = apply(database, self._ids, records, self._clock())
        self._ids.remember(ids)
        return written

    def _without_refused(self, records: Sequence[Record]) -> list[Record]:
        """Try each record by itself, and roll it back; those that are refused become Refused."""
        database = self.open()
        kept: list[Record] = []
        for record in records:
            try:
                with database.transaction():
                    apply(database, self._ids, [record], self._clock())
                    raise _RollBackError
            except _RollBackError:
                kept.append(record)
            except RowRefusedError as error:
                kept.append(refuse(f"{ROOT}/{speaker(record)}", b"", str(error), _numbered(record)))
        return kept


def _numbered(record: Record) -> tuple[str, str, int] | None:
    return (*key_of(record), record.event.seq) if isinstance(record, Seen) else None
