"""From the database to stays, in SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deploy.ingest.database import open_database
from deploy.ingest.store import Store
from deploy.report.query import last_signs, stays_between
from edge.messaging.events import timestamp

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def stamp(minutes: float | None) -> str | None:
    return None if minutes is None else timestamp(NOON + timedelta(minutes=minutes))


class Farm:
    """Writes events as devices send them: seq by itself, times in minutes after noon."""

    def __init__(self, url: str, record) -> None:
        self._url, self._record = url, record
        self.received = 0.0
        self._seq: dict[str, int] = {}
        self._store = Store(lambda: open_database(url), clock=self._clock)

    def _clock(self) -> datetime:
        return NOON + timedelta(minutes=self.received)

    def tell(self, kind: str, minutes: float, *, first: float = 0.0, **changes) -> None:
        device = changes.get("device", "barn-7")
        seq = self._seq[device] = self._seq.get(device, 0) + 1
        fields = {
            "type": kind,
            "first_seen": stamp(first),
            "last_seen": stamp(minutes),
            "monotonic": 1000 + 60.0 * minutes,
            **changes,
        }
        if fields.get("animal", "x") is None:
            fields["reason"] = "unknown"
        if fields.get("clock") == "unsynced":
            fields |= {"first_seen": None, "last_seen": None}
        self.received = max(self.received, minutes)
        self._store.write([self._record(seq, **fields)])

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def farm(database_url, record):
    farm = Farm(database_url, record)
    yield farm
    farm.close()


def brief(found):
    return [
        (
            stay.animal,
            stay.place,
            (stay.begin - NOON).total_seconds() / 60,
            (stay.end - NOON).total_seconds() / 60,
            stay.state,
        )
        for stay in found
    ]


def between(database, since: float, until: float, cameras=()):
    span = (NOON + timedelta(minutes=since), NOON + timedelta(minutes=until))
    return brief(stays_between(database, *span, cameras))


def test_only_first_last_and_changes_of_name_are_read_and_the_stay_is_whole(farm, database):
    farm.tell("start", 1, track=1)
    for minute in range(2, 9):
        farm.tell("update", minute, track=1)
    farm.tell("update", 9, track=1, animal="cow005")
    farm.tell("update", 10, track=1, animal="cow005")
    farm.tell("end", 11, track=1, animal="cow005")
    farm.tell("start", 5, track=2, first=4, animal=None)
    farm.tell("update", 12, track=2, animal="cow006")
    assert between(database, -60, 60) == [
        ("cow004", "barn-7/pen-3", 0, 9, "gone"),
        ("cow005", "barn-7/pen-3", 9, 11, "gone"),
        ("cow006", "barn-7/pen-3", 12, 12, "here"),
    ]


def test_a_span_of_time_and_cameras(farm, database):
    for number, camera in enumerate(("pen-3", "pen-4")):
        farm.tell("start", 1 + 60 * number, first=60 * number, track=number, camera=camera)
        farm.tell("end", 30 + 60 * number, first=60 * number, track=number, camera=camera)
    both = between(database, -60, 600)
    assert len(both) == 2
    assert between(database, 0, 45) == both[:1]
    assert between(database, 40, 600) == both[1:]
    assert between(database, 31, 59) == []
    assert between(database, -60, 600, ["pen-4"]) == both[1:]


def test_a_stay_that_began_before_the_span_is_there_with_its_begin(farm, database):
    farm.tell("start", 1, track=1)
    for minute in range(2, 60, 2):
        farm.tell("update", minute, track=1)
    assert between(database, 30, 40) == [("cow004", "barn-7/pen-3", 0, 38, "gone")]


def test_events_of_an_unset_clock_are_placed_by_a_later_one_of_the_same_boot(farm, database):
    farm.received = 200
    farm.tell("start", 10, track=1, clock="unsynced")
    farm.tell("end", 20, track=1, clock="unsynced")
    farm.tell("start", 190, first=189, track=2, animal="cow009")
    assert between(database, -60, 100) == [("cow004", "barn-7/pen-3", 10, 20, "gone")]
    signs = {sign.animal: sign for sign in last_signs(database)}
    assert signs["cow004"].at == NOON + timedelta(minutes=20)
    assert signs["cow004"].approximate
    assert not signs["cow009"].approximate


def test_a_restart_ends_what_nobody_ended(farm, database):
    farm.tell("start", 1, track=1)
    farm.tell("start", 9, first=8, track=1, boot="b8", animal="cow005")
    assert [row[0::4] for row in between(database, -60, 60)] == [
        ("cow004", "gone"),
        ("cow005", "here"),
    ]


def test_where_each_animal_was_last_seen(farm, database):
    farm.tell("end", 1, track=1)
    farm.tell("end", 5, track=2, camera="pen-4")
    farm.tell("start", 2, track=3, device="barn-8", animal="cow001")
    farm.tell("start", 60, track=4, device="barn-8", animal=None)
    found = last_signs(database, ["cow004", "cow999"])
    said = [(sign.animal, sign.at, sign.device, sign.camera) for sign in found]
    assert said == [
        ("cow001", NOON + timedelta(minutes=2), "barn-8", "pen-3"),
        ("cow004", NOON + timedelta(minutes=5), "barn-7", "pen-4"),
        ("cow999", None, None, None),
    ]
    assert found[0].device_heard == NOON + timedelta(minutes=60)
    assert found[1].device_heard == NOON + timedelta(minutes=5)


def test_a_late_event_of_an_unset_clock_does_not_hide_a_newer_sight(farm, database):
    farm.tell("start", 10, track=9, animal="cow001")
    farm.tell("end", 100, track=1)
    farm.received = 300
    farm.tell("end", 20, track=2, clock="unsynced", camera="pen-9")
    (sign,) = [sign for sign in last_signs(database) if sign.animal == "cow004"]
    assert (sign.at, sign.camera) == (NOON + timedelta(minutes=100), "pen-3")


def test_an_empty_database_knows_nobody(farm, database):
    assert last_signs(database) == []
    assert between(database, -60, 60) == []
