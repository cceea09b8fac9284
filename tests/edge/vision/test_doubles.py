from __future__ import annotations

import math

import numpy as np
import pytest

from edge.vision.doubles import soften, without_doubles
from edge.vision.types import Detections


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    scores = np.linspace(0.9, 0.5, count).astype(np.float32)
    return Detections(np.array(boxes, np.float32), scores, np.zeros(count, np.int32))


def kept(detections: Detections, iou: float = 0.4, covered: float = 0.75) -> list[float]:
    """Return the left edges of what is kept: the tests' boxes all differ there."""
    return without_doubles(detections, iou, covered).boxes[:, 0].tolist()


@pytest.mark.parametrize(
    ("second", "stays"),
    [
        ((20, 0, 30, 10), True),  # far away
        ((6, 0, 16, 10), True),  # IoU 4/16, covered 0.4
        ((3, 0, 13, 10), False),  # IoU 7/13
        ((1, 1, 4, 4), False),  # a part: IoU 0.09, wholly covered
        ((-5, -30, 25, 40), False),  # around it: IoU 0.05, the better one wholly inside
    ],
)
def test_a_double_of_a_better_box_goes(second: tuple, stays: bool) -> None:
    assert kept(found((0, 0, 10, 10), second)) == ([0.0, second[0]] if stays else [0.0])


def test_a_box_that_went_takes_nobody_with_it() -> None:
    # The middle one is a double of the first; the last overlaps the middle one only.
    assert kept(found((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10))) == [0.0, 8.0]


def test_scores_and_classes_stay_with_their_boxes() -> None:
    detections = found((0, 0, 10, 10), (1, 0, 11, 10), (50, 0, 60, 10))
    left = without_doubles(detections, 0.4, 0.75)
    np.testing.assert_array_equal(left.scores, detections.scores[[0, 2]])


def test_nothing_and_one_stay_as_they_are() -> None:
    assert len(without_doubles(Detections.empty(), 0.4, 0.75)) == 0
    assert kept(found((1, 2, 3, 4))) == [1.0]


def test_scores_fall_by_how_much_better_boxes_overlap() -> None:
    # .9 and .8 share half of both (IoU 1/3); .7 overlaps .8 only (IoU 3/17).
    given = Detections(
        np.array([(0, 0, 10, 10), (5, 0, 15, 10), (12, 0, 22, 10)], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 1, 2], np.int32),
    )
    second = 0.8 * math.exp(-((1 / 3) ** 2) / 0.5)  # 0.641: below the third by now
    third = 0.7
    soft = soften(given, 0.5)
    assert soft.classes.tolist() == [0, 2, 1]
    second *= math.exp(-((3 / 17) ** 2) / 0.5)
    np.testing.assert_allclose(soft.scores, [0.9, third, second], rtol=1e-5)
    np.testing.assert_array_equal(soft.boxes, given.boxes[[0, 2, 1]])


def test_of_one_box_twice_one_is_left_above_any_threshold() -> None:
    given = Detections(
        np.array([(0, 0, 10, 10)] * 2, np.float32),
        np.array([0.9, 0.9], np.float32),
        np.zeros(2, np.int32),
    )
    np.testing.assert_allclose(soften(given, 0.5).scores, [0.9, 0.9 * math.exp(-2)], rtol=1e-5)
    assert len(soften(Detections.empty(), 0.5)) == 0
