from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.detection.assign import encode
from trainer.detection.losses import (
    box_iou,
    focal_loss,
    giou_loss,
    hard_negative_loss,
    quality_focal_loss,
    smooth_l1,
)


def test_focal_loss_by_hand() -> None:
    probabilities, truth = [0.9, 0.2, 0.5], [1.0, 1.0, 0.0]
    logits = np.array([[math.log(p / (1 - p)) for p in probabilities]], np.float32)
    expected = (
        0.25 * 0.1**2 * -math.log(0.9)
        + 0.25 * 0.8**2 * -math.log(0.2)
        + 0.75 * 0.5**2 * -math.log(0.5)
    )
    loss = float(focal_loss(logits, np.array([truth], np.float32)))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_focal_loss_without_focus_is_weighed_cross_entropy() -> None:
    loss = float(focal_loss(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32), 1.0, 0.0))
    assert loss == pytest.approx(6 * math.log(2), rel=1e-5)


def test_focal_loss_stays_finite_for_logits_without_doubt() -> None:
    logits = np.array([[80.0, -80.0]], np.float32)
    assert float(focal_loss(logits, np.array([[1.0, 0.0]], np.float32))) == pytest.approx(0)
    assert float(focal_loss(logits, np.array([[0.0, 1.0]], np.float32))) == pytest.approx(80.0)


def test_quality_focal_loss_asks_for_the_fit_of_the_box() -> None:
    truth = np.array([[[1.0], [0.0]]], np.float32)
    quality = np.array([[0.8, 0.9]], np.float32)  # that of an anchor without an animal is no one's

    def loss(first: float, second: float) -> float:
        logits = np.log(np.array([[[first], [second]]]) / (1 - np.array([[[first], [second]]])))
        return float(quality_focal_loss(logits.astype(np.float32), truth, quality))

    by_hand = 0.3**2 * -(0.8 * math.log(0.5) + 0.2 * math.log(0.5)) + 0.1**2 * -math.log(0.9)
    assert loss(0.5, 0.1) == pytest.approx(by_hand, rel=1e-4)
    assert loss(0.8, 1e-6) == pytest.approx(0, abs=1e-6)
    assert loss(0.95, 1e-6) > 0.01


def test_smooth_l1_by_hand_counts_only_anchors_with_a_box() -> None:
    truth = np.zeros((1, 2, 4), np.float32)
    predicted = np.array([[[0.5, -3, 0, 1], [9, 9, 9, 9]]], np.float32)
    loss = float(smooth_l1(predicted, truth, np.array([[1.0, 0.0]], np.float32)))
    assert loss == pytest.approx(0.125 + 2.5 + 0 + 0.5)


# x1 y1 x2 y2 and the GIoU with (0, 0, 10, 10), by hand.
@pytest.mark.parametrize(
    ("box", "giou"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 50 / 150),  # hull and union are one
        ((0, 0, 5, 5), 25 / 100),
        ((20, 0, 30, 10), 0 - 100 / 300),  # hull 30x10, union 200
        ((5, 5, 15, 15), 25 / 175 - 50 / 225),
    ],
)
def test_giou_by_hand(box: tuple[float, ...], giou: float) -> None:
    anchors = np.array([[8, 8, 12, 14], [50, 50, 10, 10]], np.float32)
    predicted = encode(np.array([box, (0, 0, 1, 1)], np.float32), anchors)[None]
    truth = encode(np.array([(0, 0, 10, 10), (9, 9, 99, 99)], np.float32), anchors)[None]
    loss = float(giou_loss(predicted, truth, anchors, np.array([[1.0, 0.0]], np.float32)))
    assert loss == pytest.approx(1 - giou, abs=1e-4)
    low, high = np.maximum(box[:2], 0), np.minimum(box[2:], 10)
    shared = float(np.prod(np.maximum(high - low, 0)))
    union = 100 + (box[2] - box[0]) * (box[3] - box[1]) - shared
    iou = np.asarray(box_iou(predicted, truth, anchors))[0, 0]
    assert iou == pytest.approx(shared / union, abs=1e-4)


def test_hard_negatives_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 20, 2)).astype(np.float32)
    truth = np.zeros((3, 20, 2), np.float32)
    truth[0, [3, 7], 0] = 1
    truth[1, 5, 1] = 1  # and none in the third frame
    expected = 0.0
    for frame in range(3):
        losses = []
        for anchor in range(20):
            p = 1 / (1 + np.exp(-logits[frame, anchor].astype(float)))
            t = truth[frame, anchor]
            losses.append(float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).sum()))
        positives = [a for a in range(20) if truth[frame, a].any()]
        negatives = sorted((losses[a] for a in range(20) if a not in positives), reverse=True)
        expected += sum(losses[a] for a in positives)
        expected += sum(negatives[: 3 * max(1, len(positives))])
    assert float(hard_negative_loss(logits, truth)) == pytest.approx(expected, rel=1e-5)
