"""A tracker that sees a view of its camera, and answers in pixels of the whole frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.identity.means import ClassMeans
from edge.identity.types import Track
from edge.pipeline import FrameResult, FrameTracker
from edge.vision.types import Detections, Floats, Frame
from edge.vision.view import View


class ViewedTracker:
    """Any tracker behind a view: it gets the region as its frame, what a mask hides grey.

    An animal that the region's edge cuts off is clipped to it as by a frame's edge, and so gives
    no evidence. Boxes of all results are those of the whole frame.
    """

    def __init__(self, tracker: FrameTracker, view: View) -> None:
        self._tracker = tracker
        self._view = view
        self._shift: Floats = np.zeros(4, np.float32)

    def process(self, frame: Frame) -> FrameResult:
        """Work through the next frame of the camera."""
        window = self._view.window(*frame.image.shape[:2])
        self._shift = np.array([window.x1, window.y1] * 2, np.float32)
        seen = self._tracker.process(replace(frame, image=self._view.look(frame.image)))
        found = seen.detections
        return FrameResult(
            seen.index,
            self._whole(seen.tracks),
            self._whole(seen.ended),
            Detections(found.boxes + self._shift, found.scores, found.classes),
        )

    def finish(self) -> tuple[Track, ...]:
        """End the stream: return the tracks that were still alive, as they stand."""
        return self._whole(self._tracker.finish())

    def replace_means(self, means: ClassMeans) -> None:
        """Take other class means of the same embedder, between two frames."""
        self._tracker.replace_means(means)

    def _whole(self, tracks: tuple[Track, ...]) -> tuple[Track, ...]:
        return tuple(replace(track, box=track.box + self._shift) for track in tracks)
