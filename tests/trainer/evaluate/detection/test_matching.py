from __future__ import annotations

import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.evaluate.detection import (
    at_least,
    best_threshold,
    match_detections,
)
from trainer.evaluate.detection.matching import OVERLAPS, overlap_groups


def detections(rows: list[tuple[float, ...]], classes: list[int] | None = None) -> Detections:
    """Rows x1 y1 x2 y2 score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    labels = np.array(classes if classes is not None else [0] * len(table), np.int32)
    return Detections(table[:, :4], table[:, 4], labels)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def zeros(*frames: np.ndarray) -> list[np.ndarray]:
    return [np.zeros(len(frame), np.int32) for frame in frames]


def test_the_surest_detection_chooses_first() -> None:
    truth = boxes((0, 0, 10, 10), (4, 0, 14, 10))
    found = detections([(1, 0, 11, 10, 0.5), (0, 0, 10, 10, 0.9), (40, 0, 50, 10, 0.99)])
    # 0.9 takes box 0; 0.5 would overlap box 0 more, but takes box 1 (IoU 7/13).
    matches = match_detections(found, truth, np.zeros(2, np.int32))
    np.testing.assert_array_equal(matches, [1, 0, -1])
    other_class = match_detections(found, truth, np.array([1, 1], np.int32))
    np.testing.assert_array_equal(other_class, [-1, -1, -1])


def test_groups_by_how_boxes_overlap() -> None:
    # 0 alone; 1 and 2 share a tenth; 3 and 4 share half.
    truth = boxes((0, 50, 10, 60), (0, 0, 10, 10), (9, 0, 19, 10), (40, 0, 50, 10), (45, 0, 55, 10))
    assert [OVERLAPS[n] for n in overlap_groups(truth)] == [
        "none",
        "touching",
        "touching",
        "piled",
        "piled",
    ]
    assert overlap_groups(truth[:1]).tolist() == [0]
    assert overlap_groups(truth[:0]).tolist() == []


def test_the_best_threshold_lies_between_right_and_wrong() -> None:
    truth = [boxes((0, 0, 10, 10), (20, 0, 30, 10)), boxes((0, 0, 10, 10))]
    found = [
        detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.6), (50, 0, 60, 10, 0.2)]),
        detections([(0, 0, 10, 10, 0.7), (50, 0, 60, 10, 0.3)]),
    ]
    assert best_threshold(found, truth, zeros(*truth)) == pytest.approx(0.45)
    # Of equal scores one right and one wrong, neither can be had without the other.
    tied = [detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.5), (50, 0, 60, 10, 0.5)])]
    assert best_threshold(tied, truth[:1], zeros(*truth[:1])) == pytest.approx(0.25)
    assert best_threshold([Detections.empty()], truth[:1], zeros(*truth[:1])) is None


def test_what_scores_the_threshold_itself_passes() -> None:
    found = detections([(0, 0, 10, 10, 0.5), (20, 0, 30, 10, 0.25)], [1, 0])
    kept = at_least(found, 0.5)
    assert kept.scores.tolist() == [0.5]
    assert kept.classes.tolist() == [1]
    assert len(at_least(found, 0.25)) == 2
