from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.identity.association import (
    appearance_distances,
    assign,
    contested_columns,
    mixed_costs,
    position_costs,
)


def table(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def pairs(costs: np.ndarray, allowed: np.ndarray | None = None, limit: float = 1.0) -> set:
    allowed = np.ones(costs.shape, bool) if allowed is None else allowed
    return set(zip(*(a.tolist() for a in assign(costs, allowed, limit)), strict=True))


def test_the_cheapest_together_not_the_cheapest_first() -> None:
    # Greedy takes (0, 0) at 0.1 and must then pay 0.9.
    assert pairs(table([0.1, 0.2], [0.2, 0.9])) == {(0, 1), (1, 0)}


def test_gated_and_too_dear_pairs_are_never_made() -> None:
    assert pairs(table([0.1, 0.5]), np.array([[False, True]])) == {(0, 1)}
    assert pairs(table([0.1, 0.5]), np.array([[False, True]]), limit=0.5) == set()


def test_a_hidden_animals_track_does_not_push_its_neighbours_along() -> None:
    # Track 0's animal is hidden, 1's is detection 0, and detection 1 is somebody new.
    assert pairs(table([0.7, 2.0], [0.1, 0.75]), limit=0.8) == {(1, 0)}


def test_no_tracks_or_no_detections() -> None:
    assert pairs(np.zeros((0, 3), np.float32)) == set()
    assert pairs(np.zeros((3, 0), np.float32)) == set()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_costs_least_of_all_assignments(seed: int, tracks: int, detections: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.random((tracks, detections)).astype(np.float32)
    allowed = rng.random((tracks, detections)) < 0.7
    limit = 0.8
    made = pairs(costs, allowed, limit)
    assert len({row for row, _ in made}) == len({column for _, column in made}) == len(made)
    assert all(allowed[pair] and costs[pair] < limit for pair in made)
    # Oracle: every permutation of a square table where a pair that cannot be costs the limit.
    side = max(tracks, detections)
    square = np.full((side, side), limit)
    square[:tracks, :detections] = np.where(allowed, np.minimum(costs, limit), limit)
    best = min(square[np.arange(side), order].sum() for order in permutations(range(side)))
    ours = sum(float(costs[pair]) for pair in made) + limit * (side - len(made))
    assert ours == pytest.approx(best, abs=1e-5)


def test_position_costs_fall_with_overlap_and_gate_by_distance_or_overlap() -> None:
    predicted = table([0, 0, 10, 10])
    boxes = table([0, 0, 10, 10], [5, 0, 15, 10], [12, 0, 22, 10], [90, 0, 99, 9])
    squared = table([0, 20, 9, 99])
    costs, possible = position_costs(predicted, boxes, squared, gate=16, least_iou=0.3)
    # IoU 1, 1/3, 0, 0: the second is possible by its overlap, the third by its distance.
    assert possible.tolist() == [[True, True, True, False]]
    assert costs[0].tolist() == pytest.approx([0, 0.6 * 2 / 3 + 0.4, 0.6 + 0.4 * 9 / 16, 1])


def test_appearance_counts_only_where_it_is_known() -> None:
    means, embeddings = table([1, 0], [0, 0]), table([1, 0], [0, 1], [5, 5])
    looks, known = appearance_distances(
        means, np.array([True, False]), embeddings, np.array([True, True, False])
    )
    assert known.tolist() == [[True, True, False], [False, False, False]]
    costs = mixed_costs(np.full((2, 3), 0.2, np.float32), looks, known, weight=0.5)
    assert costs[0].tolist() == pytest.approx([0.1, 0.6, 0.35])
    assert costs[1].tolist() == pytest.approx([0.35] * 3)


def test_contested_is_what_two_tracks_may_claim_most_doubtful_first() -> None:
    costs = table([0.1, 0.20, 0.30, 0.1], [0.9, 0.35, 0.31, 0.1])
    allowed = np.ones((2, 4), bool)
    allowed[1, 3] = False
    assert contested_columns(costs, allowed, doubt=0.2).tolist() == [2, 1]
    assert contested_columns(costs[:1], allowed[:1], doubt=0.2).tolist() == []
    assert contested_columns(costs[:, :0], allowed[:, :0], doubt=0.2).tolist() == []
