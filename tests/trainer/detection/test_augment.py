from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import UsageError
from trainer.detection.augment import (
    Annotated,
    FrameAugmentation,
    FrameAugmenter,
    check_augmentation,
    warp_boxes,
)

STILL = FrameAugmentation(
    scale=1.0,
    rotation_deg=0.0,
    flip=0.0,
    flip_vertical=0.0,
    quarter_turns=False,
    brightness=0.0,
    contrast=0.0,
    tint=0.0,
    greyscale=0.0,
    blur=0.0,
    noise=0.0,
)


def scene(height: int = 96, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A white ellipse on black and its box."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - 60) / 24) ** 2 + ((y - 40) / 12) ** 2 <= 1
    image = np.repeat((inside * 255).astype(np.uint8)[..., None], 3, axis=2)
    return image, np.array([[36, 28, 84, 52]], np.float32)


def lit_box(image: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(image[..., 0] > 127)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)


def test_nothing_asked_for_changes_nothing() -> None:
    image, boxes = scene()
    changed, moved, classes = FrameAugmenter((96, 160), 0, options=STILL)(
        image, boxes, np.array([4], np.int32), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_allclose(moved, boxes, atol=1e-4)
    np.testing.assert_array_equal(classes, [4])


@settings(deadline=None)
@given(seed=st.integers(0, 5000))
@example(seed=2639)
def test_the_box_goes_where_the_animal_goes(seed: int) -> None:
    options = replace(
        STILL, scale=1.3, rotation_deg=30.0, flip=0.5, flip_vertical=0.5, quarter_turns=True
    )
    image, boxes = scene(160, 160)
    changed, moved, _ = FrameAugmenter((160, 160), 0, (0, 0, 0), options)(
        image, boxes, np.zeros(1, np.int32), np.random.default_rng(seed)
    )
    if not len(moved):
        return
    box, lit = moved[0], lit_box(changed)
    if (box[:2] > 0).all() and (box[2:] < 160).all():
        np.testing.assert_allclose(box, lit, atol=1.6)
    else:
        # An ellipse that the frame cuts may show less than the cut box of the whole.
        assert (lit[:2] >= box[:2] - 1.6).all()
        assert (lit[2:] <= box[2:] + 1.6).all()


def test_a_turned_ellipse_is_boxed_by_hand() -> None:
    angle = math.radians(90)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    # Pixel centres: the box -5.5..6.5 by -1.5..2.5 lies on the centre of pixel (0, 0).
    boxes = np.array([[-5.5, -1.5, 6.5, 2.5]], np.float32)
    np.testing.assert_allclose(warp_boxes(boxes, turn), [[-1.5, -5.5, 2.5, 6.5]], atol=1e-5)
    angle = math.radians(45)
    diagonal = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]
    )
    reach = math.sqrt((36 + 4) / 2)
    expected = [[0.5 - reach, 0.5 - reach, 0.5 + reach, 0.5 + reach]]
    np.testing.assert_allclose(warp_boxes(boxes, diagonal), expected, atol=1e-5)


