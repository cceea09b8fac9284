from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.detection.assign import encode
from trainer.detection.decode import predict_float, select_detections, suppress
from trainer.embedding.backbones import find_backbone


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 25),
    limit=st.sampled_from([0.2, 0.45, 0.6]),
    top_k=st.integers(1, 12),
)
def test_suppression_is_that_of_plain_loops(
    seed: int, count: int, limit: float, top_k: int
) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 40, (count, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    expected: list[int] = []
    for row in range(count):
        if all(iou(boxes[row], boxes[other]) <= limit for other in expected):
            expected.append(row)
    np.testing.assert_array_equal(suppress(boxes, limit, top_k), expected[:top_k])


# IoU of a and b is 90/110 = 0.82; c lies apart; d touches c at 20/180 = 0.11.
A, B, C, D = (0, 0, 10, 10), (1, 0, 11, 10), (40, 40, 50, 50), (48, 40, 58, 50)
# One anchor for each box, somewhere near it.
ANCHORS = np.array([[5, 5, 12, 8], [5, 6, 9, 9], [44, 46, 10, 10], [45, 52, 8, 12]], np.float32)
ENCODINGS = encode(np.array([A, B, C, D], np.float32), ANCHORS)


def test_the_better_of_two_boxes_in_one_place_stays_whatever_its_class() -> None:
    scores = np.array([[0.3, 0.1], [0.2, 0.8], [0.5, 0.6], [0.05, 0.0]], np.float32)
    found = select_detections(
        ENCODINGS, scores, ANCHORS, score_threshold=0.1, nms_iou=0.5, top_k=10
    )
    np.testing.assert_allclose(found.boxes, [B, C], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.8, 0.6])
    np.testing.assert_array_equal(found.classes, [1, 1])
    assert (found.scores.dtype, found.classes.dtype) == (np.float32, np.int32)


def test_scores_are_softened_as_devices_do_it() -> None:
    scores = np.array([[0.7], [0.8], [0.6], [0.55]], np.float32)
    found = select_detections(
        ENCODINGS, scores, ANCHORS, score_threshold=0.3, nms_iou=0.9, top_k=10, soft_nms=0.5
    )
    np.testing.assert_allclose(found.boxes, [B, C, D], atol=1e-4)
    expected = [0.8, 0.6, 0.55 * np.exp(-((20 / 180) ** 2) / 0.5)]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)


def test_boxes_that_overlap_less_than_the_limit_all_stay_best_first() -> None:
    scores = np.array([[0.25], [0.5], [0.75], [1.0]], np.float32)
    found = select_detections(
        ENCODINGS, scores, ANCHORS, score_threshold=0.25, nms_iou=0.9, top_k=10
    )
    # A score equal to the threshold passes.
    np.testing.assert_allclose(found.boxes, [D, C, B, A], atol=1e-4)
    np.testing.assert_array_equal(found.classes, [0, 0, 0, 0])


def test_only_the_best_top_k_stay() -> None:
    scores = np.array([[0.25], [0.5], [0.75], [1.0]], np.float32)
    found = select_detections(ENCODINGS, scores, ANCHORS, score_threshold=0.0, nms_iou=0.9, top_k=2)
    np.testing.assert_array_equal(found.scores, [1.0, 0.75])


def test_nothing_strong_enough_is_no_detections() -> None:
    found = select_detections(
        ENCODINGS, np.full((4, 2), 0.3), ANCHORS, score_threshold=0.31, nms_iou=0.5, top_k=5
    )
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


class Echo:
    """Says of each frame its first pixel: four times as the encoding, and once as the logit."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict_on_batch(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(pixels))
        first = pixels[:, 0, 0, 0]
        return np.repeat(first[:, None, None], 4, axis=2), first[:, None, None]


def test_the_network_is_fed_real_pixels_in_batches_and_logits_become_scores() -> None:
    images = np.zeros((35, 4, 6, 3), np.uint8)
    images[:, 0, 0, 0] = np.linspace(0, 255, 35).astype(np.uint8)
    echo = Echo()
    encodings, scores = predict_float(echo, find_backbone("mobilenet_v2"), images)
    assert sum(echo.batches) == 35
    assert max(echo.batches) <= 16
    assert (encodings.shape, scores.shape) == ((35, 1, 4), (35, 1, 1))
    # 0..255 is -1..1 to the network.
    real = images[:, 0, 0, 0] / 127.5 - 1
    np.testing.assert_allclose(encodings[:, 0, 2], real, atol=1e-6)
    np.testing.assert_allclose(scores[:, 0, 0], 1 / (1 + np.exp(-real)), atol=1e-6)
