from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.identity.means import ClassMeans, MeansHeader
from trainer.data.crops import CropSet
from trainer.evaluate.answers import AnsweredCrops, answer, joined, thinned
from trainer.means.embed import EmbeddedCrops


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


MEANS = ClassMeans(
    ("a", "b"),
    at(0, 90),
    np.array([0, 1], np.int32),
    np.zeros((2, 2)),
    np.zeros(2, np.int64),
    # 45 degrees lie 0.29 away, 60 lie 0.5.
    np.full(2, 0.3, np.float32),
    0.02,
    MeansHeader(),
)


def asked(animals: str, *degrees: float, split: str = "query") -> AnsweredCrops:
    names = tuple(sorted(set(animals)))
    labels = np.array([names.index(animal) for animal in animals], np.int32)
    paths = tuple(Path(f"{animal}/t_{row}.jpg") for row, animal in enumerate(animals))
    crops = CropSet(paths, names, labels, ("t",) * len(animals))
    return answer(EmbeddedCrops(crops, at(*degrees)), MEANS, split)


def test_known_animals_are_right_wrong_or_refused() -> None:
    crops = asked("aaaa", 10, 80, 45, 180)
    assert crops.answers == ("a", "b", "unsure", "unknown")
    assert crops.verdicts == ("right", "wrong", "refused", "refused")
    assert crops.nearest[:2] == ("a", "b")
    np.testing.assert_allclose(crops.distances[0], 1 - np.cos(np.radians(10)), atol=1e-6)
    np.testing.assert_allclose(
        crops.margins[0], np.cos(np.radians(10)) - np.cos(np.radians(80)), atol=1e-6
    )


def test_a_stranger_is_answered_right_when_it_is_refused() -> None:
    assert asked("xx", 180, 5, split="unknown").verdicts == ("right", "wrong")


def test_joined_and_selected_crops_stay_row_for_row() -> None:
    crops = joined([asked("ab", 10, 80), asked("xx", 180, 5, split="unknown")])
    chosen = crops.select([3, 0])
    assert chosen.animals == ("x", "a")
    assert chosen.splits == ("unknown", "query")
    assert chosen.verdicts == ("wrong", "right")
    np.testing.assert_allclose(chosen.embeddings, at(5, 10), atol=1e-6)
    assert [path.name for path in chosen.paths] == ["t_1.jpg", "t_0.jpg"]


def test_thinning_keeps_what_went_wrong_and_drops_the_gallery_first() -> None:
    crops = joined(
        [asked("a" * 6, *[0.0] * 6, split="gallery"), asked("aaa", 10, 80, 45), asked("ab", 0, 90)]
    )
    assert thinned(crops, 2).verdicts == ("wrong", "refused")
    assert thinned(crops, 5).splits == ("query",) * 5
    most = thinned(crops, 8)
    assert len(most) == 8
    assert most.splits == ("gallery",) * 3 + ("query",) * 5
    assert thinned(crops, 99).paths == crops.paths
    assert thinned(crops, 8).paths == most.paths
