"""Scenes to measure with: so many animals on a floor, and where they are."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Detections, Floats, FrameDetector, Image

_FLOOR = (132, 120, 104)
# Animals take so much of their cell, and wander so many pixels between two frames.
_FILL = 0.8
# As in the demo's truth. Sides differ on purpose: OpenCV shrinks by a whole number some eight times
# quicker, so boxes of one size cost either too little or more than those of a real pen.
_LONG_SIDE = (0.14, 0.21)  # of the frame's height
_SHORT_BY_LONG = (0.5, 1.0)
_WANDER_PX = 6.0


class Scene:
    """Animals, cut from crops, that shuffle about on a floor; frame n is always the same.

    crops: uint8 (K, S, S, 3), of animals. size: height and width of the frames. count: animals.
    """

    def __init__(self, crops: NDArray[np.uint8], size: tuple[int, int], count: int) -> None:
        height, width = size
        rng = np.random.default_rng(count)
        noise = rng.normal(0, 6, (*size, 1))
        self._floor = np.clip(np.array(_FLOOR) + noise, 0, 255).astype(np.uint8)
        columns = max(1, math.ceil(math.sqrt(count * width / height)))
        rows = math.ceil(count / columns)
        cell = min(width / columns, height / rows)
        self._sides = np.array(
            [_sides(n, height, _FILL * cell) for n in range(count)], np.int64
        ).reshape(-1, 2)
        places = np.array(
            [((n % columns + 0.5) * width / columns, (n // columns + 0.5) * height / rows)
             for n in range(count)]
        ).reshape(-1, 2)  # fmt: skip
        self._low = np.clip(places - self._sides / 2, 0, np.array([width, height]) - self._sides)
        self._animals = [
            cv2.resize(crops[n % len(crops)], (int(wide), int(high)), interpolation=cv2.INTER_AREA)
            for n, (wide, high) in enumerate(self._sides)
        ]

    def frame(self, number: int) -> tuple[Image, Floats]:
        """Return frame `number` and the boxes (count, 4) of its animals."""
        image = self._floor.copy()
        height, width = image.shape[:2]
        rng = np.random.default_rng((len(self._animals), number))
        room = np.array([width, height]) - self._sides
        wander = rng.uniform(-_WANDER_PX, _WANDER_PX, self._low.shape)
        corners = np.clip(np.round(self._low + wander), 0, room).astype(int)
        for animal, (x, y) in zip(self._animals, corners, strict=True):
            high, wide = animal.shape[:2]
            image[y : y + high, x : x + wide] = animal
        boxes = np.concatenate([corners, corners + self._sides], axis=1).astype(np.float32)
        return image, boxes


def _sides(number: int, height: int, most: float) -> tuple[int, int]:
    """Return width and height of animal `number`: the same one however many there are."""
    rng = np.random.default_rng(number)
    long = min(rng.uniform(*_LONG_SIDE) * height, most)
    short = long * rng.uniform(*_SHORT_BY_LONG)
    wide, high = (long, short) if rng.random() < 0.5 else (short, long)
    return max(8, round(wide)), max(8, round(high))


class ScriptedDetector:
    """Works as hard as a detector does, then says what the scene says: exactly so many animals."""

    def __init__(self, detector: FrameDetector) -> None:
        self._detector = detector
        self.boxes = np.empty((0, 4), np.float32)

    @property
    def score_threshold(self) -> float:
        """The score from which a box is an animal."""
        return self._detector.score_threshold

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the scene's boxes, whatever the detector found."""
        self._detector.detect(image, score_threshold)
        count = len(self.boxes)
        return Detections(self.boxes, np.full(count, 0.95, np.float32), np.zeros(count, np.int32))
