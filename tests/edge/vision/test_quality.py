from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.vision.quality import CropGates, assess, covered_fractions, sharpness
from edge.vision.types import CropQuality

boxes_in_frame = hnp.arrays(np.float32, (6, 4), elements=st.floats(-10, 110, width=32)).map(
    lambda rows: np.concatenate([rows[:, :2], rows[:, :2] + np.abs(rows[:, 2:])], axis=1)
)


@given(boxes_in_frame, hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)))
def test_boxes_are_refused_together_as_each_by_itself(
    boxes: np.ndarray, covered: np.ndarray
) -> None:
    gates = CropGates(edge_px=2.0)
    alone = [
        gates.refusal(assess(None, box, float(share), 100, 80, gates.edge_px))
        for box, share in zip(boxes, covered, strict=True)
    ]
    assert gates.refusals(boxes, covered, (0, 0, 100, 80)) == alone
    assert gates.refusals(boxes[:0], covered[:0], (0, 0, 100, 80)) == []
    moved = boxes + np.array([30, 20, 30, 20], np.float32)
    assert gates.refusals(moved, covered, (30, 20, 130, 100)) == alone


GOOD = CropQuality(sharpness=100.0, clipped=False, covered=0.1, side_px=60.0)


def quality(**changes: object) -> CropQuality:
    return CropQuality(**{**{f: getattr(GOOD, f) for f in GOOD.__slots__}, **changes})  # type: ignore[arg-type]


def noise(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({}, None),
        ({"covered": 0.46}, "crowded"),
        ({"covered": 0.46, "clipped": True}, "crowded"),
        ({"covered": 0.45}, None),
        ({"clipped": True}, "poor"),
        ({"side_px": 15.9}, "poor"),
        ({"side_px": 16.0}, None),
        ({"sharpness": 14.9}, "poor"),
        ({"sharpness": float("inf")}, None),
    ],
)
def test_gates(changes: dict[str, object], refusal: str | None) -> None:
    assert CropGates().refusal(quality(**changes)) == refusal


def test_the_most_covering_neighbour_counts_not_the_sum() -> None:
    # A row of three: each neighbour hides a fifth of the one in the middle.
    row = np.array([[0, 0, 10, 10], [8, 0, 18, 10], [16, 0, 26, 10]], np.float32)
    assert covered_fractions(row).tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_a_small_box_inside_a_large_one_is_covered_the_large_one_hardly() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 20, 20]], np.float32)
    assert covered_fractions(boxes).tolist() == pytest.approx([0.01, 1.0])


def test_alone_or_empty_nothing_is_covered() -> None:
    assert covered_fractions(np.zeros((0, 4), np.float32)).shape == (0,)
    assert covered_fractions(np.array([[0, 0, 5, 5]], np.float32)).tolist() == [0]
    flat = np.array([[3, 3, 3, 3], [0, 0, 5, 5]], np.float32)
    assert np.isfinite(covered_fractions(flat)).all()


def test_blur_lowers_sharpness_and_a_plain_crop_has_none() -> None:
    image = noise()
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)
    assert sharpness(image) > 50 * sharpness(blurred) > 0
    assert sharpness(np.full((32, 32, 3), 90, np.uint8)) == 0


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((2, 2, 50, 40), False),
        ((1, 2, 50, 40), True),
        ((2, 1, 50, 40), True),
        ((2, 2, 99, 40), True),
        ((2, 2, 50, 79), True),
    ],
)
def test_a_box_at_the_frames_edge_is_clipped(box: tuple[float, ...], clipped: bool) -> None:
    measured = assess(noise(), np.array(box, np.float32), 0.2, 100, 80, edge_px=1)
    assert measured.clipped is clipped
    assert measured.covered == 0.2
    assert measured.side_px == min(box[2] - box[0], box[3] - box[1])


def test_without_a_crop_only_the_box_is_judged() -> None:
    box = np.array([10, 10, 50, 40], np.float32)
    assert assess(None, box, 0.0, 100, 80, edge_px=1).sharpness == np.inf
    assert assess(noise(), box, 0.0, 100, 80, edge_px=1).sharpness == sharpness(noise())
