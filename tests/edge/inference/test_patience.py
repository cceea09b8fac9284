from __future__ import annotations

import pytest

from edge.inference.patience import Patience


class Time:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


def test_five_failures_are_borne_however_long_they_take(time: Time) -> None:
    patience = Patience(5, None, time)
    verdicts = []
    for _ in range(6):
        time.now_s += 40  # a child that hangs while it loads, and the start after it
        verdicts.append(patience.failed(hung=True))
    assert verdicts == [True] * 5 + [False]


def test_the_second_hang_in_a_row_is_one_too_many(time: Time) -> None:
    patience = Patience(5, 2, time)
    assert patience.failed(hung=True)
    patience.ready()
    assert not patience.failed(hung=True)


def test_a_crash_between_two_hangs_makes_nothing_better(time: Time) -> None:
    patience = Patience(5, 2, time)
    assert [patience.failed(hung=hung) for hung in (True, False, True)] == [True, True, False]


def test_an_answer_parts_two_hangs_but_not_two_failures(time: Time) -> None:
    patience = Patience(3, 2, time)
    verdicts = []
    for _ in range(4):
        patience.ready()
        patience.answered()
        verdicts.append(patience.failed(hung=True))
    assert verdicts == [True, True, True, False]


def test_a_minute_of_answers_makes_up_for_everything(time: Time) -> None:
    patience = Patience(1, None, time)
    for _ in range(3):
        patience.ready()
        time.now_s += 59
        patience.answered()
        time.now_s += 1
        patience.answered()
        assert patience.failed(hung=False)
    patience.ready()
    time.now_s += 59
    patience.answered()
    assert not patience.failed(hung=False)


def test_time_in_which_nothing_was_answered_does_not_count(time: Time) -> None:
    patience = Patience(2, None, time)
    verdicts = []
    for _ in range(3):
        patience.ready()
        time.now_s += 600  # one frame in ten minutes, or `stuck_s` of ten minutes
        verdicts.append(patience.failed(hung=True))
    assert verdicts == [True, True, False]


def test_a_good_spell_counts_once(time: Time) -> None:
    patience = Patience(2, None, time)
    patience.ready()
    time.now_s += 61
    patience.answered()
    # No start succeeds any more, so nothing is `ready` in between.
    assert [patience.failed(hung=False) for _ in range(3)] == [True, True, False]
