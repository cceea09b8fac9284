"""What a message means to the database: untrusted bytes in, a checked record out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import msgspec

from edge.messaging.events import (
    Alarm,
    Id,
    Ingested,
    PayloadError,
    Positive,
    Sighting,
    StreamId,
    decode,
)
from edge.messaging.topics import ROOT, parse_topic

# What every database of ours can hold as a whole number.
_MAX_WHOLE = (1 << 63) - 1
_TOPIC_CHARS = 200
_WHY_CHARS = 300
# Enough to see what it was.
_PAYLOAD_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Seen:
    """A sighting. Its times are aware, or None when the device's clock was not set."""

    event: Sighting
    first_seen: datetime | None
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class Warned:
    """An alarm. digest: of its bytes, by which one that is delivered twice is known."""

    alarm: Alarm
    at: datetime | None
    digest: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The retained `down/ingest` of a device: what it was told is stored, and has deleted."""

    device: str
    stream: str
    seq: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is none of ours, shortened to what a person needs to see.

    event: device, stream and seq of a sighting that cannot be stored and will be missing.
    """

    topic: str
    why: str
    payload: bytes
    event: tuple[str, str, int] | None = None


Record = Seen | Warned | Elsewhere | Refused


def read_record(topic: str, payload: bytes) -> Record:
    """Check one message, topic against payload too; Refused says what is wrong with it."""
    try:
        return _read(topic, payload)
    except (PayloadError, _UnfitError) as error:
        return refuse(topic, payload, str(error), _event(topic, payload))


def refuse(
    topic: str, payload: bytes, why: str, event: tuple[str, str, int] | None = None
) -> Refused:
    """Return what is kept of a message that cannot be stored."""
    return Refused(
        _plain(topic)[:_TOPIC_CHARS], _plain(why)[:_WHY_CHARS], payload[:_PAYLOAD_BYTES], event
    )


class _UnfitError(Exception):
    """Formally right, and yet of no use."""


def _read(topic: str, payload: bytes) -> Record:
    address = parse_topic(topic)
    record: Record
    if address is None:
        device = _told_device(topic)
        ingested = decode(payload, Ingested)
        record = Elsewhere(ingested.device, ingested.stream, _whole(ingested.seq))
    elif address.kind == "sighting":
        device = address.device
        event = decode(payload, Sighting)
        for number in (event.seq, event.track, event.means_seq, *event.votes.values()):
            _whole(number)
        record = Seen(event, _moment(event.first_seen), _moment(event.last_seen))
    elif address.kind == "alarm":
        device = address.device
        alarm = decode(payload, Alarm)
        if alarm.gap is not None:
            _check_gap(alarm.gap.first, alarm.gap.last, alarm.gap.lost)
        digest = hashlib.blake2b(payload, digest_size=16).hexdigest()
        record = Warned(alarm, _moment(alarm.at), digest)
    else:
        raise _UnfitError("not a topic that is stored")
    if speaker(record) != device:
        raise _UnfitError(f"in the name of {speaker(record)}, on the topic of {device}")
    return record


class _Numbered(msgspec.Struct, frozen=True):
    """What must be right of a sighting to know which one it is."""

    device: Id
    stream: StreamId
    seq: Positive


def _event(topic: str, payload: bytes) -> tuple[str, str, int] | None:
    """Return which sighting a refused message is, None when it cannot be told."""
    address = parse_topic(topic)
    if address is None or address.kind != "sighting":
        return None
    try:
        found = msgspec.json.decode(payload, type=_Numbered)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.device != address.device or found.seq > _MAX_WHOLE:
        return None
    return found.device, found.stream, found.seq


def speaker(record: Record) -> str:
    """Return the device that a record is of; empty for one that was refused unread."""
    match record:
        case Seen(event=event):
            return event.device
        case Warned(alarm=alarm):
            return alarm.device
        case Elsewhere(device=device):
            return device
    return ""


def _told_device(topic: str) -> str:
    """Return the device of `earmark/v1/<device>/down/ingest`."""
    parts = topic.removeprefix(f"{ROOT}/").split("/")
    if not topic.startswith(f"{ROOT}/") or parts[1:] != ["down", "ingest"]:
        raise _UnfitError("not a topic that is stored")
    return parts[0]


def _check_gap(first: int, last: int, lost: int) -> None:
    _whole(last)
    if not (first <= last and lost <= last - first + 1):
        raise _UnfitError(f"a gap of {lost} events between {first} and {last}")


def _whole(value: int) -> int:
    if value > _MAX_WHOLE:
        raise _UnfitError(f"the number {str(value)[:24]}… is too large")
    return value


def _moment(stamp: str | None) -> datetime | None:
    """Read a time whose pattern has been checked already; there is no 31 February."""
    if stamp is None:
        return None
    try:
        return datetime.fromisoformat(stamp)
    except ValueError as error:
        raise _UnfitError(f"no such time: {stamp}") from error


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
