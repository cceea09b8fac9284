"""From addresses to sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.capture import SourceOptions, open_source
from edge.capture.images import ImageFolder
from edge.capture.live import LiveSource
from edge.capture.opening import is_live
from edge.capture.v4l2 import V4l2Grabber
from edge.capture.video import VideoFile
from edge.errors import SourceError, UsageError

OPTIONS = SourceOptions()


def test_files_and_folders(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip()
    assert isinstance(open_source(str(clip), "pen", OPTIONS), VideoFile)
    assert isinstance(open_source(f"file://{clip}", "pen", OPTIONS), VideoFile)
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert isinstance(open_source(str(folder), "pen", OPTIONS), ImageFolder)


@pytest.mark.parametrize("url", ["/dev/video0", "v4l2:/dev/video0", "v4l2:///dev/video0"])
def test_devices_are_live(url: str) -> None:
    assert is_live(url)
    assert isinstance(open_source(url, "pen", OPTIONS), LiveSource)


def test_network_cameras_need_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError, match="need ffmpeg on PATH"):
        open_source("rtsp://camera/x", "pen", OPTIONS)


def test_network_cameras_are_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ffmpeg version 5.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for url in ("rtsp://camera/x", "RTSPS://camera/x", "http://camera/x", "https://camera/x"):
        source = open_source(url, "pen", OPTIONS)
        assert source.live
        assert not source.finite


def test_an_unknown_kind_is_refused_without_showing_credentials() -> None:
    with pytest.raises(UsageError, match="no source of this kind") as caught:
        open_source("ftp://farm:s3cret@camera/x", "pen", OPTIONS)
    assert "s3cret" not in str(caught.value)


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no such video file or folder"):
        open_source(str(tmp_path / "nowhere"), "pen", OPTIONS)


def test_the_home_of_nobody_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no such home folder"):
        open_source("~nobody-here/pen.mp4", "pen", OPTIONS)


class FakeCapture:
    """OpenCV's capture of a device with two frames."""

    opened = True

    def __init__(self, device: str, backend: int) -> None:
        self.arguments = (device, backend)
        self.frames = [np.full((2, 3, 3), (1, 2, 3), np.uint8)] * 2
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def read(self) -> tuple[bool, Any]:
        return (True, self.frames.pop()) if self.frames else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_device_is_read_through_v4l2_in_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    grabber = V4l2Grabber("/dev/video3")
    assert grabber._capture.arguments == ("/dev/video3", cv2.CAP_V4L2)
    assert grabber.read()[0, 0].tolist() == [3, 2, 1]
    grabber.read()
    with pytest.raises(SourceError, match="/dev/video3: gives no more frames"):
        grabber.read()
    grabber.close()
    assert grabber._capture.released


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="/dev/video77: cannot be opened"):
        V4l2Grabber("/dev/video77")
