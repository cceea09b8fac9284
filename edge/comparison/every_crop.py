"""What the article's trackers have in common: every crop of every frame is embedded and believed.

There are no gates, no votes, and nobody is ever unknown: a crop is the animal whose class mean is
nearest. Two tracks may carry the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans
from edge.identity.types import Track
from edge.pipeline import FrameResult, PipelineOptions
from edge.vision.doubles import without_doubles
from edge.vision.geometry import cut_crop
from edge.vision.look import CropEmbedder
from edge.vision.types import Detections, Floats, Frame, FrameDetector, Image

# As ours: the trackers are compared, not what the detector says twice.
_DOUBLE_IOU, _DOUBLE_COVERED = 0.4, 0.75


@dataclass(slots=True, eq=False)
class CropTrack:
    """One animal as such a tracker follows it.

    box: float32 (4,), the last one found. embeddings: the crops by which it is named; `_name` says
    which are kept. placed: unit vector (D,) that names it, None while there is no name.
    detection: index into this frame's, or -1. misses: frames since the last detection.
    """

    id: int
    box: Floats
    score: float
    first_seen_s: float
    last_seen_s: float
    embeddings: list[Floats]
    placed: Floats | None = None
    detection: int = -1
    misses: int = 0
    age_frames: int = 0


class EveryCropTracker(ABC):
    """A `FrameTracker`; who follows whom, and which crops name a track, is its subclasses' own."""

    def __init__(self, detector: FrameDetector, embedder: CropEmbedder, means: ClassMeans) -> None:
        self._detector = detector
        self._embedder = embedder
        self._matcher = self._checked(means)
        self._next_id = 1
        self._tracks: list[CropTrack] = []

    def process(self, frame: Frame) -> FrameResult:
        """Work through the next frame of the camera."""
        found = without_doubles(self._detector.detect(frame.image), _DOUBLE_IOU, _DOUBLE_COVERED)
        embeddings = self._embed(frame.image, found)
        for track in self._tracks:
            track.age_frames += 1
            track.detection = -1
        rows, columns = self._associate(found, embeddings, frame.monotonic_s)
        for row, column in zip(rows, columns, strict=True):
            self._tracks[row].detection = int(column)
        free = np.setdiff1d(np.arange(len(found)), columns)
        for column in free:
            self._start(found, int(column), frame.monotonic_s)
        for track in self._tracks:
            if track.detection < 0:
                track.misses += 1
                continue
            track.box = found.boxes[track.detection]
            track.score = float(found.scores[track.detection])
            track.last_seen_s, track.misses = frame.monotonic_s, 0
            self._name(track, embeddings[track.detection])
        ended = [track for track in self._tracks if self._over(track)]
        self._drop(ended)
        return FrameResult(frame.index, self._report(self._tracks), self._report(ended), found)

    def finish(self) -> tuple[Track, ...]:
        """End the stream: return the tracks that were still alive, as they stand."""
        alive = self._report(self._tracks)
        self._drop(self._tracks)
        return alive

    def replace_means(self, means: ClassMeans) -> None:
        """Take other class means of the same embedder, between two frames.

        Raises BundleError for means of another dimension; the old ones then stay.
        """
        self._matcher = self._checked(means)

    def replace_options(self, options: PipelineOptions) -> None:
        """Change nothing: these trackers have options of their own."""
        return

    @abstractmethod
    def _associate(
        self, found: Detections, embeddings: Floats, now_s: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return tracks (K,) and the detections (K,) they take, by index, each at most once."""

    @abstractmethod
    def _name(self, track: CropTrack, embedding: Floats) -> None:
        """Take one more crop (D,) of a track, and set `placed` as it should be named now."""

    def _over(self, track: CropTrack) -> bool:
        """Say whether a track ends with this frame."""
        return False

    def _drop(self, tracks: list[CropTrack]) -> None:
        gone = {track.id for track in tracks}
        self._tracks = [track for track in self._tracks if track.id not in gone]

    def _start(self, found: Detections, column: int, now_s: float) -> None:
        track = CropTrack(
            self._next_id, found.boxes[column], float(found.scores[column]), now_s, now_s, []
        )
        track.detection, track.age_frames = column, 1
        self._tracks.append(track)
        self._next_id += 1

    def _checked(self, means: ClassMeans) -> Matcher:
        if means.dimension != self._embedder.dimension:
            raise BundleError(
                f"class means of dimension {means.dimension} do not fit this embedder "
                f"({self._embedder.dimension}); build them again with the bundle in use"
            )
        return Matcher(means)

    def _embed(self, image: Image, found: Detections) -> Floats:
        if not len(found):
            return np.zeros((0, self._embedder.dimension), np.float32)
        size, colour = self._embedder.size, self._embedder.letterbox_colour
        return self._embedder.embed(
            np.stack([cut_crop(image, box, size, colour) for box in found.boxes])
        )

    def _report(self, tracks: list[CropTrack]) -> tuple[Track, ...]:
        return tuple(self._described(track) for track in sorted(tracks, key=lambda t: t.id))

    def _described(self, track: CropTrack) -> Track:
        animal, distance, margin = None, None, None
        if track.placed is not None and len(self._matcher.animals):
            distances = self._matcher.distances(track.placed[None])[0]
            nearest = int(distances.argmin())
            animal, distance = self._matcher.animals[nearest], float(distances[nearest])
            others = np.delete(distances, nearest)
            margin = float(others.min()) - distance if len(others) else float("inf")
        return Track(
            id=track.id,
            box=track.box,
            score=track.score,
            age_frames=track.age_frames,
            first_seen_s=track.first_seen_s,
            last_seen_s=track.last_seen_s,
            animal=animal,
            reason=None if animal is not None else "unknown",
            confidence=0.0 if distance is None else float(np.clip(1 - distance, 0, 1)),
            distance=distance,
            margin=margin,
            votes={},
            settled=animal is not None,
            seen=track.detection >= 0,
        )


def unit_mean(embeddings: list[Floats]) -> Floats:
    """Return the mean of unit vectors (D,), at unit length; the last one where they cancel."""
    total = np.sum(embeddings, axis=0)
    norm = float(np.linalg.norm(total))
    return np.asarray(total / norm if norm > 0 else embeddings[-1], np.float32)
