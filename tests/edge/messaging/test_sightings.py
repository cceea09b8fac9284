from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.errors import UsageError
from edge.identity.types import Track
from edge.messaging.events import Sighting, decode, encode
from edge.messaging.outbox import Outbox
from edge.messaging.sightings import SightingLog
from edge.vision.types import Frame

MakeFrame = Callable[..., Frame]
MakeTrack = Callable[..., Track]


@pytest.fixture
def log() -> SightingLog:
    return SightingLog(
        device="barn-7",
        camera="pen-3",
        boot="b7",
        release="9f31",
        means_seq=57,
        update_every_s=30.0,
        hold_s=3.0,
    )


def brief(events: list[Sighting]) -> list[tuple[str, str | None]]:
    return [(event.type, event.animal or event.reason) for event in events]


def test_a_sighting_starts_once_its_track_is_settled(log, make_frame, make_track):
    assert log.observe(make_frame(1), [make_track(1, None, settled=False)], []) == []
    assert brief(log.observe(make_frame(2), [make_track(2)], [])) == [("start", "cow004")]
    assert log.observe(make_frame(3), [make_track(3)], []) == []


def test_a_start_says_who_where_and_when(log, make_frame, make_track):
    track = make_track(2.5, first_seen_s=0.5)
    (event,) = log.observe(make_frame(2.5), [track], [])
    assert (event.device, event.camera, event.track) == ("barn-7", "pen-3", 7)
    assert (event.boot, event.release, event.means_seq) == ("b7", "9f31", 57)
    # 20..60 of 200 pixels across, 10..60 of 100 down.
    assert event.box == (0.1, 0.1, 0.3, 0.6)
    assert event.first_seen == "2026-11-24T04:31:00.500Z"
    assert event.last_seen == "2026-11-24T04:31:02.500Z"
    assert event.clock == "synced"
    assert event.monotonic == 2.5
    assert (event.confidence, event.distance, event.margin) == (0.9, 0.11, 0.38)
    assert event.votes == {"cow004": 9, "unknown": 1}
    assert not event.replayed


def test_without_a_clock_only_the_monotonic_time_is_told(log, make_frame, make_track):
    (event,) = log.observe(make_frame(2, synced=False), [make_track(2)], [])
    assert (event.first_seen, event.last_seen, event.clock) == (None, None, "unsynced")
    assert event.monotonic == 2
    (end,) = log.observe(make_frame(10), [], [make_track(9)])
    assert end.first_seen == "2026-11-24T04:31:00.000Z"
    assert end.clock == "synced"


def test_an_update_comes_every_so_often(log, make_frame, make_track):
    types = []
    for t in range(95):
        types += [(t, e.type) for e in log.observe(make_frame(t), [make_track(t)], [])]
    assert types == [(0, "start"), (30, "update"), (60, "update"), (90, "update")]


def test_another_name_is_told_at_once(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    events = log.observe(make_frame(2), [make_track(2, "cow009")], [])
    assert brief(events) == [("update", "cow009")]


def test_a_first_name_is_told_at_once(log, make_frame, make_track):
    assert brief(log.observe(make_frame(1), [make_track(1, None)], [])) == [("start", "unknown")]
    assert brief(log.observe(make_frame(2), [make_track(2)], [])) == [("update", "cow004")]


def test_a_flicker_of_doubt_is_not_told(log, make_frame, make_track):
    log.observe(make_frame(0), [make_track(0)], [])
    for t in (1, 2, 3):
        assert log.observe(make_frame(t), [make_track(t, None)], []) == []
    assert log.observe(make_frame(3.5), [make_track(3.5)], []) == []
    assert log.observe(make_frame(4), [make_track(4, None)], []) == []
    assert brief(log.observe(make_frame(7), [make_track(7, None)], [])) == [("update", "unknown")]


def test_an_update_and_an_end_amid_a_flicker_keep_the_name(log, make_frame, make_track):
    log.observe(make_frame(0), [make_track(0)], [])
    updates = log.observe(make_frame(30), [make_track(30, None)], [])
    assert brief(updates) == [("update", "cow004")]
    ends = log.observe(make_frame(31), [], [make_track(31, None)])
    assert brief(ends) == [("end", "cow004")]


def test_another_reason_is_not_another_identity(log, make_frame, make_track):
    log.observe(make_frame(0), [make_track(0, None)], [])
    assert log.observe(make_frame(5), [make_track(5, None, reason="unsure")], []) == []
    (end,) = log.observe(make_frame(6), [], [make_track(6, None, reason="unsure")])
    assert end.reason == "unsure"


def test_a_track_that_never_settled_was_nobody(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1, None, settled=False)], [])
    assert log.observe(make_frame(2), [], [make_track(2, None, settled=False)]) == []
    assert log.close() == []


