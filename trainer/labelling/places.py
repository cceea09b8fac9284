"""Where unlabelled pictures come from: videos, folders and cameras, each with a name of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from edge.capture.address import blank_credentials
from edge.capture.images import find_images
from edge.capture.opening import is_live
from edge.errors import UsageError
from edge.files import expanded
from trainer.data.annotations.video import VIDEO_SUFFIXES
from trainer.labelling.files import safe

_NAMED = re.compile(r"([\w+-][\w.+-]*)=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A source of frames. url: as `open_source` takes it; camera: its name; shown: to a person.

    frames: how many to expect, 0 when nobody knows.
    """

    url: str
    camera: str
    live: bool
    shown: str
    frames: int


def find_places(sources: Sequence[str]) -> list[Place]:
    """Return the sources that are meant, each under a name that no other has.

    sources: videos, folders of videos or of images, cameras' addresses; each may be `NAME=SOURCE`.
    Without a name a file or folder has its own, a camera that of its host or device. Raises
    UsageError for what is not there and for names that are not unique.
    """
    places = [place for source in sources for place in _expanded(source)]
    seen: dict[str, Place] = {}
    for place in places:
        other = seen.setdefault(place.camera.lower(), place)
        if other is not place:
            raise UsageError(
                f"{other.shown} and {place.shown} would both be called {place.camera!r}; name one: "
                f"NAME={place.shown}"
            )
    return places


def _expanded(source: str) -> list[Place]:
    named = _NAMED.fullmatch(source)
    name, url = ("", source) if named is None or Path(source).exists() else named.groups()
    if is_live(url):
        return [Place(url, safe(name or _host(url)), True, blank_credentials(url), 0)]
    if "://" in url and not url.startswith("file://"):
        raise UsageError(f"{blank_credentials(url)}: no source of this kind; see --help")
    path = expanded(url.removeprefix("file://"))
    if not path.exists():
        raise UsageError(f"{path}: no such video or folder")
    if path.is_file():
        return [_video(path, name or path.stem)]
    videos = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    images = len(find_images(path))
    if videos and images:
        raise UsageError(f"{path}: holds videos and images; name the videos one by one")
    if not videos:
        # Without images opening it says so.
        return [Place(str(path), safe(name or path.resolve().name), False, str(path), images)]
    if name and len(videos) > 1:
        raise UsageError(f"{path}: holds {len(videos)} videos, which cannot all be {name!r}")
    return [_video(file, name or file.stem) for file in videos]


def _video(path: Path, name: str) -> Place:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        frames = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()
    return Place(str(path), safe(name), False, str(path), frames)


def _host(url: str) -> str:
    """Return a name for a camera: its host, or its device."""
    try:
        host = urlsplit(url).hostname if "://" in url else None
    except ValueError:
        host = None
    return host or Path(url).name or "camera"
