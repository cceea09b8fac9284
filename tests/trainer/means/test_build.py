from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from edge.identity.means import OUTLIERS, load_means, save_means
from trainer.data.crops import CropSet, read_crops
from trainer.means.build import build_means, means_from_embeddings, with_outliers
from trainer.means.edit import enrol
from trainer.means.embed import EmbeddedCrops, embed_crops
from trainer.means.prototypes import MeansOptions, robust_prototypes
from trainer.means.thresholds import Thresholds, calibrate

HEADER = {"embedder_sha256": "0" * 64, "seq": 3, "created": "2026-01-01T00:00:00Z"}


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def around(centre: list[float], count: int, spread: float = 0.05, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, spread, (count, len(centre)))
    return unit(np.array(centre) + noise)


def embedded(groups: dict[str, list[np.ndarray]]) -> EmbeddedCrops:
    """One array of embeddings per session of each animal."""
    animals = tuple(sorted(groups))
    paths, labels, sessions, rows = [], [], [], []
    for label, animal in enumerate(animals):
        for number, part in enumerate(groups[animal]):
            for frame in range(len(part)):
                paths.append(Path(f"{animal}/t{number}_{frame}.jpg"))
                labels.append(label)
                sessions.append(f"t{number}")
            rows.append(part)
    crops = CropSet(tuple(paths), animals, np.array(labels, np.int32), tuple(sessions))
    return EmbeddedCrops(crops, np.concatenate(rows))


def strangers(centre: list[float], count: int) -> EmbeddedCrops:
    """Two folders of `count` / 2 crops each."""
    half = count // 2
    return embedded({f"n{n}": [around(centre, half, seed=7 + n)] for n in range(2)})


A, B, C = [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]


