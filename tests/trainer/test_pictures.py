from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer import pictures


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_a_contact_sheet_shows_every_tile_in_its_place() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    tiles = [np.full((20, 20, 3), colour, np.uint8) for colour in colours]
    sheet = decoded(pictures.contact_sheet(tiles, ["a", "b", "c"], tile=40, columns=2))
    assert sheet.shape[:2] == (2 * 55, 80)
    for (y, x), colour in zip([(20, 20), (20, 60), (75, 20)], colours, strict=True):
        np.testing.assert_allclose(sheet[y, x, ::-1], colour, atol=25)


def test_a_contact_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pictures.contact_sheet([], [])


def test_boxes_are_drawn_where_they_are() -> None:
    frame = np.zeros((60, 100, 3), np.uint8)
    found = np.array([[10, 10, 40, 50]], np.float32)
    picture = decoded(pictures.boxed(frame, found, np.zeros((0, 4), np.float32), width=100))
    assert picture[10, 25, 1] > 120
    assert picture[30, 70].max() < 30


def test_a_frame_has_its_colour_and_a_caption_its_lines() -> None:
    tile = np.full((40, 40, 3), 128, np.uint8)
    frames = [(250, 20, 20), (20, 20, 250)]
    sheet = decoded(pictures.contact_sheet([tile, tile], ["a\nb", "c"], tile=40, frames=frames))
    assert sheet.shape[:2] == (40 + 2 * 15, 80)
    for x, colour in ((3, frames[0]), (43, frames[1])):
        np.testing.assert_allclose(sheet[20, x, ::-1], colour, atol=60)
    np.testing.assert_allclose(sheet[20, 20], 128, atol=25)
    # The second line of the first caption is drawn, the second caption has none.
    assert sheet[55:, :40].min() < 150
    assert sheet[57:, 45:].min() > 200


def test_a_caption_stays_within_its_tile() -> None:
    tiles = [np.full((40, 40, 3), 128, np.uint8)] * 2
    sheet = decoded(pictures.contact_sheet(tiles, ["w" * 60, ""], tile=40))
    assert sheet[43:, :38].min() < 150
    assert sheet[43:, 48:].min() > 200
