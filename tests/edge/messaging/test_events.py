from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messaging.events import (
    INSTRUCTIONS,
    PAYLOAD_LIMIT_BYTES,
    PAYLOADS,
    Command,
    PayloadError,
    Reply,
    Sighting,
    decode,
    encode,
    timestamp,
)

MakeEvent = Callable[..., Sighting]
WIRE_NAMES = """
    schema id seq stream type device camera track animal reason confidence distance margin votes
    box first_seen last_seen clock boot monotonic release means_seq replayed
"""
STORED = {"id": "01JD0000000000000000000000", "seq": 48214, "stream": "6f0c" * 8}

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,47}", fullmatch=True)
FRACTIONS = st.floats(0, 1)
STAMPS = st.none() | st.datetimes().map(
    lambda moment: timestamp(moment.replace(tzinfo=timezone(timedelta(0))))
)
NAMES = st.one_of(
    IDS.map(lambda animal: (animal, None)),
    st.sampled_from(["unknown", "unsure", "crowded"]).map(lambda reason: (None, reason)),
)
SIGHTINGS = st.builds(
    lambda name, **fields: Sighting(schema=1, animal=name[0], reason=name[1], **fields),
    name=NAMES,
    id=st.from_regex(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", fullmatch=True),
    seq=st.integers(1, 2**53),
    stream=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    type=st.sampled_from(["start", "update", "end"]),
    device=IDS,
    camera=IDS,
    track=st.integers(0, 2**31),
    confidence=FRACTIONS,
    distance=st.none() | st.floats(0, 2),
    margin=st.none() | st.floats(0, 2),
    votes=st.dictionaries(IDS, st.integers(0, 1000), max_size=5),
    box=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS),
    first_seen=STAMPS,
    last_seen=STAMPS,
    clock=st.sampled_from(["synced", "unsynced"]),
    boot=st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True),
    monotonic=st.floats(0, 1e9),
    release=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    means_seq=st.integers(0, 2**31),
    replayed=st.booleans(),
)


@given(SIGHTINGS)
def test_a_sighting_comes_back_as_it_went(event: Sighting):
    assert decode(encode(event), Sighting) == event


def test_the_wire_names_are_those_of_the_format(make_event: MakeEvent):
    event = json.loads(encode(make_event(**STORED)))
    assert re.findall(r"\w+", " ".join(event)) == re.findall(r"\w+", WIRE_NAMES)
    assert event["box"] == [0.21, 0.34, 0.4, 0.61]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", 0),
        ("seq", 1.5),
        ("id", "01JD"),
        ("stream", ""),
        ("type", "begin"),
        ("device", "Barn"),
        ("device", "barn-7\n"),
        ("animal", "cow/4"),
        ("confidence", 1.01),
        ("confidence", None),
        ("box", [0.1, 0.2, 0.3]),
        ("box", [0.1, 0.2, 0.3, 1.5]),
        ("votes", {"cow004": -1}),
        ("first_seen", "yesterday"),
        ("reason", "unknown"),
        ("extra", 1),
        ("schema", 0),
    ],
)
def test_a_wrong_field_is_refused(make_event: MakeEvent, field: str, value: object):
    fields = json.loads(encode(make_event(**STORED)))
    decode(json.dumps(fields).encode(), Sighting)
    fields[field] = value
    with pytest.raises(PayloadError, match="Sighting"):
        decode(json.dumps(fields).encode(), Sighting)


def test_nobody_is_nameless_without_a_reason(make_event: MakeEvent):
    with pytest.raises(ValueError, match="reason"):
        make_event(animal=None)


def test_a_newer_schema_is_refused_by_its_number(make_event: MakeEvent):
    fields = json.loads(encode(make_event(**STORED))) | {"schema": 2, "news": True}
    with pytest.raises(PayloadError, match="schema 2 is newer"):
        decode(json.dumps(fields).encode(), Sighting)


KINDS = [*PAYLOADS.values(), *INSTRUCTIONS.values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 50_000, b"x" * (PAYLOAD_LIMIT_BYTES + 1)],
)
def test_rubbish_is_an_error_and_never_a_crash(kind: type[Sighting], data: bytes):
    with pytest.raises(PayloadError) as caught:
        decode(data, kind)
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes):
    with pytest.raises(PayloadError):
        decode(data, Sighting)


def test_a_timestamp_is_utc_with_milliseconds():
    east = timezone(timedelta(hours=2))
    assert timestamp(datetime(2026, 11, 24, 6, 31, 7, 120_999, east)) == "2026-11-24T04:31:07.120Z"
    assert timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=east)) == "2026-01-02T01:04:05.000Z"
    assert timestamp(None) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_payload_has_a_schema_version_and_refuses_unknown_fields(kind: type[msgspec.Struct]):
    assert "schema" in kind.__struct_fields__
    assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("args", [{}, {"level": "debug"}, {"width": 640, "loud": True, "q": 0.5}])
def test_a_command_survives_the_wire(args: dict[str, str | int | float | bool]):
    said = Command(schema=1, id="a-1", name="x", args=args, not_after="2026-11-24T04:31:07.120Z")
    assert decode(encode(said), Command) == said


def test_a_reply_survives_the_wire_and_is_ok_or_has_an_error():
    result = {"sightings": 5, "share": 0.5, "at": None, "changed": ["naming"], "jpeg": "A" * 99}
    done = Reply(schema=1, device="barn-7", boot="b7", id="a-1", ok=True, result=result)
    assert decode(encode(done), Reply) == done
    for changes in ({"ok": False}, {"error": "busy"}, {"ok": False, "error": "boredom"}):
        fields = json.loads(encode(done)) | changes
        with pytest.raises(PayloadError):
            decode(json.dumps(fields).encode(), Reply)
