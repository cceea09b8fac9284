from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.vision.types import Detections
from trainer.evaluate.detection import best_threshold, coco_figures
from trainer.evaluate.detection.coco import judge
from trainer.evaluate.detection.ranking import (
    figures_by_class,
    precision_recall,
    weighted_figures,
)

Toy = tuple[list[Detections], list[np.ndarray], list[np.ndarray]]
# Of the 101 recalls 0, 0.01 … 1: 34 up to 1/3, 67 up to 2/3, 51 up to 1/2.
AP50 = (34 * 1 + 67 * 3 / 4) / 101
AP75 = (34 * 1 + 33 * 2 / 3) / 101


def test_a_curve_drawn_by_hand(toy: Toy) -> None:
    ranking = judge(*toy, 1).ranking
    curve = precision_recall(ranking)
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(curve.f1, [1 / 2, 2 / 5, 2 / 3, 6 / 7, 3 / 4])
    strict = precision_recall(ranking, 0.75)
    np.testing.assert_allclose(strict.precision, [1, 1 / 2, 2 / 3, 1 / 2, 2 / 5])
    np.testing.assert_allclose(strict.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert best_threshold(*toy) == pytest.approx(0.55)


def test_average_precision_by_hand_and_by_pycocotools(toy: Toy) -> None:
    # IoU 2/3 passes 0.5, 0.55, 0.6 and 0.65 of the ten.
    expected = {"ap": 0.4 * AP50 + 0.6 * AP75, "ap50": AP50, "ap75": AP75, "ar": 0.4 + 0.6 * 2 / 3}
    assert weighted_figures(judge(*toy, 1).ranking) == pytest.approx(expected)
    assert coco_figures(*toy) == pytest.approx(expected)


def test_a_frame_that_counts_nothing_is_as_if_it_were_not_there(toy: Toy) -> None:
    # The first frame alone: right, wrong, right, wrong of two.
    figures = weighted_figures(judge(*toy, 1).ranking, np.array([1.0, 0.0]))
    assert figures["ap50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    nothing = weighted_figures(judge(*toy, 1).ranking, np.zeros(2))
    assert all(math.isnan(value) for value in nothing.values())


def test_a_threshold_is_read_off_the_curve(toy: Toy) -> None:
    curve = precision_recall(judge(*toy, 1).ranking)
    assert curve.at(0.7) == pytest.approx((2 / 3, 2 / 3))
    assert curve.at(0.65) == pytest.approx((2 / 3, 2 / 3))
    assert curve.at(0.95) is None


def test_equal_scores_pass_together() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)
    wrong = np.array([[50, 0, 60, 10]], np.float32)
    found = Detections(
        np.concatenate([wrong, box]), np.array([0.5, 0.5], np.float32), np.zeros(2, np.int32)
    )
    curve = precision_recall(judge([found], [box], [np.zeros(1, np.int32)], 1).ranking)
    assert curve.precision.tolist() == [0.5]
    assert curve.recall.tolist() == [1]


def test_only_cocos_ious_can_be_asked(toy: Toy) -> None:
    with pytest.raises(ValueError, match=r"0\.72 is none of"):
        precision_recall(judge(*toy, 1).ranking, 0.72)


def test_classes_are_averaged_and_one_without_animals_is_left_out() -> None:
    boxes = [np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)]
    labels = [np.array([0, 2], np.int32)]
    found = [Detections(boxes[0][:1], np.array([0.9], np.float32), np.zeros(1, np.int32))]
    ranking = judge(found, boxes, labels, 3).ranking
    first, second, third = figures_by_class(ranking)
    assert first["ap"] == pytest.approx(1)
    assert math.isnan(second["ap"])
    assert third["ap"] == 0
    assert weighted_figures(ranking)["ap"] == pytest.approx(0.5)


@st.composite
def herds(draw: st.DrawFn) -> tuple[Toy, list[int]]:
    """Some frames with boxes of two classes, finds beside them, and how often each frame counts."""
    count = draw(st.integers(1, 4))
    places = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1))
    boxes, classes, found = [], [], []
    scores = draw(st.permutations(range(1, 40)))
    for _ in range(count):
        truth = draw(st.lists(places, max_size=4))
        boxes.append(np.array([(20 * x, 20 * y, 20 * x + 12, 20 * y + 12) for x, y, _ in truth]))
        classes.append(np.array([label for *_, label in truth], np.int32))
        finds = draw(st.lists(st.tuples(places, st.integers(0, 4)), max_size=5))
        rows = [(20 * x + d, 20 * y, 20 * x + d + 12, 20 * y + 12) for (x, y, _), d in finds]
        found.append(
            Detections(
                np.array(rows, np.float32).reshape(-1, 4),
                np.array([scores.pop() / 40 for _ in rows], np.float32),
                np.array([label for (*_, label), _ in finds], np.int32),
            )
        )
    weights = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return (found, [b.astype(np.float32).reshape(-1, 4) for b in boxes], classes), weights


@settings(deadline=None, max_examples=60)
@given(herds())
def test_a_weight_is_as_good_as_that_many_copies_of_the_frame(
    herd: tuple[Toy, list[int]],
) -> None:
    toy, weights = herd
    copies = np.repeat(np.arange(len(weights)), weights)
    figures = weighted_figures(judge(*toy, 2).ranking, np.array(weights, float))
    expected = coco_figures(*([part[row] for row in copies] for part in toy))
    assert figures == pytest.approx(expected, nan_ok=True)
