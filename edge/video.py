"""Frames into an MP4 file."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.errors import EarmarkError
from edge.vision.types import Image

_QUEUE = 32


def write_video(path: Path, frames: Iterable[Image], fps: float, *, crf: int = 27) -> int:
    """Write RGB frames (H, W, 3) of even, equal sizes to an MP4 file; return how many.

    H.264 by an `ffmpeg` on PATH, else MPEG-4 by OpenCV. crf: H.264 quality, lower is better.
    Raises EarmarkError when the file cannot be written; a partial file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    program = shutil.which("ffmpeg")
    try:
        if program is None:
            count = _write_opencv(path, frames, fps)
        else:
            count = _write_ffmpeg(program, path, frames, fps, crf)
        if count == 0:
            raise EarmarkError(f"{path}: no frames to write")
    except BaseException:
        # What went wrong first is what is told.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return count


def _write_ffmpeg(program: str, path: Path, frames: Iterable[Image], fps: float, crf: int) -> int:
    count = 0
    child: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryFile() as messages:
        try:
            for frame in frames:
                if child is None:
                    child = subprocess.Popen(
                        _command(program, path, frame, fps, crf),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=messages,
                    )
                assert child.stdin is not None
                child.stdin.write(np.ascontiguousarray(frame).data)
                count += 1
            if child is not None and child.stdin is not None:
                child.stdin.close()
        except BrokenPipeError:
            pass
        except BaseException:
            if child is not None:
                child.kill()
                child.wait()
            raise
        if child is not None and child.wait() != 0:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), "no reason given")
            raise EarmarkError(f"{path}: ffmpeg could not write the video: {reason.strip()}")
    return count


def _command(program: str, path: Path, frame: Image, fps: float, crf: int) -> list[str]:
    height, width = frame.shape[:2]
    return [
        *(program, "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}"),
        *("-i", "-", "-an", "-c:v", "libx264", "-preset", "medium", "-crf", f"{crf}"),
        *("-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path)),
    ]


def _write_opencv(path: Path, frames: Iterable[Image], fps: float) -> int:
    count = 0
    writer: cv2.VideoWriter | None = None
    try:
        for frame in frames:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise EarmarkError(f"{path}: OpenCV cannot write MP4 here; install ffmpeg")
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


class VideoWriter:
    """An MP4 file that frames are handed to as they come; it appears at `path` when closed.

    A thread of its own encodes, so that the caller hardly waits; a queue of `_QUEUE` frames bounds
    the memory. Not thread-safe: one caller.
    """

    def __init__(self, path: Path, fps: float, *, crf: int = 27) -> None:
        self._path = path
        self._part = path.with_name(f".{path.stem}.part.mp4")
        self._queue: queue.Queue[Image | None] = queue.Queue(_QUEUE)
        self._error: Exception | None = None
        self._shape: tuple[int, ...] = ()
        self._thread = threading.Thread(
            target=self._encode, args=(fps, crf), name="earmark-video", daemon=True
        )
        self._thread.start()

    def write(self, image: Image) -> None:
        """Add a frame (H, W, 3) RGB, the same even size every time; EarmarkError when it failed."""
        shape = self._shape = self._shape or image.shape
        if image.shape != shape:
            raise EarmarkError(
                f"{self._path}: a frame of {image.shape[1]}x{image.shape[0]} pixels in a video of "
                f"{shape[1]}x{shape[0]}; pictures of one size only"
            )
        while self._thread.is_alive():
            try:
                self._queue.put(image, timeout=1)
                return
            except queue.Full:
                continue
        self._raise()

    def close(self) -> None:
        """Finish the file and put it in its place; EarmarkError when it could not be written."""
        self._queue.put(None)
        self._thread.join()
        self._raise()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Leave no file; what stood at `path` before stays."""
        self._queue.put(None)
        self._thread.join()
        self._part.unlink(missing_ok=True)

    def _frames(self) -> Iterator[Image]:
        while (image := self._queue.get()) is not None:
            yield image

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _encode(self, fps: float, crf: int) -> None:
        try:
            write_video(self._part, self._frames(), fps, crf=crf)
        except Exception as error:
            self._error = error
            # Whoever waits to hand over a frame, or to close, must not wait for ever.
            while not self._queue.empty():
                self._queue.get_nowait()
