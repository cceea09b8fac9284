from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.vision.geometry import (
    box_areas,
    clip_boxes,
    crop_pixels,
    cut_crop,
    intersection_matrix,
    iou_matrix,
    letterbox,
)

CORNERS = st.floats(-50, 150, width=16)


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    count = draw(st.integers(0, 4))
    points = draw(arrays(np.float32, (count, 2, 2), elements=CORNERS))
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def row(*numbers: float) -> np.ndarray:
    return np.array([numbers], np.float32)


def test_areas_and_overlaps_by_hand() -> None:
    a, b = row(0, 0, 10, 10), row(5, 5, 15, 15)
    assert box_areas(a).tolist() == [100]
    assert intersection_matrix(a, b).tolist() == [[25]]
    assert iou_matrix(a, b)[0, 0] == pytest.approx(25 / 175)


def test_inverted_and_touching_boxes_share_nothing() -> None:
    assert box_areas(row(10, 10, 0, 0)).tolist() == [0]
    assert iou_matrix(row(0, 0, 10, 10), row(10, 0, 20, 10)).tolist() == [[0]]
    assert iou_matrix(row(5, 5, 5, 5), row(5, 5, 5, 5)).tolist() == [[0]]
    assert iou_matrix(np.zeros((0, 4), np.float32), row(0, 0, 1, 1)).shape == (0, 1)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_a_fraction(a: np.ndarray, b: np.ndarray) -> None:
    matrix = iou_matrix(a, b)
    assert matrix.shape == (len(a), len(b))
    assert ((matrix >= 0) & (matrix <= 1 + 1e-5)).all()
    np.testing.assert_allclose(matrix, iou_matrix(b, a).T, rtol=1e-5)
    own = np.diag(iou_matrix(a, a))
    solid = box_areas(a) > 0
    np.testing.assert_allclose(own[solid], 1, rtol=1e-5)


@given(boxes())
def test_clipped_boxes_lie_in_the_frame(found: np.ndarray) -> None:
    clipped = clip_boxes(found, 100, 80)
    assert clipped.dtype == np.float32
    assert (clipped >= 0).all()
    assert (clipped <= [100, 80, 100, 80]).all()


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50), (7, 201), (1, 1), (500, 333)])
def test_the_letterbox_keeps_shape_and_centres_on_the_colour(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 250, np.uint8)
    target, box = letterbox(image, (96, 128), (1, 2, 3))
    assert target.shape == (96, 128, 3)
    assert target.dtype == np.uint8
    inside = (target == 250).all(axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    height, width = len(rows), len(columns)
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert height == 96 or width == 128
    # Sides are whole pixels, and at least one.
    scale = min(96 / shape[0], 128 / shape[1])
    assert height == pytest.approx(max(1, scale * shape[0]), abs=0.51)
    assert width == pytest.approx(max(1, scale * shape[1]), abs=0.51)
    assert (target[~inside] == [1, 2, 3]).all()
    assert (box.pad_x, box.pad_y) == (columns[0], rows[0])
    whole = box.to_target(row(0, 0, shape[1], shape[0]))[0]
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(whole, expected, atol=1e-3)


def test_an_image_of_the_right_size_is_passed_through() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    target, box = letterbox(image, (32, 32))
    np.testing.assert_array_equal(target, image)
    assert (box.scale_x, box.scale_y, box.pad_x, box.pad_y) == (1, 1, 0, 0)


def test_shrinking_averages_so_that_fine_patterns_do_not_alias() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 200
    target, _ = letterbox(image, (16, 16))
    assert np.abs(target.astype(int) - 100).max() <= 1


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="0x5"):
        letterbox(np.zeros((5, 0, 3), np.uint8), (16, 16))


@given(boxes(), st.integers(1, 400), st.integers(1, 400))
def test_boxes_go_to_the_letterbox_and_back(found: np.ndarray, height: int, width: int) -> None:
    _, box = letterbox(np.zeros((height, width, 3), np.uint8), (96, 128))
    back = box.to_source(box.to_target(found))
    np.testing.assert_allclose(back, found, atol=0.02)


def test_a_crop_shows_the_pixels_of_its_box() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    image[10:30, 40:60] = (10, 20, 30)
    crop = cut_crop(image, np.array([40, 10, 60, 30], np.float32), 20)
    assert crop.shape == (20, 20, 3)
    assert (crop == [10, 20, 30]).all()
    # A box of parts of pixels takes in the whole pixels.
    wider = cut_crop(image, np.array([39.5, 9.5, 60.5, 30.5], np.float32), 22)
    assert (wider[1:-1, 1:-1] == [10, 20, 30]).all()
    assert (wider[0] == 0).all()


def test_a_long_crop_is_padded_with_the_colour() -> None:
    image = np.full((50, 80, 3), 200, np.uint8)
    crop = cut_crop(image, np.array([0, 0, 40, 20], np.float32), 40, (7, 8, 9))
    assert (crop[:10] == [7, 8, 9]).all()
    assert (crop[10:30] == 200).all()


@given(arrays(np.float32, 4, elements=st.floats(-1e4, 1e4, width=32)))
def test_any_box_gives_a_crop(box: np.ndarray) -> None:
    crop = cut_crop(np.zeros((50, 80, 3), np.uint8), box, 24)
    assert crop.shape == (24, 24, 3)


@settings(deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_what_shrinks_stays_in_its_place(height: int, width: int, seed: int) -> None:
    # A smooth picture: what lies where is told by its values alone.
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([columns * 250 / width, rows * 250 / height, rows * 0], axis=2)
    target, box = letterbox(ramps.astype(np.uint8), (96, 128))
    points = np.random.default_rng(seed).uniform(0.05, 0.95, (8, 2)) * [width, height]
    for x, y in points:
        at = box.to_target(np.array([[x, y, x, y]], np.float32))[0, :2]
        column, row = np.minimum(at.astype(int), [127, 95])
        # A target pixel is 1 / scale source pixels wide: half of one for where in it the point
        # lies, half for what was trimmed. The ramps rise by 250 over all source pixels.
        for value, place, size, scale in (
            (target[row, column, 0], x, width, box.scale_x),
            (target[row, column, 1], y, height, box.scale_y),
        ):
            assert abs(int(value) - 250 * place / size) <= 250 * (1 / scale + 1) / size + 2


def test_a_crop_shows_whole_pixels_and_stays_in_the_frame() -> None:
    image = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)
    for box, rows, columns in (
        ([1.2, 2.9, 4.1, 5.0], slice(2, 5), slice(1, 5)),
        ([-3, -3, 2, 2], slice(0, 2), slice(0, 2)),
        ([9.5, 7.5, 30, 30], slice(7, 8), slice(9, 10)),
        ([20, 20, 30, 30], slice(7, 8), slice(9, 10)),
        ([4, 4, 4, 4], slice(4, 5), slice(4, 5)),
    ):
        found = crop_pixels(image, np.array(box, np.float32))
        np.testing.assert_array_equal(found, image[rows, columns])
