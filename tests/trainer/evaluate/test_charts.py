from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer.evaluate import charts
from trainer.evaluate.baselines import colour_features
from trainer.evaluate.projection import Projection


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


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


def test_colour_features_tell_colours_but_not_places() -> None:
    red_left = np.zeros((8, 8, 3), np.uint8)
    red_left[:, :4, 0] = 200
    images = np.stack([red_left, red_left[:, ::-1], np.full((8, 8, 3), (0, 0, 200), np.uint8)])
    features = colour_features(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert features[0] @ features[1] == pytest.approx(1)
    assert features[0] @ features[2] < 0.5


def test_strangers_have_rows_of_their_own_in_a_confusion_matrix() -> None:
    known = {"a": {"a": 5}, "b": {"b": 5}}
    alone = decoded(charts.confusion_matrix(known, ("a", "b")))
    more = decoded(charts.confusion_matrix(known, ("a", "b"), {"x": {"a": 4}, "y": {"unknown": 4}}))
    assert not reddish(alone).any()
    assert reddish(more).any()


def reddish(picture: np.ndarray) -> np.ndarray:
    blue, green, red = (picture[..., channel].astype(int) for channel in range(3))
    return (red > 180) & (green < 80) & (blue < 80)


def plane(points: list[list[float]], means: list[list[float]]) -> Projection:
    return Projection(np.array(points, float), np.array(means, float), "pca", ("x", "y"))


def test_wrong_names_are_ringed_and_strangers_hollow() -> None:
    places = plane([[0, 0], [1, 1], [0, 1]], [[0, 0.5], [1, 0.5]])
    plain = decoded(charts.embedding_map(places, ["a", "b", "a"], ["a", "b"]))
    ringed = decoded(
        charts.embedding_map(places, ["a", "b", "a"], ["a", "b"], wrong=[False, True, False])
    )
    assert not reddish(plain).any()
    assert reddish(ringed).any()
    hollow = decoded(
        charts.embedding_map(places, ["a", "b", "x"], ["a", "b"], strangers=[False, False, True])
    )
    assert (hollow != plain).any()


def test_maps_stand_any_name_and_hardly_any_point() -> None:
    one = plane([[0, 0]], [[0, 0]])
    assert decoded(charts.embedding_map(one, ["$cow_1^"], ["$cow_1^"])).std() > 0
    assert decoded(charts.mean_space(one, ["$a$ \\frac"])).std() > 0


def test_class_means_of_one_animal_are_joined() -> None:
    places = plane([], [[0, 0], [4, 0], [0, 4], [4, 4]])
    joined = decoded(charts.mean_space(places, ["a", "a", "b", "b"]))
    apart = decoded(charts.mean_space(places, ["a", "b", "c", "d"]))
    # The line of the two upper ones crosses the middle of the picture's columns.
    middle = joined.shape[1] // 2
    assert (joined[:, middle] < 240).any(axis=1).sum() > (apart[:, middle] < 240).any(axis=1).sum()


def test_a_coverage_curve_draws_strangers_only_where_there_are_any() -> None:
    rows = [{"coverage": share, "accuracy": 1 - share / 4} for share in (0.2, 0.6, 1.0)]
    with_strangers = [{**row, "unknown_accepted": 0.5} for row in rows]
    alone = decoded(charts.coverage_curve([{**r, "unknown_accepted": None} for r in rows], 0.2))
    both = decoded(charts.coverage_curve(with_strangers, 0.2))
    assert orange(both).sum() > 200
    assert not orange(alone).any()


def orange(picture: np.ndarray) -> np.ndarray:
    return (np.abs(picture.astype(int) - (0x00, 0x5E, 0xD5)) < 30).all(axis=-1)
