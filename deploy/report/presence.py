"""From events to stays: one animal, one camera, from when to when. Pure.

Events of a device whose clock was not set have only the seconds since its boot. They are placed by
the first event of the same boot that has a time; where there is none, by when they were received:
none can be later than that, so the one that was least delayed says most about all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal

# A track that lives is told of every `update_every_s` (30 s as delivered).
_SILENT_S = 15 * 60

Boot = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """What a report needs of a sighting. Times are aware; None when the clock was not set.

    animal: None while the track had no name. monotonic: seconds since `boot`.
    """

    device: str
    boot: str
    camera: str
    track: int
    seq: int
    type: Literal["start", "update", "end"]
    animal: str | None
    confidence: float
    first_seen: datetime | None
    last_seen: datetime | None
    monotonic: float
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Stay:
    """An animal before one camera. end: its last sign. state: `here` while nothing ended it.

    approximate: the device's clock was not set at the begin or the end.
    """

    animal: str
    device: str
    camera: str
    begin: datetime
    end: datetime
    state: Literal["here", "gone"]
    confidence: float
    approximate: bool

    @property
    def place(self) -> str:
        """`device/camera`."""
        return f"{self.device}/{self.camera}"


def boot_times(
    events: Iterable[Event], anchors: Mapping[Boot, tuple[float, datetime]]
) -> dict[Boot, datetime]:
    """Return when each boot was at 0 s, for placing events without a time.

    anchors: by (device, boot), an event's seconds and its time, where one is known.
    """
    found = {
        boot: moment - timedelta(seconds=monotonic) for boot, (monotonic, moment) in anchors.items()
    }
    for event in events:
        boot = (event.device, event.boot)
        if event.last_seen is None and boot not in anchors:
            latest = event.received_at - timedelta(seconds=event.monotonic)
            found[boot] = min(found.get(boot, latest), latest)
    return found


def moment_of(event: Event, boots: Mapping[Boot, datetime]) -> datetime:
    """Return when an event's animal was last seen, to the best of what is known."""
    if event.last_seen is not None:
        return event.last_seen
    return boots[event.device, event.boot] + timedelta(seconds=event.monotonic)


def stays(
    events: Sequence[Event],
    boots: Mapping[Boot, datetime],
    newest: Mapping[str, tuple[str, float]],
) -> list[Stay]:
    """Return the stays, by animal and begin.

    newest: by device, boot and seconds of the last that was heard of it: the tracks of earlier
    boots have ended, whether that was told or not, and so has one that went silent.
    """

    def track(event: Event) -> tuple[str, str, str, int]:
        return event.device, event.boot, event.camera, event.track

    ordered = sorted(events, key=lambda event: (*track(event), event.seq))
    found = []
    for _, group in groupby(ordered, track):
        found += _of_track(list(group), boots, newest)
    return sorted(found, key=lambda stay: (stay.animal, stay.begin, stay.place))


def merged(found: Iterable[Stay], within: timedelta) -> list[Stay]:
    """Join stays of one animal before one camera that are at most `within` apart."""
    result: list[Stay] = []
    last: dict[tuple[str, str], int] = {}
    for stay in sorted(found, key=lambda stay: (stay.animal, stay.begin, stay.place)):
        key = (stay.animal, stay.place)
        before = result[last[key]] if key in last else None
        if before is None or stay.begin - before.end > within:
            last[key] = len(result)
            result.append(stay)
            continue
        result[last[key]] = replace(
            before,
            end=max(before.end, stay.end),
            state="here" if "here" in (before.state, stay.state) else "gone",
            confidence=max(before.confidence, stay.confidence),
            approximate=before.approximate or stay.approximate,
        )
    return result


def clipped(found: Iterable[Stay], since: datetime, until: datetime) -> list[Stay]:
    """Return what of the stays lies between `since` and `until`."""
    return [
        replace(stay, begin=max(stay.begin, since), end=min(stay.end, until))
        for stay in found
        if stay.end >= since and stay.begin < until
    ]


def _of_track(
    events: Sequence[Event],
    boots: Mapping[Boot, datetime],
    newest: Mapping[str, tuple[str, float]],
) -> list[Stay]:
    """Part a track where its name changed: up to an event it had the name of the one before."""
    found: list[Stay] = []
    current: Stay | None = None
    for event in events:
        now = moment_of(event, boots)
        guessed = event.last_seen is None
        if current is not None:
            current = replace(
                current, end=max(now, current.begin), approximate=current.approximate or guessed
            )
        if current is not None and current.animal == event.animal:
            current = replace(current, confidence=max(current.confidence, event.confidence))
        else:
            if current is not None:
                found.append(current)
            # The first event of a track tells when it was first seen, and all of them repeat it.
            begin = event.first_seen or now
            if event is not events[0]:
                begin = now
            current = None
            if event.animal is not None:
                current = Stay(
                    animal=event.animal,
                    device=event.device,
                    camera=event.camera,
                    begin=min(begin, now),
                    end=now,
                    state="gone",
                    confidence=event.confidence,
                    approximate=guessed,
                )
    if current is not None:
        last = events[-1]
        boot, heard_s = newest.get(last.device, (last.boot, last.monotonic))
        here = last.type != "end" and boot == last.boot and heard_s - last.monotonic < _SILENT_S
        found.append(replace(current, state="here" if here else "gone"))
    return found
