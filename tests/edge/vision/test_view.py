from __future__ import annotations

import numpy as np
import pytest

from edge.vision.types import Detections, Image
from edge.vision.view import View, ViewedDetector


class Eye:
    """Finds a box of four pixels a side at every white pixel, and keeps what it was shown."""

    score_threshold = 0.4

    def __init__(self) -> None:
        self.shown: list[Image] = []

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        self.shown.append(image)
        rows, columns = np.nonzero(image[..., 0] == 255)
        boxes = np.stack([columns - 2, rows - 2, columns + 2, rows + 2], axis=1).astype(np.float32)
        count = len(boxes)
        return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))


def frame(*places: tuple[int, int]) -> Image:
    """A grey frame of 100 by 200 with white pixels at x, y."""
    image = np.full((100, 200, 3), 50, np.uint8)
    for x, y in places:
        image[y, x] = 255
    return image


def test_boxes_of_a_region_lie_in_the_whole_frame() -> None:
    eye = Eye()
    viewed = ViewedDetector(eye, View(region=(0.25, 0.5, 0.75, 1.0)))
    found = viewed.detect(frame((60, 70), (10, 10), (160, 90)))
    assert eye.shown[0].shape == (50, 100, 3)
    assert eye.shown[0].flags.c_contiguous
    assert found.boxes.tolist() == [[58, 68, 62, 72]]
    assert viewed.score_threshold == 0.4


def test_what_is_masked_is_filled_and_not_found() -> None:
    eye = Eye()
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    viewed = ViewedDetector(eye, View(masks=(left_half,)), (1, 2, 3))
    image = frame((20, 20), (150, 20))
    before = image.copy()
    found = viewed.detect(image)
    np.testing.assert_array_equal(image, before)
    assert found.boxes.tolist() == [[148, 18, 152, 22]]
    assert eye.shown[0][20, 20].tolist() == [1, 2, 3]
    assert eye.shown[0][20, 150].tolist() == [255, 255, 255]


def test_a_box_that_reaches_out_of_the_mask_goes_by_its_centre() -> None:
    class Wide(Eye):
        def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
            boxes = np.array([[80, 0, 110, 40], [90, 0, 130, 40]], np.float32)
            return Detections(boxes, np.full(2, 0.9, np.float32), np.zeros(2, np.int32))

    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    found = ViewedDetector(Wide(), View(masks=(mask,))).detect(frame())
    assert found.boxes.tolist() == [[90, 0, 130, 40]]


def test_a_mask_follows_the_size_of_the_frames() -> None:
    viewed = ViewedDetector(Eye(), View(masks=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),)))
    assert len(viewed.detect(frame((20, 20), (150, 20)))) == 1
    small = frame((20, 20), (90, 20))[:50, :100]
    assert viewed.detect(small).boxes.tolist() == [[88, 18, 92, 22]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"region": (0.5, 0.0, 0.5, 1.0)}, "left to right"),
        ({"region": (0.0, 0.0, 1.2, 1.0)}, "from 0 to 1"),
        ({"region": (0.0, float("nan"), 1.0, 1.0)}, "from 0 to 1"),
        ({"masks": (((0.0, 0.0), (1.0, 1.0)),)}, "3 points or more"),
        ({"masks": (((0.0, 0.0), (1.0, 1.0), (2.0, 0.0)),)}, "points lie from 0 to 1"),
    ],
)
def test_views_that_cannot_be(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        View(**fields)


def test_a_view_of_everything_is_whole() -> None:
    assert View().whole
    assert not View(region=(0.0, 0.0, 1.0, 0.9)).whole
    assert not View(masks=(((0, 0), (1, 1), (0, 1)),)).whole
