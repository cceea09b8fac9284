from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection import (
    best_threshold,
    coco_figures,
    evaluate_detection,
    match_detections,
    recall_by_overlap,
)


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


def test_the_surest_detection_chooses_first() -> None:
    truth = boxes((0, 0, 10, 10), (4, 0, 14, 10))
    found = detections([(1, 0, 11, 10, 0.5), (0, 0, 10, 10, 0.9), (40, 0, 50, 10, 0.99)])
    # 0.9 takes box 0; 0.5 would overlap box 0 more, but takes box 1 (IoU 7/13).
    matches = match_detections(found, truth, np.zeros(2, np.int32))
    np.testing.assert_array_equal(matches, [1, 0, -1])
    other_class = match_detections(found, truth, np.array([1, 1], np.int32))
    np.testing.assert_array_equal(other_class, [-1, -1, -1])


def test_recall_by_how_boxes_overlap() -> None:
    # 0 alone; 1 and 2 share a tenth; 3 and 4 share half.
    truth = boxes((0, 50, 10, 60), (0, 0, 10, 10), (9, 0, 19, 10), (40, 0, 50, 10), (45, 0, 55, 10))
    found = detections([(*truth[row].tolist(), 0.9) for row in (0, 1, 2, 3)])
    shares = recall_by_overlap([found], [truth], zeros(truth))
    assert shares == {"none": 1.0, "touching": 1.0, "piled": 0.5}
    alone = recall_by_overlap([found], [truth[:1]], zeros(truth[:1]))
    assert alone["none"] == 1
    assert math.isnan(alone["piled"])


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


def test_frames_are_asked_twice_weak_boxes_for_ap_sure_ones_for_counting(tmp_path: Path) -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    paths = []
    for name in "ab":
        paths.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(paths[-1]), np.zeros((40, 60, 3), np.uint8))
    frames = FrameSet(
        tuple(paths), (truth, boxes()), tuple(zeros(truth, boxes())), ("s", "s"), ("animal",)
    )
    everything = detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.4), (40, 20, 50, 30, 0.1)])

    def detect(image: np.ndarray, score_threshold: float | None = None) -> Detections:
        assert image.shape == (40, 60, 3)
        limit = 0.5 if score_threshold is None else score_threshold
        keep = everything.scores >= limit
        return Detections(everything.boxes[keep], everything.scores[keep], everything.classes[keep])

    seen: list[tuple[int, int]] = []
    figures = evaluate_detection(
        detect, frames, lambda done, total, note="": seen.append((done, total))
    )
    # Sure of one each: one too few in the first frame, one too many in the empty one.
    assert figures["count_error"] == 1
    assert figures["recall_by_overlap"]["none"] == 0.5
    assert figures["ar"] == pytest.approx(1)
    # Sorted: true .9, false .9 (the empty frame), true .4: precision 1 up to half, then 2/3 or 1/2.
    assert 0.5 < figures["ap50"] < 1
    assert seen[-1] == (2, 2)
