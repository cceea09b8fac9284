from __future__ import annotations

import pytest

from deploy.ingest.acknowledge import Acknowledger
from deploy.ingest.database import DatabaseUnavailableError
from edge.messaging.events import SCHEMA, Ingested


class Source:
    """Stands for the database: watermarks by device, and what was asked."""

    def __init__(self) -> None:
        self.seqs: dict[str, int] = {}
        self.away = False

    def __call__(self, devices):
        if self.away:
            raise DatabaseUnavailableError("away")
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
    acknowledger.connected(100.1)
    assert seqs(acknowledger.due(101.0)) == [("a1", 3), ("b1", 4)]


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


def test_nothing_is_told_before_the_retained_words_of_a_connection_are_read(source):
    source.seqs = {"a1": 3}
    acknowledger = Acknowledger(source, 1.0)
    acknowledger.connected(10.0)
    assert acknowledger.due(10.1) == []
    acknowledger.heard(10.4)
    assert acknowledger.due(10.8, at_once=True) == []
    source.seqs = {"a1": 5000}
    assert seqs(acknowledger.due(10.9)) == [("a1", 5000)]


def test_that_nothing_is_settled_is_not_told(source):
    source.seqs = {"a1": 0, "b1": 1}
    acknowledger = Acknowledger(source, 1.0)
    assert seqs(acknowledger.due(0.0)) == [("b1", 1)]
    acknowledger.note(["a1"], 1.0, again=True)
    assert acknowledger.due(1.0) == []


def test_a_database_that_is_away_delays_it(source):
    source.seqs["a1"] = 5
    source.away = True
    acknowledger = Acknowledger(source, 1.0)
    with pytest.raises(DatabaseUnavailableError):
        acknowledger.due(0.0)
    source.away = False
    assert seqs(acknowledger.due(0.0)) == [("a1", 5)]
