from __future__ import annotations

import numpy as np
import pytest

from edge.identity.kalman import BoxFilters, MotionOptions

OPTIONS = MotionOptions()


def box(x: float, y: float, width: float = 40, height: float = 40) -> np.ndarray:
    half = np.array([width, height]) / 2
    centre = np.array([x, y])
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def rows(*boxes: np.ndarray) -> np.ndarray:
    return np.stack(boxes)


def centre_x(filters: BoxFilters, row: int = 0) -> float:
    return float(filters.boxes[row, [0, 2]].mean())


def seen(count: int) -> np.ndarray:
    return np.zeros(count, bool)


ZERO = np.array([0], np.int64)


def test_a_new_filter_stands_at_its_box() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(100, 50, 30, 60)))
    np.testing.assert_allclose(filters.boxes, [[85, 20, 115, 80]])
    filters.predict(0.1, seen(1))
    np.testing.assert_allclose(filters.boxes, [[85, 20, 115, 80]])


def test_an_update_lies_between_prediction_and_measurement() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(100, 50)))
    filters.predict(0.1, seen(1))
    filters.update(ZERO, rows(box(110, 50)))
    assert 100 < centre_x(filters) < 110


@pytest.mark.parametrize("steps", [[0.1] * 30, [0.05, 0.25, 0.1, 0.02, 0.3] * 6])
def test_learns_a_constant_velocity_at_any_frame_rate(steps: list[float]) -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(0, 50)))
    now = 0.0
    for step in steps:
        now += step
        filters.predict(step, seen(1))
        filters.update(ZERO, rows(box(60 * now, 50)))
    filters.predict(0.5, seen(1))
    assert centre_x(filters) == pytest.approx(60 * (now + 0.5), abs=3)


def test_two_half_steps_are_one_step() -> None:
    once, twice = BoxFilters(OPTIONS), BoxFilters(OPTIONS)
    for filters in (once, twice):
        filters.add(rows(box(0, 0)))
        filters.predict(0.1, seen(1))
        filters.update(ZERO, rows(box(5, 3)))
    once.predict(0.4, seen(1))
    twice.predict(0.2, seen(1))
    twice.predict(0.2, seen(1))
    np.testing.assert_allclose(once.boxes, twice.boxes, rtol=1e-5)
    target = rows(box(30, 10))
    np.testing.assert_allclose(
        once.squared_distances(target), twice.squared_distances(target), rtol=1e-5
    )


def test_the_unseen_slow_down_and_grow_uncertain() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(0, 0)))
    for step in range(1, 20):
        filters.predict(0.1, seen(1))
        filters.update(ZERO, rows(box(6 * step, 0)))
    there, away = centre_x(filters), rows(box(centre_x(filters) + 60, 0))
    before = filters.squared_distances(away)[0, 0]
    for _ in range(40):
        filters.predict(0.1, np.ones(1, bool))
    # Velocity 60 px/s that fades with half a second goes about 30 px in all, not 240.
    assert there < centre_x(filters) < there + 35
    assert filters.squared_distances(away)[0, 0] < before / 10


def test_a_long_gap_does_not_shoot_a_track_out_of_the_picture() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(0, 0)))
    for step in range(1, 20):
        filters.predict(0.1, seen(1))
        filters.update(ZERO, rows(box(6 * step, 0)))
    there = centre_x(filters)
    filters.predict(3600, seen(1))
    assert centre_x(filters) < there + 70


def test_distances_scale_with_the_box() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(0, 0, 20, 20), box(0, 0, 200, 200)))
    squared = filters.squared_distances(rows(box(0, 0, 20, 20), box(20, 0, 200, 200)))
    assert squared[0, 0] == pytest.approx(0)
    # 20 px off for a box of 200 px is 0.1 of its size; variances are 2 * 0.08^2.
    assert squared[1, 1] == pytest.approx(0.1**2 / (2 * 0.08**2))


def test_rows_are_kept_copied_and_restarted() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(rows(box(0, 0), box(100, 0), box(200, 0)))
    filters.keep(np.array([True, False, True]))
    assert len(filters) == 2
    filters.copy_row(1, 0)
    assert centre_x(filters, 0) == centre_x(filters, 1) == 200
    filters.restart(np.array([1]), rows(box(300, 0)))
    assert [centre_x(filters, 0), centre_x(filters, 1)] == [200, 300]


def test_a_box_of_no_size_does_not_break_the_filter() -> None:
    filters = BoxFilters(OPTIONS)
    filters.add(np.array([[5, 5, 5, 5]], np.float32))
    filters.predict(0.1, seen(1))
    filters.update(ZERO, np.array([[9, 9, 5, 5]], np.float32))
    assert np.isfinite(filters.boxes).all()
    assert (filters.boxes[:, 2:] > filters.boxes[:, :2]).all()


def test_no_filters_are_no_trouble() -> None:
    filters = BoxFilters(OPTIONS)
    filters.predict(0.1, seen(0))
    assert filters.boxes.shape == (0, 4)
    assert filters.squared_distances(rows(box(0, 0))).shape == (0, 1)