def test_one_prototype_is_the_unit_mean() -> None:
    embeddings = around(A, 12)
    prototypes, kept = robust_prototypes(embeddings, 1, MeansOptions())
    mean = embeddings.mean(axis=0)
    assert prototypes[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert kept.all()


def test_far_images_are_dropped_and_no_longer_pull() -> None:
    embeddings = np.concatenate([around(A, 18), around([-1, 0.2, 0, 0], 2)])
    prototypes, kept = robust_prototypes(embeddings, 1, MeansOptions())
    assert kept.tolist() == [True] * 18 + [False] * 2
    assert prototypes[0] @ np.array(A) > 0.999


def test_never_more_than_the_share_is_dropped_and_five_stay() -> None:
    half = np.concatenate([around(A, 10), around([-1, 0.3, 0, 0], 10)])
    assert robust_prototypes(half, 1, MeansOptions())[1].sum() >= 14
    few = np.concatenate([around(A, 3), around([-1, 0.3, 0, 0], 2)])
    assert robust_prototypes(few, 1, MeansOptions())[1].sum() == 5


def test_two_clusters_get_a_prototype_each_and_strays_none() -> None:
    embeddings = np.concatenate([around(A, 20), around(B, 8, seed=1), around(C, 1, seed=2)])
    prototypes, kept = robust_prototypes(embeddings, 3, MeansOptions())
    best = (prototypes @ np.array([A, B, C]).T).max(axis=0)
    assert (best[:2] > 0.99).all()
    assert best[2] < 0.9
    assert np.linalg.norm(prototypes, axis=1) == pytest.approx(np.ones(len(prototypes)), abs=1e-5)
    assert not kept[-1]


def test_more_prototypes_are_taken_only_where_held_out_f1_gains() -> None:
    # The day and the night coat of `x` lie on either side of `y`.
    day, night, between = [1.0, 0.4, 0, 0], [-1.0, 0.4, 0, 0], [0, 1.0, 0, 0]
    gallery = embedded(
        {
            "x": [around(day, 15), around(night, 15, seed=1)],
            "y": [around(between, 20, seed=2)],
            "z": [around(C, 20, seed=3)],
        }
    )
    held_out = embedded(
        {
            "x": [around(day, 10, seed=4), around(night, 10, seed=5)],
            "y": [around(between, 10, seed=6)],
            "z": [around(C, 10, seed=7)],
        }
    )
    means, report = means_from_embeddings(gallery, held_out, **HEADER)
    assert report.prototypes == {"x": 2, "y": 1, "z": 1}
    assert means.owner.tolist() == [0, 0, 1, 2]
    assert report.calibration["source"] == "held_out"
    assert report.calibration["accepted"] >= 0.95
    assert means.header.seq == 3


def test_sums_and_counts_hold_what_was_kept_and_the_file_can_be_read(tmp_path: Path) -> None:
    gallery = embedded({"a": [around(A, 18), around([-1, 0.2, 0, 0], 2)], "b": [around(B, 6)]})
    means, report = means_from_embeddings(gallery, None, **HEADER)
    assert [path.name for path in report.dropped] == ["t1_0.jpg", "t1_1.jpg"]
    assert means.counts.tolist() == [18, 6]
    assert means.sums[0] == pytest.approx(gallery.embeddings[:18].sum(axis=0), abs=1e-4)
    save_means(means, tmp_path / "means.npz")
    again = load_means(tmp_path / "means.npz")
    assert (again.prototypes == means.prototypes).all()
    assert again.header == means.header


def test_without_held_out_sessions_a_session_is_judged_by_the_others() -> None:
    # Inside a session crops are close; the second session of `a` lies 0.3 away from the first.
    turned = [np.cos(np.arccos(0.7)), np.sin(np.arccos(0.7)), 0, 0]
    gallery = embedded(
        {"a": [around(A, 12, 0.01), around(turned, 12, 0.01, 1)], "b": [around(C, 12, 0.01, 2)]}
    )
    means, report = means_from_embeddings(gallery, None, **HEADER)
    assert report.calibration["source"] == "left_out_sessions"
    assert means.threshold[0] >= 0.29


def test_negatives_become_outliers_prototypes_unless_they_claim_the_known() -> None:
    gallery = embedded({"a": [around(A, 20)], "b": [around(B, 20, seed=1)]})
    far = strangers([0, 0, 0.2, 1.0], 20)
    means, report = means_from_embeddings(gallery, gallery, negatives=far, **HEADER)
    assert (means.owner == OUTLIERS).sum() == report.calibration["outliers"] >= 1
    stolen = means_from_embeddings(gallery, gallery, negatives=strangers(A, 20), **HEADER)[0]
    assert not (stolen.owner == OUTLIERS).any()


def test_no_stranger_both_makes_outliers_prototypes_and_calibrates() -> None:
    gallery = embedded({"a": [around(A, 20)], "b": [around(B, 20, seed=1)]})
    # Twelve crops each of four strangers; each has a direction of its own.
    ways = [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, -1, 0], [0, 0, 0, -1]]
    by_animal = embedded({f"n{i}": [around(way, 12, 0.01)] for i, way in enumerate(ways)})
    means, report = means_from_embeddings(gallery, gallery, negatives=by_animal, **HEADER)
    assert report.calibration["negatives"] == 24
    outliers = means.prototypes[means.owner == OUTLIERS]
    made_of = {int(np.argmax(np.array(ways) @ outlier)) for outlier in outliers}
    assert made_of == {1, 3}
    # One animal: whole sessions of it.
    by_session = embedded({"n": [around(way, 12, 0.01) for way in ways]})
    again, report = means_from_embeddings(gallery, gallery, negatives=by_session, **HEADER)
    assert report.calibration["negatives"] == 24
    assert (again.prototypes == means.prototypes).all()


def test_negatives_that_cannot_be_parted_only_calibrate() -> None:
    gallery = embedded({"a": [around(A, 20)], "b": [around(B, 20, seed=1)]})
    one_session = embedded({"n": [around([0, 0, 0.2, 1.0], 40, seed=2)]})
    for negatives in (one_session, strangers([0, 0, 0.2, 1.0], 14)):
        means, report = means_from_embeddings(gallery, gallery, negatives=negatives, **HEADER)
        assert not (means.owner == OUTLIERS).any()
        assert report.calibration["negatives"] == len(negatives.crops)


def test_an_animal_of_one_crop_does_not_calibrate_by_comparing_it_with_itself() -> None:
    gallery = embedded({"a": [around(A, 1)], "b": [around(B, 1)]})
    _, report = means_from_embeddings(gallery, None, **HEADER)
    assert report.calibration["source"] == "none"
    with_others = embedded({"a": [around(A, 1)], "b": [around(B, 12, 0.1), around(B, 12, 0.1, 1)]})
    _, report = means_from_embeddings(with_others, None, **HEADER)
    assert report.calibration["source"] == "left_out_sessions"
    assert report.calibration["queries"] == 24


