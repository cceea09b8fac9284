from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.frames import FrameSet, load_frames, load_frames_and_boxes


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    """Two frames of 40x20 pixels; in the first a red pig and a person, in the second nobody."""
    paths = (tmp_path / "cam1_0001.png", tmp_path / "cam2_0005.png")
    for path in paths:
        image = np.full((20, 40, 3), 90, np.uint8)
        image[2:10, 4:14] = (0, 0, 255)
        cv2.imwrite(str(path), image)
    return FrameSet(
        paths,
        (np.array([[4, 2, 14, 10], [30.5, 12, 40, 20]], np.float32), np.zeros((0, 4), np.float32)),
        (np.array([0, 1], np.int32), np.zeros(0, np.int32)),
        ("s1", "cam2"),
        ("pig", "person"),
        (("x", None), ()),
    )


def test_select_by_mask_and_by_index(frames: FrameSet) -> None:
    assert frames.select(np.array([False, True])).sessions == ("cam2",)
    assert frames.select([1, 0]).sessions == ("cam2", "s1")
    assert frames.select([1, 0]).animals == ((), ("x", None))
    assert len(frames.select([])) == 0
    with pytest.raises(ValueError, match=r"mask must be \(2,\)"):
        frames.select(np.array([True]))


def test_animals_that_nobody_named(frames: FrameSet) -> None:
    nameless = replace(frames, animals=())
    assert nameless.animals == ((None, None), ())
    with pytest.raises(ValueError, match="2 boxes must have as many animals, not 1"):
        replace(frames, animals=(("x",), ()))
    with pytest.raises(ValueError, match="one length"):
        replace(frames, animals=(("x", None),))


def test_classes_go_by_name(frames: FrameSet) -> None:
    other = frames.with_classes(["cow", "person", "pig"])
    np.testing.assert_array_equal(other.classes[0], [2, 1])
    assert other.class_names == ("cow", "person", "pig")
    assert other.animals == frames.animals
    # A class that is listed and never used may be missing.
    only_pigs = replace(frames, classes=(np.zeros(2, np.int32), frames.classes[1]))
    assert only_pigs.with_classes(["pig"]).class_names == ("pig",)
    with pytest.raises(DataError, match=r"cam1_0001\.png: has a box of class 'person'; known"):
        frames.with_classes(["pig", "cow"])


def test_frames_are_letterboxed_with_their_boxes(frames: FrameSet) -> None:
    seen: list[tuple[int, int]] = []
    images, boxes = load_frames_and_boxes(
        frames, (40, 40), (1, 2, 3), lambda done, total, note="": seen.append((done, total))
    )
    assert images.shape == (2, 40, 40, 3)
    np.testing.assert_array_equal(images[0, 0, 0], [1, 2, 3])
    # 40x20 fits without scaling and lies 10 pixels down; red stays RGB.
    np.testing.assert_array_equal(boxes[0][0], [4, 12, 14, 20])
    np.testing.assert_array_equal(images[0, 15, 8], [255, 0, 0])
    np.testing.assert_array_equal(load_frames(frames, (40, 40), (1, 2, 3)), images)
    assert seen[-1] == (2, 2)


def test_an_image_smaller_than_its_boxes_or_broken_is_named(frames: FrameSet) -> None:
    cv2.imwrite(str(frames.paths[0]), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"cam1_0001.png: has 20x10 pixels and boxes outside"):
        load_frames(frames, (32, 32))
    frames.paths[0].write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cam1_0001.png: not an image"):
        load_frames(frames, (32, 32))
