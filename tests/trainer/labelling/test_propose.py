from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge.errors import UsageError
from edge.vision.geometry import letterbox
from edge.vision.types import Frame
from trainer.data.crops import load_image, session_of
from trainer.labelling.places import Place
from trainer.labelling.propose import ProposeOptions, Proposer, session_name

FILE = Place("pen.mp4", "pen", False, "pen.mp4", 0)
CAMERA = Place("rtsp://h/s", "pen", True, "rtsp://h/s", 0)
LEFT, RIGHT = (20.5, 20, 80, 60), (200, 150, 260, 190)
EDGE = (0, 100, 60, 140)
FEW = ProposeOptions(least_frames=5, most_crops=4)


def test_tracklets_are_what_was_seen(
    scripted: Callable, frame: Callable[..., Frame], tmp_path: Path
) -> None:
    """Left all the time, right for frames 10 to 19, one that is too short, one at the edge."""
    script = {
        index: [LEFT, EDGE]
        + ([RIGHT] if 10 <= index < 20 else [])
        + ([(120, 20, 170, 60)] if 3 <= index < 6 else [])
        for index in range(30)
    }
    proposer = Proposer(scripted(script), FILE, tmp_path, FEW)
    for index in range(30):
        proposer.look(frame(index))
    found = proposer.finish()
    assert dict(proposer.skipped) == {"too short": 1, "without a good crop": 1}
    assert [(t.first_frame, t.last_frame, t.frames) for t in found] == [(0, 29, 30), (10, 19, 10)]
    left, right = found
    assert {t.session for t in found} == {"pen"}
    assert (left.together, right.together) == ([right.name], [left.name])
    assert (left.first_s, left.last_s, left.first_time) == (0.0, 2.9, None)
    assert (left.width, left.height) == (320, 240)
    assert left.path[0] == (0, *LEFT)
    assert left.path[-1] == (29, *LEFT)
    for tracklet in found:
        assert len(tracklet.crops) == 4
        on_disk = sorted(path.name for path in tracklet.folder(tmp_path).iterdir())
        assert on_disk == [crop.file for crop in tracklet.crops]
        assert {session_of(Path(name)) for name in on_disk} == {tracklet.name}
    crop = right.crops[0]
    assert crop.file == f"{right.name}_{crop.frame:06d}.jpg"
    pixels = load_image(right.folder(tmp_path) / crop.file)
    assert pixels.shape == (40, 60, 3)
    expected = frame(crop.frame).image[150:190, 200:260]
    small = [letterbox(image, (10, 15))[0].astype(int) for image in (pixels, expected)]
    np.testing.assert_allclose(*small, atol=25)


def test_long_tracklets_keep_a_short_path(
    scripted: Callable, frame: Callable[..., Frame], tmp_path: Path
) -> None:
    script = {index: [LEFT] for index in range(200)}
    proposer = Proposer(scripted(script), FILE, tmp_path, FEW)
    for index in range(200):
        proposer.look(frame(index))
    (found,) = proposer.finish()
    assert len(found.path) <= 34
    assert (found.path[0][0], found.path[-1][0]) == (0, 199)


def test_every_leaves_frames_out(
    scripted: Callable, frame: Callable[..., Frame], tmp_path: Path
) -> None:
    script = {index: [LEFT] for index in range(30)}
    proposer = Proposer(scripted(script), FILE, tmp_path, ProposeOptions(every=4, least_frames=5))
    for index in range(30):
        proposer.look(frame(index))
    (found,) = proposer.finish()
    assert (found.frames, proposer.frames) == (8, 8)
    assert all(crop.frame % 4 == 0 for crop in found.crops)


def test_a_cameras_session_is_its_hour(
    scripted: Callable, frame: Callable[..., Frame], tmp_path: Path
) -> None:
    script = {index: [LEFT] for index in range(20)}
    begun = datetime(2026, 5, 4, 11, 59, 59, tzinfo=UTC)
    proposer = Proposer(scripted(script), CAMERA, tmp_path, FEW)
    for index in range(20):
        proposer.look(frame(index, wall_time=begun + timedelta(seconds=index / 10)))
    found = proposer.finish()
    assert [(t.session, t.first_frame, t.last_frame) for t in found] == [
        ("pen-2026-05-04-11", 0, 9),
        ("pen-2026-05-04-12", 10, 19),
    ]
    assert found[1].first_time == "2026-05-04T12:00:00.000Z"
    assert len({t.name for t in found}) == 2
    assert found[0].together == found[1].together == []


def test_session_names() -> None:
    plus_two = datetime.fromisoformat("2026-05-04T01:30:00+02:00")
    assert session_name(CAMERA, plus_two) == "pen-2026-05-03-23"
    assert session_name(CAMERA, None) == "pen-undated"
    assert session_name(FILE, plus_two) == "pen"


def test_options_out_of_range() -> None:
    with pytest.raises(UsageError):
        ProposeOptions(every=0)
