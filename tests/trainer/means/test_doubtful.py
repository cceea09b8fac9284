from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from edge.vision.types import Image
from trainer.data.crops import CropSet
from trainer.means.doubtful import inspect_crops
from trainer.means.embed import EmbeddedCrops
from trainer.means.twins import find_twins


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def between(one: float, other: float) -> float:
    """Cosine distance of two angles in degrees."""
    return float(1 - np.cos(np.radians(one - other)))


def herd(
    animals: dict[str, tuple[float, ...]], count: int = 0, threshold: float = 0.1
) -> ClassMeans:
    """Class means with prototypes at these angles; 0.1 is some 26 degrees."""
    sizes = [len(angles) for angles in animals.values()]
    return ClassMeans(
        tuple(animals),
        np.concatenate([at(*angles) for angles in animals.values()]),
        np.repeat(np.arange(len(sizes)), sizes).astype(np.int32),
        np.zeros((len(sizes), 2)),
        np.full(len(sizes), count, np.int64),
        np.full(len(sizes), threshold, np.float32),
        0.0,
        MeansHeader(calibration={"threshold": 0.1}),
    )


def crops(animals: dict[str, dict[str, tuple[float, ...]]]) -> EmbeddedCrops:
    """For each animal and session the angles of its images, `<animal>/<session>_<n>.jpg`."""
    ids = tuple(sorted(animals))
    paths, labels, sessions, angles = [], [], [], []
    for label, animal in enumerate(ids):
        for session, values in animals[animal].items():
            for number, angle in enumerate(values):
                paths.append(Path("herd", animal, f"{session}_{number}.jpg"))
                labels.append(label)
                sessions.append(session)
                angles.append(angle)
    return EmbeddedCrops(
        CropSet(tuple(paths), ids, np.array(labels, np.int32), tuple(sessions)), at(*angles)
    )


def unread(path: Path) -> Image:
    raise AssertionError(f"{path} was read")


BOTH = herd({"ann": (0,), "bob": (90,)})


def test_images_that_fit_are_left_in_peace() -> None:
    images = crops({"ann": {"a": (0, 2, 4), "b": (1, 3, 5)}, "bob": {"a": (88, 90, 92)}})
    result = inspect_crops(images, images.embeddings, BOTH, load=unread)
    assert result.doubts == ()
    assert [row.animal for row in result.animals] == ["ann", "bob"]
    assert [row.doubtful for row in result.animals] == [0, 0]


def test_the_worst_doubt_comes_first_with_its_distances() -> None:
    images = crops(
        {
            "ann": {"a": (0, 0, 0), "b": (0, 0, 60), "c": (0, 0, -40)},
            "bob": {"a": (90, 90, 90), "b": (90, 90, 90)},
        }
    )
    near, far = inspect_crops(images, images.embeddings, BOTH, load=unread).doubts
    # At 60 degrees bob is 30 away, ann (of the other sessions, all about 0) some 60.
    assert (near.reason, near.animal, near.other, near.judged_by) == (
        *("nearer", "ann", "bob"),
        "other_sessions",
    )
    assert images.crops.paths[near.row].name == "b_2.jpg"
    assert near.other_distance == pytest.approx(between(60, 90), abs=1e-5)
    mean = at(0, 0, 0, 0, 0, -40).sum(axis=0)
    middle = float(np.degrees(np.arctan2(mean[1], mean[0])))
    assert near.own == pytest.approx(between(60, middle), abs=1e-4)
    assert (far.reason, far.other) == ("far", "bob")
    assert images.crops.paths[far.row].name == "c_2.jpg"
    assert far.threshold == pytest.approx(0.1)


def test_a_session_does_not_vouch_for_itself() -> None:
    # Session b is bob's, filed under ann; among themselves its images agree perfectly.
    images = crops({"ann": {"a": (0,) * 9, "b": (75,) * 3, "c": (0,) * 9}, "bob": {"a": (90,) * 4}})
    doubts = inspect_crops(images, images.embeddings, BOTH, load=unread).doubts
    assert sorted(images.crops.paths[doubt.row].name for doubt in doubts) == [
        *("b_0.jpg", "b_1.jpg", "b_2.jpg")
    ]
    assert doubts[0].own == pytest.approx(between(75, 0), abs=1e-5)


def test_a_single_session_is_judged_image_by_image() -> None:
    images = crops({"ann": {"a": (0, 0, 0, 0, 0, 50)}, "bob": {"a": (90,)}})
    doubt, *none = inspect_crops(images, images.embeddings, BOTH, load=unread).doubts
    assert not none
    assert images.crops.paths[doubt.row].name == "a_5.jpg"
    assert doubt.judged_by == "other_images"
    assert doubt.own == pytest.approx(between(50, 0), abs=1e-5)


