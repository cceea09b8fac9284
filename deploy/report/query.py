"""What a report asks the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from deploy.ingest.database import Database
from deploy.report.presence import Boot, Event, Stay, boot_times, moment_of, stays

# An update comes every 30 s, so that the name of a track is known this long before a span begins.
_LOOK_BACK = timedelta(minutes=5)
_FIELDS = (
    "stream.device, boot, camera, track, seq, type, animal, confidence, first_seen, last_seen, "
    "monotonic, received_at"
)

# Of each track only what a stay is made of: first, last, ends and changes of name. A year of a barn
# is some hundred million events, most of which repeat the one before.
_SPAN = f"""
    WITH told AS (
        SELECT stream_id, {_FIELDS.replace("stream.device, ", "")},
            lag(seq) OVER track AS before, lag(animal) OVER track AS animal_before,
            lead(seq) OVER track AS after
        FROM sighting
        WHERE seen_at >= ? AND (seen_at < ? OR last_seen IS NULL) {{cameras}}
        WINDOW track AS (PARTITION BY stream_id, boot, camera, track ORDER BY seq))
    SELECT {_FIELDS}
    FROM told JOIN stream ON stream.id = told.stream_id
    WHERE before IS NULL OR after IS NULL OR type = 'end'
        OR coalesce(animal_before, '') <> coalesce(animal, '')
"""
# The animals, each found by a step in the index rather than by reading all events.
_ANIMALS = """
    WITH RECURSIVE known (animal) AS (
        SELECT (SELECT min(animal) FROM sighting WHERE animal IS NOT NULL)
        UNION ALL
        SELECT (SELECT min(sighting.animal) FROM sighting WHERE sighting.animal > known.animal)
        FROM known WHERE known.animal IS NOT NULL)
    SELECT animal FROM known WHERE animal IS NOT NULL
"""
_LATEST = f"""
    SELECT {_FIELDS} FROM sighting JOIN stream ON stream.id = sighting.stream_id
    WHERE animal = ? AND last_seen IS {{}} ORDER BY seen_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class LastSign:
    """Where an animal was last seen. All but the animal is None when it never was.

    device_heard: when that device last had anything to tell, of whichever animal.
    """

    animal: str
    at: datetime | None
    device: str | None = None
    camera: str | None = None
    approximate: bool = False
    device_heard: datetime | None = None


def stays_between(
    database: Database, since: datetime, until: datetime, cameras: Sequence[str] = ()
) -> list[Stay]:
    """Return the stays that overlap a span of time, unclipped. cameras: these only."""
    condition = f"AND camera IN ({', '.join('?' * len(cameras))})" if cameras else ""
    rows = database.execute(_SPAN.format(cameras=condition), (since - _LOOK_BACK, until, *cameras))
    events = [_event(database, row) for row in rows]
    found = stays(events, _boots(database, events), _newest(database))
    return [stay for stay in found if stay.end >= since and stay.begin < until]


def last_signs(database: Database, herd: Iterable[str] = ()) -> list[LastSign]:
    """Return where each known animal was last seen; `herd`: these too, seen or not."""
    latest: dict[str, list[Event]] = {animal: [] for animal in herd}
    for (animal,) in database.execute(_ANIMALS):
        rows = [
            row
            for clock in ("NOT NULL", "NULL")
            for row in database.execute(_LATEST.format(clock), (animal,))
        ]
        latest[animal] = [_event(database, row) for row in rows]
    boots = _boots(database, [event for events in latest.values() for event in events])
    heard = {
        device: database.moment(moment)
        for device, moment in database.execute(
            "SELECT device, max(heard_at) FROM stream GROUP BY device"
        )
    }
    found = []
    for animal, events in sorted(latest.items()):
        if not events:
            found.append(LastSign(animal, None))
            continue
        event = max(events, key=lambda each: moment_of(each, boots))
        found.append(
            LastSign(
                animal,
                min(moment_of(event, boots), event.received_at),
                event.device,
                event.camera,
                event.last_seen is None,
                heard[event.device],
            )
        )
    return found


def _boots(database: Database, events: Sequence[Event]) -> dict[Boot, datetime]:
    """Find an event with a time in each boot that has events without."""
    anchors = {}
    for device, boot in sorted({(e.device, e.boot) for e in events if e.last_seen is None}):
        rows = database.execute(
            "SELECT monotonic, last_seen FROM sighting JOIN stream ON stream.id = stream_id "
            "WHERE device = ? AND boot = ? AND last_seen IS NOT NULL ORDER BY seen_at LIMIT 1",
            (device, boot),
        )
        for monotonic, last_seen in rows:
            moment = database.moment(last_seen)
            assert moment is not None
            anchors[device, boot] = (float(monotonic), moment)
    return boot_times(events, anchors)


def _newest(database: Database) -> dict[str, tuple[str, float]]:
    """Return boot and seconds of the last event of each device's current stream."""
    newest = {}
    rows = database.execute("SELECT id, device FROM stream ORDER BY heard_at, id")
    for device, number in {device: number for number, device in rows}.items():
        last = database.execute(
            "SELECT boot, monotonic FROM sighting WHERE stream_id = ? ORDER BY seq DESC LIMIT 1",
            (number,),
        )
        for boot, monotonic in last:
            newest[device] = (boot, float(monotonic))
    return newest


def _event(database: Database, row: tuple[Any, ...]) -> Event:
    device, boot, camera, track, seq, kind, animal, confidence, *rest = row
    first_seen, last_seen, monotonic, received_at = rest
    received = database.moment(received_at)
    assert received is not None
    return Event(
        device=device,
        boot=boot,
        camera=camera,
        track=track,
        seq=seq,
        type=kind,
        animal=animal,
        confidence=float(confidence),
        first_seen=database.moment(first_seen),
        last_seen=database.moment(last_seen),
        monotonic=float(monotonic),
        received_at=received,
    )
