from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge.identity.assignment import assign_animals, assign_claims
from edge.identity.matching import NOBODY

BENEFITS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6),
    elements=st.sampled_from([-1, 0, 0, 0.125, 0.25, 0.5, 0.75, 0.875, 1]),
)


def worth(benefits: np.ndarray, named: np.ndarray) -> float:
    return float(sum(benefits[t, a] for t, a in enumerate(named) if a != NOBODY))


def greedy(benefits: np.ndarray) -> np.ndarray:
    left, named = benefits.copy(), np.full(len(benefits), NOBODY)
    while left.size and left.max() > 0:
        track, animal = np.unravel_index(int(left.argmax()), left.shape)
        named[track] = animal
        left[track], left[:, animal] = -1, -1
    return named


@given(BENEFITS)
def test_no_animal_twice_and_nothing_without_a_claim(benefits: np.ndarray) -> None:
    named = assign_animals(benefits)
    assert named.shape == (len(benefits),)
    given_out = named[named != NOBODY].tolist()
    assert len(given_out) == len(set(given_out))
    assert all(benefits[t, a] > 0 for t, a in enumerate(named) if a != NOBODY)


@given(BENEFITS)
def test_worth_no_less_than_greedy(benefits: np.ndarray) -> None:
    assert worth(benefits, assign_animals(benefits)) >= worth(benefits, greedy(benefits)) - 1e-6


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (3, 3), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])),
)
def test_worth_most_of_all(benefits: np.ndarray) -> None:
    options = product([NOBODY, 0, 1, 2], repeat=3)
    legal = [o for o in options if len({a for a in o if a >= 0}) == sum(a >= 0 for a in o)]
    best = max(worth(benefits, np.array(option)) for option in legal)
    assert worth(benefits, assign_animals(benefits)) == pytest.approx(best)


def test_the_weaker_claim_stays_unknown_rather_than_taking_another_name() -> None:
    assert assign_animals(np.array([[0.9, 0], [0.7, 0]], np.float32)).tolist() == [0, NOBODY]


def test_the_whole_counts_not_the_first() -> None:
    # Greedy gives 0.9 + 0; together 0.8 + 0.7 is more.
    benefits = np.array([[0.9, 0.8], [0.7, 0]], np.float32)
    assert assign_animals(benefits).tolist() == [1, 0]


def test_claims_by_label() -> None:
    assert assign_claims([{7: 0.6}, {}, {7: 0.9}, {3: 0.2}]) == [NOBODY, NOBODY, 7, 3]
    assert assign_claims([{7: 0.6}, {7: 0.6}]) == [7, NOBODY]
    assert assign_claims([]) == []
