from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.detection.assign import assign_targets, corners, decode, encode, match_anchors


def random_boxes(rng: np.random.Generator, count: int, room: float = 60) -> np.ndarray:
    low = rng.uniform(0, room, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def matched_by_loops(anchors: np.ndarray, boxes: np.ndarray, threshold: float) -> list[int]:
    matches = []
    for anchor in anchors:
        overlaps = [iou(anchor, box) for box in boxes]
        best = max(range(len(boxes)), key=lambda n: overlaps[n])
        matches.append(best if overlaps[best] >= threshold else -1)
    pairs = sorted(
        ((iou(a, b), -i, -j) for i, a in enumerate(anchors) for j, b in enumerate(boxes)),
        reverse=True,
    )
    anchors_taken, boxes_taken = set(), set()
    for overlap, i, j in pairs:
        if overlap > 0 and -i not in anchors_taken and -j not in boxes_taken:
            matches[-i] = -j
            anchors_taken.add(-i)
            boxes_taken.add(-j)
    return matches


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), anchors=st.integers(8, 40), boxes=st.integers(1, 8))
def test_matching_is_that_of_plain_loops(seed: int, anchors: int, boxes: int) -> None:
    rng = np.random.default_rng(seed)
    laid, truth = random_boxes(rng, anchors), random_boxes(rng, boxes)
    expected = matched_by_loops(laid, truth, 0.5)
    np.testing.assert_array_equal(match_anchors(laid, truth, 0.5), expected)


def test_two_boxes_in_one_place_take_two_anchors() -> None:
    anchors = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    assert sorted(match_anchors(anchors, boxes)) == [-1, 0, 1]


def test_a_frame_without_boxes_is_background() -> None:
    anchors = np.array([[5, 5, 10, 10]], np.float32)
    targets = assign_targets(anchors, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    np.testing.assert_array_equal(targets.classes, [-1])
    np.testing.assert_array_equal(targets.encodings, np.zeros((1, 4)))


def test_targets_by_hand() -> None:
    # cy cx h w: the first lies on the box, the second far away.
    anchors = np.array([[20, 30, 10, 20], [80, 80, 10, 10]], np.float32)
    boxes = np.array([[22, 16, 42, 26]], np.float32)
    targets = assign_targets(anchors, boxes, np.array([3], np.int32))
    np.testing.assert_array_equal(targets.classes, [3, -1])
    # Centre (21, 32), 10 by 20: a tenth of a height down, a tenth of a width right.
    np.testing.assert_allclose(targets.encodings[0], [1, 1, 0, 0], atol=1e-5)
    np.testing.assert_array_equal(targets.encodings[1], 0)


def test_sides_are_encoded_by_their_logarithm() -> None:
    anchors = np.array([[20, 30, 10, 20]], np.float32)
    boxes = np.array([[10, 10, 50, 30]], np.float32)
    expected = [[0, 0, 5 * math.log(2), 5 * math.log(2)]]
    np.testing.assert_allclose(encode(boxes, anchors), expected, atol=1e-5)
    np.testing.assert_array_equal(corners(anchors), [[20, 15, 40, 25]])


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12))
def test_decoding_undoes_encoding(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count)
    anchors = np.column_stack(
        [rng.uniform(0, 90, (count, 2)), rng.uniform(4, 60, (count, 2))]
    ).astype(np.float32)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=2e-3)
    np.testing.assert_allclose(encode(corners(anchors), anchors), 0, atol=1e-4)


def test_a_wild_encoding_stays_finite() -> None:
    anchors = np.array([[20, 30, 10, 20]], np.float32)
    assert np.isfinite(decode(np.full((1, 4), 1e4, np.float32), anchors)).all()
