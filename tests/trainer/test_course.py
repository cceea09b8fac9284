from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import EarmarkError
from trainer.course import Course


class Row(NamedTuple):
    step: int
    loss: float
    score: float | None


class Counter:
    """Learns by counting; a batch is the loss it gives."""

    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self, number: int, batch: float, /) -> NDArray[np.float64]:
        assert number == self.value
        self.value += 1
        return np.array([batch], np.float64)

    def kept(self) -> list[NDArray[Any]]:
        return [np.array(self.value)]

    def keep(self, arrays: list[NDArray[Any]]) -> None:
        self.value = float(arrays[0])

    def state(self) -> list[NDArray[Any]]:
        return [np.array(self.value)]

    def restore(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.value = float(arrays[0])


def run(
    scores: Sequence[float | None], patience: int = 0, losses: Iterator[float] | None = None
) -> tuple[Course[Row], Counter]:
    learner = Counter()
    course = Course(
        learner, Row, steps=2 * len(scores), evaluate_every=2, figures=1, patience=patience
    )
    batches = losses or (float(number) for number in count())
    for score in scores:
        course.learn(batches)
        course.learn(batches)
        assert course.due
        course.judge((score,), None if score is None else (score,))
        if course.finished:
            break
    return course, learner


def test_the_best_step_is_kept_and_of_equals_the_last() -> None:
    course, learner = run([0.1, 0.5, 0.5, 0.2])
    assert (course.best_step, course.finished) == (6, True)
    course.keep_best()
    assert learner.value == 6
    # Mean losses of the two steps before each validation.
    assert [row.loss for row in course.history] == [0.5, 2.5, 4.5, 6.5]


def test_without_scores_the_last_step_is_the_best() -> None:
    course, _ = run([None, None, None], patience=1)
    assert (course.best_step, course.step) == (6, 6)


def test_patience_counts_validations_since_the_best() -> None:
    course, _ = run([0.1, 0.5, 0.2, 0.3, 0.9], patience=2)
    assert (course.step, course.best_step) == (8, 4)


def test_a_checkpoint_brings_all_of_it_back() -> None:
    course, learner = run([0.1, 0.5, 0.2])
    course.counts["repeated"] = 7
    saved = course.checkpoint()
    fresh = Course(learner, Row, steps=6, evaluate_every=2, figures=1)
    fresh.restore(saved)
    assert (fresh.step, fresh.best_step, fresh.history) == (6, 4, course.history)
    assert fresh.counts == {"repeated": 7}
    fresh.keep_best()
    assert learner.value == 4


def test_losses_that_are_no_numbers_end_the_training() -> None:
    with pytest.raises(EarmarkError, match="diverged by step 4"):
        run([0.1, 0.2], losses=iter([1.0, 1.0, float("nan"), 1.0]))
