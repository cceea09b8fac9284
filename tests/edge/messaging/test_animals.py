from __future__ import annotations

import pytest

from edge.messaging.animals import AnimalBoard


@pytest.fixture
def tell(make_event):
    """Observe an event on one board; give (animal, present, camera, seq) of each change."""
    board = AnimalBoard()
    seq = 0

    def observe(**changes: object) -> list[tuple[str, bool, str, int]]:
        nonlocal seq
        seq += 1
        if changes.get("animal", "") is None:
            changes["reason"] = "unknown"
        return [
            (seen.animal, seen.present, seen.camera, seen.seq)
            for seen in board.observe(make_event(seq=seq, **changes))
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
    tell(type="start", boot="b1", track=1)
    assert tell(type="start", boot="b2", track=2) == [("cow004", True, "pen-3", 2)]
    assert tell(type="end", boot="b2", track=2) == [("cow004", False, "pen-3", 3)]