def test_negatives_are_asked_of_the_means_that_will_be_shipped() -> None:
    # What the held-out session brings to `a` lies towards the strangers.
    towards = [np.cos(1.0), 0.0, 0.0, np.sin(1.0)]
    beyond = embedded({"n": [around([np.cos(1.1), 0.0, 0.0, np.sin(1.1)], 12, 0.01, 5)]})
    gallery = embedded({"a": [around(A, 4, 0.01)], "b": [around(B, 12, 0.01, 1)]})
    held_out = embedded({"a": [around(towards, 40, 0.01, 2)], "b": [around(B, 40, 0.01, 3)]})
    asked: list[np.ndarray] = []

    def spy(*args: object, **kwargs: object) -> Thresholds:
        asked.append(kwargs["negatives"])  # type: ignore[arg-type]
        return calibrate(*args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.means.build.calibrate", spy)
        means_from_embeddings(gallery, held_out, negatives=beyond, references=held_out, **HEADER)
    # Means of the gallery alone are 0.55 away.
    assert asked[0][:, 0].max() < 0.2


def test_the_same_input_gives_the_same_means() -> None:
    gallery = embedded({"a": [around(A, 20, 0.4)], "b": [around(B, 20, 0.4, seed=1)]})
    first, second = (means_from_embeddings(gallery, gallery, **HEADER)[0] for _ in range(2))
    assert (first.prototypes == second.prototypes).all()
    assert (first.threshold == second.threshold).all()


def test_strangers_and_emptiness_are_refused() -> None:
    gallery = embedded({"a": [around(A, 5)], "b": [around(B, 5)]})
    with pytest.raises(DataError, match="held-out animal 'c'"):
        means_from_embeddings(gallery, embedded({"c": [around(C, 5)]}), **HEADER)
    empty = EmbeddedCrops(gallery.crops.select([]), np.zeros((0, 4), np.float32))
    with pytest.raises(DataError, match="at least one crop"):
        means_from_embeddings(empty, None, **HEADER)
    with pytest.raises(ValueError, match="embeddings must be"):
        EmbeddedCrops(gallery.crops, np.zeros((3, 4), np.float32))


def test_a_newcomer_is_enrolled_beside_the_herd() -> None:
    gallery = embedded({"a": [around(A, 8)], "b": [around(B, 8)]})
    means, _ = means_from_embeddings(gallery, None, **HEADER)
    grown = enrol(means, "c", around(C, 6))
    assert grown.animals == ("a", "b", "c")
    assert grown.owner[-1] == 2
    assert grown.counts[-1] == 6
    assert grown.threshold[-1] == pytest.approx(means.header.calibration["threshold"])
    assert means.animals == ("a", "b")
    with pytest.raises(UsageError, match="'a' is in the class means already"):
        enrol(means, "a", around(A, 2))
    with pytest.raises(UsageError, match="at least one crop"):
        enrol(means, "d", np.zeros((0, 4), np.float32))


class MeanColour:
    """Stands in for the embedder: the crop's mean colour as a unit vector."""

    size, dimension, gallery_turns = 16, 3, 4

    def embed(self, crops: np.ndarray, turns: int | None = None) -> np.ndarray:
        return unit(crops.reshape(len(crops), -1, 3).mean(axis=1) + 1)


def test_crops_are_read_letterboxed_and_embedded(tmp_path: Path) -> None:
    for animal, colour in (("red", (0, 0, 255)), ("blue", (255, 0, 0))):
        for session in ("t0", "t1"):
            for frame in range(3):
                path = tmp_path / animal / f"{session}_{frame}.png"
                path.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(path), np.full((12, 24, 3), colour, np.uint8))
    crops = read_crops(tmp_path)
    first = crops.select(np.arange(0, 12, 2))
    embedded_crops = embed_crops(MeanColour(), first)
    # Half of the square is the letterbox's grey, half the animal.
    wanted = unit(np.array([[(255 + 114) / 2 + 1, 58.0, 58.0]]))[0]
    assert embedded_crops.of(1)[0] == pytest.approx(wanted, abs=1e-3)
    means, _ = build_means(MeanColour(), first, crops, **HEADER)
    assert means.animals == ("blue", "red")
    assert means.header.embedder_sha256 == "0" * 64


def test_outliers_prototypes_are_made_anew_for_another_embedder() -> None:
    gallery = embedded({"a": [around(A, 6)], "b": [around(B, 6)]})
    far = strangers([0, 0, 0, 1.0], 40)
    means, _ = means_from_embeddings(gallery, None, negatives=far, **HEADER)
    assert (means.owner == OUTLIERS).any()
    elsewhere = strangers(C, 40)
    made = with_outliers(means, elsewhere, around(A, 5, seed=4))
    outliers = made.prototypes[made.owner == OUTLIERS]
    assert len(outliers) > 0
    assert (outliers @ np.array(C) > 0.9).all()
    assert (made.prototypes[made.owner != OUTLIERS] == means.prototypes[means.owner >= 0]).all()
    # None that would claim the known.
    assert not (with_outliers(means, strangers(A, 40), around(A, 40)).owner == OUTLIERS).any()
