from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from deploy.ingest import schema
from deploy.ingest.database import DatabaseError, open_database
from deploy.ingest.schema import MIGRATIONS, VERSION, check, migrate, version
from deploy.ingest.sqlite import Sqlite


def test_an_empty_database_gets_the_tables_once(database_url):
    database = open_database(database_url)
    assert version(database) == 0
    migrate(database)
    migrate(database)
    assert version(database) == VERSION
    check(database)
    database.close()


def test_migrations_go_on_from_where_they_stand_and_keep_what_there_is(database):
    database.execute(
        "INSERT INTO stream (device, stream, watermark, highest, heard_at) "
        "VALUES ('barn-7', 's', 1, 1, '2026-01-01T00:00:00.000Z')"
    )
    migrate(
        database,
        [*MIGRATIONS, lambda db: db.execute("ALTER TABLE stream ADD COLUMN note TEXT")],
    )
    assert version(database) == VERSION + 1
    assert database.execute("SELECT device, note FROM stream") == [("barn-7", None)]


def test_a_migration_that_fails_leaves_the_version_before_it(database):
    def half(db: object) -> None:
        database.execute("CREATE TABLE half (x INTEGER)")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        migrate(database, [*MIGRATIONS, half])
    assert version(database) == VERSION
    assert "half" not in database.tables()


def test_a_newer_schema_is_refused_with_what_to_do(database):
    database.execute("UPDATE earmark_schema SET version = ?", (VERSION + 1,))
    for attempt in (migrate, check):
        with pytest.raises(DatabaseError, match="newer earmark"):
            attempt(database)


def test_a_reader_of_an_empty_database_is_told_what_to_do(database_url):
    database = open_database(database_url)
    with pytest.raises(DatabaseError, match="no sightings in it"):
        check(database)
    database.close()


def test_two_that_start_at_once_migrate_once(database_url):
    failures: list[BaseException] = []
    barrier = threading.Barrier(2)

    def start() -> None:
        try:
            barrier.wait()
            database = open_database(database_url)
            migrate(database)
            database.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


class Scripted:
    """Stands for a PostgreSQL in which TimescaleDB is, or is not; records what it is asked."""

    name, row_lock, types = "scripted", "", Sqlite.types

    def __init__(self, hypertables: bool) -> None:
        self.hypertables = hypertables
        self.asked: list[str] = []

    def has_hypertables(self) -> bool:
        return self.hypertables

    def execute(self, sql, values=()):
        self.asked.append(sql)
        return [(0,)]

    def execute_many(self, sql, rows):
        raise AssertionError

    def transaction(self):
        return nullcontext()

    def lock_schema(self):
        pass

    def tables(self):
        return set()

    def moment(self, value):
        raise AssertionError

    def close(self):
        pass


@pytest.mark.parametrize("hypertables", [True, False])
def test_timescale_gets_a_hypertable_and_no_unique_index_which_it_would_refuse(hypertables):
    database = Scripted(hypertables)
    schema._first(database)
    said = "\n".join(database.asked)
    assert ("create_hypertable('sighting', 'seen_at'" in said) is hypertables
    assert ("CREATE UNIQUE INDEX sighting_seq" in said) is not hypertables
    assert ("CREATE INDEX sighting_seq" in said) is hypertables


def test_without_the_unique_index_events_are_still_stored_once(store, database, record):
    """What a hypertable rests on: the look-up under the stream's lock."""
    database.execute("DROP INDEX sighting_seq")
    store.write([record(1), record(2)])
    written = store.write([record(2), record(1), record(3), record(3)])
    assert (written.stored, written.duplicates) == (1, 3)
    assert database.execute("SELECT count(*) FROM sighting") == [(3,)]
