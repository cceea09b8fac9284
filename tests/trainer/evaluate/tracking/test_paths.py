"""The distance between the path of a name and that of its animal, counted on paper."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluate.tracking import PredictedBox, TrueBox, evaluate_tracking
from trainer.evaluate.tracking.paths import name_paths


def box(x: float, y: float = 0.0) -> tuple[float, float, float, float]:
    """A body of 20 by 10 pixels about (x, y)."""
    return (x - 10, y - 5, x + 10, y + 5)


def walk(places: list[float | None], animal: str = "a") -> list[TrueBox]:
    return [TrueBox(f, animal, box(x)) for f, x in enumerate(places) if x is not None]


def named(places: list[float | None], name: str | None = "a", track: int = 1) -> list[PredictedBox]:
    rows = enumerate(places)
    return [PredictedBox(f, track, name, box(x)) for f, x in rows if x is not None]


def figures(rows: list[PredictedBox], truth: list[TrueBox]) -> list[float | None]:
    found = evaluate_tracking(rows, truth, fps=12)
    names = ("full_px", "full_lengths", "partial_px", "partial_lengths", "partial_share")
    return [found[f"path_{name}"] for name in names]


def test_a_name_that_stays_with_its_animal_is_nowhere_off() -> None:
    assert figures(named([0, 10, 20]), walk([0, 10, 20])) == [0, 0, 0, 0, 1]


def test_a_name_that_is_off_now_and_then() -> None:
    # Off by 0, 6, 0 and 2 pixels of a body of 20.
    rows = named([0, 16, 20, 28])
    assert figures(rows, walk([0, 10, 20, 30])) == pytest.approx([2, 0.1, 2, 0.1, 1])


def test_the_last_known_place_is_held_over_a_gap() -> None:
    # Seen in the first two frames, then held at 10 while the animal goes to 20 and 40.
    rows = named([0, 10, None, None])
    assert figures(rows, walk([0, 10, 20, 40])) == pytest.approx([40 / 4, 0.5, 0, 0, 0.5])


def test_before_it_is_first_seen_a_name_is_in_the_middle_of_the_pen() -> None:
    # True boxes reach from -10 to 50, so the middle is at 20: off by 20, 10, then right.
    rows = named([None, None, 20, 40])
    assert figures(rows, walk([0, 10, 20, 40])) == pytest.approx([30 / 4, 30 / 80, 0, 0, 0.5])


def test_a_name_that_is_never_given_has_no_partial_path() -> None:
    # The middle is at 5: off by 5 and 5.
    assert figures(named([0, 10], None), walk([0, 10])) == [5, 0.25, None, None, 0]


def test_a_hidden_animal_is_where_it_was_last() -> None:
    # The animal is gone in frame 1 and held at 0: the name at 4 is 4 off in full, not in part.
    rows = named([0, 4, 10])
    assert figures(rows, walk([0, None, 10])) == pytest.approx([4 / 3, 0.2 / 3, 0, 0, 2 / 3])


def test_an_animal_that_comes_later_is_asked_for_from_then_on() -> None:
    assert figures(named([None, 7, 9]), walk([None, 7, 9])) == [0, 0, 0, 0, 1]


def test_a_wrong_name_leads_the_path_to_the_other_animal() -> None:
    truth = walk([0, 0]) + walk([60, 60], "b")
    rows = named([0, 0], "b") + named([60, 60], "a", track=2)
    assert figures(rows, truth) == [60, 3, 60, 3, 1]


def test_of_two_boxes_with_a_name_the_nearer_to_its_last_place_counts() -> None:
    rows = named([0, 10, 20]) + named([None, 90, 90], track=2)
    assert figures(rows, walk([0, 10, 20]))[0] == 0
    # Nobody knows where the name was before: the one nearer to the middle of the pen.
    rows = [PredictedBox(0, 1, "a", box(90)), PredictedBox(0, 2, "a", box(1))]
    assert figures(rows, walk([0]))[0] == 1


def test_a_body_is_as_long_as_the_longer_side_of_its_boxes_is_by_the_median() -> None:
    truth = [
        TrueBox(0, "a", (0, 0, 20, 10)),
        TrueBox(1, "a", (0, 0, 10, 30)),
        TrueBox(2, "a", (0, 0, 80, 10)),
    ]
    path = name_paths([], truth, 3)["a"]
    assert path.length_px == 30
    assert path.start == (40, 15)
    assert np.isnan(path.named).all()


def test_nothing_to_measure() -> None:
    assert figures(named([0, 1]), []) == [None] * 5
    assert name_paths([], walk([0]), 1).keys() == {"a"}
