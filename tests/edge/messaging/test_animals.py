from __future__ import annotations

import pytest

from edge.messaging.animals import AnimalBoard

STREAM = "5" * 32


@pytest.fixture
def board():
    return AnimalBoard("b7")


@pytest.fixture
def tell(board, make_event):
    """Observe an event on one board; give (animal, present, camera, seq) of each change."""
    seq = 0

    def observe(skip: int = 0, **changes: object) -> list[tuple[str, bool, str, int]]:
        nonlocal seq
        seq += 1 + skip
        if changes.get("animal", "") is None:
            changes["reason"] = "unknown"
        return [
            (seen.animal, seen.present, seen.camera, seen.seq)
            for seen in board.observe(make_event(**{"seq": seq, "stream": STREAM, **changes}))
        ]

    return observe


def test_an_animal_is_present_until_its_sighting_ends(tell):
    assert tell(type="start") == [("cow004", True, "pen-3", 1)]
    assert tell(type="update") == [("cow004", True, "pen-3", 2)]
    assert tell(type="end") == [("cow004", False, "pen-3", 3)]


def test_nobody_is_nowhere(tell):
    assert tell(type="start", animal=None) == []
    assert tell(type="end", animal=None) == []


def test_who_turned_out_to_be_another_is_present_no_longer(tell):
    tell(type="start")
    assert tell(type="update", animal="cow009") == [
        ("cow004", False, "pen-3", 1),
        ("cow009", True, "pen-3", 2),
    ]
    assert tell(type="update", animal=None) == [("cow009", False, "pen-3", 2)]


def test_an_animal_that_two_cameras_see_stays_until_both_have_lost_it(tell):
    tell(type="start", camera="pen-3")
    assert tell(type="start", camera="pen-4") == [("cow004", True, "pen-4", 2)]
    assert tell(type="end", camera="pen-4") == [("cow004", True, "pen-3", 1)]
    assert tell(type="end", camera="pen-3") == [("cow004", False, "pen-3", 4)]


def test_tracks_of_an_earlier_run_hold_nobody(tell):
    assert tell(type="start", boot="b6", track=1) == [("cow004", False, "pen-3", 1)]
    assert tell(type="start", boot="b7", track=2) == [("cow004", True, "pen-3", 2)]
    assert tell(type="end", boot="b7", track=2) == [("cow004", False, "pen-3", 3)]


def test_whose_end_may_be_lost_is_gone_until_heard_of_again(tell):
    tell(type="start", camera="pen-3", track=1, animal="cow004")
    tell(type="start", camera="pen-4", track=1, animal="cow004")
    tell(type="start", camera="pen-4", track=2, animal="cow005")
    assert tell(type="start", camera="pen-1", track=1, animal="cow006", skip=1) == [
        ("cow004", False, "pen-4", 2),
        ("cow005", False, "pen-4", 3),
        ("cow006", True, "pen-1", 5),
    ]
    assert tell(type="update", camera="pen-3", track=1) == [("cow004", True, "pen-3", 6)]
    # Nothing of the tracks that were lost is kept.
    assert tell(type="end", camera="pen-3", track=1) == [("cow004", False, "pen-3", 7)]


def test_a_stream_begun_anew_leaves_nobody_of_the_old_one(tell):
    tell(type="start", animal="cow004")
    assert tell(type="start", animal="cow005", track=8, stream="6" * 32, seq=1) == [
        ("cow004", False, "pen-3", 1),
        ("cow005", True, "pen-3", 1),
    ]


def test_numbers_that_passed_without_an_event_count_as_lost_at_once(board, tell):
    tell(type="start")
    assert board.passed(STREAM, 1) == []
    assert [(seen.animal, seen.present) for seen in board.passed(STREAM, 2)] == [("cow004", False)]
    assert board.passed(STREAM, 2) == []


def test_an_event_that_comes_again_brings_nobody_back(tell):
    tell(type="start")
    tell(type="end")
    assert tell(type="start", seq=1) == []
    assert tell(type="start", track=8) == [("cow004", True, "pen-3", 4)]
