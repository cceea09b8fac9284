"""The part of a camera's picture that animals are looked for in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import Colour
from edge.vision.types import Detections, FrameDetector, Image

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """region: x1 y1 x2 y2 of what is looked at. masks: polygons of what is not, such as a feeder.

    Both are relative to the frame, 0..1.
    """

    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    masks: tuple[tuple[Point, ...], ...] = ()

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.region
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError(
                f"region {list(self.region)}: give x1, y1, x2, y2 from 0 to 1, left to right and "
                "top to bottom"
            )
        for polygon in self.masks:
            if len(polygon) < 3:
                raise ValueError(
                    f"mask {[list(point) for point in polygon]}: give 3 points or more"
                )
            if not all(0 <= value <= 1 for point in polygon for value in point):
                raise ValueError("mask: points lie from 0 to 1, as shares of the frame's sides")

    @property
    def whole(self) -> bool:
        """Whether all of the frame is looked at."""
        return self.region == (0.0, 0.0, 1.0, 1.0) and not self.masks


class ViewedDetector:
    """A detector that looks at a view only; its boxes stay in pixels of the whole frame.

    With a region smaller than the frame animals are larger in the model's input. What is masked is
    filled with the letterbox's `colour`, and a box whose centre lies there is left out. One camera
    each: the filled shape is kept for the size of its frames.
    """

    def __init__(
        self, detector: FrameDetector, view: View, colour: Colour = (114, 114, 114)
    ) -> None:
        self._detector, self._view, self._colour = detector, view, colour
        self._hidden: NDArray[np.bool_] | None = None

    @property
    def score_threshold(self) -> float:
        """The score from which a box is an animal."""
        return self._detector.score_threshold

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the animals of the view of a frame (H, W, 3), best first."""
        height, width = image.shape[:2]
        sides = np.array([width, height, width, height])
        x1, y1, x2, y2 = (int(v) for v in np.round(np.array(self._view.region) * sides))
        # Of a frame of few pixels at least one is looked at.
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        part = image[y1:y2, x1:x2]
        hidden = self._shape(height, width)
        if hidden is not None:
            part = part.copy()
            part[hidden[y1:y2, x1:x2]] = self._colour
        found = self._detector.detect(np.ascontiguousarray(part), score_threshold)
        boxes = found.boxes + np.array([x1, y1, x1, y1], np.float32)
        bounds = (x1, y1, x2, y2)
        if hidden is None or not len(boxes):
            return Detections(boxes, found.scores, found.classes, bounds)
        centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
        seen = ~hidden[np.clip(centres[:, 1], 0, height - 1), np.clip(centres[:, 0], 0, width - 1)]
        return Detections(boxes[seen], found.scores[seen], found.classes[seen], bounds)

    def _shape(self, height: int, width: int) -> NDArray[np.bool_] | None:
        """Return which pixels (H, W) are masked, None for none of them."""
        if not self._view.masks:
            return None
        if self._hidden is None or self._hidden.shape != (height, width):
            canvas = np.zeros((height, width), np.uint8)
            polygons: Sequence[NDArray[np.int32]] = [
                np.round(np.array(polygon) * [width - 1, height - 1]).astype(np.int32)
                for polygon in self._view.masks
            ]
            cv2.fillPoly(canvas, polygons, 255)
            self._hidden = canvas > 0
        return self._hidden
