"""Frames taken out of videos, by the number that annotations give them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.annotations.formats import read_raw
from trainer.data.annotations.raw import RawFrames
from trainer.data.annotations.validate import strict
from trainer.data.annotations.video import extract, sessions_of, videos_of

GREYS = range(10, 250, 20)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of twelve frames, each a little lighter than the one before."""
    path = tmp_path / "barn.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for grey in GREYS:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path


def tracks(folder: Path, last: int, every: int = 1) -> RawFrames:
    shapes = "".join(
        f'<box frame="{n}" outside="0" keyframe="1" xtl="{x}" ytl="4" xbr="{x + 20}" ybr="30"/>'
        for n, x in ((0, 0), (last, last))
    )
    path = folder / "tracks.xml"
    path.write_text(
        f"<annotations><meta><task><source>barn.avi</source></task></meta>"
        f'<track id="0" label="pig">{shapes}</track></annotations>'
    )
    return read_raw(path, every=every)


def test_frames_are_those_of_their_numbers(tmp_path: Path, video: Path) -> None:
    raw = tracks(tmp_path, 11, every=4)
    out = tmp_path / "frames"
    out.mkdir()
    steps: list[tuple[int, int, str]] = []
    taken = extract(
        raw,
        videos_of(video, sessions_of(raw)),
        out,
        lambda done, total, note="": steps.append((done, total, note)),
    )
    frames = strict(taken)
    assert [path.name for path in frames.paths] == [
        "barn_000000.jpg",
        "barn_000004.jpg",
        "barn_000008.jpg",
    ]
    for path, number in zip(frames.paths, (0, 4, 8), strict=True):
        assert abs(float(cv2.imread(str(path)).mean()) - GREYS[number]) < 3
    assert frames.sessions == ("barn",) * 3
    np.testing.assert_allclose(frames.boxes[1], [[4, 4, 24, 30]])
    assert steps[-1] == (3, 3, "barn")


def test_a_video_that_ends_too_early_is_told(tmp_path: Path, video: Path) -> None:
    raw = tracks(tmp_path, 14)
    with pytest.raises(DataError, match=r"barn\.avi: ends before frame 12, annotated in"):
        extract(raw, {"barn": video}, tmp_path)


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "barn.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"barn\.mp4: not a video"):
        extract(tracks(tmp_path, 3), {"barn": tmp_path / "barn.mp4"}, tmp_path)


def test_videos_are_found_by_name_or_number(tmp_path: Path) -> None:
    for name in ("barn.mp4", "01_pens_day.mp4", "02_pens.MP4", "12.avi", "12.txt"):
        (tmp_path / name).touch()
    found = videos_of(tmp_path, ["barn", "video01", "video02", "video12"])
    assert [path.name for path in found.values()] == [
        "barn.mp4",
        "01_pens_day.mp4",
        "02_pens.MP4",
        "12.avi",
    ]
    with pytest.raises(DataError, match="has no video of 'video03'"):
        videos_of(tmp_path, ["video03"])
    assert list(videos_of(tmp_path, ["video03", "barn"])) == ["barn"]
    (tmp_path / "1.mp4").touch()
    with pytest.raises(DataError, match="has 2 videos of 'video01'"):
        videos_of(tmp_path, ["video01"])
    with pytest.raises(DataError, match="is one video, and 2 are annotated"):
        videos_of(tmp_path / "barn.mp4", ["a", "b"])
    with pytest.raises(DataError, match="no such video"):
        videos_of(tmp_path / "none", ["a"])
