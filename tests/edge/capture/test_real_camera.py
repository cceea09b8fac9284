"""Network cameras against a real RTSP server: killed, hung and brought back."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.capture import Source, SourceOptions, open_source
from edge.capture.video import VideoFile
from edge.messaging.local_broker import free_port
from edge.vision.types import Frame

pytestmark = pytest.mark.slow
CLIP = Path(__file__).parents[3] / "models" / "demo" / "pen.mp4"
SYSTEM_PYTHON = "/usr/bin/python3"
RECOVERED_S = 15.0
# ffmpeg takes two seconds to make out what a stream holds.
STALL_S = 6.0


class Camera:
    """A GStreamer RTSP server that serves the demo's clip, on one port for its whole life."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/pen"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Switch it on."""
        script = Path(__file__).with_name("rtsp_server.py")
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(script), str(CLIP), str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Pull its plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


class Watched:
    """A source that a thread looks at: its frames and what its listener heard."""

    def __init__(self, url: str) -> None:
        self.frames: list[Frame] = []
        self.heard: list[tuple[str, str]] = []
        options = SourceOptions(stall_s=STALL_S)
        self.source: Source = open_source(
            url, "pen", options, lambda status, text: self.heard.append((status, text))
        )
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        for frame in self.source.frames():
            self.frames.append(frame)

    @property
    def statuses(self) -> list[str]:
        return [status for status, _ in self.heard]

    def close(self) -> None:
        self.source.close()
        self._thread.join(timeout=20)


@pytest.fixture
def camera() -> Iterator[Camera]:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    done = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)")
    camera = Camera()
    yield camera
    camera.kill()


@pytest.fixture
def watched(camera: Camera) -> Iterator[Watched]:
    watched = Watched(camera.url)
    yield watched
    watched.close()


def test_frames_are_those_of_the_clip(watched: Watched, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: len(watched.frames) >= 3, 30)
    assert watched.statuses == ["up"]
    frame = watched.frames[-1].image
    clip = VideoFile(CLIP, "pen", SourceOptions())
    differences = [
        np.abs(frame[::8, ::8].astype(int) - other.image[::8, ::8]).mean()
        for other in clip.frames()
    ]
    # RGB, not BGR, and one of the clip's own pictures.
    assert min(differences) < 3


def test_a_camera_that_loses_power_comes_back(
    camera: Camera, watched: Watched, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(watched.frames) >= 3, 30)
    camera.kill()
    wait_until(lambda: watched.statuses == ["up", "lost"], 40)
    seen = len(watched.frames)
    camera.start()
    back_s = time.monotonic()
    wait_until(lambda: len(watched.frames) > seen + 2, 60)
    assert time.monotonic() - back_s < RECOVERED_S
    assert watched.statuses == ["up", "lost", "up"]


def test_a_camera_that_hangs_is_let_go_and_taken_again(
    camera: Camera, watched: Watched, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(watched.frames) >= 3, 30)
    camera.signal(signal.SIGSTOP)
    wait_until(lambda: watched.statuses == ["up", "lost"], 40)
    assert f"no frame for {STALL_S:g} s" in watched.heard[1][1]
    seen = len(watched.frames)
    camera.signal(signal.SIGCONT)
    wait_until(lambda: len(watched.frames) > seen + 2, 60)
    assert watched.statuses == ["up", "lost", "up"]
    indices = [frame.index for frame in watched.frames]
    assert indices == sorted(set(indices))
