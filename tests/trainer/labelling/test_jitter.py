from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.labelling.jitter import jittered

BOX = np.array([[100.3, 50.7, 180.9, 90.1]], np.float32)


def test_no_jitter_is_the_box_itself() -> None:
    np.testing.assert_array_equal(jittered(BOX, 0.0, np.random.default_rng(0)), BOX)


def test_shift_and_scale_are_as_stated() -> None:
    boxes = np.repeat(np.array([[0, 0, 200, 100]], np.float32), 20_000, axis=0)
    moved = jittered(boxes, 0.05, np.random.default_rng(1)).astype(np.float64)
    centres = (moved[:, :2] + moved[:, 2:]) / 2
    sides = moved[:, 2:] - moved[:, :2]
    # A normal distribution cut at 2.5 standard deviations keeps 0.97 of its spread.
    np.testing.assert_allclose(centres.mean(axis=0), [100, 50], atol=0.3)
    np.testing.assert_allclose(centres.std(axis=0), [10, 5], rtol=0.05)
    np.testing.assert_allclose(np.log(sides / [200, 100]).std(axis=0), [0.1, 0.1], rtol=0.05)


@given(st.floats(0, 0.2), st.integers(0, 1000))
def test_nothing_is_off_by_more_than_stated(jitter: float, seed: int) -> None:
    (moved,) = jittered(BOX, jitter, np.random.default_rng(seed)).astype(np.float64)
    sides, before = moved[2:] - moved[:2], (BOX[0, 2:] - BOX[0, :2]).astype(np.float64)
    shift = (moved[:2] + moved[2:] - BOX[0, :2] - BOX[0, 2:]) / 2
    assert (np.abs(shift) <= 2.5 * jitter * before + 1e-3).all()
    assert (np.abs(np.log(sides / before)) <= 5 * jitter + 1e-4).all()


def test_the_seed_decides() -> None:
    first, again, other = (jittered(BOX, 0.05, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
