"""The demo's clip from GStreamer's RTSP server, which is killed, hangs, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.capture.live import BackOff, LiveSource
from edge.capture.local_camera import LocalCamera, camera_missing
from edge.capture.source import SourceOptions
from edge.capture.stream import FfmpegGrabber, ffmpeg_command, ffmpeg_path
from edge.capture.video import VideoFile
from edge.errors import SourceError
from edge.messaging.local_broker import free_port
from edge.vision.types import Frame

pytestmark = pytest.mark.slow

CLIP = Path(__file__).parents[3] / "models" / "demo" / "pen.mp4"
STALL_S = 5.0
WAIT_S = 60.0


class Reader:
    """Reads a source in a thread; keeps the last frame, and what the listener hears."""

    def __init__(self, url: str) -> None:
        self.count = 0
        self.last: Frame | None = None
        self.told: list[tuple[str, str]] = []
        command = ffmpeg_command(ffmpeg_path(), url, None)
        self.source = LiveSource(
            "pen",
            lambda: FfmpegGrabber(url, command, STALL_S),
            lambda *told: self.told.append(told),
            back_off=BackOff(first_s=0.1, most_s=0.5),
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def statuses(self) -> list[str]:
        return [status for status, _ in self.told]

    def _read(self) -> None:
        for frame in self.source.frames():
            self.count, self.last = self.count + 1, frame

    def close(self) -> None:
        self.source.close()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def reader(rtsp_pen: LocalCamera) -> Iterator[Reader]:
    reader = Reader(rtsp_pen.url)
    yield reader
    reader.close()


def test_the_pictures_are_those_of_the_clip(
    reader: Reader, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: reader.count >= 5, timeout_s=WAIT_S)
    assert reader.last is not None
    image = reader.last.image.astype(np.float32)
    nearest = min(
        float(np.abs(frame.image[::8, ::8] - image[::8, ::8]).mean())
        for frame in VideoFile(CLIP, "pen", SourceOptions(fps=6)).frames()
    )
    # Two decoders of one stream; a neighbouring frame is as near as that, another scene is not.
    assert nearest < 4


def test_a_server_that_is_killed_is_found_again(
    rtsp_pen: LocalCamera, reader: Reader, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: reader.count >= 2, timeout_s=WAIT_S)
    rtsp_pen.kill()
    wait_until(lambda: reader.statuses == ["up", "lost"], timeout_s=WAIT_S)
    before = reader.count
    rtsp_pen.start()
    wait_until(lambda: reader.count > before + 2, timeout_s=WAIT_S)
    assert reader.statuses == ["up", "lost", "up"]
    report = reader.source.link.report()
    assert report.reconnects == 1


def test_a_server_that_hangs_is_lost_and_found_again(
    rtsp_pen: LocalCamera, reader: Reader, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: reader.count >= 2, timeout_s=WAIT_S)
    rtsp_pen.hang()
    wait_until(lambda: reader.statuses == ["up", "lost"], timeout_s=WAIT_S)
    assert reader.told[-1][1] == (f"pen: {rtsp_pen.url}: no frame for {STALL_S:g} s; trying again")
    before = reader.count
    rtsp_pen.go_on()
    wait_until(lambda: reader.count > before + 2, timeout_s=WAIT_S)
    assert reader.statuses == ["up", "lost", "up"]
    report = reader.source.link.report()
    assert (report.reconnects, report.stalls) == (1, 1)


def test_a_clip_that_is_none_is_told(tmp_path: Path) -> None:
    if (missing := camera_missing()) is not None:
        pytest.skip(missing)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"no H\.264 video"):
        LocalCamera(path, free_port()).start()
