from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.report.presence import (
    Event,
    Stay,
    boot_times,
    clipped,
    merged,
    moment_of,
    stays,
)

MORNING = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return MORNING + timedelta(minutes=minutes)


def event(seq: int, minutes: float, kind: str, animal: str | None = "cow1", **changes) -> Event:
    """An event of barn-7's pen-3, track 1, first seen at minute 0; boot at minute 0 too."""
    fields = {
        "device": "barn-7",
        "boot": "b1",
        "camera": "pen-3",
        "track": 1,
        "seq": seq,
        "type": kind,
        "animal": animal,
        "confidence": 0.9,
        "first_seen": at(0),
        "last_seen": at(minutes),
        "monotonic": minutes * 60,
        "received_at": at(minutes),
    }
    return Event(**{**fields, **changes})


def seen(events, newest=None, anchors=None):
    boots = boot_times(events, anchors or {})
    newest = newest or {"barn-7": ("b1", events[-1].monotonic)}
    found = stays(events, boots, newest)
    return [(stay.animal, minute(stay.begin), minute(stay.end), stay.state) for stay in found]


def minute(moment: datetime) -> float:
    return (moment - MORNING) / timedelta(minutes=1)


def test_from_first_sight_to_the_end():
    events = [event(1, 1, "start"), event(2, 3, "update"), event(3, 5, "end")]
    assert seen(events) == [("cow1", 0, 5, "gone")]


def test_events_may_come_in_any_order():
    events = [event(3, 5, "end"), event(1, 1, "start"), event(2, 3, "update")]
    assert seen(events) == [("cow1", 0, 5, "gone")]


def test_without_an_end_it_is_still_here():
    assert seen([event(1, 1, "start"), event(2, 3, "update")]) == [("cow1", 0, 3, "here")]


def test_a_track_of_an_earlier_boot_has_ended_although_nobody_said_so():
    assert seen([event(1, 1, "start")], {"barn-7": ("b2", 5.0)}) == [("cow1", 0, 1, "gone")]


def test_a_track_that_went_silent_long_ago_has_ended():
    assert seen([event(1, 1, "start")], {"barn-7": ("b1", 60 * 15)}) == [("cow1", 0, 1, "here")]
    assert seen([event(1, 1, "start")], {"barn-7": ("b1", 60 * 17)}) == [("cow1", 0, 1, "gone")]


def test_another_name_parts_the_track_where_it_was_given():
    events = [
        event(1, 1, "start"),
        event(2, 2, "update", "cow2"),
        event(3, 4, "update", None),
        event(4, 6, "update", "cow2"),
        event(5, 8, "end", "cow2"),
    ]
    assert seen(events) == [
        ("cow1", 0, 2, "gone"),
        ("cow2", 2, 4, "gone"),
        ("cow2", 6, 8, "gone"),
    ]


def test_a_track_without_a_name_is_nobodys_stay():
    assert seen([event(1, 1, "start", None), event(2, 2, "end", None)]) == []


def test_a_start_that_was_lost_is_no_matter():
    assert seen([event(7, 3, "end")]) == [("cow1", 0, 3, "gone")]


def test_tracks_of_two_cameras_and_devices_are_apart():
    events = [
        event(1, 1, "start"),
        event(2, 1, "start", camera="pen-4"),
        event(1, 1, "start", device="barn-8"),
    ]
    found = stays(events, {}, {})
    assert [stay.place for stay in found] == ["barn-7/pen-3", "barn-7/pen-4", "barn-8/pen-3"]


def unset(seq: int, minutes: float, kind: str, received: float, **changes) -> Event:
    return event(
        seq, minutes, kind, first_seen=None, last_seen=None, received_at=at(received), **changes
    )


def test_events_without_a_time_are_placed_by_one_of_the_same_boot_that_has_it():
    events = [unset(1, 10, "start", 300), unset(2, 15, "end", 300)]
    anchors = {("barn-7", "b1"): (60.0 * 100, at(160))}
    boots = boot_times(events, anchors)
    assert [moment_of(each, boots) for each in events] == [at(70), at(75)]
    (stay,) = stays(events, boots, {})
    assert (stay.begin, stay.end, stay.approximate) == (at(70), at(75), True)


def test_without_one_the_event_that_was_least_delayed_says_when_the_boot_was():
    # Delayed by 3 hours, by 5 minutes and by 2 hours: the boot was at most 5 minutes after 06:00.
    events = [unset(1, 10, "start", 190), unset(2, 20, "update", 25), unset(3, 30, "end", 150)]
    boots = boot_times(events, {})
    assert boots == {("barn-7", "b1"): at(5)}
    assert [moment_of(each, boots) for each in events] == [at(15), at(25), at(35)]


def test_a_clock_that_was_set_meanwhile_makes_the_stay_approximate():
    events = [unset(1, 1, "start", 2), event(2, 3, "end", first_seen=None)]
    (stay,) = stays(events, boot_times(events, {("barn-7", "b1"): (180.0, at(3))}), {})
    assert (stay.begin, stay.end, stay.approximate) == (at(1), at(3), True)


def stay(begin: float, end: float, animal="cow1", camera="pen-3", state="gone") -> Stay:
    return Stay(animal, "barn-7", camera, at(begin), at(end), state, 0.9, False)


def test_stays_that_are_near_become_one():
    found = [stay(0, 5), stay(6, 7), stay(5.5, 5.8, camera="pen-4"), stay(9, 10, state="here")]
    joined = merged(found, timedelta(minutes=1))
    assert joined == [stay(0, 7), stay(5.5, 5.8, camera="pen-4"), stay(9, 10, state="here")]
    assert merged(found, timedelta(minutes=2))[0] == stay(0, 10, state="here")


def test_a_stay_within_another_does_not_shorten_it():
    assert merged([stay(0, 9), stay(1, 2)], timedelta(0)) == [stay(0, 9)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12), st.integers(0, 10))
def test_merged_stays_cover_the_same_minutes_and_lie_apart(spans, within):
    found = [stay(begin, begin + length) for begin, length in spans]
    joined = merged(found, timedelta(minutes=within))
    for one in found:
        assert any(big.begin <= one.begin and one.end <= big.end for big in joined)
    for before, after in pairwise(joined):
        assert after.begin - before.end > timedelta(minutes=within)
    starts = {one.begin for one in found}
    assert all(big.begin in starts for big in joined)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [(0, 60, (10, 20)), (12, 15, (12, 15)), (20, 30, (20, 20)), (21, 30, None), (0, 10, None)],
)
def test_what_lies_outside_of_a_span_is_cut_off(since, until, expected):
    found = clipped([stay(10, 20)], at(since), at(until))
    assert found == ([] if expected is None else [stay(*expected)])
