"""Annotations of videos: whose images are looked for, or taken out of the video by OpenCV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
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

    def wanted(self, numbers: Sequence[int]) -> list[int]:
        """Return those of the annotated frames, in order, that have an image, or get one.

        Of a video that is still to be taken every so many, from the first annotated one on: a
        task may begin anywhere and skip frames itself. Otherwise frames without an image are left
        out, as a person does who takes every tenth; none of them may be left.
        """
        if self._every is not None:
            return list(numbers[:: self._every])
        return [number for number in numbers if number in self._there]

    def missing(self) -> str:
        """Say that there is no image of the video, and what to do."""
        if self._every is not None:
            return f"annotates no frame of the video {self._session!r}"
        return (
            f"annotates the video {self._session!r}, and {self._folder} holds "
            f"no images of it ({image_name(self._session, 0)}, …); take them from the video "
            "with `earmark-trainer data convert --video`"
        )

    def frame(self, number: int, size: tuple[int, int] | None, boxes: Sequence[RawBox]) -> RawFrame:
        """Return a frame with its image."""
        path = self._there.get(number, self._folder / image_name(self._session, number))
        where = f"{self._source}: frame {number} of {self._session}"
        return RawFrame(path.name, path, size, self._session, tuple(boxes), where, number)


def image_name(session: str, number: int) -> str:
    """Return the name of a frame's image."""
    return f"{session}_{number:06d}.jpg"


def videos_of(path: Path, sessions: Sequence[str]) -> dict[str, Path]:
    """Return the sessions' videos: `path` itself, or those in that folder.

    In a folder a video is its session's by its name, or by the number that ends the one and begins
    the other (`video03`, `03_pens.mp4`). A session without one is left out. DataError for one with
    several, and where none has any.
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
        if len(own) > 1:
            raise DataError(
                f"{path}: has {len(own)} videos of {session!r}; name the right one {session}.mp4"
            )
        if own:
            found[session] = own[0]
    if not found:
        raise DataError(f"{path}: has no video of {sessions[0]!r}; name it {sessions[0]}.mp4")
    return found


def left_out(raw: RawFrames, videos: Mapping[str, Path] | None = None) -> list[str]:
    """Return a line about each video whose annotations are not used.

    videos: those that frames are taken from, None for images that are there.
    """
    if videos is None:
        return [str(problem) for problem in raw.problems if problem.kind == "video without images"]
    return [
        f"{raw.source}: annotates {session!r}, of which there is no video: it is left out"
        for session in sessions_of(raw)
        if session not in videos
    ]


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
