"""From tracks to sightings: when a sighting starts, changes and ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from edge.identity.types import Track
from edge.messaging.events import SCHEMA, Box, Reason, Sighting, timestamp
from edge.messaging.topics import check_id
from edge.vision.types import Frame

# An event must stay small in a herd of thousands: the votes of the best so many animals.
_VOTES = 24
_REASONS = ("unknown", "unsure", "crowded")
_Type = Literal["start", "update", "end"]


@dataclass(slots=True)
class _Moment:
    """A frame without its picture: seconds, wall time, and the size in pixels."""

    monotonic_s: float
    wall_time: datetime | None
    width: int
    height: int

    def wall_at(self, monotonic_s: float) -> datetime | None:
        """Return the wall time at another moment of the same monotonic clock."""
        if self.wall_time is None:
            return None
        return self.wall_time - timedelta(seconds=self.monotonic_s - monotonic_s)


@dataclass(slots=True)
class _Open:
    """A track that is followed. spoken: a start has been given out for it.

    animal: the identity as last given out. told_s: when that was. doubt_s: since when the track
    has had no name although one was given out.
    """

    box: Box
    seen_s: float
    spoken: bool = False
    first_seen: str | None = None
    animal: str | None = None
    reason: Reason | None = None
    told_s: float = 0.0
    doubt_s: float | None = None


class SightingLog:
    """The sightings of one camera. Deterministic: the same tracks give the same events.

    A sighting starts when its track is settled, is updated when the identity changes and every
    `update_every_s` seconds, and ends with the track. A track that never settles gives nothing.
    A named animal that goes nameless is only unnamed after `hold_s` seconds without a name, so
    that a few bad crops cause no events; another name, or a first one, is told at once.

    The events come without id, seq and stream: the outbox fills them in. Times are taken from the
    frames alone.
    """

    def __init__(
        self,
        *,
        device: str,
        camera: str,
        boot: str,
        release: str,
        means_seq: int,
        update_every_s: float = 30.0,
        hold_s: float = 3.0,
    ) -> None:
        self._device = check_id("device", device)
        self._camera = check_id("camera", camera)
        self._boot = boot
        self._release = release
        self._means_seq = means_seq
        self._update_every_s = update_every_s
        self._hold_s = hold_s
        self._open: dict[int, _Open] = {}
        self._last_state: dict[int, Track] = {}
        self._now: _Moment | None = None

    def set_release(self, release: str, means_seq: int) -> None:
        """Name another release and class means in the events from now on."""
        self._release = release
        self._means_seq = means_seq

    def set_timing(self, *, update_every_s: float, hold_s: float) -> None:
        """Take other intervals from now on."""
        self._update_every_s = update_every_s
        self._hold_s = hold_s

    @property
    def animals(self) -> frozenset[str]:
        """Who is in view by name, as last given out."""
        return frozenset(entry.animal for entry in self._open.values() if entry.animal is not None)

    def retell(self) -> list[Sighting]:
        """Return an update of every open sighting at once, as its track stood in the last frame."""
        return [
            self._tell("update", self._open[number], track)
            for number, track in self._last_state.items()
            if self._open[number].spoken
        ]

    def observe(
        self, frame: Frame, tracks: Sequence[Track], ended: Sequence[Track]
    ) -> list[Sighting]:
        """Return the events of one frame: `tracks` are alive in it, `ended` closed with it."""
        height, width = frame.image.shape[:2]
        self._now = _Moment(frame.monotonic_s, frame.wall_time, width, height)
        events = [event for track in tracks for event in self._follow(track)]
        return events + [event for track in ended for event in self._end(track)]

    def close(self, tracks: Sequence[Track] = ()) -> list[Sighting]:
        """End every open sighting at the end of the stream; `tracks`: their last state, if known.

        The times are those of the last frame observed.
        """
        events = [event for track in tracks for event in self._end(track)]
        for track in list(self._last_state.values()):
            events += self._end(track)
        return events

    def _follow(self, track: Track) -> list[Sighting]:
        entry = self._update_entry(track)
        now_s = self._moment().monotonic_s
        if not entry.spoken:
            return [self._tell("start", entry, track)] if track.settled else []
        if self._identity_changed(entry, track, now_s) or (
            now_s - entry.told_s >= self._update_every_s
        ):
            return [self._tell("update", entry, track)]
        return []

    def _end(self, track: Track) -> list[Sighting]:
        entry = self._open.get(track.id)
        if entry is None:
            if not track.settled or self._now is None:
                return []
            entry = self._update_entry(track)
        events = []
        if not entry.spoken and track.settled:
            events.append(self._tell("start", entry, track))
        if entry.spoken:
            self._identity_changed(entry, track, self._moment().monotonic_s)
            events.append(self._tell("end", entry, track))
        del self._open[track.id]
        self._last_state.pop(track.id, None)
        return events

    def _update_entry(self, track: Track) -> _Open:
        entry = self._open.get(track.id)
        if entry is None:
            entry = _Open(self._relative(track), track.last_seen_s)
            self._open[track.id] = entry
        elif track.seen:
            entry.box, entry.seen_s = self._relative(track), track.last_seen_s
        self._last_state[track.id] = track
        return entry

    def _identity_changed(self, entry: _Open, track: Track, now_s: float) -> bool:
        """Say whether the identity is another than the one told, for long enough to count."""
        if track.animal is not None:
            entry.doubt_s = None
            return track.animal != entry.animal
        if entry.animal is None:
            return False
        if entry.doubt_s is None:
            entry.doubt_s = now_s
        return now_s - entry.doubt_s >= self._hold_s

    def _tell(self, kind: _Type, entry: _Open, track: Track) -> Sighting:
        moment = self._moment()
        doubted = entry.doubt_s is not None and moment.monotonic_s - entry.doubt_s < self._hold_s
        if not (entry.spoken and doubted):
            entry.animal = track.animal
            entry.reason = None if track.animal is not None else _reason(track.reason)
        if entry.first_seen is None:
            # Kept from the start on, so that a clock that is set later does not move it.
            entry.first_seen = timestamp(moment.wall_at(track.first_seen_s))
        entry.spoken = True
        entry.told_s = moment.monotonic_s
        return Sighting(
            schema=SCHEMA,
            id="",
            seq=0,
            stream="",
            type=kind,
            device=self._device,
            camera=self._camera,
            track=track.id,
            animal=entry.animal,
            reason=entry.reason,
            confidence=_rounded(track.confidence) or 0.0,
            distance=_rounded(track.distance),
            margin=_rounded(track.margin),
            votes=_best_votes(track.votes),
            box=entry.box,
            first_seen=entry.first_seen,
            last_seen=timestamp(moment.wall_at(entry.seen_s)),
            clock="unsynced" if moment.wall_time is None else "synced",
            boot=self._boot,
            monotonic=round(entry.seen_s, 6),
            release=self._release,
            means_seq=self._means_seq,
            replayed=False,
        )

    def _relative(self, track: Track) -> Box:
        moment = self._moment()
        sizes = (moment.width, moment.height, moment.width, moment.height)
        x1, y1, x2, y2 = (
            round(min(max(float(value) / size, 0.0), 1.0), 5)
            for value, size in zip(track.box, sizes, strict=True)
        )
        return (x1, y1, x2, y2)

    def _moment(self) -> _Moment:
        assert self._now is not None, "no frame was observed"
        return self._now


def _reason(reason: str | None) -> Reason:
    return cast(Reason, reason) if reason in _REASONS else "unknown"


def _rounded(value: float | None) -> float | None:
    # JSON knows no infinity: the margin of a herd of one is null.
    return None if value is None or not math.isfinite(value) else round(float(value), 5)


def _best_votes(votes: dict[str, int]) -> dict[str, int]:
    ranked = sorted(votes.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:_VOTES])
