from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate import measures

# Few different values, so that ties happen.
distances = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5]), min_size=1, max_size=8)
rights = st.lists(st.booleans(), min_size=8, max_size=8)
times = st.lists(st.integers(1, 3), min_size=8, max_size=8)


def f32(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


@given(distances, distances)
def test_auroc_counts_the_pairs_that_are_in_order(known: list[float], unknown: list[float]) -> None:
    pairs = [1.0 if k < u else 0.5 if k == u else 0.0 for k in known for u in unknown]
    assert measures.auroc(f32(known), f32(unknown)) == pytest.approx(np.mean(pairs))


@given(distances, rights, distances)
def test_oscr_is_the_area_under_its_curve(
    known: list[float], right: list[bool], unknown: list[float]
) -> None:
    # By its definition: a point for each distance that may be accepted, trapezoids between them.
    area, last_rate, last_false = 0.0, 0.0, 0.0
    for limit in sorted({*known, *unknown}):
        taken = [k <= limit and r for k, r in zip(known, right, strict=False)]
        rate = sum(taken) / len(known)
        false = sum(u <= limit for u in unknown) / len(unknown)
        area += (false - last_false) * (rate + last_rate) / 2
        last_rate, last_false = rate, false
    hits = np.array(right[: len(known)])
    assert measures.oscr(f32(known), hits, f32(unknown)) == pytest.approx(area)


@given(distances, rights, times, distances, times)
def test_to_weigh_a_query_twice_is_to_ask_it_twice(
    known: list[float],
    right: list[bool],
    known_times: list[int],
    unknown: list[float],
    unknown_times: list[int],
) -> None:
    w, v = np.array(known_times[: len(known)]), np.array(unknown_times[: len(unknown)])
    near, hits, far = f32(known), np.array(right[: len(known)]), f32(unknown)
    labels = np.arange(len(known)) % 3
    named = np.where(hits, labels, (labels + 1) % 3)
    again = {"near": near.repeat(w), "hits": hits.repeat(w), "far": far.repeat(v)}
    assert measures.auroc(near, far, w.astype(float), v.astype(float)) == pytest.approx(
        measures.auroc(again["near"], again["far"])
    )
    assert measures.oscr(near, hits, far, w.astype(float), v.astype(float)) == pytest.approx(
        measures.oscr(again["near"], again["hits"], again["far"])
    )
    assert measures.weighted_share(hits, w.astype(float)) == pytest.approx(again["hits"].mean())
    for weighed, repeated in (
        (
            measures.f1_by_animal(labels, named, 3, w.astype(float)),
            measures.f1_by_animal(labels.repeat(w), named.repeat(w), 3),
        ),
        (
            measures.share_by_group(hits, labels, 3, w.astype(float)),
            measures.share_by_group(hits.repeat(w), labels.repeat(w), 3),
        ),
    ):
        np.testing.assert_allclose(weighed, repeated)


def test_f1_by_hand() -> None:
    # Animal 0: 2 asked, 1 right, 1 named: 2/3. Animal 1: 2 asked, 2 right, 3 named: 4/5.
    labels, named = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    scores = measures.f1_by_animal(labels, named, 3)
    assert scores[:2] == pytest.approx([2 / 3, 4 / 5])
    assert np.isnan(scores[2])
    assert measures.macro_average(scores, np.array([1.0, 1.0, 0.0])) == pytest.approx(11 / 15)
    assert measures.macro_average(scores, np.array([3.0, 0.0, 0.0])) == pytest.approx(2 / 3)
    assert measures.macro_f1_score(labels, named) == pytest.approx(11 / 15)


def test_a_share_of_nothing_is_undefined() -> None:
    assert np.isnan(measures.weighted_share(np.zeros(0, bool)))
    assert np.isnan(measures.share_by_group(np.ones(2, bool), np.array([0, 0]), 2)[1])


def test_ranks_count_who_comes_before() -> None:
    table = f32([0.3, 0.1, 0.2, 0.9]).reshape(1, 4)
    ranks = [int(measures.true_ranks(table, np.array([label]))[0]) for label in range(4)]
    assert ranks == [2, 0, 1, 3]


def test_a_collapsed_embedder_is_not_right_about_everybody() -> None:
    flat = np.zeros((3, 3), np.float32)
    ranks = measures.true_ranks(flat, np.array([0, 1, 2]))
    assert ranks.tolist() == [0, 1, 2]
    # The nearest animal in matching is the first of equals.
    assert (ranks == 0).tolist() == (np.argmin(flat, axis=1) == np.array([0, 1, 2])).tolist()


def test_cumulative_matches_by_hand() -> None:
    cmc = measures.cumulative_matches(np.array([0, 0, 2, 12]))
    assert list(cmc) == [str(rank) for rank in range(1, 11)]
    assert [cmc["1"], cmc["2"], cmc["3"], cmc["10"]] == [0.5, 0.5, 0.75, 0.75]


def test_the_coverage_curve_takes_the_nearest_first_and_ties_together() -> None:
    near = f32([0.2, 0.1, 0.2, 0.4])
    curve = measures.coverage_curve(near, np.array([False, True, True, False]), f32([0.15, 0.3]))
    assert len(curve) == 100
    first, middle, last = curve[0], curve[49], curve[-1]
    assert (first["coverage"], first["accuracy"], first["unknown_accepted"]) == (0.25, 1.0, 0.0)
    # Half of four are two, and the second nearest shares its distance with the third.
    assert middle["coverage"] == 0.75
    assert middle["accuracy"] == pytest.approx(2 / 3)
    assert middle["threshold"] == pytest.approx(0.2)
    assert middle["unknown_accepted"] == 0.5
    assert (last["coverage"], last["accuracy"], last["unknown_accepted"]) == (1.0, 0.5, 1.0)


def test_a_coverage_curve_without_strangers_says_nothing_of_them() -> None:
    curve = measures.coverage_curve(f32([0.1]), np.array([True]))
    assert {row["unknown_accepted"] for row in curve} == {None}