def test_a_photograph_keeps_its_sky() -> None:
    image, boxes = scene()
    options = replace(STILL, flip=1.0)
    changed, moved, _ = FrameAugmenter((96, 160), 0, options=options)(
        image, boxes, np.zeros(1, np.int32), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(changed, image[:, ::-1])
    np.testing.assert_allclose(moved, [[160 - 84, 28, 160 - 36, 52]], atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_frames_kept_larger_than_the_input_give_the_same_view(scale: float) -> None:
    options = replace(STILL, scale=scale, rotation_deg=20.0)
    small, boxes = scene(160, 160)
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    augment = FrameAugmenter((160, 160), 0, (0, 0, 0), options)
    for seed in range(20):
        views = [
            augment(image, boxes, np.zeros(1, np.int32), np.random.default_rng(seed))
            for image in (small, large)
        ]
        np.testing.assert_allclose(views[0].boxes, views[1].boxes, atol=1e-4)
        difference = np.abs(views[0].image.astype(int) - views[1].image).mean()
        # Edges may differ; a shift of half a pixel would show along all of them.
        assert difference < 2


def test_a_sharp_view_lies_where_a_resized_one_does() -> None:
    """The centre of light of a large frame, seen at half its size, to a tenth of a pixel."""
    y, x = np.mgrid[:320, :320] + 0.5
    light = np.exp(-(((x - 150) / 20) ** 2) - ((y - 170) / 30) ** 2)
    large = np.repeat((light * 255).astype(np.uint8)[..., None], 3, axis=2)
    small = cv2.resize(large, (160, 160), interpolation=cv2.INTER_AREA)
    augment = FrameAugmenter((160, 160), 0, (0, 0, 0), replace(STILL, scale=1.5))
    boxes, classes = np.array([[60, 60, 100, 100]], np.float32), np.zeros(1, np.int32)
    grown = 0
    for seed in range(20):
        views = [
            augment(image, boxes, classes, np.random.default_rng(seed)) for image in (small, large)
        ]
        if (views[0].boxes[0, 2:] - views[0].boxes[0, :2]).max() <= 40:
            continue
        grown += 1
        centres = []
        for view in views:
            weights = view.image[..., 0].astype(float)
            rows, columns = np.mgrid[:160, :160]
            centres.append([(weights * rows).sum(), (weights * columns).sum()] / weights.sum())
        np.testing.assert_allclose(centres[0], centres[1], atol=0.1)
    assert grown > 5


def test_a_mosaic_shows_each_part_where_its_boxes_say() -> None:
    options = replace(STILL, scale=1.4, rotation_deg=15.0, flip=0.5)
    image, boxes = scene(160, 160)
    augment = FrameAugmenter((160, 160), 0, (0, 0, 0), options)
    seen = set()
    for seed in range(30):
        parts = [Annotated(image, boxes, np.array([n], np.int32)) for n in range(4)]
        mosaic = augment.mosaic(parts, np.random.default_rng(seed))
        seen |= set(mosaic.classes.tolist())
        assert len(mosaic.boxes) == len(mosaic.classes)
        for x1, y1, x2, y2 in mosaic.boxes.round().astype(int):
            # An ellipse fills 78 % of its box; cut by a seam it may fill less or more.
            assert mosaic.image[max(y1, 0) : y2, max(x1, 0) : x2].mean() > 255 * 0.4
        outside = mosaic.image[..., 0].copy()
        for x1, y1, x2, y2 in mosaic.boxes:
            outside[math.floor(y1) - 1 : math.ceil(y2) + 1, max(0, math.floor(x1) - 1) :][
                :, : math.ceil(x2 - x1) + 3
            ] = 0
        # What is lit outside all boxes is of animals that the seams left too little of.
        assert (outside > 127).sum() < 4 * 0.4 * 24 * 12 * math.pi * 1.4**2
    assert seen == {0, 1, 2, 3}


def test_animals_left_outside_are_dropped() -> None:
    image, _ = scene()
    boxes = np.array([[0, 0, 8, 8], [70, 40, 90, 56]], np.float32)
    augment = FrameAugmenter((96, 160), 1, options=replace(STILL, scale=3.0))
    rng, counts = np.random.default_rng(1), set()
    for _ in range(40):
        _, moved, classes = augment(image, boxes, np.array([0, 1], np.int32), rng)
        assert len(moved) == len(classes)
        assert (moved >= 0).all()
        assert (moved <= [160, 96, 160, 96]).all()
        counts.add(len(moved))
    assert counts == {0, 1, 2} or counts == {1, 2}


def test_the_same_seed_gives_the_same_frames() -> None:
    image, boxes = scene()
    labels = np.zeros(1, np.int32)
    augment = FrameAugmenter((96, 160), 0)
    one, other, third = (np.random.default_rng(seed) for seed in (5, 5, 6))
    for _ in range(3):
        a, b, c = (augment(image, boxes, labels, rng) for rng in (one, other, third))
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
        assert not np.array_equal(a[0], c[0])
    assert a[0].shape == image.shape
    assert a[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.5}, "flip must be from 0 to 1, not 1.5"),
        ({"least_visible": -0.1}, "least_visible must be from 0 to 1"),
        ({"scale": 0.9}, "scale must be at least 1, not 0.9"),
        ({"rotation_deg": -1.0}, "rotation_deg must not be negative"),
        ({"noise": float("nan")}, "noise must be from 0 to 1, not nan"),
    ],
)
def test_changes_that_no_frame_can_undergo_are_refused(
    change: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_augmentation(replace(STILL, **change))
