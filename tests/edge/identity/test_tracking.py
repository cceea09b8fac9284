"""The tracker on simulated paths: a path is a function of time, a frame what is seen of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.identity.evidence import EvidenceOptions, Vote
from edge.identity.tracking import Tracker, TrackerOptions, TrackState
from edge.vision.types import Detections

Path = Callable[[float], tuple[float, float]]
SIDE = 40.0

# Spelled out, so that these tests ask about the mechanism and not about the tuned defaults.
OPTIONS = TrackerOptions(confirm_hits=3, lost_s=8.0, birth_iou=0.7)


class Camera:
    """Feeds a tracker and remembers which track each animal had, frame by frame."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.tracker = Tracker(options or OPTIONS, EvidenceOptions())
        self.ended: list[TrackState] = []
        self.absorbed: list[TrackState] = []
        self.history: list[dict[int, int]] = []
        self.contested: list[list[int]] = []

    def see(
        self,
        now_s: float,
        places: dict[int, tuple[float, float]],
        scores: dict[int, float] | None = None,
        look: bool = False,
        side: float = SIDE,
    ) -> dict[int, int]:
        """Show animals at places; return the confirmed track of each. look: embed every crop."""
        scores = scores or {}
        order = sorted(places, key=lambda animal: -scores.get(animal, 0.9))
        boxes = np.array(
            [
                [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
                for x, y in (places[animal] for animal in order)
            ],
            np.float32,
        ).reshape(-1, 4)
        values = np.array([scores.get(animal, 0.9) for animal in order], np.float32)
        found = Detections(boxes, values, np.zeros(len(order), np.int32))
        strong = values >= 0.5
        embeddings = np.eye(16, dtype=np.float32)[order].reshape(-1, 16)
        embedded = np.full(len(order), look)
        tracker = self.tracker
        tracker.begin(now_s)
        self.contested.append([order[row] for row in tracker.contested(found, strong)])
        tracker.associate(found, strong, embeddings, embedded)
        tracker.recover(found, strong, embeddings, embedded)
        self.ended += tracker.finish(found, strong)
        for track in tracker.tracks:
            if look and track.detection >= 0 and strong[track.detection]:
                animal = order[track.detection]
                track.evidence.add(Vote(np.eye(16, dtype=np.float32)[animal], 1.0, animal))
        self.absorbed += tracker.reunite()
        tracks = {
            order[track.detection]: track.id
            for track in tracker.tracks
            if track.detection >= 0 and track.confirmed
        }
        self.history.append(tracks)
        return tracks

    def follow(
        self,
        paths: Sequence[Path],
        times: Sequence[float],
        hidden: Callable[[int, float], bool] = lambda animal, now: False,
        look: bool = False,
    ) -> None:
        for now in times:
            seen = {a: p(now) for a, p in enumerate(paths) if not hidden(a, now)}
            self.see(now, seen, look=look)

    def ids_of(self, animal: int) -> list[int]:
        """Return the different tracks an animal had, in order."""
        ids: list[int] = []
        for tracks in self.history:
            if animal in tracks and tracks[animal] not in ids:
                ids.append(tracks[animal])
        return ids


def still(x: float, y: float) -> Path:
    return lambda now: (x, y)


def walk(x: float, y: float, vx: float, vy: float = 0.0) -> Path:
    return lambda now: (x + vx * now, y + vy * now)


def clock(seconds: float, fps: float = 12.0) -> list[float]:
    return [frame / fps for frame in range(round(seconds * fps))]


def test_a_track_is_confirmed_by_its_third_detection() -> None:
    camera = Camera()
    tracks = [camera.see(now, {0: (50, 50)}) for now in clock(0.5)]
    assert tracks[:3] == [{}, {}, {0: 1}]
    (track,) = camera.tracker.tracks
    assert (track.hits, track.age_frames, track.first_seen_s) == (6, 6, 0.0)


def test_a_false_alarm_never_becomes_a_track() -> None:
    camera = Camera()
    camera.see(0.0, {0: (50, 50)})
    for now in clock(1)[1:]:
        camera.see(now, {})
    assert camera.tracker.tracks == []
    assert camera.ended == []


def test_a_tentative_track_survives_one_missed_frame() -> None:
    camera = Camera()
    for now, seen in zip(clock(0.5), [1, 0, 1, 1, 1, 1], strict=True):
        camera.see(now, {0: (50, 50)} if seen else {})
    assert camera.history[3] == {0: 1}


@pytest.mark.parametrize("look", [False, True])
def test_animals_that_cross_keep_their_tracks(look: bool) -> None:
    camera = Camera()
    paths = [walk(0, 100, 60), walk(300, 120, -60), walk(150, -60, 0, 60)]
    camera.follow(paths, clock(5), look=look)
    assert [len(camera.ids_of(animal)) for animal in range(3)] == [1, 1, 1]
    assert camera.ended == []


def test_animals_that_meet_and_turn_back_are_told_apart_by_appearance() -> None:
    # They stop face to face, overlap, and walk back: place alone would let them pass through.
    def meet(side: int) -> Path:
        return lambda now: (100 + side * (abs(now - 2.0) * 60 + 2), 50)

    camera = Camera()
    camera.follow([meet(-1), meet(1)], clock(4), look=True)
    assert [len(camera.ids_of(animal)) for animal in range(2)] == [1, 1]
    assert any(camera.contested)


def test_only_animals_that_meet_are_contested() -> None:
    camera = Camera()
    camera.follow([walk(0, 50, 60), walk(300, 50, -60), still(150, 300)], clock(5))
    assert {0, 1} == {animal for row in camera.contested for animal in row}
    # They touch from 2.2 s to 2.8 s.
    frames = [frame for frame, row in enumerate(camera.contested) if row]
    assert 2.1 * 12 <= frames[0] <= frames[-1] <= 2.9 * 12


def test_missed_frames_do_not_break_a_track() -> None:
    camera = Camera()
    hidden = lambda animal, now: now > 0.5 and round(now * 12) % 4 in (1, 2)  # noqa: E731
    camera.follow([walk(0, 0, 50), walk(0, 200, -30)], clock(5), hidden)
    assert camera.ids_of(0) == [1]
    assert camera.ids_of(1) == [2]


def test_weak_boxes_keep_a_track_but_start_none() -> None:
    camera = Camera()
    for now in clock(1):
        camera.see(now, {0: (50, 50), 1: (300, 50)}, scores={1: 0.2})
    for now in clock(3):
        camera.see(1 + now, {0: (50 + 20 * now, 50), 1: (300, 50)}, scores={0: 0.2, 1: 0.2})
    assert camera.ids_of(0) == [1]
    assert 0 in camera.history[-1]
    assert camera.ids_of(1) == []


def test_a_weak_box_must_overlap() -> None:
    camera = Camera()
    for now in clock(1):
        camera.see(now, {0: (50, 50)})
    camera.see(1.0, {0: (85, 50)}, scores={0: 0.2})
    assert camera.history[-1] == {}


def test_a_resting_animal_is_found_again_where_it_was_without_a_look() -> None:
    camera = Camera()
    hidden = lambda animal, now: 2 < now < 6  # noqa: E731
    camera.follow([still(50, 50)], clock(8), hidden)
    assert camera.ids_of(0) == [1]


def test_a_hidden_animals_track_does_not_push_its_neighbours_along() -> None:
    camera = Camera()
    camera.follow([still(0, 50), still(16, 50)], clock(1))
    camera.see(1.0, {1: (16, 50), 2: (32, 50)})
    assert camera.history[-1] == {1: 2}
    assert [track.detection >= 0 for track in camera.tracker.tracks] == [False, True, True]


def test_a_lost_animal_is_recovered_elsewhere_by_appearance() -> None:
    def path(now: float) -> tuple[float, float]:
        return (50, 50) if now < 3 else (170, 90)

    hidden = lambda animal, now: animal == 0 and 2 < now < 5  # noqa: E731
    camera = Camera()
    times = [now for now in clock(8) if now <= 5]
    camera.follow([path, still(400, 400)], times, hidden, look=True)
    # At once, before it could become a track of its own, and the box is where it is now.
    assert camera.history[-1] == {0: 1, 1: 2}
    np.testing.assert_allclose(camera.tracker.tracks[0].box, [150, 70, 190, 110], atol=0.01)
    blind = Camera()
    blind.follow([path, still(400, 400)], clock(8), hidden)
    assert len(blind.ids_of(0)) == 2


def test_a_stranger_does_not_inherit_a_lost_track() -> None:
    camera = Camera()
    camera.follow([still(50, 50)], clock(2), look=True)
    for now in clock(2):
        camera.see(4 + now, {5: (60, 60)}, look=True)
    assert camera.ids_of(0) == [1]
    assert camera.ids_of(5) == [2]


def test_an_animal_too_far_away_to_have_walked_there_is_another() -> None:
    camera = Camera()
    camera.follow([still(50, 50)], clock(2), look=True)
    # 0.7 s missing: it may have gone some 116 px, not 900.
    camera.see(2.7, {0: (950, 50)}, look=True)
    assert [track.detection >= 0 for track in camera.tracker.tracks] == [False, True]


def test_lost_tracks_end_after_their_time() -> None:
    camera = Camera(replace(OPTIONS, lost_s=3.0))
    camera.follow([still(50, 50), still(300, 300)], clock(2))
    for now in clock(4):
        camera.see(2 + now, {1: (300, 300)})
        if camera.ended:
            break
    assert [track.id for track in camera.ended] == [1]
    assert camera.ended[0].last_seen_s == pytest.approx(23 / 12)
    assert camera.tracker._now() == pytest.approx(23 / 12 + 3, abs=0.2)
    assert [track.id for track in camera.tracker.tracks] == [2]


def test_after_an_hours_gap_nobody_is_who_was_there() -> None:
    camera = Camera()
    camera.follow([still(50, 50)], clock(2), look=True)
    camera.follow([still(50, 50)], [3600 + now for now in clock(1)], look=True)
    assert camera.ids_of(0) == [1, 2]
    assert [track.id for track in camera.ended] == [1]


@pytest.mark.parametrize("fps", [1.0, 4.0, 25.0])
def test_any_frame_rate(fps: float) -> None:
    camera = Camera()
    camera.follow([walk(0, 0, 20), walk(400, 100, -15, 5)], clock(12, fps))
    assert camera.ids_of(0) == [1]
    assert camera.ids_of(1) == [2]


def test_a_frame_rate_that_jumps() -> None:
    steps = np.random.default_rng(3).choice([0.03, 0.08, 0.3, 0.7], 60)
    camera = Camera()
    camera.follow([walk(0, 0, 30), walk(900, 60, -30), still(500, 30)], np.cumsum(steps).tolist())
    assert [len(camera.ids_of(animal)) for animal in range(3)] == [1, 1, 1]


def test_time_that_stands_or_runs_backwards_is_no_trouble() -> None:
    camera = Camera()
    for now in (1.0, 1.0, 0.5, 0.9, 1.1, 1.2):
        camera.see(now, {0: (50, 50)})
    assert camera.history[-1] == {0: 1}


def test_a_second_box_on_the_same_animal_starts_no_track() -> None:
    camera = Camera()
    for now in clock(1):
        camera.see(now, {0: (50, 50), 1: (53, 51)} if now > 0.4 else {0: (50, 50)})
    assert len(camera.tracker.tracks) == 1


def test_a_young_track_goes_into_the_lost_one_whose_animal_it_is() -> None:
    camera = Camera()
    camera.follow([still(50, 50)], clock(2), look=True)
    # Back beyond reach, so that appearance alone does not recover it; its votes then do.
    for now in clock(1):
        camera.see(2.8 + now, {0: (900, 50)}, look=True)
    assert camera.ids_of(0) == [1]
    assert [track.id for track in camera.absorbed] == [2]
    (track,) = camera.tracker.tracks
    assert (track.id, track.first_seen_s) == (1, 0.0)
    np.testing.assert_allclose(track.box, [880, 30, 920, 70], atol=2)
    assert set(track.evidence.counts()) == {0}


def test_tracks_seen_together_and_settled_tracks_never_become_one() -> None:
    together = Camera()
    together.follow([still(50, 50), still(900, 50)], clock(2))
    for track in together.tracker.tracks:
        for _ in range(5):
            track.evidence.add(Vote(np.eye(16, dtype=np.float32)[0], 1.0, 0))
    together.see(2.1, {1: (900, 50)})
    assert together.absorbed == []

    settled = Camera()
    settled.follow([still(50, 50)], clock(2), look=True)
    for now in clock(1):
        settled.see(2.8 + now, {0: (900, 50)})
    settled.tracker.tracks[1].evidence.settled = True
    settled.see(3.9, {0: (900, 50)}, look=True)
    settled.see(4.0, {0: (900, 50)}, look=True)
    settled.see(4.1, {0: (900, 50)}, look=True)
    assert settled.absorbed == []


def test_clear_ends_what_is_confirmed_and_ids_go_on() -> None:
    camera = Camera()
    camera.follow([still(50, 50)], clock(1))
    camera.see(1.0, {0: (50, 50), 1: (200, 50)})
    assert [track.id for track in camera.tracker.clear()] == [1]
    assert camera.tracker.tracks == []
    camera.see(0.0, {0: (50, 50)})
    assert camera.tracker.tracks[0].id == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_detection_feeds_one_track_and_boxes_stay_sound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker(OPTIONS, EvidenceOptions())
    ids: set[int] = set()
    for now in np.cumsum(rng.uniform(0, 1, 15)):
        count = rng.integers(0, 8)
        corners = rng.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, 80, (count, 2))], axis=1)
        scores = np.sort(rng.random(count))[::-1]
        found = Detections(
            boxes.astype(np.float32), scores.astype(np.float32), np.zeros(count, np.int32)
        )
        strong = found.scores >= 0.5
        looks = rng.normal(size=(count, 4)).astype(np.float32)
        embedded = rng.random(count) < 0.5
        tracker.begin(float(now))
        tracker.associate(found, strong, looks, embedded)
        tracker.recover(found, strong, looks, embedded)
        tracker.finish(found, strong)
        tracker.reunite()
        taken = [track.detection for track in tracker.tracks if track.detection >= 0]
        assert len(taken) == len(set(taken))
        assert all(0 <= row < count for row in taken)
        current = {track.id for track in tracker.tracks}
        assert len(current) == len(tracker.tracks)
        assert all(np.isfinite(track.box).all() for track in tracker.tracks)
        assert all((track.box[2:] > track.box[:2]).all() for track in tracker.tracks)
        # An id that is gone never comes back.
        assert min(current - ids, default=np.inf) > max(ids, default=0)
        ids |= current