def test_a_few_images_are_judged_by_class_means_that_know_more() -> None:
    images = crops({"ann": {"a": (50, 50)}})
    known = inspect_crops(
        images, images.embeddings, herd({"ann": (0,), "bob": (180,)}, count=40), load=unread
    )
    assert [doubt.judged_by for doubt in known.doubts] == ["means", "means"]
    assert known.doubts[0].own == pytest.approx(between(50, 0), abs=1e-5)
    # Means made of these very images know no better.
    same = inspect_crops(
        images, images.embeddings, herd({"ann": (0,), "bob": (180,)}, count=2), load=unread
    )
    assert same.doubts == ()


def test_an_animal_keeps_as_many_prototypes_as_its_class_means() -> None:
    images = crops({"ann": {"a": (0, 0, 0, 120, 120, 120), "b": (0, 0, 0, 120, 120, 120)}})
    two = inspect_crops(
        images, images.embeddings, herd({"ann": (0, 120), "bob": (240,)}), load=unread
    )
    assert two.doubts == ()
    one = inspect_crops(images, images.embeddings, herd({"ann": (60,), "bob": (240,)}), load=unread)
    assert len(one.doubts) == 12


def test_animals_that_the_class_means_do_not_know_are_compared_too() -> None:
    images = crops(
        {
            "ann": {"a": (0, 0, 0), "b": (0, 0, 200)},
            "new": {"a": (200, 200, 200), "b": (200, 200, 200)},
        }
    )
    pictures = iter(np.arange(0, 250, 30))
    result = inspect_crops(
        images, images.embeddings, BOTH, load=lambda _: np.full((8, 8, 3), next(pictures), np.uint8)
    )
    assert [(d.animal, d.other, d.reason) for d in result.doubts] == [("ann", "new", "nearer")]
    new = result.animals[1]
    assert new.from_means is None
    assert new.threshold == pytest.approx(0.1)
    assert (new.nearest, new.sessions, new.crops) == ("bob", 2, 6)


def test_a_herd_of_one_has_no_other_animal() -> None:
    images = crops({"ann": {"a": (0, 0, 0), "b": (0, 0, 60)}})
    result = inspect_crops(images, images.embeddings, herd({"ann": (0,)}), load=unread)
    assert [(d.reason, d.other, d.other_distance) for d in result.doubts] == [("far", None, None)]
    assert result.animals[0].nearest is None
    assert result.most_alike == ()


def test_summary_spread_and_the_pairs_most_alike() -> None:
    means = herd({"ann": (0,), "bob": (90,), "cid": (120, 300), "dot": (200,)})
    images = crops({"bob": {"a": (90, 90, 90), "b": (100, 100, 100)}})
    result = inspect_crops(images, images.embeddings, means, load=unread)
    row = result.animals[0]
    assert row.spread == pytest.approx(between(90, 100), abs=1e-5)
    assert row.from_means == pytest.approx(between(95, 90), abs=1e-5)
    assert (row.nearest, row.nearest_distance) == ("cid", pytest.approx(between(90, 120), abs=1e-5))
    assert [pair[:2] for pair in result.most_alike[:2]] == [("bob", "cid"), ("ann", "cid")]
    assert result.most_alike[1][2] == pytest.approx(between(0, 300), abs=1e-5)
    assert len(result.most_alike) == 6
    assert result.typical == {"bob": 0}


def test_outliers_prototypes_are_nobody() -> None:
    means = herd({"ann": (0,), "bob": (90,)})
    strange = ClassMeans(
        means.animals,
        np.concatenate([means.prototypes, at(45)]),
        np.append(means.owner, np.int32(OUTLIERS)),
        means.sums,
        means.counts,
        means.threshold,
        0.0,
        means.header,
    )
    images = crops({"ann": {"a": (20, 20, 20), "b": (20, 20, 20)}})
    assert inspect_crops(images, images.embeddings, strange, load=unread).doubts == ()


def noise(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (40, 30, 3)).astype(np.uint8)


def test_the_same_picture_under_two_animals_is_found_and_the_better_fit_stays() -> None:
    images = crops(
        {
            "ann": {"a": (0, 0, 0), "b": (90, 0, 0, 0, 0)},
            "bob": {"a": (90, 90, 90), "b": (90, 90, 90)},
        }
    )
    stolen, origin = Path("herd/ann/b_0.jpg"), Path("herd/bob/b_1.jpg")
    pictures = {path: noise(n) for n, path in enumerate(images.crops.paths)}
    pictures[stolen] = np.clip(pictures[origin].astype(int) + 2, 0, 255).astype(np.uint8)
    twins = find_twins(images, pictures.__getitem__)
    index = images.crops.paths.index
    assert twins == {index(stolen): index(origin), index(origin): index(stolen)}
    (doubt,) = inspect_crops(images, images.embeddings, BOTH, load=pictures.__getitem__).doubts
    assert (doubt.reason, doubt.animal, doubt.twin) == ("duplicate", "ann", origin)


def test_the_same_picture_of_one_animal_is_no_matter() -> None:
    images = crops({"ann": {"a": (0, 0, 0)}})
    assert find_twins(images, unread) == {}
