from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.data.augment import (
    NO_AUGMENTATION,
    Augmentation,
    Augmenter,
    check_augmentation,
)


def only(**changes: float) -> Augmentation:
    values = {name: getattr(NO_AUGMENTATION, name) for name in NO_AUGMENTATION.__slots__}
    return Augmentation(**(values | changes))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3)).astype(np.uint8)


def test_with_everything_off_nothing_changes(images: np.ndarray) -> None:
    assert (
        Augmenter(40, 0, options=NO_AUGMENTATION)(images, np.random.default_rng(0)) == images
    ).all()


def test_the_seed_decides_and_the_input_stays(images: np.ndarray) -> None:
    before = images.copy()
    changed = Augmenter(40, 5)(images, np.random.default_rng(0))
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert (changed == Augmenter(40, 5)(images, np.random.default_rng(0))).all()
    assert (changed != Augmenter(40, 5)(images, np.random.default_rng(1))).any()
    assert (images == before).all()


def test_corners_that_a_rotation_uncovers_get_the_letterbox_colour() -> None:
    white = np.full((20, 40, 40, 3), 255, np.uint8)
    changed = Augmenter(40, 0, (10, 20, 30), only(rotation_deg=180))(
        white, np.random.default_rng(0)
    )
    corners = changed[:, 0, 0]
    assert (corners == [10, 20, 30]).all(axis=1).any()
    assert (changed[:, 20, 20] == 255).all()


def test_no_image_is_ever_mirrored() -> None:
    # An L of three colours: red to green to blue turns one way only, whatever the angle.
    image = np.zeros((61, 61, 3), np.uint8)
    for (y, x), channel in (((18, 30), 0), ((40, 20), 1), ((40, 40), 2)):
        image[y - 4 : y + 5, x - 4 : x + 5, channel] = 255
    options = only(rotation_deg=180, zoom=1.2, stretch=1.2, shift=0.05)
    for changed in Augmenter(61, 0, (0, 0, 0), options)(
        np.stack([image] * 50), np.random.default_rng(0)
    ):
        red, green, blue = (
            np.array(np.nonzero(changed[..., channel] > 128)).mean(axis=1) for channel in range(3)
        )
        a, b = green - red, blue - red
        assert a[0] * b[1] - a[1] * b[0] > 0


def test_a_night_image_is_grey(images: np.ndarray) -> None:
    changed = Augmenter(40, 0, options=only(greyscale=1))(images, np.random.default_rng(0))
    assert (changed[..., 0] == changed[..., 1]).all()
    assert (changed[..., 1] == changed[..., 2]).all()


def test_noise_is_small_and_patches_are_flat() -> None:
    grey = np.full((8, 40, 40, 3), 100, np.uint8)
    noisy = Augmenter(40, 0, options=only(noise=1))(grey, np.random.default_rng(0)).astype(int)
    assert 4 < noisy.std() < 12
    assert abs(noisy.mean() - 100) < 2
    patched = Augmenter(40, 0, options=only(patch=1))(grey, np.random.default_rng(0))
    for image in patched:
        colours = np.unique(image.reshape(-1, 3), axis=0)
        assert len(colours) == 2


def test_a_cut_fills_a_strip_along_one_edge() -> None:
    white = np.full((60, 40, 40, 3), 255, np.uint8)
    cut = Augmenter(40, 0, (9, 8, 7), only(cut=1, cut_side=0.5))(white, np.random.default_rng(0))
    edges = set()
    for image in cut:
        filled = (image == [9, 8, 7]).all(axis=2)
        assert (image[~filled] == 255).all()
        rows, columns = filled.all(axis=1), filled.all(axis=0)
        # A whole strip and nothing else, which leaves at least half of the side.
        assert filled.sum() == 40 * (rows.sum() + columns.sum())
        assert 2 <= rows.sum() + columns.sum() <= 20
        ends = (rows[0], rows[-1], columns[0], columns[-1])
        assert sum(ends) == 1
        edges.add(ends.index(True))
    assert edges == {0, 1, 2, 3}


def test_brightness_moves_the_mean_within_its_limits() -> None:
    grey = np.full((40, 8, 8, 3), 128, np.uint8)
    means = Augmenter(8, 0, options=only(brightness=0.2))(grey, np.random.default_rng(0)).mean(
        axis=(1, 2, 3)
    )
    assert means.min() >= 128 - 52
    assert means.max() <= 128 + 52
    assert means.max() - means.min() > 40


def test_a_stretch_keeps_area_and_makes_a_disc_an_ellipse() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    cv2.circle(image, (50, 50), 25, (255, 255, 255), -1)
    changed = Augmenter(101, 0, (0, 0, 0), only(stretch=1.5))(
        np.stack([image] * 40), np.random.default_rng(0)
    )
    area = float((image[..., 0] > 127).sum())
    longest, angles = [], []
    for each in changed[..., 0] > 127:
        assert each.sum() == pytest.approx(area, rel=0.04)
        points = np.argwhere(each) - 50.0
        sizes, axes = np.linalg.eigh(points.T @ points)
        longest.append(np.sqrt(np.sqrt(sizes[1] / sizes[0])))
        angles.append(np.arctan2(axes[0, 1], axes[1, 1]) % np.pi)
    assert max(longest) == pytest.approx(1.5, abs=0.08)
    assert min(longest) < 1.1
    assert np.ptp(angles) > 2


def test_hue_turns_colours_and_leaves_grey_alone() -> None:
    grey = np.full((4, 8, 8, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    assert (Augmenter(8, 0, options=only(hue_deg=40, saturation=2))(grey, rng) == 90).all()
    red = np.zeros((600, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    turned = Augmenter(8, 0, options=only(hue_deg=40))(red, rng)[:, 0, 0].astype(int)
    assert (turned[:, 0] == 200).all()
    # 40 of the 60 degrees from red to yellow, or to magenta.
    assert turned[:, 1].max() == pytest.approx(200 * 40 / 60, abs=8)
    assert turned[:, 2].max() == pytest.approx(200 * 40 / 60, abs=8)


def test_saturation_pales_and_deepens() -> None:
    pink = np.full((600, 8, 8, 3), (200, 150, 150), np.uint8)
    augment = Augmenter(8, 0, options=only(saturation=2))
    changed = augment(pink, np.random.default_rng(0))[:, 0, 0].astype(int)
    assert (changed[:, 0] == 200).all()
    assert changed[:, 1].min() == pytest.approx(100, abs=4)
    assert changed[:, 1].max() == pytest.approx(175, abs=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zoom", 0.5),
        ("stretch", 0),
        ("patch", 1.5),
        ("patch_side", 2),
        ("cut_side", 0),
        ("hue_deg", -1),
    ],
)
def test_a_change_that_cannot_be_is_refused(name: str, value: float) -> None:
    check_augmentation(Augmentation())
    with pytest.raises(UsageError, match=name):
        check_augmentation(Augmentation(**{name: value}))
