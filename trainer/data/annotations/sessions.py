"""Which stretch of video a frame is of, where its annotations do not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.annotations.raw import RawFrame, whole
from trainer.data.crops import names_session, session_of
from trainer.data.frames import FrameSet

# Folders that data sets are divided into; what lies in two of them may be one stretch of video.
_PARTS = re.compile(r"(images?|jpegimages|train|val|valid|validation|test)\d*", re.IGNORECASE)


def sessions_of_frames(frames: Sequence[RawFrame], images: Path) -> list[str]:
    """Return the session of each frame (N,), as it is stated or by the image's name.

    images: the folder of all. Where frames without a stated session lie in several folders, a
    folder is a camera's or a day's and stands in front: `camA/frame` for `camA/frame_0001.jpg`.
    """
    folders = [_folder(frame.path, images) for frame in frames]
    unstated = {folder for frame, folder in zip(frames, folders, strict=True) if not frame.session}
    several = len(unstated) > 1
    return [
        frame.session or (f"{folder}/" if several and folder else "") + session_of(frame.path)
        for frame, folder in zip(frames, folders, strict=True)
    ]


def nameless(path: Path, session: str) -> bool:
    """Say whether a frame is a session of its own because nothing names one."""
    return not names_session(path) and session.rpartition("/")[2] == path.stem


def frame_of(path: Path, session: str) -> str:
    """Return what an image's name says beside its session: mostly the frame's number."""
    own = names_session(path) and session.rpartition("/")[2] == session_of(path)
    return path.stem.rpartition("_")[2] if own else path.stem


def without_session(frames: FrameSet) -> list[Path]:
    """Return the frames that nothing gives a session, if there are several.

    Each is a session of its own, so that a split by session is one by frame for them.
    """
    found = [
        path
        for path, session in zip(frames.paths, frames.sessions, strict=True)
        if nameless(path, session)
    ]
    return found if len(found) > 1 else []


def _folder(path: Path, images: Path) -> str:
    """Return an image's folder below `images`, without the folders that are only parts of a set."""
    place = whole(path).parent
    if not place.is_relative_to(whole(images)):
        return ""
    own = place.relative_to(whole(images)).parts
    return "/".join(part for part in own if not _PARTS.fullmatch(part))
