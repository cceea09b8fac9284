from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate.intervals import by_animal, by_session, percentile_intervals
from trainer.evaluate.measures import weighted_share


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def width(hits: np.ndarray, animals: np.ndarray, sessions: list[str], draws: int = 600) -> float:
    source, units = rng(), by_session(animals, sessions, int(animals.max()) + 1)
    figures = ({"share": weighted_share(hits, units.draw(source).rows)} for _ in range(draws))
    low, high = percentile_intervals(figures)["share"]
    return high - low


def test_copies_of_a_frame_tell_no_more_than_the_frame() -> None:
    # 16 sessions of one animal, every other one right; then 25 copies of every frame.
    hits = np.arange(16) % 2 == 0
    one = np.zeros(16, int)
    sessions = [f"t{number}" for number in range(16)]
    alone = width(hits, one, sessions)
    copied = width(hits.repeat(25), one.repeat(25), np.repeat(sessions, 25).tolist())
    assert copied == pytest.approx(alone)
    # Two standard errors of a coin thrown 15 times to either side, in steps of 1/15.
    assert alone == pytest.approx(4 * 0.5 / np.sqrt(15), abs=0.1)
    # Frames as if they were independent: five times too sure.
    frames = [f"f{number}" for number in range(400)]
    assert width(hits.repeat(25), one.repeat(25), frames) < 0.3 * alone


def test_two_sessions_have_the_variance_of_their_mean() -> None:
    # One of the two is drawn and weighs double: 0 or 1, variance 1/4 = s^2 / n with s^2 = 1/2.
    units = by_session(np.zeros(4, int), ["a", "a", "b", "b"], 1)
    source = rng()
    draws = np.array([units.draw(source).rows for _ in range(400)])
    assert {tuple(row) for row in draws.tolist()} == {(2.0, 2.0, 0.0, 0.0), (0.0, 0.0, 2.0, 2.0)}
    shares = draws @ np.array([1, 1, 0, 0]) / 4
    assert shares.var() == pytest.approx(0.25, abs=0.01)


def test_animals_of_one_session_are_drawn_among_each_other() -> None:
    # a has two sessions, b, c, d one each: a always counts, of the others two are drawn as 1.5.
    animals = np.array([0, 0, 1, 2, 3])
    units = by_session(animals, ["x", "y", "x", "x", "x"], 4)
    source = rng()
    for _ in range(50):
        weights = units.draw(source)
        assert weights.groups[0] == 1
        assert sorted(weights.rows[:2].tolist()) == [0, 2]
        assert weights.rows[2:].sum() == pytest.approx(3)
        assert set(weights.rows[2:].tolist()) <= {0.0, 1.5, 3.0}
        np.testing.assert_array_equal(weights.groups[1:], weights.rows[2:])
        # What they were named still counts against the others.
        assert weights.within[2:].tolist() == [1, 1, 1]
        np.testing.assert_array_equal(weights.within[:2], weights.rows[:2])


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["s", "t", "u"])), min_size=1, max_size=30
    )
)
def test_a_draw_keeps_the_number_of_units_and_sessions_whole(rows: list[tuple[int, str]]) -> None:
    animals = np.array([animal for animal, _ in rows])
    units = by_session(animals, [session for _, session in rows], 5)
    weights = units.draw(rng())
    by_unit: dict[tuple[int, str], set[float]] = {}
    for row, weight in zip(rows, weights.rows.tolist(), strict=True):
        by_unit.setdefault(row, set()).add(weight)
    assert all(len(found) == 1 for found in by_unit.values())
    assert sum(next(iter(found)) for found in by_unit.values()) == pytest.approx(len(by_unit))
    plain = units.as_they_are()
    assert plain.rows.tolist() == [1] * len(rows)
    assert plain.groups.tolist() == [float(animal in animals) for animal in range(5)]


def test_one_unit_alone_cannot_be_drawn_differently() -> None:
    alone = by_session(np.zeros(3, int), ["t", "t", "t"], 1)
    assert not alone.random
    assert alone.draw(rng()).rows.tolist() == [1, 1, 1]
    assert by_session(np.zeros(2, int), ["t", "u"], 1).random
    assert by_animal(np.array([0, 1]), 2).random
    assert not by_animal(np.array([0, 0]), 1).random


def test_percentiles_by_hand_and_undefined_draws_left_out() -> None:
    figures = [{"a": value / 100, "b": float("nan")} for value in range(101)]
    figures.append({"a": float("nan"), "b": float("nan")})
    intervals = percentile_intervals(figures)
    assert intervals == {"a": [pytest.approx(0.025), pytest.approx(0.975)]}
