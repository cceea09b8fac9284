from __future__ import annotations

import pytest

from deploy.ingest.acknowledge import Acknowledger
from deploy.ingest.database import DatabaseUnavailable
from edge.messaging.events import SCHEMA, Ingested


class Source:
    """Stands for the database: watermarks by device, and what was asked."""

    def __init__(self) -> None:
        self.seqs: dict[str, int] = {}
        self.away = False

    def __call__(self, devices):
        if self.away:
            raise DatabaseUnavailable("away")
        names = self.seqs if devices is None else devices
        return [
            Ingested(schema=SCHEMA, device=name, stream="a" * 32, seq=self.seqs[name])
            for name in names
            if name in self.seqs
        ]


@pytest.fixture
def source() -> Source:
    return Source()


def seqs(told: list[Ingested]) -> list[tuple[str, int]]:
    return [(each.device, each.seq) for each in told]


def test_everybody_is_told_when_a_connection_begins(source):
    source.seqs = {"a1": 3, "b1": 4}
    acknowledger = Acknowledger(source, 1.0)
    assert seqs(acknowledger.due(0.0)) == [("a1", 3), ("b1", 4)]
    assert acknowledger.due(100.0) == []
    acknowledger.connected()
    assert seqs(acknowledger.due(100.1)) == [("a1", 3), ("b1", 4)]


def test_a_device_is_told_what_changed_no_more_often_than_asked(source):
    acknowledger = Acknowledger(source, 1.0)
    acknowledger.due(0.0)
    source.seqs["a1"] = 1
    acknowledger.note(["a1"], 0.5)
    assert acknowledger.due(0.5) == []
    source.seqs["a1"] = 2
    acknowledger.note(["a1"], 0.9)
    assert seqs(acknowledger.due(1.0)) == [("a1", 2)]
    assert acknowledger.due(2.1) == []


def test_what_another_ingest_has_moved_meanwhile_is_told_after_all(source):
    acknowledger = Acknowledger(source, 1.0)
    source.seqs["a1"] = 5
    acknowledger.note(["a1"], 0.0)
    assert seqs(acknowledger.due(0.0)) == [("a1", 5)]
    source.seqs["a1"] = 6
    assert seqs(acknowledger.due(2.0)) == [("a1", 6)]


def test_a_device_that_sends_what_is_stored_is_told_again(source):
    source.seqs["a1"] = 5
    acknowledger = Acknowledger(source, 1.0)
    acknowledger.due(0.0)
    acknowledger.note(["a1"], 1.0, again=True)
    assert seqs(acknowledger.due(1.5)) == [("a1", 5)]
    acknowledger.note(["a1"], 3.0)
    assert acknowledger.due(3.0) == []


def test_a_database_that_is_away_delays_it(source):
    source.seqs["a1"] = 5
    source.away = True
    acknowledger = Acknowledger(source, 1.0)
    with pytest.raises(DatabaseUnavailable):
        acknowledger.due(0.0)
    source.away = False
    assert seqs(acknowledger.due(0.0)) == [("a1", 5)]
