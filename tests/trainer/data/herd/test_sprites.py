from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.herd import Herd, HerdOptions, SessionPlan
from trainer.data.herd.sprites import read_sprites

COLOURS = {"a": (200, 40, 40), "b": (40, 60, 200), "c": (230, 230, 230)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Animals of one colour each: ellipses at some angle on grassy noise."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            image = np.clip(rng.normal((60, 110, 50), 12, (60, 110, 3)), 0, 255).astype(np.uint8)
            cv2.ellipse(image, (55, 30), (46, 18), 5 * number, 0, 360, colour, -1)
            cv2.imwrite(str(tmp_path / name / f"s_{number}.png"), image[..., ::-1])
    return tmp_path


def test_an_animal_is_cut_out_along_its_length(root: Path) -> None:
    sheet = read_sprites(root, 1)[0]
    assert sheet.name == "a"
    sprite = sheet.sprites[0]
    inside = sprite.shape.alpha > 0.9
    assert 0.25 < inside.mean() < 0.75
    assert inside[96, 30:-30].all()
    assert not inside[:20].any()
    np.testing.assert_allclose(sprite.rgb[inside].mean(axis=0), COLOURS["a"], atol=15)


def test_real_coats_are_drawn_in_the_pen(root: Path) -> None:
    herd = Herd(HerdOptions(animals=3, sprites=root, width=640, height=360))
    frame = next(herd.render(SessionPlan("x", 1, "day", 1, 1)))
    assert frame.animals == ("pig01", "pig02", "pig03")
    for box, colour in zip(frame.boxes, COLOURS.values(), strict=True):
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        patch = frame.image[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3).mean(axis=0)
        # Light changes how bright a coat is, not what colour.
        share = np.array(colour) / np.sum(colour)
        np.testing.assert_allclose(patch / patch.sum(), share, atol=0.09)


def test_too_few_animals_are_counted(root: Path) -> None:
    with pytest.raises(DataError, match="has 3 animals, 5 are asked for"):
        read_sprites(root, 5)


def test_an_empty_folder_and_an_unreadable_image_are_named(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty: no images found"):
        read_sprites(empty, 1)
    empty.rmdir()
    (root / "a" / "s_0.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"s_0\.png: not an image"):
        read_sprites(root, 1)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_contrast_still_gives_some_cut_out(tmp_path: Path, level: int) -> None:
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a" / "s_0.png"), np.full((40, 80, 3), level, np.uint8))
    alpha = read_sprites(tmp_path, 1)[0].sprites[0].shape.alpha
    assert 0.1 < alpha.mean() < 0.9
