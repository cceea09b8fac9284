from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.labelling.choose import Candidate, Candidates, choose, judged, look_of

BOX = np.array([0, 0, 10, 10], np.float32)


def candidate(
    frame: int, sharpness: float, look: np.ndarray | None = None, covered: float = 0.0
) -> Candidate:
    """Without a look: one that is like no other's."""
    if look is None:
        look = np.eye(600, dtype=np.float32)[frame]
    return Candidate(frame, BOX, sharpness, covered, b"", look)


def test_the_best_of_each_stretch_is_chosen() -> None:
    found = [candidate(frame, sharp) for frame, sharp in enumerate([1, 5, 2, 9, 8, 3])]
    assert [crop.frame for crop in choose(found, 3)] == [1, 3, 4]
    assert [crop.frame for crop in choose(found, 10)] == [0, 1, 2, 3, 4, 5]
    assert choose([], 3) == []


def test_what_lies_under_another_is_worth_less() -> None:
    found = [candidate(0, 100, covered=0.3), candidate(1, 80, covered=0.0)]
    assert [crop.frame for crop in choose(found, 1)] == [1]


def test_what_looks_the_same_is_chosen_once() -> None:
    same = np.array([1, 0], np.float32)
    near = np.array([0.95, np.sqrt(1 - 0.95**2)], np.float32)
    other = np.array([0.8, 0.6], np.float32)
    found = [candidate(0, 9, same), candidate(1, 8, near), candidate(2, 1, other)]
    assert [crop.frame for crop in choose(found, 3)] == [0, 2]


@given(st.lists(st.floats(1, 100), max_size=60), st.integers(1, 20))
def test_a_choice_is_in_order_and_not_too_large(sharps: list[float], most: int) -> None:
    chosen = choose([candidate(row, sharp) for row, sharp in enumerate(sharps)], most)
    frames = [crop.frame for crop in chosen]
    assert frames == sorted(set(frames))
    assert len(frames) == min(most, len(sharps))


@pytest.mark.parametrize("count", [1, 2, 7, 96, 97, 1500])
def test_memory_is_bounded_and_the_whole_time_is_covered(count: int) -> None:
    candidates = Candidates()
    image = np.zeros((8, 8, 3), np.uint8)
    for frame in range(count):
        candidates.offer(frame, BOX, 0.0, image, image, float(1 + frame % 3))
    frames = [crop.frame for crop in candidates.all()]
    assert len(frames) <= 49
    assert len(frames) >= min(count // 2, 24)
    assert frames == sorted(frames)
    widest = max(np.diff([0, *frames, count - 1]))
    assert widest <= max(3, 2 * count / 24)
    # The sharper of two stays: of (1, 2), (3, 1), (2, 3) that is 8/3 on average.
    if count >= 96:
        assert np.mean([crop.sharpness for crop in candidates.all()]) > 2.6


def test_a_kept_crop_does_not_change_with_the_frame() -> None:
    frame = np.full((20, 20, 3), 200, np.uint8)
    candidates = Candidates()
    candidates.offer(0, BOX, 0.0, frame[:10, :10], judged(frame[:10, :10])[0], 5.0)
    frame[:] = 0
    other = Candidates()
    white = np.full((10, 10, 3), 200, np.uint8)
    other.offer(0, BOX, 0.0, white, judged(white)[0], 5.0)
    assert candidates.all()[0].data == other.all()[0].data


def test_looks_compare_pictures_whatever_their_light() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 120, (128, 128, 3)).astype(np.uint8)
    brighter = (picture * 1.5 + 10).astype(np.uint8)
    other = rng.integers(60, 120, (128, 128, 3)).astype(np.uint8)
    assert look_of(picture) @ look_of(brighter) > 0.98
    assert abs(look_of(picture) @ look_of(other)) < 0.3
    assert np.linalg.norm(look_of(picture)) == pytest.approx(1, abs=1e-5)
    assert not look_of(np.full((128, 128, 3), 7, np.uint8)).any()
