from __future__ import annotations

import math

import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.evaluate.detection import coco_figures
from trainer.evaluate.detection.coco import boxes_by_size, judge


def detections(rows: list[tuple[float, ...]], classes: list[int] | None = None) -> Detections:
    """Rows x1 y1 x2 y2 score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    labels = np.array(classes if classes is not None else [0] * len(table), np.int32)
    return Detections(table[:, :4], table[:, 4], labels)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def zeros(*frames: np.ndarray) -> list[np.ndarray]:
    return [np.zeros(len(frame), np.int32) for frame in frames]


def test_all_found_exactly_is_perfect() -> None:
    truth = [boxes((0, 0, 10, 10), (20, 0, 30, 10)), boxes((5, 5, 40, 20))]
    found = [detections([(*box, 0.9) for box in frame.tolist()]) for frame in truth]
    figures = coco_figures(found, truth, zeros(*truth))
    assert figures == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "ar": 1})


def test_a_box_off_by_a_third_counts_at_half_but_not_at_three_quarters() -> None:
    truth = [boxes((0, 0, 30, 10))]
    # IoU 20/30: the thresholds 0.5, 0.55, 0.6 and 0.65 of ten are passed.
    figures = coco_figures([detections([(0, 0, 20, 10, 0.9)])], truth, zeros(*truth))
    assert figures == pytest.approx({"ap": 0.4, "ap50": 1, "ap75": 0, "ar": 0.4})


def test_a_false_alarm_that_is_surer_than_the_truth_costs_half() -> None:
    truth = [boxes((0, 0, 10, 10))]
    found = [detections([(50, 50, 60, 60, 0.9), (0, 0, 10, 10, 0.4)])]
    assert coco_figures(found, truth, zeros(*truth))["ap50"] == pytest.approx(0.5)
    # As sure of it but after the truth, it costs nothing.
    found = [detections([(50, 50, 60, 60, 0.3), (0, 0, 10, 10, 0.4)])]
    assert coco_figures(found, truth, zeros(*truth))["ap50"] == pytest.approx(1)


def test_classes_are_judged_apart() -> None:
    truth, labels = [boxes((0, 0, 10, 10), (20, 0, 30, 10))], [np.array([0, 1], np.int32)]
    found = [detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.9)], [0, 0])]
    # Class 0 is perfect in recall; class 1 is never found.
    assert coco_figures(found, truth, labels)["ap50"] == pytest.approx(0.5, abs=0.01)


def test_nothing_found_is_zero_and_nothing_there_is_undefined() -> None:
    truth = [boxes((0, 0, 10, 10))]
    assert coco_figures([Detections.empty()], truth, zeros(*truth))["ap"] == 0
    empty = [boxes()]
    figures = coco_figures([detections([(0, 0, 10, 10, 0.9)])], empty, zeros(*empty))
    assert all(math.isnan(value) for value in figures.values())


def test_pycocotools_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    truth = [boxes((0, 0, 10, 10))]
    coco_figures([detections([(0, 0, 10, 10, 0.9)])], truth, zeros(*truth))
    assert capsys.readouterr() == ("", "")


def test_recall_by_size_is_of_the_boxes_of_that_size() -> None:
    # Sides of 31, 32 and 96 pixels: the smallest of medium and of large, and a small one.
    truth = [boxes((0, 0, 31, 31), (100, 0, 132, 32), (200, 0, 296, 96))]
    found = [detections([(100, 0, 132, 32, 0.9), (0, 0, 31, 31, 0.8)])]
    assert boxes_by_size(truth) == {"small": 1, "medium": 1, "large": 1}
    # COCO's areas overlap at their limits: 32² is both small and medium, 96² medium and large.
    sizes = judge(found, truth, zeros(*truth), 1).ar_by_size
    assert sizes["small"] == pytest.approx(1)
    assert sizes["large"] == 0
    none = judge(found, [truth[0][:1]], zeros(truth[0][:1]), 1).ar_by_size
    assert math.isnan(none["large"])


def test_a_ranking_goes_by_score_over_frames_and_classes() -> None:
    truth = [boxes((0, 0, 10, 10)), boxes((0, 0, 10, 10), (20, 0, 30, 10))]
    labels = [np.array([1], np.int32), np.array([0, 1], np.int32)]
    found = [
        detections([(0, 0, 10, 10, 0.5)], [1]),
        detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.7)], [0, 0]),
    ]
    ranking = judge(found, truth, labels, 2).ranking
    np.testing.assert_allclose(ranking.scores, [0.9, 0.7, 0.5])
    np.testing.assert_array_equal(ranking.frames, [1, 1, 0])
    np.testing.assert_array_equal(ranking.classes, [0, 0, 1])
    # The second is where an animal of another class lies.
    np.testing.assert_array_equal(ranking.hits[0], [True, False, True])
    np.testing.assert_array_equal(ranking.positives, [[0, 1], [1, 1]])


def test_a_ranking_of_nothing_is_empty() -> None:
    truth = [boxes((0, 0, 10, 10))]
    ranking = judge([Detections.empty()], truth, zeros(*truth), 1).ranking
    assert ranking.hits.shape == (10, 0)
    assert ranking.positives.tolist() == [[1]]
