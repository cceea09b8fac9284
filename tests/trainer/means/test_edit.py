from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import DataError, UsageError
from edge.identity.matching import Matcher
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader, load_means, save_means
from trainer.means.edit import (
    check_absent,
    check_present,
    cluster_sums,
    enrol,
    extend,
    join,
    merge,
    remove,
    usual_threshold,
)


def unit(vectors: np.ndarray | list[list[float]]) -> np.ndarray:
    rows = np.array(vectors, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def at(*degrees: float) -> np.ndarray:
    """Unit embeddings in the first plane of three dimensions."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles), np.zeros(len(angles))], 1).astype(np.float32)


def means_of(groups: dict[str, list[np.ndarray]], outliers: np.ndarray | None = None) -> ClassMeans:
    """Class means with a prototype for each group of embeddings of an animal."""
    prototypes, owner, sums = [], [], []
    for label, parts in enumerate(groups.values()):
        prototypes += [unit([part.sum(axis=0)])[0] for part in parts]
        owner += [label] * len(parts)
        sums.append(np.concatenate(parts).astype(np.float64).sum(axis=0))
    strange = np.zeros((0, 3), np.float32) if outliers is None else outliers
    return ClassMeans(
        tuple(groups),
        np.concatenate([np.array(prototypes, np.float32), strange]),
        np.array(owner + [OUTLIERS] * len(strange), np.int32),
        np.array(sums),
        np.array([sum(map(len, parts)) for parts in groups.values()], np.int64),
        np.array([0.1 * (n + 1) for n in range(len(groups))], np.float32),
        0.02,
        MeansHeader(seq=4, calibration={"threshold": 0.25}),
    )


HERD = {"ann": [at(0, 2, 4)], "bob": [at(80, 84), at(170, 172, 174, 176)], "cid": [at(250, 251)]}


def test_a_newcomer_gets_the_herds_threshold_or_the_median() -> None:
    means = means_of(HERD)
    assert usual_threshold(means) == 0.25
    assert usual_threshold(
        ClassMeans(*[getattr(means, name) for name in means.__slots__[:-1]], MeansHeader())
    ) == pytest.approx(0.2)
    grown = enrol(means, "dot", at(40, 42))
    assert grown.threshold[-1] == pytest.approx(0.25)
    assert grown.prototypes[-1] == pytest.approx(at(41)[0], abs=1e-6)


def test_more_crops_turn_a_single_prototype_to_the_unit_of_the_new_sum() -> None:
    means = extend(means_of(HERD), "ann", at(10, 12, 14))
    assert means.counts.tolist() == [6, 6, 2]
    # The mean direction of 0, 2, 4, 10, 12, 14 degrees is 7.
    assert means.prototypes[0] == pytest.approx(at(7)[0], abs=1e-6)
    assert means.sums[0] == pytest.approx(at(0, 2, 4, 10, 12, 14).sum(axis=0), abs=1e-6)
    assert means.threshold.tolist() == means_of(HERD).threshold.tolist()


def test_more_crops_move_only_the_prototype_they_are_nearest_to() -> None:
    means = extend(means_of(HERD), "bob", at(90, 94))
    # 80, 84, 90, 94: 87; the other cluster is as before.
    assert means.prototypes[1:3] == pytest.approx(at(87, 173), abs=1e-4)
    assert means.counts[1] == 8
    assert means.owner.tolist() == [0, 1, 1, 2]


def test_strays_among_more_crops_do_not_count() -> None:
    strays = extend(means_of(HERD), "ann", np.concatenate([at(*[10] * 8), at(190)]))
    assert strays.counts[0] == 3 + 8


def test_an_animal_without_a_prototype_gets_one_from_more_crops() -> None:
    means = means_of(HERD)
    bare = ClassMeans(
        (*means.animals, "eve"),
        means.prototypes,
        means.owner,
        np.concatenate([means.sums, np.zeros((1, 3))]),
        np.append(means.counts, 0),
        np.append(means.threshold, np.float32(0.3)),
        0.0,
        means.header,
    )
    grown = extend(bare, "eve", at(120, 122))
    assert grown.owner.tolist() == [0, 1, 1, 2, 3]
    assert grown.prototypes[-1] == pytest.approx(at(121)[0], abs=1e-6)


def test_cluster_sums_are_found_again_from_the_running_sum() -> None:
    parts = cluster_sums(means_of(HERD), 1)
    assert parts[0] == pytest.approx(at(80, 84).sum(axis=0), abs=1e-3)
    assert parts[1] == pytest.approx(at(170, 172, 174, 176).sum(axis=0), abs=1e-3)


def test_without_a_sum_each_prototype_weighs_like_one_image() -> None:
    means = means_of(HERD)
    empty = ClassMeans(
        means.animals,
        means.prototypes,
        means.owner,
        np.zeros_like(means.sums),
        np.zeros_like(means.counts),
        means.threshold,
        0.0,
        means.header,
    )
    assert np.linalg.norm(cluster_sums(empty, 1), axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert extend(empty, "ann", at(12)).prototypes[0] == pytest.approx(at(7)[0], abs=1e-6)


def test_removing_keeps_the_others_and_the_outliers_as_they_were() -> None:
    means = remove(means_of(HERD, outliers=at(300)), ["ann"])
    assert means.animals == ("bob", "cid")
    assert means.owner.tolist() == [0, 0, 1, OUTLIERS]
    assert means.prototypes == pytest.approx(at(82, 173, 250.5, 300), abs=1e-5)
    assert means.counts.tolist() == [6, 2]
    assert means.threshold == pytest.approx([0.2, 0.3])


def test_merging_adds_up_and_keeps_up_to_three_prototypes() -> None:
    means = merge(means_of(HERD, outliers=at(300)), "bob", ["ann"])
    assert means.animals == ("bob", "cid")
    assert means.owner.tolist() == [0, 0, 0, 1, OUTLIERS]
    assert means.prototypes == pytest.approx(at(82, 173, 2, 250.5, 300), abs=1e-4)
    assert means.counts.tolist() == [9, 2]
    assert means.threshold == pytest.approx([0.2, 0.3])
    everything = np.concatenate([*HERD["ann"], *HERD["bob"]]).astype(np.float64)
    assert means.sums[0] == pytest.approx(everything.sum(axis=0), abs=1e-5)
    assert merge(means_of(HERD), "ann", ["cid", "cid"]).threshold[0] == pytest.approx(0.3)


def test_beyond_three_the_two_nearest_prototypes_become_one_by_their_weight() -> None:
    groups = {"a": [at(0, 0, 0, 0)], "b": [at(90)], "c": [at(180)], "d": [at(10)]}
    means = merge(means_of(groups), "a", ["b", "c", "d"])
    assert means.animals == ("a",)
    # Four images at 0 degrees and one at 10: 1.99 by the sum of their vectors.
    angle = np.degrees(np.arctan2(np.sin(np.radians(10)), 4 + np.cos(np.radians(10))))
    assert means.prototypes == pytest.approx(at(angle, 90, 180), abs=1e-5)
    assert means.counts.tolist() == [7]


def test_joining_keeps_owners_apart() -> None:
    more = means_of({"dot": [at(30)], "eve": [at(60)]}, outliers=at(330))
    means = join(means_of(HERD, outliers=at(300)), more)
    assert means.animals == ("ann", "bob", "cid", "dot", "eve")
    assert means.owner.tolist() == [0, 1, 1, 2, OUTLIERS, 3, 4, OUTLIERS]
    assert means.margin == pytest.approx(0.02)
    with pytest.raises(UsageError, match="'ann' is in the class means already"):
        join(means, means_of({"ann": [at(3)]}))
    flat = ClassMeans(
        ("x",),
        np.array([[1, 0]], np.float32),
        np.zeros(1, np.int32),
        np.zeros((1, 2)),
        np.zeros(1, np.int64),
        np.zeros(1, np.float32),
        0.0,
        MeansHeader(),
    )
    with pytest.raises(UsageError, match="dimension 2"):
        join(means, flat)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    means = means_of(HERD)
    with pytest.raises(UsageError, match=r"'dan' is not in the class means \(ann, bob, cid\)"):
        remove(means, ["ann", "dan"])
    with pytest.raises(UsageError, match="no animal would be left"):
        remove(means, ["ann", "bob", "cid"])
    with pytest.raises(UsageError, match="with itself"):
        merge(means, "ann", ["ann"])
    with pytest.raises(UsageError, match="at least one"):
        merge(means, "ann", [])
    with pytest.raises(UsageError, match="'dan' is not"):
        merge(means, "dan", ["ann"])
    with pytest.raises(UsageError, match="'dan' is not"):
        extend(means, "dan", at(1))
    with pytest.raises(UsageError, match="no crops"):
        extend(means, "ann", np.zeros((0, 3), np.float32))
    with pytest.raises(UsageError, match="--more"):
        check_absent(means, ["dan", "bob"])
    with pytest.raises(UsageError, match="'dan' is not"):
        check_present(means, ["ann", "dan"])
    with pytest.raises(DataError, match="cancel out"):
        extend(means_of({"ann": [at(0)]}), "ann", at(180))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["enrol", "extend", "remove", "merge"]), st.integers(0, 9)),
        max_size=12,
    ),
    st.integers(0, 2**16),
)
def test_any_sequence_of_edits_leaves_means_that_can_be_used(
    steps: list[tuple[str, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    means = means_of(HERD, outliers=at(300))
    enrolled = 0
    for name, pick in steps:
        animal = means.animals[pick % len(means.animals)]
        images = unit(np.array([1.0, 0.2, 0.3]) + rng.normal(0, 0.3, (4, 3)))
        before = means
        if name == "enrol":
            means, enrolled = enrol(means, f"new{enrolled}", images), enrolled + 1
        elif name == "extend":
            means = extend(means, animal, images)
        elif len(means.animals) > 1:
            if name == "remove":
                means = remove(means, [animal])
            else:
                keep = means.animals[(pick + 1) % len(means.animals)]
                means = merge(means, keep, [animal])
                assert means.counts.sum() == before.counts.sum()
                assert means.sums.sum(axis=0) == pytest.approx(before.sums.sum(axis=0))
        assert (np.bincount(means.owner[means.owner >= 0]) <= 3).all()
        assert (means.owner == OUTLIERS).sum() == 1
    # Every animal is nearest to its own prototypes.
    distances = Matcher(means).distances(means.prototypes)
    own = np.arange(len(means.owner))[means.owner >= 0]
    assert distances[own, means.owner[own]] == pytest.approx(np.zeros(len(own)), abs=1e-5)


def test_edited_means_can_be_saved_and_read(tmp_path: Path) -> None:
    means = merge(enrol(means_of(HERD), "dot", at(40, 42)), "ann", ["bob"])
    save_means(means, tmp_path / "means.npz")
    again = load_means(tmp_path / "means.npz")
    assert again.animals == ("ann", "cid", "dot")
    assert (again.prototypes == means.prototypes).all()
