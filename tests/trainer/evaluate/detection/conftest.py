"""Small truths and detections, and frames of one grey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.data.frames import FrameSet

Rows = Sequence[tuple[float, ...]]


def _detections(rows: Rows, classes: Sequence[int] | None = None) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    labels = np.array(classes if classes is not None else [0] * len(table), np.int32)
    return Detections(table[:, :4], table[:, 4], labels)


@pytest.fixture
def detections() -> Callable[..., Detections]:
    """Call with rows x1 y1 x2 y2 score, and classes unless all are 0."""
    return _detections


@pytest.fixture
def grey_frames(tmp_path: Path) -> Callable[..., FrameSet]:
    """Call with the boxes of each frame (and sessions, classes, class_names): images of 100x60."""

    def make(
        boxes: Sequence[Rows],
        sessions: Sequence[str] | None = None,
        classes: Sequence[Sequence[int]] | None = None,
        class_names: Sequence[str] = ("animal",),
    ) -> FrameSet:
        paths = []
        for number in range(len(boxes)):
            paths.append(tmp_path / f"frame_{number:02}.png")
            cv2.imwrite(str(paths[-1]), np.full((60, 100, 3), 90, np.uint8))
        labels = classes or [[0] * len(rows) for rows in boxes]
        return FrameSet(
            tuple(paths),
            tuple(np.array(rows, np.float32).reshape(-1, 4) for rows in boxes),
            tuple(np.array(rows, np.int32) for rows in labels),
            tuple(sessions or ["s"] * len(boxes)),
            tuple(class_names),
        )

    return make


class Toy:
    """Three animals in two frames, and five finds whose curve can be drawn by hand.

    Best first: right; wrong; right; right at IoU 2/3 only; wrong.
    """

    boxes = (((0, 0, 10, 10), (20, 0, 30, 10)), ((0, 0, 10, 10),))
    found = (
        ((0, 0, 10, 10, 0.9), (60, 30, 70, 40, 0.8), (20, 0, 30, 15, 0.6), (80, 30, 90, 40, 0.5)),
        ((0, 0, 10, 10, 0.7),),
    )


@pytest.fixture
def toy() -> tuple[list[Detections], list[np.ndarray], list[np.ndarray]]:
    """Return found, boxes and classes of `Toy`."""
    return (
        [_detections(rows) for rows in Toy.found],
        [np.array(rows, np.float32) for rows in Toy.boxes],
        [np.zeros(len(rows), np.int32) for rows in Toy.boxes],
    )


@pytest.fixture
def toy_frames(grey_frames: Callable[..., FrameSet]) -> FrameSet:
    """Return the frames of `Toy`, each a session of its own."""
    return grey_frames(Toy.boxes, sessions=["day", "night"])
