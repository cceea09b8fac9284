"""What ingest tells a person, without a broker."""

from __future__ import annotations

import pytest

from deploy.ingest.service import Ingest, IngestOptions
from edge.messaging.broker import BrokerOptions


@pytest.fixture
def words() -> list[str]:
    return []


@pytest.fixture
def ingest(store, words) -> Ingest:
    return Ingest(BrokerOptions("mqtt://127.0.0.1"), store, IngestOptions(), words.append)


def missing(words: list[str]) -> list[str]:
    return [word.partition(" of stream")[0] for word in words]


def test_a_hole_is_told_once_and_the_next_one_of_its_stream_too(ingest, store, words, record):
    store.write([record(1), record(3)])
    ingest._look_for_holes()
    assert words == []
    ingest._look_for_holes()
    ingest._look_for_holes()
    assert missing(words) == ["barn-7: event 2"]
    store.write([record(2), record(5)])
    ingest._look_for_holes()
    assert len(words) == 1
    ingest._look_for_holes()
    ingest._look_for_holes()
    assert missing(words) == ["barn-7: event 2", "barn-7: event 4"]


def test_a_hole_that_filled_is_told_again_when_it_comes_back(ingest, store, words, record):
    for seq in (2, 4):
        store.write([record(seq)])
        ingest._look_for_holes()
        ingest._look_for_holes()
        store.write([record(seq - 1)])
        ingest._look_for_holes()
    assert missing(words) == ["barn-7: event 1", "barn-7: event 3"]
