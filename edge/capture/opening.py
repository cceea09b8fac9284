"""From an address to the source that reads it."""

from __future__ import annotations

import re

from edge.capture.address import blank_credentials, scheme_of
from edge.capture.images import ImageFolder
from edge.capture.live import LiveSource
from edge.capture.source import Source, SourceOptions, Status, StatusListener
from edge.capture.stream import FfmpegGrabber, ffmpeg_command, ffmpeg_path, ffmpeg_version
from edge.capture.v4l2 import V4l2Grabber
from edge.capture.video import VideoFile
from edge.errors import UsageError
from edge.files import expanded

_NETWORK = ("rtsp", "rtsps", "http", "https")
_V4L2 = re.compile(r"^(?:v4l2:(?://)?)?(/dev/.+)$")


def _nobody(status: Status, text: str) -> None:
    """Listen to nothing."""


def is_live(url: str) -> bool:
    """Say whether an address is a camera's, and not a file's or folder's."""
    return scheme_of(url) in _NETWORK or _V4L2.match(url) is not None


def open_source(
    url: str, camera: str, options: SourceOptions, listener: StatusListener = _nobody
) -> Source:
    """Open a source by its address.

    A video file or folder of images (a path), a V4L2 device (`/dev/video0`, `v4l2:/dev/video0`),
    or a network camera (`rtsp://`, `rtsps://`, `http://`, `https://`) through ffmpeg. Files are
    looked at now: UsageError when missing, SourceError when unreadable. A camera that is away is
    waited for; `listener` hears of it.
    """
    scheme = scheme_of(url)
    if scheme in _NETWORK:
        ffmpeg = ffmpeg_path()
        command = ffmpeg_command(ffmpeg, url, options.fps, ffmpeg_version(ffmpeg))
        return LiveSource(
            camera,
            lambda: FfmpegGrabber(url, command, options.stall_s),
            listener,
            fps=options.fps,
        )
    device = _V4L2.match(url)
    if device:
        path = device[1]
        return LiveSource(camera, lambda: V4l2Grabber(path), listener, fps=options.fps)
    if scheme and scheme != "file":
        raise UsageError(
            f"{blank_credentials(url)}: no source of this kind; use a video file, a folder of "
            "images, /dev/videoN or rtsp://"
        )
    place = expanded(url.removeprefix("file://"))
    if not place.exists():
        raise UsageError(f"{place}: no such video file or folder of images")
    return (
        ImageFolder(place, camera, options) if place.is_dir() else VideoFile(place, camera, options)
    )
