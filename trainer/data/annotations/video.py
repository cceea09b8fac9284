"""Annotations of videos: whose images are looked for, or taken out of the video by OpenCV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge.errors import DataError
from edge.vision.types import Image
from trainer.data.annotations.raw import RawBox, RawFrame, RawFrames
from trainer.data.crops import SUFFIXES
from trainer.pictures import jpeg
from trainer.progress import Report, silent

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"})
_QUALITY = 95
# What is wrong with a video is ours to say, once.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoImages:
    """The images that a folder holds of one video's frames: `frame_<n>` or `<session>_<n>`."""

    def __init__(self, source: Path, folder: Path, session: str, every: int | None) -> None:
        """every: images are still to be taken, of every so many frames; None: they must be there.

        source: the annotations, for messages.
        """
        self._source, self._folder, self._session, self._every = source, folder, session, every
        self._there = {} if every is not None else _numbered(folder, session)

    def wanted(self, numbers: Iterable[int]) -> list[int]:
        """Return those of the annotated frames that have an image, or get one.

        Frames without an image are left out, as a person does who takes every tenth; DataError
        when none has one.
        """
        if self._every is not None:
            return [number for number in numbers if number % self._every == 0]
        found = [number for number in numbers if number in self._there]
        if not found:
            raise DataError(
                f"{self._source}: annotates the video {self._session!r}, and {self._folder} holds "
                f"no images of it ({image_name(self._session, 0)}, …); take them from the video "
                "with `earmark-trainer data convert --video`"
            )
        return found

    def frame(self, number: int, size: tuple[int, int] | None, boxes: Sequence[RawBox]) -> RawFrame:
        """Return a frame with its image."""
        path = self._there.get(number, self._folder / image_name(self._session, number))
        where = f"{self._source}: frame {number} of {self._session}"
        return RawFrame(path.name, path, size, self._session, tuple(boxes), where, number)


def image_name(session: str, number: int) -> str:
    """Return the name of a frame's image."""
    return f"{session}_{number:06d}.jpg"


def videos_of(path: Path, sessions: Sequence[str]) -> dict[str, Path]:
    """Return each session's video: `path` itself, or one in that folder.

    In a folder a video is its session's by its name, or by the number that ends the one and begins
    the other (`video03`, `03_pens.mp4`). DataError for a session without exactly one.
    """
    if path.is_file():
        if len(sessions) != 1:
            raise DataError(
                f"{path}: is one video, and {len(sessions)} are annotated; name their folder"
            )
        return {sessions[0]: path}
    if not path.is_dir():
        raise DataError(f"{path}: no such video or folder of videos (--video)")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    found = {}
    for session in sessions:
        own = [file for file in files if file.stem == session]
        number = re.search(r"\d+$", session)
        if not own and number is not None:
            own = [file for file in files if _leading(file.stem) == int(number[0])]
        if len(own) != 1:
            what = "no video" if not own else f"{len(own)} videos"
            raise DataError(f"{path}: has {what} of {session!r}; name it {session}.mp4")
        found[session] = own[0]
    return found


def extract(
    raw: RawFrames, videos: Mapping[str, Path], folder: Path, report: Report = silent
) -> RawFrames:
    """Write the annotated frames of videos as JPEG files into `folder`; return them as read there.

    DataError for a video that cannot be read, or that ends before its annotations do.
    """
    placed: list[RawFrame] = []
    for session, video in videos.items():
        own = {f.number: f for f in raw.frames if f.session == session and f.number is not None}
        for number, image in _decoded(video, set(own)):
            path = folder / image_name(session, number)
            path.write_bytes(jpeg(image, _QUALITY))
            placed.append(replace(own.pop(number), name=path.name, path=path))
            report(len(placed), len(raw.frames), session)
        if own:
            raise DataError(f"{video}: ends before frame {min(own)}, annotated in {raw.source}")
    return replace(raw, images=folder, frames=tuple(placed))


def sessions_of(raw: RawFrames) -> list[str]:
    """Return the videos that frames are of; DataError where some are images instead."""
    if any(frame.number is None for frame in raw.frames):
        raise DataError(f"{raw.source}: annotates images; it needs no --video")
    return list(dict.fromkeys(frame.session or "" for frame in raw.frames))


def _decoded(path: Path, wanted: set[int]) -> Iterator[tuple[int, Image]]:
    """Yield the wanted frames with their numbers. Never by seeking, which is off by some frames."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: not a video that can be read; is it complete?")
        for number in range(max(wanted, default=-1) + 1):
            if not capture.grab():
                return
            if number in wanted:
                readable, image = capture.retrieve()
                if not readable:
                    return
                yield number, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def _numbered(folder: Path, session: str) -> dict[int, Path]:
    """Return the images of a video's frames, by number."""
    if not folder.is_dir():
        return {}
    pattern = re.compile(rf"(?:frame|{re.escape(session)})_([0-9]{{1,9}})", re.IGNORECASE)
    found = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.stem)
        if match is not None and path.suffix.lower() in SUFFIXES:
            found[int(match[1])] = path
    return found


def _leading(stem: str) -> int | None:
    match = re.match(r"[0-9]{1,9}", stem)
    return None if match is None else int(match[0])
