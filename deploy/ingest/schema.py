"""The tables, and how older ones become these: forward only, one transaction a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploy.ingest.database import Database, DatabaseError

_FIRST = (
    # heard_at: when something new of the stream last came; a device's current stream has the
    # newest. Below `watermark` and at it everything is settled.
    """CREATE TABLE stream (
        id {serial}, device TEXT NOT NULL, stream TEXT NOT NULL, watermark {whole} NOT NULL,
        highest {whole} NOT NULL, heard_at {moment} NOT NULL, UNIQUE (device, stream))""",
    # seen_at: last_seen, or received_at where the device's clock was not set or runs ahead. It
    # never changes when an event comes again, and so hypertables may be cut along it.
    """CREATE TABLE sighting (
        stream_id {whole} NOT NULL REFERENCES stream (id), seq {whole} NOT NULL, id TEXT NOT NULL,
        type TEXT NOT NULL, camera TEXT NOT NULL, track {whole} NOT NULL, animal TEXT,
        reason TEXT, confidence {real} NOT NULL, distance {real}, margin {real},
        votes TEXT NOT NULL, x1 {real} NOT NULL, y1 {real} NOT NULL, x2 {real} NOT NULL,
        y2 {real} NOT NULL, first_seen {moment}, last_seen {moment}, clock TEXT NOT NULL,
        boot TEXT NOT NULL, monotonic {real} NOT NULL, release TEXT NOT NULL,
        means_seq {whole} NOT NULL, replayed {whole} NOT NULL, received_at {moment} NOT NULL,
        seen_at {moment} NOT NULL)""",
    "CREATE INDEX sighting_animal ON sighting (animal, seen_at) WHERE animal IS NOT NULL",
    "CREATE INDEX sighting_boot ON sighting (stream_id, boot, seen_at)",
    "CREATE INDEX sighting_unsynced ON sighting (seen_at) WHERE last_seen IS NULL",
    """CREATE TABLE alarm (
        id {serial}, device TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
        text TEXT NOT NULL, boot TEXT NOT NULL, raised_at {moment}, received_at {moment} NOT NULL,
        UNIQUE (device, digest))""",
    # Events that will never come. why: the device said so, another database has them, or a person
    # gave them up.
    """CREATE TABLE gap (
        stream_id {whole} NOT NULL REFERENCES stream (id), first_seq {whole} NOT NULL,
        last_seq {whole} NOT NULL, lost {whole} NOT NULL, why TEXT NOT NULL,
        noted_at {moment} NOT NULL, UNIQUE (stream_id, first_seq, last_seq, lost))""",
    """CREATE TABLE rejected (
        id {serial}, received_at {moment} NOT NULL, topic TEXT NOT NULL, why TEXT NOT NULL,
        payload {blob} NOT NULL)""",
    "CREATE TABLE tally (name TEXT PRIMARY KEY, value {whole} NOT NULL)",
    "INSERT INTO tally VALUES ('rejected', 0)",
    # For whoever asks in SQL.
    """CREATE VIEW sightings AS
        SELECT stream.device, stream.stream, sighting.*
        FROM sighting JOIN stream ON stream.id = sighting.stream_id""",
)


def _first(database: Database) -> None:
    for statement in _FIRST:
        database.execute(statement.format(**database.types))
    if database.has_hypertables():
        # A hypertable allows no unique index without its time. Ingest holds the stream's row while
        # it looks for what is there already, so that uniqueness does not rest on this index.
        database.execute(
            "SELECT create_hypertable('sighting', 'seen_at', "
            "chunk_time_interval => INTERVAL '7 days')"
        )
        database.execute("CREATE INDEX sighting_seq ON sighting (stream_id, seq)")
    else:
        database.execute("CREATE UNIQUE INDEX sighting_seq ON sighting (stream_id, seq)")
        database.execute("CREATE INDEX sighting_seen_at ON sighting (seen_at)")


MIGRATIONS: Sequence[Callable[[Database], None]] = (_first,)
VERSION = len(MIGRATIONS)


def migrate(
    database: Database, migrations: Sequence[Callable[[Database], None]] = MIGRATIONS
) -> None:
    """Bring the tables up to date; DatabaseError when a newer earmark has made them."""
    done = -1
    while done < len(migrations):
        with database.transaction():
            database.lock_schema()
            done = version(database)
            if done > len(migrations):
                raise DatabaseError(
                    f"{database.name}: made by a newer earmark (schema {done}); update this one"
                )
            if done < len(migrations):
                if not done:
                    database.execute("CREATE TABLE earmark_schema (version INTEGER NOT NULL)")
                    database.execute("INSERT INTO earmark_schema VALUES (0)")
                migrations[done](database)
                done += 1
                database.execute("UPDATE earmark_schema SET version = ?", (done,))


def check(database: Database) -> None:
    """DatabaseError unless the tables are of this version; for those who only read."""
    found = version(database)
    if found > VERSION:
        raise DatabaseError(
            f"{database.name}: made by a newer earmark (schema {found}); update this one"
        )
    if found < VERSION:
        what = "no sightings in it" if not found else f"schema {found} is older than {VERSION}"
        raise DatabaseError(f"{database.name}: {what}; run earmark-deploy ingest with it first")


def version(database: Database) -> int:
    """Return the version of the tables; 0 when there are none of ours."""
    if "earmark_schema" not in database.tables():
        return 0
    return int(database.execute("SELECT version FROM earmark_schema")[0][0])
