from __future__ import annotations

import numpy as np
import pytest

from trainer.data.herd.body import Build, random_build
from trainer.data.herd.motion import PEN, Poses, herd_motion


def builds(count: int) -> list[Build]:
    return [random_build(np.random.default_rng([1, n]), 1.0) for n in range(count)]


@pytest.fixture(scope="module")
def minute() -> list[Poses]:
    return list(herd_motion(builds(16), 4, "day", 720, 12.0, 1.0))


def places(poses: list[Poses]) -> np.ndarray:
    return np.array([pose.places for pose in poses])


def test_the_same_seed_moves_the_same_way_and_another_does_not() -> None:
    first, again, other = (
        places(list(herd_motion(builds(4), seed, "day", 5, 12.0, 1.0))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 20


def test_all_stay_in_the_pen(minute: list[Poses]) -> None:
    x, y = places(minute)[..., 0], places(minute)[..., 1]
    assert x.min() > PEN[0]
    assert y.min() > PEN[1]
    assert x.max() < PEN[2]
    assert y.max() < PEN[3]


def test_they_walk_no_faster_than_animals_do_and_also_rest(minute: list[Poses]) -> None:
    speeds = np.linalg.norm(np.diff(places(minute), axis=0), axis=2) * 12
    assert np.quantile(speeds, 0.99) < 130
    assert speeds.max() < 260
    assert (speeds > 30).mean() > 0.1
    lying = np.array([pose.lying for pose in minute])
    assert 0.1 < (lying > 0.5).mean() < 0.7
    # Whoever lies, lies still.
    assert np.median(speeds[lying[1:] >= 1]) < 2


def test_night_is_quieter_than_day() -> None:
    def walking(light: str) -> float:
        moved = [
            np.diff(places(list(herd_motion(builds(16), seed, light, 60, 1.0, 1.0))), axis=0)  # type: ignore[arg-type]
            for seed in (1, 2)
        ]
        return float((np.linalg.norm(np.concatenate(moved), axis=2) > 30).mean())

    assert walking("night") < walking("day")


def test_turns_are_smooth(minute: list[Poses]) -> None:
    headings = np.unwrap(np.array([pose.headings for pose in minute]), axis=0)
    assert np.abs(np.diff(headings, axis=0)).max() < 0.3


def test_bodies_touch_but_do_not_stack(minute: list[Poses]) -> None:
    at = places(minute)
    gaps = np.linalg.norm(at[:, :, None] - at[:, None], axis=3)
    gaps[:, np.arange(16), np.arange(16)] = np.inf
    width = 2 * min(build.radius_px for build in builds(16))
    assert gaps.min() < 1.3 * width
    assert (gaps.min(axis=2) < 0.5 * width).mean() < 0.02
    # After the first seconds nobody has grown into a neighbour for good.
    assert (gaps.min(axis=2) < 0.4 * width).all(axis=0).sum() == 0