def test_the_end_tells_where_the_animal_was_last_really_seen(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    there = np.array([100, 50, 140, 100], np.float32)
    log.observe(make_frame(2), [make_track(2, box=there)], [])
    predicted = make_track(2, box=np.array([180, 50, 260, 100], np.float32), seen=False)
    log.observe(make_frame(3), [predicted], [])
    (end,) = log.observe(make_frame(4), [], [predicted])
    assert end.type == "end"
    assert end.box == (0.5, 0.5, 0.7, 1.0)
    assert end.monotonic == 2
    assert end.last_seen == "2026-11-24T04:31:02.000Z"


def test_a_track_ends_once_and_its_number_may_come_again(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    assert brief(log.observe(make_frame(2), [], [make_track(2)])) == [("end", "cow004")]
    assert log.close() == []
    assert brief(log.observe(make_frame(3), [make_track(3)], [])) == [("start", "cow004")]


def test_a_track_that_settles_as_it_ends_is_started_and_ended(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1, None, settled=False)], [])
    events = log.observe(make_frame(2), [], [make_track(2)])
    assert brief(events) == [("start", "cow004"), ("end", "cow004")]


def test_closing_ends_every_open_sighting(log, make_frame, make_track):
    tracks = [make_track(1, "cow001", id=1), make_track(1, "cow002", id=2)]
    log.observe(make_frame(1), [*tracks, make_track(1, None, id=3, settled=False)], [])
    events = log.close([make_track(1, "cow002", id=2, confidence=0.5)])
    assert [(e.type, e.track, e.confidence) for e in events] == [("end", 2, 0.5), ("end", 1, 0.9)]


def test_a_box_beyond_the_frame_is_cut_at_its_edge(log, make_frame, make_track):
    box = np.array([-20, -5, 260, 130], np.float32)
    (event,) = log.observe(make_frame(1), [make_track(1, box=box)], [])
    assert event.box == (0, 0, 1, 1)


def test_numbers_that_json_does_not_know_become_null(log, make_frame, make_track):
    track = make_track(1, margin=float("inf"), distance=float("nan"))
    (event,) = log.observe(make_frame(1), [track], [])
    assert (event.margin, event.distance) == (None, None)


def test_votes_in_a_huge_herd_stay_small_and_keep_the_best(log, make_frame, make_track):
    votes = {f"cow{n:04}": n for n in range(2000)}
    (event,) = log.observe(make_frame(1), [make_track(1, votes=votes)], [])
    assert len(encode(event)) < 4000
    assert list(event.votes)[:2] == ["cow1999", "cow1998"]


def test_the_same_tracks_give_the_same_events(make_frame, make_track):
    def run() -> list[Sighting]:
        log = SightingLog(device="barn-7", camera="pen-3", boot="b", release="r", means_seq=1)
        events = []
        for t in range(50):
            animal = None if t % 9 < 4 else f"cow{t % 3:03}"
            events += log.observe(make_frame(t), [make_track(t, animal)], [])
        return events + log.close()

    assert run() == run()
    assert len(run()) > 3


def test_events_pass_the_strict_reader_once_stored(log, make_frame, make_track, tmp_path):
    events = log.observe(make_frame(1), [make_track(1), make_track(1, None, id=8)], [])
    with Outbox(tmp_path / "outbox.db") as outbox:
        for event in outbox.append(events + log.close()):
            assert decode(encode(event), Sighting) == event


def test_a_new_release_is_named_from_then_on(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    log.set_release("aa00", 58)
    (event,) = log.close()
    assert (event.release, event.means_seq) == ("aa00", 58)


def test_a_camera_that_cannot_be_in_a_payload_is_refused():
    with pytest.raises(UsageError, match="camera"):
        SightingLog(device="barn-7", camera="Pen 3", boot="b", release="r", means_seq=1)


def test_open_sightings_are_told_again_when_asked(log, make_frame, make_track):
    assert log.retell() == []
    quiet = make_track(1, None, id=8, settled=False)
    log.observe(make_frame(1), [make_track(1), quiet], [])
    assert log.animals == {"cow004"}
    moved = make_track(2, box=np.array([40, 10, 80, 60], np.float32))
    log.observe(make_frame(2), [moved, quiet], [])
    (again,) = log.retell()
    assert (again.type, again.animal, again.track) == ("update", "cow004", 7)
    assert again.box == (0.2, 0.1, 0.4, 0.6)
    assert again.monotonic == 2.0
    # It counts as told: the next update is due half a minute after it.
    assert log.observe(make_frame(31), [make_track(31)], []) == []
    assert brief(log.observe(make_frame(32), [make_track(32)], [])) == [("update", "cow004")]
    log.observe(make_frame(33), [], [make_track(33)])
    assert log.retell() == []
    assert log.animals == frozenset()


def test_a_name_in_doubt_is_told_again_as_it_was(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    log.observe(make_frame(2), [make_track(2, None)], [])
    assert brief(log.retell()) == [("update", "cow004")]


def test_other_intervals_count_from_now_on(log, make_frame, make_track):
    log.observe(make_frame(1), [make_track(1)], [])
    log.set_timing(update_every_s=5.0, hold_s=0.0)
    assert brief(log.observe(make_frame(6), [make_track(6)], [])) == [("update", "cow004")]
    assert brief(log.observe(make_frame(7), [make_track(7, None)], [])) == [("update", "unknown")]
