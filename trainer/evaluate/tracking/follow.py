"""A video through several trackers at once; what they ask twice of the models is asked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.capture import SourceOptions, open_source
from edge.comparison import TrackerName, make_tracker
from edge.errors import UsageError
from edge.identity.means import ClassMeans
from edge.pipeline import FrameTracker
from edge.vision.geometry import Colour
from edge.vision.look import CropEmbedder
from edge.vision.types import Detections, Floats, Frame, FrameDetector, Image
from trainer.evaluate.tracking.rows import PredictedBox

if TYPE_CHECKING:
    from edge.identity.types import Track
    from edge.release.bundle import Bundle

# Told of every frame and what each tracker says of it, by name.
Observer = Callable[[Frame, Mapping[str, "tuple[Track, ...]"]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What trackers said of one clip.

    predictions: the boxes that were seen, by the tracker's name. frames: how many there are. fps:
    of the clip. size: width, height. still: its first frame (H, W, 3).
    """

    predictions: dict[str, list[PredictedBox]]
    frames: int
    fps: float
    size: tuple[int, int]
    still: Image


def follow(video: Path, trackers: Mapping[str, FrameTracker], observe: Observer) -> Followed:
    """Show every frame of a video to all trackers. Raises as `open_source`."""
    source = open_source(str(video), "pen", SourceOptions())
    predictions: dict[str, list[PredictedBox]] = {name: [] for name in trackers}
    still, frames = None, 0
    for frame in source.frames():
        if still is None:
            still = frame.image.copy()
        tracks = {name: tracker.process(frame).tracks for name, tracker in trackers.items()}
        for name, own in tracks.items():
            predictions[name] += [
                PredictedBox(frame.index, track.id, track.animal, track.box.tolist())
                for track in own
                if track.seen
            ]
        frames = frame.index + 1
        observe(frame, tracks)
    if still is None:
        raise UsageError(f"{video}: has no frames")
    height, width = still.shape[:2]
    return Followed(predictions, frames, float(source.fps or 1), (width, height), still)


def open_trackers(bundle: Bundle, names: Sequence[TrackerName]) -> dict[str, FrameTracker]:
    """Return fresh trackers of a bundle by name; UsageError for one without a detector."""
    if bundle.detector is None:
        raise UsageError(f"{bundle.directory}: has no detector, so it cannot follow animals")
    return shared_trackers(bundle.detector, bundle.embedder, bundle.means, names)


def shared_trackers(
    detector: FrameDetector,
    embedder: CropEmbedder,
    means: ClassMeans,
    names: Sequence[TrackerName],
) -> dict[str, FrameTracker]:
    """Return trackers that share the answers of the models while they look at the same frame."""
    detector, embedder = _OnceDetector(detector), _OnceEmbedder(embedder)
    return {name: make_tracker(name, detector, embedder, means) for name in names}


class _OnceDetector:
    """Remembers what it found in the frame it was asked about last."""

    def __init__(self, detector: FrameDetector) -> None:
        self._detector = detector
        self._image: Image | None = None
        self._found: dict[float | None, Detections] = {}

    @property
    def score_threshold(self) -> float:
        return self._detector.score_threshold

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        if image is not self._image:
            self._image, self._found = image, {}
        if score_threshold not in self._found:
            self._found[score_threshold] = self._detector.detect(image, score_threshold)
        return self._found[score_threshold]


class _OnceEmbedder:
    """Remembers the embeddings of the crops it was asked about lately."""

    _MOST = 256

    def __init__(self, embedder: CropEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[bytes, Floats] = {}

    @property
    def size(self) -> int:
        return self._embedder.size

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def letterbox_colour(self) -> Colour:
        return self._embedder.letterbox_colour

    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        keys = [crop.tobytes() for crop in crops]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        if len(self._known) > self._MOST:
            kept = {key: self._known[key] for key in keys if key in self._known}
            self._known = kept
        if new:
            answers = self._embedder.embed(crops[new])
            self._known.update(zip([keys[row] for row in new], answers, strict=True))
        return np.stack([self._known[key] for key in keys])
