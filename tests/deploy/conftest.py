"""Events as devices send them, and real databases to put them into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.ingest.database import Database, open_database
from deploy.ingest.local_postgres import LocalPostgres, find_postgres
from deploy.ingest.records import Record, Seen, read_record
from deploy.ingest.store import Store
from edge.messaging.events import SCHEMA, Alarm, Gap, Sighting, encode
from edge.messaging.topics import Topics

STREAM = "6f0c" * 8


@pytest.fixture
def sighting(make_event: Callable[..., Sighting]) -> Callable[..., Sighting]:
    """Call with a seq and changes: an event of barn-7 as its outbox has numbered it."""

    def make(seq: int = 1, **changes: object) -> Sighting:
        numbered = {"id": f"01JD{seq:022d}", "seq": seq, "stream": STREAM}
        return make_event(**{**numbered, "type": "update", "margin": None, **changes})

    return make


@pytest.fixture
def record(sighting: Callable[..., Sighting]) -> Callable[..., Seen]:
    """Call with a seq and changes: that event as ingest has read it."""

    def make(seq: int, **changes: object) -> Seen:
        event = sighting(seq, **changes)
        found = read_record(Topics(event.device).sighting, encode(event))
        assert isinstance(found, Seen)
        return found

    return make


@pytest.fixture
def gap_record() -> Callable[..., Record]:
    """Call with first, last, lost: the alarm of a gap in the outbox of barn-7."""

    def make(first: int, last: int, lost: int, stream: str = STREAM) -> Record:
        gap = Gap(stream=stream, first=first, last=last, lost=lost)
        alarm = Alarm(
            schema=SCHEMA,
            device="barn-7",
            boot="b7",
            kind="outbox-gap",
            text="full",
            at=None,
            gap=gap,
        )
        return read_record(Topics("barn-7").alarm, encode(alarm))

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A real PostgreSQL on a free port of the loopback; one that is stopped must be started."""
    if find_postgres() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # A crash of the machine is not what these tests are about.
    with LocalPostgres(["fsync = off", "shared_buffers = 32MB"]) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: LocalPostgres) -> str:
    """The URL of an empty database on it."""
    database = open_database(postgres.url)
    database.execute("DROP SCHEMA public CASCADE")
    database.execute("CREATE SCHEMA public")
    database.close()
    return postgres.url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a SQLite file, and one of a real PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "sightings.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on that database."""
    store = Store(lambda: open_database(database_url))
    yield store
    store.close()


@pytest.fixture
def database(database_url: str, store: Store) -> Iterator[Database]:
    """A second connection to it, to look with; the tables are there."""
    store.open()
    database = open_database(database_url)
    yield database
    database.close()
