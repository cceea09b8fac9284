"""Tracklets out of unlabelled pictures: animals followed, and a few good crops of each written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge.errors import UsageError
from edge.vision.geometry import crop_pixels
from edge.vision.quality import CropGates, assess
from edge.vision.types import Floats, Frame, FrameDetector
from trainer.labelling.choose import Candidates, choose, judged
from trainer.labelling.files import crop_name
from trainer.labelling.follow import Follower, FollowOptions, Seen
from trainer.labelling.places import Place
from trainer.labelling.tracklets import TRACKLETS_FOLDER, ProposedCrop, Tracklet

SHORT, POOR = "too short", "without a good crop"
_PATH_POINTS = 32


@dataclass(frozen=True, slots=True)
class ProposeOptions:
    """What becomes a tracklet.

    every: frames 0, every, 2·every, … are looked at. least_frames: looked at, in which the animal
    must be seen. most_crops: of each tracklet. gates: as on a device; what could not speak for an
    animal there is not proposed.
    """

    every: int = 1
    least_frames: int = 20
    most_crops: int = 12
    gates: CropGates = field(default_factory=CropGates)
    follow: FollowOptions = field(default_factory=FollowOptions)

    def __post_init__(self) -> None:
        if min(self.every, self.least_frames, self.most_crops) < 1:
            raise UsageError("every, least frames and most crops must be 1 or more")


@dataclass(frozen=True, slots=True)
class _Moment:
    index: int
    at_s: float
    time: str | None
    width: int
    height: int


class _Part:
    """A part of a track while it lasts."""

    def __init__(self, track: int, first: _Moment) -> None:
        self.track = track
        self.first = self.last = first
        self.frames = 0
        self.together: set[int] = set()
        self.candidates = Candidates()
        self._path: list[tuple[int, Floats]] = []
        self._path_every = 1
        self._end: tuple[int, Floats] | None = None

    def add(self, moment: _Moment, box: Floats) -> None:
        self._end = (moment.index, box)
        if self.frames % self._path_every == 0:
            self._path.append(self._end)
        if len(self._path) > _PATH_POINTS:
            self._path = self._path[::2]
            self._path_every *= 2
        self.frames += 1
        self.last = moment

    def path(self) -> list[tuple[int, float, float, float, float]]:
        points = dict(self._path)
        if self._end is not None:
            index, box = self._end
            points[index] = box
        return [(index, *_rounded(box)) for index, box in points.items()]


class Proposer:
    """Turns the frames of one source into tracklets, whose crops it writes as they end.

    A file is one session. A camera's sessions last for an hour of the clock (UTC), and no
    tracklet goes on from one to the next. Memory is bounded by the animals in view.
    """

    def __init__(
        self, detector: FrameDetector, place: Place, folder: Path, options: ProposeOptions
    ) -> None:
        """folder: the proposal's, still being made."""
        self._detector, self._place, self._options = detector, place, options
        self._folder = folder / TRACKLETS_FOLDER
        self._follower = Follower(detector, options.follow)
        self._session = ""
        self._parts: dict[int, _Part] = {}
        self._names: dict[int, str] = {}
        self._together: dict[str, set[int]] = {}
        self._ended: list[Tracklet] = []
        self._found: list[Tracklet] = []
        self.skipped: Counter[str] = Counter()
        self.frames = 0

    def look(self, frame: Frame) -> None:
        """Work through a frame, unless it is one to be left out."""
        if frame.index % self._options.every:
            return
        self.frames += 1
        session = session_name(self._place, frame.wall_time)
        if self._session and session != self._session:
            self._end_session()
        self._session = session
        followed = self._follower.follow(frame)
        for seen in followed.seen:
            self._add(frame, seen)
        parts = {seen.part for seen in followed.seen}
        for part in parts:
            self._parts[part].together |= parts - {part}
        self._close(followed.ended)

    def finish(self) -> list[Tracklet]:
        """End the source and return its tracklets, by session, track and time."""
        self._end_session()
        return sorted(self._found, key=lambda t: (t.session, t.track, t.first_frame))

    def _add(self, frame: Frame, seen: Seen) -> None:
        height, width = frame.image.shape[:2]
        time = _iso(frame.wall_time) if self._place.live else None
        moment = _Moment(frame.index, frame.monotonic_s, time, width, height)
        part = self._parts.get(seen.part)
        if part is None:
            part = self._parts[seen.part] = _Part(seen.track, moment)
        part.add(moment, seen.box)
        edge_px = self._options.gates.edge_px
        # The box alone may be reason enough; then nothing is cut.
        quality = assess(None, seen.box, seen.covered, width, height, edge_px)
        if self._options.gates.refusal(quality) is not None:
            return
        pixels = crop_pixels(frame.image, seen.box)
        scaled, sharp = judged(pixels)
        if sharp >= self._options.gates.min_sharpness:
            part.candidates.offer(frame.index, seen.box, seen.covered, pixels, scaled, sharp)

    def _close(self, keys: Iterable[int]) -> None:
        for key in keys:
            part = self._parts.pop(key)
            if part.frames < self._options.least_frames:
                self.skipped[SHORT] += 1
                continue
            chosen = choose(part.candidates.all(), self._options.most_crops)
            if not chosen:
                self.skipped[POOR] += 1
                continue
            name = f"{self._session}-{len(self._names) + 1:04d}"
            self._names[key], self._together[name] = name, part.together
            folder = self._folder / name
            folder.mkdir(parents=True)
            crops = []
            for crop in chosen:
                file = crop_name(name, crop.frame)
                (folder / file).write_bytes(crop.data)
                box, sharp = _rounded(crop.box), round(crop.sharpness, 1)
                crops.append(
                    ProposedCrop(
                        file=file,
                        frame=crop.frame,
                        box=box,
                        sharpness=sharp,
                        covered=round(crop.covered, 3),
                    )
                )
            self._ended.append(self._tracklet(name, part, crops))

    def _tracklet(self, name: str, part: _Part, crops: list[ProposedCrop]) -> Tracklet:
        first, last = part.first, part.last
        return Tracklet(
            name=name,
            session=self._session,
            camera=self._place.camera,
            source=self._place.shown,
            track=part.track,
            first_frame=first.index,
            last_frame=last.index,
            first_s=round(first.at_s, 3),
            last_s=round(last.at_s, 3),
            first_time=first.time,
            last_time=last.time,
            frames=part.frames,
            width=last.width,
            height=last.height,
            crops=crops,
            path=part.path(),
            together=[],
        )

    def _end_session(self) -> None:
        """Close what is open. Who was together is known by name only now: some were left out."""
        self._close(self._follower.finish())
        for tracklet in self._ended:
            keys = self._together[tracklet.name]
            together = sorted(self._names[key] for key in keys if key in self._names)
            self._found.append(msgspec.structs.replace(tracklet, together=together))
        self._follower = Follower(self._detector, self._options.follow)
        self._names, self._together, self._ended = {}, {}, []


def session_name(place: Place, wall_time: datetime | None) -> str:
    """Return the stretch of time that a frame belongs to: the file, or the camera's hour in UTC."""
    if not place.live:
        return place.camera
    if wall_time is None:
        return f"{place.camera}-undated"
    return f"{place.camera}-{wall_time.astimezone(UTC):%Y-%m-%d-%H}"


def _iso(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(box: Floats) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    return x1, y1, x2, y2
