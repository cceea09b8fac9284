"""What an annotated frame shows."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.draw import animal_colour, annotate, jpeg_still, label
from edge.errors import EarmarkError
from edge.identity.types import Track

IMAGE = np.full((240, 320, 3), 80, np.uint8)
TRACK = Track(
    id=1,
    box=np.array([60, 80, 160, 180], np.float32),
    score=0.9,
    age_frames=9,
    first_seen_s=0.0,
    last_seen_s=1.0,
    animal="pig01",
    reason=None,
    confidence=0.934,
    distance=0.1,
    margin=0.3,
    votes={"pig01": 9},
    settled=True,
)


def at(track: Track, *box: float) -> Track:
    return replace(track, box=np.array(box, np.float32))


def test_a_named_animal_has_its_colour_and_a_label() -> None:
    picture = annotate(IMAGE, [TRACK])
    colour = animal_colour("pig01")
    assert tuple(picture[180, 110]) == colour  # The lower edge of the box.
    assert (picture[66:79, 60:130] == colour).all(axis=2).mean() > 0.4  # The plate above it.
    dark = picture[66:80, 60:140].max(axis=2) < 60
    assert dark.sum() > 20  # Letters on the plate.
    np.testing.assert_array_equal(picture[90:170, 70:150], IMAGE[90:170, 70:150])
    np.testing.assert_array_equal(IMAGE, np.full((240, 320, 3), 80, np.uint8))


def test_who_has_no_name_is_grey() -> None:
    picture = annotate(IMAGE, [replace(TRACK, animal=None, reason="unsure", confidence=0.0)])
    assert len(set(picture[180, 110].tolist())) == 1
    assert picture[180, 110, 0] > 100


def test_an_animal_that_is_missing_has_a_thinner_box() -> None:
    def painted(seen: bool) -> int:
        picture = annotate(IMAGE, [replace(TRACK, seen=seen)])
        return int((picture[120, 30:110] != 80).any(axis=1).sum())

    assert painted(seen=False) < painted(seen=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "pig01 93%"),
        ({"animal": None, "reason": "crowded"}, "crowded"),
        ({"animal": None, "reason": None}, "unknown"),
        ({"animal": None, "reason": "unknown", "settled": False}, "..."),
    ],
)
def test_labels(changes: dict[str, object], text: str) -> None:
    assert label(replace(TRACK, **changes)) == text  # type: ignore[arg-type]


def test_labels_of_animals_at_one_place_do_not_hide_each_other() -> None:
    other = replace(at(TRACK, 62, 82, 162, 182), id=2, animal="pig02")
    picture = annotate(IMAGE, [TRACK, other])
    for animal in ("pig01", "pig02"):
        plate = (picture == animal_colour(animal)).all(axis=2)
        # A plate is a solid block, far more than the lines of a box.
        assert plate.sum() > 900


@pytest.mark.parametrize("box", [(0, 0, 319, 239), (-20, -20, 10, 5), (300, 230, 340, 260)])
def test_labels_stay_in_the_frame(box: tuple[float, ...]) -> None:
    picture = annotate(IMAGE, [at(TRACK, *box)])
    plate = (picture == animal_colour("pig01")).all(axis=2)
    assert plate.sum() > 300


def test_colours_are_steady_bright_and_differ_within_a_herd() -> None:
    herd = [f"pig{n:02}" for n in range(1, 17)]
    colours = [animal_colour(animal) for animal in herd]
    assert colours == [animal_colour(animal) for animal in herd]
    assert len(set(colours)) == 16
    assert all(max(colour) >= 200 for colour in colours)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (height, width, 3), np.uint8)


def test_a_still_is_as_wide_as_asked_and_never_wider_than_its_frame() -> None:
    still = jpeg_still(IMAGE, [TRACK], 160, 100_000)
    assert (still.width, still.height) == (160, 120)
    picture = cv2.imdecode(np.frombuffer(still.data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (120, 160, 3)
    # The lower edge of the box, at half of its place.
    red, green, blue = animal_colour("pig01")
    assert np.abs(picture[90, 55].astype(int) - (blue, green, red)).max() < 80
    assert jpeg_still(IMAGE, [TRACK], 1280, 100_000).width == 320


def test_a_still_fits_by_quality_first_and_by_width_then() -> None:
    image = noise(640, 480)
    free = jpeg_still(image, [], 640, 10_000_000)
    tight = jpeg_still(image, [], 640, len(free.data) - 1)
    assert (tight.width, len(tight.data) < len(free.data)) == (640, True)
    small = jpeg_still(image, [], 640, 20_000)
    assert small.width in (320, 160)
    assert len(small.data) <= 20_000
    with pytest.raises(EarmarkError, match="no picture of this frame fits"):
        jpeg_still(image, [], 640, 500)
