from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from trainer.data.herd import Herd, HerdOptions, SessionPlan, SimulatedFrame

WIDTH, HEIGHT = 640, 360
OPTIONS = HerdOptions(animals=8, seed=5, width=WIDTH, height=HEIGHT, fps=2.0)
DAY = SessionPlan("day", 1, "day", 3, 8)


@pytest.fixture(scope="module")
def herd() -> Herd:
    return Herd(OPTIONS)


@pytest.fixture(scope="module")
def day(herd: Herd) -> list[SimulatedFrame]:
    return list(herd.render(DAY))


def test_the_same_options_give_the_same_pixels_and_other_seeds_do_not(
    day: list[SimulatedFrame],
) -> None:
    again = next(Herd(OPTIONS).render(DAY))
    np.testing.assert_array_equal(again.image, day[0].image)
    np.testing.assert_array_equal(again.boxes, day[0].boxes)
    other = next(Herd(OPTIONS).render(replace(DAY, seed=4)))
    assert (other.image != again.image).mean() > 0.2


def test_frames_and_truth_have_the_promised_shapes(day: list[SimulatedFrame]) -> None:
    assert [frame.index for frame in day] == list(range(8))
    for frame in day:
        count = len(frame.animals)
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert frame.image.dtype == np.uint8
        assert frame.boxes.shape == (count, 4)
        assert frame.boxes.dtype == np.float32
        assert frame.visibility.shape == (count,)
        assert count >= 6
        assert (frame.boxes[:, :2] >= 0).all()
        assert (frame.boxes[:, 2:] <= (WIDTH, HEIGHT)).all()
        assert (frame.boxes[:, 2:] > frame.boxes[:, :2]).all()
        assert (frame.visibility > 0).all()
        assert (frame.visibility <= 1).all()
        assert len(set(frame.animals)) == count


def test_each_animal_keeps_one_track_and_no_two_share_it(day: list[SimulatedFrame]) -> None:
    tracks: dict[str, set[int]] = defaultdict(set)
    for frame in day:
        for animal, track in zip(frame.animals, frame.track_ids, strict=True):
            tracks[animal].add(int(track))
    assert all(len(numbers) == 1 for numbers in tracks.values())
    assert len(set.union(*tracks.values())) == len(tracks)
    assert set(tracks) <= set(OPTIONS.animal_ids())


def test_boxes_are_tight_around_what_can_be_seen(tmp_path: Path) -> None:
    # Sprites of glaring colours are found in the picture again without the truth.
    glaring = ((250, 0, 250), (0, 250, 250))
    for name, colour in zip("ab", glaring, strict=True):
        picture = np.full((60, 110, 3), 120, np.uint8)
        cv2.ellipse(picture, (55, 30), (48, 17), 0, 0, 360, colour, -1)
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "s_0.png"), picture[..., ::-1])
    herd = Herd(replace(OPTIONS, animals=2, sprites=tmp_path, fps=0.5))
    checked = 0
    for camera in (1, 2):
        for frame in herd.render(SessionPlan("x", camera, "day", 11, 15)):
            for animal, box in zip(frame.animals, frame.boxes, strict=True):
                red, green, blue = np.moveaxis(frame.image.astype(int), 2, 0)
                others, own = {
                    "pig01": ((red + blue) / 2, green),
                    "pig02": ((green + blue) / 2, red),
                }[animal]
                rows, columns = np.nonzero(others - own > 60)
                found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                assert np.abs(np.array(found) - box).max() <= 2
                checked += 1
    assert checked >= 55


def test_an_animal_below_another_shows_less_of_itself(herd: Herd) -> None:
    frames = list(herd.render(SessionPlan("crowd", 1, "night", 8, 20)))
    shares = np.concatenate([frame.visibility for frame in frames])
    assert shares.min() < 0.95
    assert np.median(shares) > 0.9


def test_night_is_grey_and_day_is_not(herd: Herd, day: list[SimulatedFrame]) -> None:
    night = next(herd.render(replace(DAY, light="night"))).image
    assert (night.max(axis=2) == night.min(axis=2)).all()
    assert (day[0].image.max(axis=2) - day[0].image.min(axis=2)).mean() > 5


@pytest.mark.parametrize("light", ["dusk", "night"])
def test_less_light_is_darker(
    herd: Herd, day: list[SimulatedFrame], light: Literal["dusk", "night"]
) -> None:
    dim = next(herd.render(replace(DAY, light=light))).image
    assert 25 < dim.mean() < day[0].image.mean() - 10


def test_two_cameras_watch_the_same_moment_from_their_own_place(
    herd: Herd, day: list[SimulatedFrame]
) -> None:
    other = next(herd.render(replace(DAY, camera=2)))
    shared = [animal for animal in day[0].animals if animal in other.animals]
    first, second = (
        np.stack(
            [
                frame.boxes[frame.animals.index(animal)].reshape(2, 2).mean(axis=0)
                for animal in shared
            ]
        )
        for frame in (day[0], other)
    )
    moved = np.linalg.norm(first - second, axis=1)
    assert moved.mean() > 1
    assert moved.max() < 60


def test_an_animal_is_nearest_to_itself_in_the_other_camera(herd: Herd) -> None:
    # The middle of the back, averaged over a session: base colour and large patches.
    def looks(camera: int) -> dict[str, np.ndarray]:
        seen: dict[str, list[np.ndarray]] = defaultdict(list)
        for frame in herd.render(SessionPlan("x", camera, "day", 3, 8)):
            # The floor tells each camera's tint.
            white = frame.image.reshape(-1, 3).mean(axis=0)
            for animal, box, share in zip(
                frame.animals, frame.boxes, frame.visibility, strict=True
            ):
                if share > 0.9:
                    x, y = (box[:2] + box[2:]) // 2
                    patch = frame.image[int(y) - 9 : int(y) + 10, int(x) - 9 : int(x) + 10]
                    seen[animal].append(patch.reshape(-1, 3).mean(axis=0) / white)
        return {animal: np.mean(patches, axis=0) for animal, patches in seen.items()}

    first, second = looks(1), looks(2)
    shared = sorted(set(first) & set(second))
    assert len(shared) >= 6
    table = np.array(
        [[np.linalg.norm(first[one] - second[two]) for two in shared] for one in shared]
    )
    assert (table.argmin(axis=1) == np.arange(len(shared))).mean() >= 0.8
