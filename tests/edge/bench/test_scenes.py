from __future__ import annotations

import numpy as np
import pytest

from edge.bench.scenes import Scene, ScriptedDetector
from edge.vision.geometry import iou_matrix
from edge.vision.types import Detections, Image

CROPS = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 5, 16, 50])
def test_so_many_animals_each_in_its_place(count: int) -> None:
    scene = Scene(CROPS, (270, 480), count)
    image, boxes = scene.frame(3)
    assert image.shape == (270, 480, 3)
    assert boxes.shape == (count, 4)
    assert (boxes >= 0).all()
    assert (boxes <= [480, 270, 480, 270]).all()
    overlaps = iou_matrix(boxes, boxes)
    np.fill_diagonal(overlaps, 0)
    assert overlaps.max() < 0.35
    for x1, y1, x2, y2 in boxes.astype(int):
        assert image[y1:y2, x1:x2].std() > 20  # an animal, not the floor


def test_an_animal_keeps_its_size_and_no_two_are_alike() -> None:
    sides = {}
    for count in (1, 5, 16):
        boxes = Scene(CROPS, (1080, 1920), count).frame(0)[1]
        sides[count] = (boxes[:, 2:] - boxes[:, :2]).tolist()
    assert sides[1] == sides[16][:1]
    assert sides[5] == sides[16][:5]
    assert len({tuple(pair) for pair in sides[16]}) == 16


def test_they_move_and_a_frame_is_always_the_same() -> None:
    one, other = (Scene(CROPS, (270, 480), 4) for _ in range(2))
    np.testing.assert_array_equal(one.frame(7)[0], other.frame(7)[0])
    assert not np.array_equal(one.frame(7)[1], one.frame(8)[1])


def test_a_scripted_detector_works_and_says_what_it_is_told() -> None:
    asked: list[Image] = []

    class Eye:
        score_threshold = 0.4

        def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
            asked.append(image)
            return Detections.empty()

    eye = ScriptedDetector(Eye())
    image = np.zeros((9, 9, 3), np.uint8)
    assert len(eye.detect(image)) == 0
    eye.boxes = np.array([[1, 1, 5, 5]], np.float32)
    found = eye.detect(image)
    assert found.boxes.tolist() == [[1, 1, 5, 5]]
    assert found.scores[0] > eye.score_threshold
    assert len(asked) == 2
