"""A video file as a source: every frame, in its own time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.capture.clock import wall_time
from edge.capture.source import SourceOptions
from edge.errors import SourceError, UsageError
from edge.vision.opencv import silence_opencv
from edge.vision.types import Frame, Image

silence_opencv()

_FPS_IF_UNKNOWN = 25.0
_MAX_FPS = 1000.0


class VideoFile:
    """Decodes a video with OpenCV. Frames are never dropped; a truncated file yields what it can.

    monotonic_s is the clip's own time from its first frame on, as the file says it; where that does
    not rise, such as in a bare H.264 stream, a frame follows its forerunner by 1 / fps. It goes on
    rising when the clip loops.
    """

    live = False
    dropped = 0
    link = None

    def __init__(
        self,
        path: Path,
        camera: str,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not path.exists():
            raise UsageError(f"{path}: no such video")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the video is empty (0 bytes); copy it again")
        capture = _open(path)
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        readable, _ = capture.read()
        capture.release()
        if not readable:
            raise SourceError(f"{path}: no frame of this video can be decoded; is it complete?")
        self.camera = camera
        self.clip_fps = fps if 0 < fps <= _MAX_FPS else _FPS_IF_UNKNOWN
        self._path = path
        self._options = options
        self._clock = clock
        self._closed = threading.Event()

    @property
    def finite(self) -> bool:
        """Whether the frames end by themselves."""
        return not self._options.loop

    @property
    def fps(self) -> float:
        """Frames per second of the clip's time that are yielded."""
        return min(self._options.fps or self.clip_fps, self.clip_fps)

    def frames(self) -> Iterator[Frame]:
        """Yield the clip's frames; those that `fps` skips keep their index."""
        started = self._clock()
        share = self.fps / self.clip_fps
        index = 0
        begun_s = 0.0
        while not self._closed.is_set():
            begun, clip_s = index, begun_s
            for image, at_s in self._decode(lambda i: int((i + 1) * share) > int(i * share), begun):
                clip_s = begun_s + at_s
                if image is not None:
                    if self._options.realtime:
                        self._closed.wait(max(0.0, started + clip_s - self._clock()))
                    if self._closed.is_set():
                        return
                    yield Frame(image, self.camera, index, clip_s, wall_time())
                index += 1
            if self.finite or self._closed.is_set():
                return
            if index == begun:
                raise SourceError(f"{self._path}: can no longer be decoded")
            begun_s = clip_s + 1 / self.clip_fps

    def _decode(
        self, wanted: Callable[[int], bool], index: int
    ) -> Iterator[tuple[Image | None, float]]:
        """Yield each frame of one pass, None for those that are not wanted, and its time in it."""
        capture = _open(self._path)
        time_of = _PassTime(1 / self.clip_fps)
        try:
            while not self._closed.is_set() and capture.grab():
                at_s = time_of(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                image = None
                # The first of all is always taken: a clip of one frame is a clip.
                if index == 0 or wanted(index):
                    readable, bgr = capture.retrieve()
                    if not readable:
                        return
                    image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
                yield image, at_s
                index += 1
        finally:
            capture.release()

    def close(self) -> None:
        """End `frames` soon."""
        self._closed.set()


class _PassTime:
    """Times of the frames of one pass, rising from 0, from the times that the file says."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._origin_s: float | None = None
        self._last_s = 0.0

    def __call__(self, said_s: float) -> float:
        """Return the time of the next frame."""
        if self._origin_s is None:
            self._origin_s = said_s if math.isfinite(said_s) else 0.0
            return 0.0
        at_s = said_s - self._origin_s
        rises = math.isfinite(at_s) and at_s > self._last_s
        self._last_s = at_s if rises else self._last_s + self._period_s
        return self._last_s


def _open(path: Path) -> Any:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{path}: not a video that can be read; is it complete?")
    return capture
