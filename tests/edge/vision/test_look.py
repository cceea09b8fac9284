from __future__ import annotations

import numpy as np

from edge.vision.look import Look
from edge.vision.quality import CropGates
from edge.vision.types import Detections


class Eye:
    size, dimension, letterbox_colour = 16, 2, (114, 114, 114)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.asked.append(len(crops))
        return np.tile(np.array([1, 0], np.float32), (len(crops), 1))


def look(count: int = 4, budget: int = 8, strong: list[bool] | None = None) -> tuple[Look, Eye]:
    """Return a look at animals of 30 px in a row; the odd ones are blurred."""
    image = np.random.default_rng(0).integers(0, 256, (60, max(60, 60 * count), 3)).astype(np.uint8)
    for odd in range(1, count, 2):
        image[:, 60 * odd : 60 * odd + 60] = 90
    lefts = np.arange(count) * 60 + 15
    boxes = np.stack([lefts, np.full(count, 15), lefts + 30, np.full(count, 45)], axis=1)
    found = Detections(
        boxes.astype(np.float32), np.full(count, 0.9, np.float32), np.zeros(count, np.int32)
    )
    eye = Eye()
    mask = np.array(strong or [True] * count, bool)
    return Look(image, found, mask, eye, CropGates(), budget), eye


def test_only_what_is_asked_for_is_embedded_and_only_once() -> None:
    frame, eye = look()
    assert not frame.embedded.any()
    frame.embed([2])
    frame.embed([2, 0])
    assert eye.asked == [1, 1]
    assert frame.embedded.tolist() == [True, False, True, False]
    assert frame.embeddings[2].tolist() == [1, 0]
    assert frame.sharpness[2] > 0


def test_blurred_crops_are_cut_but_not_embedded() -> None:
    frame, eye = look()
    frame.embed([0, 1, 2, 3])
    assert eye.asked == [2]
    assert frame.cut.all()
    assert frame.refusals == [None, "poor", None, "poor"]


def test_the_budget_holds_over_all_calls_and_each_call_has_its_own_limit() -> None:
    frame, _ = look(8, budget=3)
    frame.embed(range(8), most=1)
    assert frame.cut.sum() == 1
    frame.embed(range(8))
    frame.embed(range(8))
    assert frame.cut.tolist() == [True] * 3 + [False] * 5


def test_weak_boxes_are_never_looked_at_and_hide_nobody() -> None:
    frame, eye = look(2, strong=[False, True])
    assert frame.refusals[0] == "poor"
    frame.embed([0])
    assert eye.asked == []
    boxes = np.array([[15, 15, 45, 45], [17, 17, 47, 47]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.2], np.float32), np.zeros(2, np.int32))
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    alone = Look(image, found, np.array([True, False]), Eye(), CropGates(), 8)
    both = Look(image, found, np.array([True, True]), Eye(), CropGates(), 8)
    assert alone.refusals == [None, "poor"]
    assert both.refusals == ["crowded", "crowded"]


def test_no_detections() -> None:
    frame, eye = look(0)
    frame.embed([])
    assert eye.asked == []
    assert frame.embeddings.shape == (0, 2)
