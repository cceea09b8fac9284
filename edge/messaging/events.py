"""What is said over MQTT: one struct a payload, JSON, strict on reading.

Times are RFC 3339 in UTC with milliseconds, or null while the device's clock cannot be trusted
(`clock` is `unsynced` then); `boot` and `monotonic` order events all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from edge.errors import EarmarkError
from edge.messaging.topics import ID_PATTERN
from edge.release.state import Phase, ReleaseName

SCHEMA = 1
# A message that a broker will not take is resent for ever and blocks what is behind it.
EVENT_LIMIT_BYTES = 16 * 1024
# No payload of ours is larger; untrusted bytes beyond it are not even parsed.
PAYLOAD_LIMIT_BYTES = 256 * 1024

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
Ulid = Annotated[str, msgspec.Meta(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$(?!\n)")]
StreamId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:+-]{1,64}$(?!\n)")]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Timestamp = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$(?!\n)"
    ),
]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Box = tuple[Fraction, Fraction, Fraction, Fraction]
SchemaVersion = Annotated[int, msgspec.Meta(ge=SCHEMA, le=SCHEMA)]
Clock = Literal["synced", "unsynced"]
Reason = Literal["unknown", "unsure", "crowded"]
CommandWord = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z_]{0,31}$(?!\n)")]
ArgumentText = Annotated[str, msgspec.Meta(max_length=200)]
Arguments = Annotated[
    dict[CommandWord, bool | int | float | ArgumentText], msgspec.Meta(max_length=8)
]
ReplyError = Literal[
    "no-expiry",
    "expired",
    "clock-unsynced",
    "unknown-command",
    "bad-arguments",
    "not-allowed",
    "busy",
    "unsupported",
    "needs-restart",
    "failed",
]
ResultKey = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z_]{0,31}$(?!\n)")]
ResultText = Annotated[str, msgspec.Meta(max_length=200_000)]
ResultValue = bool | int | float | ResultText | list[Text] | None


class PayloadError(EarmarkError):
    """A payload that is not what its topic promises."""


class _Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every payload: immutable, unknown fields refused."""


class Sighting(_Payload, frozen=True, kw_only=True):
    """One event of one track of one camera; `(device, boot, camera, track)` names the sighting.

    seq rises by one within a stream; deduplicate on (device, stream, seq). id: a ULID. Before the
    outbox has stored the event, seq is 0 and id and stream are empty.
    animal: null when nobody should be named, and reason then says why.
    box: x1 y1 x2 y2 as fractions of the frame, monotonic: that frame's time in seconds, last_seen:
    its wall time; all three of the last frame in which the animal was really seen.
    confidence: the animal's share of the votes. distance, margin: cosine distance to the animal,
    and how much farther the next one is. replayed: sent later than it happened.
    """

    schema: SchemaVersion
    id: Ulid
    seq: Positive
    stream: StreamId
    type: Literal["start", "update", "end"]
    device: Id
    camera: Id
    track: Whole
    animal: Id | None
    reason: Reason | None
    confidence: Fraction
    distance: float | None
    margin: float | None
    votes: dict[Id, Whole]
    box: Box
    first_seen: Timestamp | None
    last_seen: Timestamp | None
    clock: Clock
    boot: Token
    monotonic: float
    release: Token
    means_seq: Whole
    replayed: bool

    def __post_init__(self) -> None:
        if (self.animal is None) == (self.reason is None):
            raise ValueError("either animal or reason must be null, and not both")


class LastSeen(_Payload, frozen=True, kw_only=True):
    """Where and when an animal was last seen; present until its sighting ended."""

    schema: SchemaVersion
    device: Id
    animal: Id
    camera: Id
    track: Whole
    present: bool
    confidence: Fraction
    box: Box
    last_seen: Timestamp | None
    clock: Clock
    boot: Token
    monotonic: float
    stream: StreamId
    seq: Positive


class Availability(_Payload, frozen=True, kw_only=True):
    """Whether a device is there. `offline` comes from the broker, on the device's behalf."""

    schema: SchemaVersion
    device: Id
    status: Literal["online", "offline", "stopped"]
    boot: Token


class CameraState(_Payload, frozen=True, kw_only=True):
    """How one camera is. fps: frames per second that the pipeline got through.

    grade: of the connection to a live camera, from its rate and from reconnects and stalls (no
    frame for seconds) within the last hour; null for a file.
    """

    status: Literal["up", "lost", "ended"]
    fps: float | None = None
    grade: Literal["good", "fair", "poor"] | None = None
    reconnects: Whole = 0
    stalls: Whole = 0


class OutboxState(_Payload, frozen=True, kw_only=True):
    """What waits on the device. oldest: last_seen of the oldest waiting event.

    lost: events dropped since the stream began because the outbox was full. set_aside: events that
    the broker will never take.
    """

    depth: Whole
    oldest: Timestamp | None
    lost: Whole
    set_aside: Whole


