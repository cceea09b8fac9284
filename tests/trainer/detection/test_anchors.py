from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.errors import UsageError
from trainer.detection.anchors import (
    AnchorShapes,
    choose_strides,
    cluster_shapes,
    fit_anchors,
    lay_anchors,
    owning_levels,
    shape_iou,
)


def test_shape_iou_by_hand() -> None:
    a = np.array([[10, 20], [4, 4]], np.float32)
    b = np.array([[10, 20], [20, 10], [2, 2]], np.float32)
    # 10x20 and 20x10 share 10x10 of 300; 2x2 lies within the others.
    expected = [[1, 100 / 300, 4 / 200], [16 / 200, 16 / 200, 4 / 16]]
    np.testing.assert_allclose(shape_iou(a, b), expected, rtol=1e-6)


def test_two_heaps_of_boxes_give_their_two_shapes() -> None:
    rng = np.random.default_rng(0)
    lying = np.array([20, 60], np.float32) * rng.uniform(0.95, 1.05, (50, 2))
    standing = np.array([70, 30], np.float32) * rng.uniform(0.95, 1.05, (80, 2))
    shapes = cluster_shapes(np.concatenate([lying, standing]).astype(np.float32), 2, seed=3)
    np.testing.assert_allclose(shapes, [[20, 60], [70, 30]], rtol=0.03)


@settings(deadline=None)
@given(
    sizes=arrays(
        np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(1, 200, width=32)
    ),
    count=st.integers(1, 6),
)
def test_clusters_lie_among_their_boxes(sizes: np.ndarray, count: int) -> None:
    shapes = cluster_shapes(sizes, count, seed=0)
    assert shapes.shape == (count, 2)
    assert (shapes >= sizes.min(axis=0)).all()
    assert (shapes <= sizes.max(axis=0)).all()
    assert (np.diff(shapes.prod(axis=1)) >= 0).all()


def test_a_level_owns_boxes_up_to_four_strides() -> None:
    sides = np.array([5, 31.9, 32, 63, 64, 500], np.float32)
    np.testing.assert_array_equal(owning_levels(sides, (8, 16, 32)), [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(owning_levels(sides, (16,)), [0] * 6)


def test_strides_are_those_that_boxes_call_for() -> None:
    small, large = np.full((95, 2), 20, np.float32), np.full((5, 2), 200, np.float32)
    assert choose_strides(small) == (8,)
    assert choose_strides(np.concatenate([small, large])) == (8, 64)
    # One stray box in a hundred does not make a level.
    assert choose_strides(np.concatenate([small, large[:1]])) == (8,)


def test_each_level_has_shapes_of_its_own_size_even_without_boxes() -> None:
    sizes = np.array([[40, 20], [20, 40], [30, 30]], np.float32)
    shapes = fit_anchors(sizes, 3, seed=0, strides=(8, 16, 32))
    assert [level.shape for level in shapes.shapes] == [(3, 2)] * 3
    sides = [np.sqrt(level.prod(axis=1)) for level in shapes.shapes]
    assert sides[0].max() <= 40
    assert sides[1].min() > sides[0].max()
    assert sides[2].min() > sides[1].max()


@pytest.mark.parametrize("strides", [(), (16, 8), (8, 8), (4, 8)])
def test_strange_strides_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="strides must be some of"):
        fit_anchors(np.ones((3, 2), np.float32), 2, 0, strides)
    with pytest.raises(UsageError, match="anchors_per_cell"):
        fit_anchors(np.ones((3, 2), np.float32), 0, 0)


def test_anchors_are_laid_by_level_row_column_shape() -> None:
    shapes = AnchorShapes(
        (16, 32), (np.array([[4, 8], [9, 5]], np.float32), np.array([[20, 30]], np.float32))
    )
    anchors = lay_anchors(shapes, [(2, 3), (1, 2)], (32, 48))
    assert anchors.shape == (2 * 3 * 2 + 2, 4)
    np.testing.assert_array_equal(anchors[0], [8, 8, 4, 8])
    np.testing.assert_array_equal(anchors[1], [8, 8, 9, 5])
    np.testing.assert_array_equal(anchors[2], [8, 24, 4, 8])
    np.testing.assert_array_equal(anchors[6], [24, 8, 4, 8])
    np.testing.assert_array_equal(anchors[-1], [16, 36, 20, 30])
