"""Cameras: each is opened for a moment."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

from edge.capture import Source, SourceOptions, Status, open_source
from edge.capture.address import blank_credentials
from edge.capture.opening import is_live
from edge.capture.stream import ffmpeg_version
from edge.config import CameraConfig
from edge.doctor.verdict import Verdict
from edge.errors import SourceError

# Older ones were never tried.
_OLDEST_FFMPEG = (4, 2)
_FRAMES = 5
Opener = Callable[[str, str, SourceOptions, Callable[[Status, str], None]], Source]


def ffmpeg(cameras: list[CameraConfig]) -> Iterator[Verdict]:
    """Say whether network cameras can be read at all, and by which ffmpeg."""
    wanted = any("://" in camera.source for camera in cameras)
    path = shutil.which("ffmpeg")
    if path is None:
        if wanted:
            yield Verdict(
                "fail", "ffmpeg", "network cameras need it", "on Debian: apt-get install ffmpeg"
            )
        return
    try:
        version = ffmpeg_version(path)
    except SourceError as error:
        yield Verdict("fail" if wanted else "warn", "ffmpeg", str(error))
        return
    if version.numbers is not None and version.numbers < _OLDEST_FFMPEG:
        oldest = ".".join(map(str, _OLDEST_FFMPEG))
        yield Verdict(
            "warn",
            "ffmpeg",
            f"{version.text}: older than {oldest}, the oldest that was tried",
            "if a camera gives no pictures, install a newer one",
        )
    else:
        yield Verdict("ok", "ffmpeg", version.text)


def camera(
    config: CameraConfig, wait_s: float, open_source: Opener = open_source
) -> Iterator[Verdict]:
    """Take a few frames of a camera; one that sends none within `wait_s` fails."""
    topic = f"camera {config.name}"
    said: list[str] = []
    options = SourceOptions(fps=config.fps, stall_s=wait_s)
    source = open_source(
        config.source, config.name, options, lambda status, text: said.append(text)
    )
    begun_s = time.monotonic()
    timer = threading.Timer(wait_s, source.close)
    timer.daemon = True
    timer.start()
    times: list[float] = []
    size = (0, 0)
    try:
        for frame in islice(source.frames(), _FRAMES):
            times.append(time.monotonic())
            size = (frame.image.shape[1], frame.image.shape[0])
    finally:
        timer.cancel()
        source.close()
    if not times:
        silent = f"{blank_credentials(config.source)}: no frame within {wait_s:g} s"
        why = said[-1].removeprefix(f"{config.name}: ") if said else silent
        yield Verdict(
            "fail",
            topic,
            why.removesuffix("; trying again"),
            "check that it is on, its address, user and password, and the network",
        )
        return
    text = f"{size[0]}×{size[1]}, first frame after {times[0] - begun_s:.1f} s"
    if is_live(config.source) and len(times) > 1:
        text += f", {(len(times) - 1) / max(times[-1] - times[0], 1e-3):.0f} frames/s"
    yield Verdict("ok", topic, text)
