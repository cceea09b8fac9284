"""Network cameras against a real RTSP server: killed, hung and brought back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.capture import Source, SourceOptions, open_source
from edge.capture.video import VideoFile
from edge.vision.types import Frame

pytestmark = pytest.mark.slow
CLIP = Path(__file__).parents[3] / "models" / "demo" / "pen.mp4"
RECOVERED_S = 15.0
# ffmpeg takes two seconds to make out what a stream holds.
STALL_S = 6.0


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
def watched(rtsp_pen: Any) -> Iterator[Watched]:
    watched = Watched(rtsp_pen.url)
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
    rtsp_pen: Any, watched: Watched, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(watched.frames) >= 3, 30)
    rtsp_pen.kill()
    wait_until(lambda: watched.statuses == ["up", "lost"], 40)
    seen = len(watched.frames)
    rtsp_pen.start()
    back_s = time.monotonic()
    wait_until(lambda: len(watched.frames) > seen + 2, 60)
    assert time.monotonic() - back_s < RECOVERED_S
    assert watched.statuses == ["up", "lost", "up"]
    assert watched.source.link is not None
    assert watched.source.link.report().reconnects == 1


def test_a_camera_that_hangs_is_let_go_and_taken_again(
    rtsp_pen: Any, watched: Watched, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(watched.frames) >= 3, 30)
    rtsp_pen.hang()
    wait_until(lambda: watched.statuses == ["up", "lost"], 40)
    assert f"no frame for {STALL_S:g} s" in watched.heard[1][1]
    seen = len(watched.frames)
    rtsp_pen.go_on()
    wait_until(lambda: len(watched.frames) > seen + 2, 60)
    assert watched.statuses == ["up", "lost", "up"]
    indices = [frame.index for frame in watched.frames]
    assert indices == sorted(set(indices))
