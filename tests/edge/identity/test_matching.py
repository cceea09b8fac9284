from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.identity.matching import NOBODY, Matcher, distances_to_animals, open_set_labels
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def means_of(
    animals: str, prototypes: np.ndarray, owner: list[int], threshold: float, margin: float
) -> ClassMeans:
    count = len(animals)
    return ClassMeans(
        tuple(animals),
        prototypes,
        np.array(owner, np.int32),
        np.zeros((count, prototypes.shape[1])),
        np.zeros(count, np.int64),
        np.full(count, threshold, np.float32),
        margin,
        MeansHeader(),
    )


def herd(
    threshold: float = 0.1, margin: float = 0.0, outliers: tuple[float, ...] = ()
) -> ClassMeans:
    """Animals a, b, c at 0, 60 and 120 degrees; b has a second prototype at 240."""
    owner = [0, 1, 2, 1] + [OUTLIERS] * len(outliers)
    return means_of("abc", at(0, 60, 120, 240, *outliers), owner, threshold, margin)


def test_distances_take_the_best_prototype_and_leave_outliers_out() -> None:
    distances = distances_to_animals(at(240, 60), herd(outliers=(60,)))
    assert distances[:, 1] == pytest.approx([0, 0], abs=1e-6)
    assert distances[1, 0] == pytest.approx(0.5, abs=1e-6)


def test_refused_beyond_threshold_below_margin_and_next_to_outliers() -> None:
    # cos 25 degrees = 0.906: inside 0.1; 27 degrees is not; 30 lies between a and b.
    assert open_set_labels(at(25, 27, 60), herd()).tolist() == [0, -1, 1]
    assert open_set_labels(at(29, 5), herd(0.5, margin=0.05)).tolist() == [-1, 0]
    assert open_set_labels(at(25, 5), herd(outliers=(35,))).tolist() == [-1, 0]


def test_matches_tell_distance_margin_and_reason() -> None:
    near, far, between = Matcher(herd(0.2, margin=0.05)).match(at(0, 300, 29))
    assert (near.animal, near.reason) == ("a", None)
    assert near.distance == pytest.approx(0, abs=1e-6)
    assert near.margin == pytest.approx(0.5, abs=1e-6)  # b is 60 degrees away
    assert (far.animal, far.reason) == (None, "unknown")
    assert far.distance == pytest.approx(0.5, abs=1e-6)
    assert (between.animal, between.reason) == (None, "unsure")
    assert between.margin == pytest.approx(
        np.cos(np.radians(29)) - np.cos(np.radians(31)), abs=1e-5
    )


def test_what_an_outliers_prototype_claims_is_unknown_not_unsure() -> None:
    (match,) = Matcher(herd(0.5, margin=0.05, outliers=(29.5,))).match(at(29))
    assert match.reason == "unknown"


def test_each_animal_has_its_own_threshold() -> None:
    means = herd()
    means.threshold[1] = 0.3
    assert Matcher(means).label(at(-27, 33)).labels.tolist() == [NOBODY, 1]


def test_a_herd_of_one_is_sure_and_an_empty_one_knows_nobody() -> None:
    (match,) = Matcher(means_of("a", at(0), [0], 0.1, 0.05)).match(at(5))
    assert (match.animal, match.margin) == ("a", np.inf)
    (match,) = Matcher(means_of("", at(0), [OUTLIERS], 0.1, 0.05)).match(at(0))
    assert (match.animal, match.reason) == (None, "unknown")


def test_an_animal_without_prototypes_is_infinitely_far_and_never_named() -> None:
    means = means_of("abc", at(0, 60), [0, 2], 0.1, 0.0)
    assert distances_to_animals(at(60), means)[0].tolist()[1] == np.inf
    assert open_set_labels(at(0, 60), means).tolist() == [0, 2]


def test_no_embeddings_give_no_answers_and_broken_ones_nobody() -> None:
    matcher = Matcher(herd(outliers=(35,)))
    assert matcher.match(np.zeros((0, 2), np.float32)) == []
    (zero, broken) = matcher.match(np.array([[0, 0], [np.nan, np.nan]], np.float32))
    assert zero.reason == broken.reason == "unknown"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 14))
def test_agrees_with_a_loop_over_prototypes(seed: int, animals: int, prototypes: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(prototypes, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owner = rng.integers(-1, animals, prototypes).tolist()
    means = means_of("abcdef"[:animals], vectors.reshape(-1, 3), owner, 0.4, 0.1)
    queries = rng.normal(size=(5, 3))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    distances = distances_to_animals(queries, means)
    for row, query in enumerate(queries):
        for animal in range(animals):
            own = [1 - float(query @ v) for v, o in zip(vectors, owner, strict=True) if o == animal]
            assert distances[row, animal] == pytest.approx(min(own, default=np.inf), abs=1e-5)
        strange = [1 - float(query @ v) for v, o in zip(vectors, owner, strict=True) if o < 0]
        ranked = [*sorted(distances[row].tolist()), np.inf]
        # A tie within rounding may go either way.
        edges = (ranked[0] - 0.4, ranked[1] - ranked[0] - 0.1, min(strange, default=9) - ranked[0])
        if np.isfinite(ranked[0]) and min(abs(edge) for edge in edges) > 1e-5:
            refused = edges[0] > 0 or edges[1] < 0 or edges[2] < 0
            expected = NOBODY if refused else int(np.argmin(distances[row]))
            assert open_set_labels(queries, means)[row] == expected