class DeviceState(_Payload, frozen=True, kw_only=True):
    """What the agent knows about itself. temperature: of the processor, degrees Celsius.

    animals: how many animals of the herd are in view of its cameras now, by name. at: the minute in
    which it was so. disk_free_mb: room where events wait, whole tens of megabytes (10**6 bytes).
    """

    agent: Token
    release: Token
    means_seq: Whole
    backend: Text
    degraded: bool
    cameras: dict[Id, CameraState]
    clock: Clock
    temperature: float | None = None
    animals: Whole = 0
    at: Timestamp | None = None
    disk_free_mb: Whole | None = None


class StateReport(DeviceState, frozen=True, kw_only=True):
    """The payload of `up/state`: the agent's state and what the messenger adds."""

    schema: SchemaVersion
    device: Id
    boot: Token
    protocol: Literal["5", "3.1.1"]
    outbox: OutboxState


class Gap(_Payload, frozen=True, kw_only=True):
    """Events that do not wait on the device any more, numbered first..last.

    lost: how many of them were dropped and never reach a subscriber; 0 when all were passed on.
    """

    stream: StreamId
    first: Positive
    last: Positive
    lost: Whole


class Alarm(_Payload, frozen=True, kw_only=True):
    """What somebody should look at. kind: `camera-lost`, `outbox-gap`, `disk-low` and so on."""

    schema: SchemaVersion
    device: Id
    boot: Token
    kind: Id
    text: Text
    at: Timestamp | None
    gap: Gap | None = None


class UpdateReport(_Payload, frozen=True, kw_only=True):
    """The payload of `up/update`: how far the update of what a device runs is.

    rev: only rises, from report to report. release: what is current, null before the first.
    assignment, means: the highest seqs that ever ran. candidate: what is being installed, or was
    when it failed; progress: how much of it is here; channel: where it comes from. reason: why it
    was not installed, a word with `-`, as of `rejected` and `deferred`; text: the same for people.
    closed: nothing is installed until somebody repairs the device's store.
    """

    schema: SchemaVersion
    device: Id
    rev: Whole
    phase: Phase
    release: ReleaseName | None
    assignment: Whole
    means: Whole
    candidate: ReleaseName | None = None
    progress: Fraction | None = None
    channel: Text | None = None
    reason: Text | None = None
    text: Text = ""
    closed: bool = False
    at: Timestamp | None = None
    clock: Clock


class Ingested(_Payload, frozen=True, kw_only=True):
    """The payload of `down/ingest`: every event of the stream up to `seq` is stored for good."""

    schema: SchemaVersion
    device: Id
    stream: StreamId
    seq: Whole


class Command(_Payload, frozen=True, kw_only=True):
    """The payload of `down/command`: what a device shall do, once, before `not_after`.

    id: the caller's own, the same again when the command is sent again; the reply carries it.
    args: what the command of that name takes (docs/commands.md).
    """

    schema: SchemaVersion
    id: Token
    name: CommandWord
    args: Arguments
    not_after: Timestamp


class Reply(_Payload, frozen=True, kw_only=True):
    """The answer to a command, of the same id. error: why it was not done; null when `ok`.

    text: for people. result: for machines, by command (docs/commands.md).
    """

    schema: SchemaVersion
    device: Id
    boot: Token
    id: Token
    ok: bool
    error: ReplyError | None = None
    text: Text = ""
    result: dict[ResultKey, ResultValue] = {}

    def __post_init__(self) -> None:
        if self.ok == (self.error is not None):
            raise ValueError("a reply is ok, or has an error")


# What a device publishes, by the leaf below `up/`.
PAYLOADS: dict[str, type[_Payload]] = {
    "availability": Availability,
    "sighting": Sighting,
    "animal": LastSeen,
    "state": StateReport,
    "alarm": Alarm,
    "update": UpdateReport,
    "reply": Reply,
}
# What a device is told, by the leaf below `down/`.
INSTRUCTIONS: dict[str, type[_Payload]] = {"command": Command, "ingest": Ingested}

P = TypeVar("P", bound=_Payload)


class _SchemaOnly(msgspec.Struct):
    """Just enough of any payload to refuse a newer schema by its name."""

    schema: int


def timestamp(moment: datetime | None) -> str | None:
    """Return an aware datetime as `2026-11-24T04:31:07.120Z`; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(payload: msgspec.Struct) -> bytes:
    """Return a payload as compact JSON, fields in the struct's order."""
    return msgspec.json.encode(payload)


def decode(data: bytes, kind: type[P]) -> P:
    """Read untrusted bytes as one payload; PayloadError says in one line what is wrong."""
    if len(data) > PAYLOAD_LIMIT_BYTES:
        raise PayloadError(f"{kind.__name__}: {len(data)} bytes, more than {PAYLOAD_LIMIT_BYTES}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        newer = _newer_schema(data)
        if newer is not None:
            raise PayloadError(
                f"{kind.__name__}: schema {newer} is newer than ours ({SCHEMA}); update earmark"
            ) from error
        raise PayloadError(f"{kind.__name__}: {error}") from error


def _newer_schema(data: bytes) -> int | None:
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return schema if schema > SCHEMA else None
