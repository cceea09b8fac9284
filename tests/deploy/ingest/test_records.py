from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.ingest.records import Elsewhere, Refused, Seen, Warned, read_record
from edge.messaging.events import SCHEMA, Ingested, encode

SIGHTING = "earmark/v1/barn-7/up/sighting"
ALARM = "earmark/v1/barn-7/up/alarm"
INGEST = "earmark/v1/barn-7/down/ingest"
STREAM = "6f0c" * 8


def test_a_sighting_is_read_with_its_times(sighting):
    event = sighting(5, first_seen=None)
    found = read_record(SIGHTING, encode(event))
    assert isinstance(found, Seen)
    assert found.event == event
    assert found.first_seen is None
    assert found.last_seen.isoformat() == "2026-11-24T04:31:09+00:00"


def test_the_same_bytes_are_the_same_alarm(gap_record):
    first, again, other = gap_record(1, 3, 2), gap_record(1, 3, 2), gap_record(1, 4, 2)
    assert isinstance(first, Warned)
    assert first.digest == again.digest != other.digest


def test_what_a_device_was_told_before_is_read():
    told = Ingested(schema=SCHEMA, device="barn-7", stream=STREAM, seq=9)
    assert read_record(INGEST, encode(told)) == Elsewhere("barn-7", STREAM, 9)


def changed(event: object, **changes: object) -> bytes:
    return json.dumps({**json.loads(encode(event)), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "barn-8"}, "in the name of barn-8, on the topic of barn-7"),
        ({"last_seen": "2026-02-31T00:00:00.000Z"}, "no such time"),
        ({"first_seen": "0000-01-01T00:00:00.000Z"}, "no such time"),
        ({"seq": 1 << 63}, "too large"),
        ({"votes": {"cow004": 1 << 70}}, "too large"),
        ({"schema": 2}, "newer"),
        ({"extra": 1}, "extra"),
        ({"seq": 0}, "seq"),
    ],
)
def test_what_is_formally_or_really_wrong_is_refused(sighting, changes, words):
    found = read_record(SIGHTING, changed(sighting(1), **changes))
    assert isinstance(found, Refused)
    assert words in found.why


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("earmark/v1/barn-7/up/state", b"{}"),
        ("earmark/v1/barn-7/down/command", b"{}"),
        ("earmark/v1/barn-7/down/ingest/x", b"{}"),
        ("other", b"{}"),
        ("", b""),
        (SIGHTING, b"\xff\x00"),
        (SIGHTING, b"[" * 100_000),
        (ALARM, b'{"schema":1}'),
        (INGEST, b'{"schema":1,"device":"barn-8","stream":"' + STREAM.encode() + b'","seq":1}'),
    ],
)
def test_rubbish_is_refused(topic, payload):
    assert isinstance(read_record(topic, payload), Refused)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"schema": 2, "extra": []}, ("barn-7", STREAM, 9)),
        ({"box": "none"}, ("barn-7", STREAM, 9)),
        ({"device": "barn-8"}, None),
        ({"stream": "x"}, None),
        ({"seq": 0}, None),
        ({"seq": 1 << 63}, None),
        ({"seq": True, "extra": 1}, None),
    ],
)
def test_which_event_a_refused_sighting_is_can_be_told_if_it_is_its_devices(
    sighting, changes, event
):
    found = read_record(SIGHTING, changed(sighting(9), **changes))
    assert isinstance(found, Refused)
    assert found.event == event


def test_only_sightings_are_events(gap_record):
    payload = b'{"device":"barn-7","stream":"' + STREAM.encode() + b'","seq":9}'
    for topic in (ALARM, INGEST.replace("ingest", "hint"), "other"):
        found = read_record(topic, payload)
        assert isinstance(found, Refused)
        assert found.event is None


@pytest.mark.parametrize(("first", "last", "lost"), [(5, 4, 1), (1, 3, 4), (1, 1 << 63, 1)])
def test_a_gap_that_cannot_be_is_refused(gap_record, first, last, lost):
    assert isinstance(gap_record(first, last, lost), Refused)


def test_what_is_kept_of_a_refused_message_is_small_and_printable():
    found = read_record("a\n\x1b[2J" + "x" * 1000, b"y" * 100_000)
    assert isinstance(found, Refused)
    assert len(found.topic) == 200
    assert found.topic.isprintable()
    assert found.why.isprintable()
    assert len(found.payload) == 2048


@settings(deadline=None)
@given(topic=st.sampled_from([SIGHTING, ALARM, INGEST]) | st.text(), payload=st.binary())
def test_no_bytes_crash_it(topic, payload):
    assert isinstance(read_record(topic, payload), Refused)
