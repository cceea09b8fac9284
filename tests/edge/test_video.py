"""Frames into MP4 files, with ffmpeg and without."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.capture.source import SourceOptions
from edge.capture.video import VideoFile
from edge.errors import EarmarkError
from edge.video import VideoWriter, write_video
from edge.vision.types import Image

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (120, 120, 120)]


def pictures(count: int = 4, size: tuple[int, int] = (48, 64)) -> Iterator[Image]:
    for index in range(count):
        yield np.full((*size, 3), COLOURS[index % 4], np.uint8)


@pytest.fixture(params=["ffmpeg", "opencv"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write: with ffmpeg on PATH, and without."""
    if request.param == "opencv":
        monkeypatch.setenv("PATH", "/nonexistent")
    elif shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    return str(request.param)


def check_pictures(path: Path, fps: float, count: int = 4) -> None:
    clip = VideoFile(path, "clip", SourceOptions())
    assert clip.clip_fps == pytest.approx(fps, rel=0.01)
    frames = list(clip.frames())
    assert len(frames) == count
    for index, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        # RGB stays RGB; what compression costs is small.
        np.testing.assert_allclose(frame.image.mean(axis=(0, 1)), COLOURS[index % 4], atol=15)


@pytest.mark.slow
def test_frames_are_read_back(tmp_path: Path, encoder: str) -> None:
    path = tmp_path / "new" / "folder" / "clip.mp4"
    assert write_video(path, pictures(), 12.0) == 4
    check_pictures(path, 12.0)


@pytest.mark.slow
def test_a_frame_that_is_a_view_is_written_as_it_looks(tmp_path: Path, encoder: str) -> None:
    wide = (np.repeat(frame, 2, axis=1)[:, ::2] for frame in pictures())
    assert write_video(tmp_path / "clip.mp4", wide, 5.0) == 4
    check_pictures(tmp_path / "clip.mp4", 5.0)


def test_no_frames_are_an_error_and_no_file(tmp_path: Path, encoder: str) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(EarmarkError, match="no frames to write"):
        write_video(path, iter(()), 12.0)
    assert not path.exists()


def test_a_failure_midway_leaves_no_file(tmp_path: Path, encoder: str) -> None:
    def broken() -> Iterator[Image]:
        yield from pictures(2)
        raise RuntimeError("the barn is dark")

    path = tmp_path / "clip.mp4"
    with pytest.raises(RuntimeError, match="dark"):
        write_video(path, broken(), 12.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [(48, 64), (47, 64)], ids=["folder", "odd"])
def test_what_ffmpeg_complains_of_is_one_line(tmp_path: Path, size: tuple[int, int]) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    path = tmp_path / "clip.mp4"
    if size == (48, 64):
        path.mkdir()
    with pytest.raises(EarmarkError, match=r"clip\.mp4: ffmpeg could not write") as caught:
        write_video(path, pictures(size=size), 12.0)
    assert "\n" not in str(caught.value)
    assert not path.is_file()


@pytest.mark.slow
def test_the_writer_puts_the_file_in_place_when_closed(tmp_path: Path, encoder: str) -> None:
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path, 12.0)
    # More than the queue holds.
    for picture in pictures(80):
        writer.write(picture)
    assert not path.exists()
    writer.close()
    check_pictures(path, 12.0, 80)
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_without_frames_says_so_when_closed(tmp_path: Path, encoder: str) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 12.0)
    with pytest.raises(EarmarkError, match="no frames"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_tells_whoever_hands_it_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*_: object, **__: object) -> int:
        failed.set()
        raise EarmarkError("clip.mp4: no room on the disk")

    monkeypatch.setattr("edge.video.write_video", fail)
    writer = VideoWriter(tmp_path / "clip.mp4", 12.0)
    assert failed.wait(10)

    def hand_over() -> None:
        # The first ones may still find room in the queue; nobody waits for ever.
        for picture in pictures(100):
            writer.write(picture)

    with pytest.raises(EarmarkError, match="no room"):
        hand_over()
    with pytest.raises(EarmarkError, match="no room"):
        writer.close()


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", 10)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(EarmarkError, match=r"v\.mp4: a frame of 128x96"):
        writer.write(np.zeros((96, 128, 3), np.uint8))
    writer.discard()
    assert not list(tmp_path.iterdir())
