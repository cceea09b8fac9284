from __future__ import annotations

import numpy as np
import pytest

from trainer.data.augment import Augmentation, Augmenter

STILL = Augmentation(
    rotation_deg=0,
    zoom=1,
    shift=0,
    brightness=0,
    contrast=0,
    tint=0,
    greyscale=0,
    blur=0,
    noise=0,
    patch=0,
)


def only(**changes: float) -> Augmentation:
    values = {name: getattr(STILL, name) for name in STILL.__slots__}
    return Augmentation(**(values | changes))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3)).astype(np.uint8)


def test_with_everything_off_nothing_changes(images: np.ndarray) -> None:
    assert (Augmenter(40, 0, options=STILL)(images, np.random.default_rng(0)) == images).all()


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
    options = only(rotation_deg=180, zoom=1.2, shift=0.05)
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


def test_brightness_moves_the_mean_within_its_limits() -> None:
    grey = np.full((40, 8, 8, 3), 128, np.uint8)
    means = Augmenter(8, 0, options=only(brightness=0.2))(grey, np.random.default_rng(0)).mean(
        axis=(1, 2, 3)
    )
    assert means.min() >= 128 - 52
    assert means.max() <= 128 + 52
    assert means.max() - means.min() > 40
