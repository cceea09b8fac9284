from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer.evaluate import charts
from trainer.evaluate.baselines import colour_features


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_a_contact_sheet_shows_every_tile_in_its_place() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    tiles = [np.full((20, 20, 3), colour, np.uint8) for colour in colours]
    sheet = decoded(charts.contact_sheet(tiles, ["a", "b", "c"], tile=40, columns=2))
    assert sheet.shape[:2] == (2 * 55, 80)
    for (y, x), colour in zip([(20, 20), (20, 60), (75, 20)], colours, strict=True):
        np.testing.assert_allclose(sheet[y, x, ::-1], colour, atol=25)


def test_a_contact_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        charts.contact_sheet([], [])


def test_learning_curves_stand_missing_scores() -> None:
    picture = decoded(
        charts.learning_curves([1, 2, 3], {"loss": [3, 2, 1]}, {"F1": [None, 0.5, 1]})
    )
    assert picture.std() > 0


def test_a_confusion_matrix_darkens_where_the_answers_are() -> None:
    animals = ("a", "b")
    right = decoded(charts.confusion_matrix({"a": {"a": 9}, "b": {"b": 9}}, animals))
    wrong = decoded(charts.confusion_matrix({"a": {"b": 9}, "b": {"a": 9}}, animals))
    assert right.shape == wrong.shape
    assert np.abs(right.astype(int) - wrong).max() > 100


def test_boxes_are_drawn_where_they_are() -> None:
    frame = np.zeros((60, 100, 3), np.uint8)
    found = np.array([[10, 10, 40, 50]], np.float32)
    picture = decoded(charts.boxed(frame, found, np.zeros((0, 4), np.float32), width=100))
    assert picture[10, 25, 1] > 120
    assert picture[30, 70].max() < 30


def test_colour_features_tell_colours_but_not_places() -> None:
    red_left = np.zeros((8, 8, 3), np.uint8)
    red_left[:, :4, 0] = 200
    images = np.stack([red_left, red_left[:, ::-1], np.full((8, 8, 3), (0, 0, 200), np.uint8)])
    features = colour_features(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert features[0] @ features[1] == pytest.approx(1)
    assert features[0] @ features[2] < 0.5
