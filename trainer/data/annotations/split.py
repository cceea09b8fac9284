"""Frames split into train and test, so that no stretch of video is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.files import write_atomically
from trainer.data.annotations import coco
from trainer.data.annotations.formats import common_root, place
from trainer.data.annotations.raw import whole
from trainer.data.annotations.sessions import without_session
from trainer.data.frames import FrameSet
from trainer.data.splits import day_of, no_session
from trainer.progress import Report, silent

SplitBy = Literal["session", "date"]
TRAIN_NAME, TEST_NAME = "train.json", "test.json"
BOTH_SIDES_WARNING = (
    "sessions are on both sides: near-duplicates of the test frames are trained on, so the figures "
    "say nothing about other days"
)
UNNAMED_WARNING = (
    "frames were split without knowing their sessions (<session>_<frame>.jpg): of a video, "
    "near-duplicates of the test frames are trained on, so the figures say nothing about other days"
)
_MOST_OVER = 1.5


def split_frames(
    frames: FrameSet,
    fraction: float,
    seed: int,
    by: SplitBy = "session",
    *,
    force: bool = False,
) -> tuple[FrameSet, FrameSet]:
    """Return (train, held_out) with about `fraction` of the frames held out, by whole sessions.

    by: "session": one camera and stretch of time, as a video; "date": whole days, found in the
    sessions' names. Which are held out falls by `seed`. DataError with one session or day only;
    without `force` also by session where frames' names give none (`without_session`).
    """
    if by not in get_args(SplitBy):
        raise UsageError(f"no split {by!r}; choose one of {', '.join(get_args(SplitBy))}")
    unnamed = without_session(frames) if by == "session" else []
    if unnamed and not force:
        raise DataError(
            f"{no_session(unnamed)}; each would be a session of its own, and near-duplicate "
            "frames would lie on both sides: rename them, or force it (--force; in a recipe "
            "force_frame_split: true)"
        )
    units = frames.sessions if by == "session" else tuple(map(day_of, frames.sessions))
    held = _whole(units, fraction, seed)
    if not held.any():
        raise DataError(
            f"all {len(frames)} frames are of one {by} ({units[0]}): nothing can be held out; "
            "annotate another, or split by --every with --force"
            if len(frames)
            else "there are no frames to split"
        )
    return frames.select(~held), frames.select(held)


def split_every(frames: FrameSet, every: int, *, force: bool = False) -> tuple[FrameSet, FrameSet]:
    """Return (train, test) where every Nth file by name is the test.

    every: 5 means the fifth, the tenth, … of the files sorted by name: indices 4, 9, … from 0.
    The names are those below the folder that all files have in common. Refused (DataError) without
    `force` where that puts a session on both sides: neighbouring frames of a video are
    near-duplicates, and figures on them say nothing about other days. Where names give no session
    nobody can tell: that is for the caller to warn of (`without_session`).
    """
    if every < 2:
        raise UsageError(
            f"every {every}th file as test leaves none to train on; it must be 2 or more"
        )
    order = sorted(range(len(frames)), key=lambda row: frames.paths[row].as_posix())
    held = np.zeros(len(frames), bool)
    held[order[every - 1 :: every]] = True
    if not held.any():
        raise DataError(f"{len(frames)} frames are too few to take every {every}th as test")
    train, test = frames.select(~held), frames.select(held)
    both = sessions_in_both(train, test)
    if both and not force:
        raise DataError(
            f"taking every {every}th file puts {len(both)} of {len(set(frames.sessions))} sessions "
            f"on both sides ({both[0]}): near-duplicate frames flatter every figure; split by "
            "whole sessions or days, or force it"
        )
    return train, test


def sessions_in_both(one: FrameSet, other: FrameSet) -> list[str]:
    """Return the sessions that both have frames of."""
    return sorted(set(one.sessions) & set(other.sessions))


def check_target(out: Path) -> None:
    """Raise UsageError where `train.json` or `test.json` is in a folder already."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is no folder; choose another --out")
    for name in (TRAIN_NAME, TEST_NAME):
        if (out / name).exists():
            raise UsageError(f"{out / name}: exists already; choose another --out")


def write_split(
    train: FrameSet, test: FrameSet, source: Path, out: Path, report: Report = silent
) -> Path:
    """Write `train.json` and `test.json` (COCO) into a folder, and return the root of the images.

    source: the folder that file names shall be relative to, if all images lie in it. Nothing is
    overwritten (see `check_target`).
    """
    check_target(out)
    if not train.class_names:
        raise DataError("the frames have no boxes and name no class; annotate an animal first")
    root = common_root([*train.paths, *test.paths], source)
    done, total = 0, len(train) + len(test)
    documents = []
    for frames in (train, test):
        placed = []
        for row, path in enumerate(frames.paths):
            placed.append(place(frames, row, whole(path).relative_to(root).as_posix()))
            done += 1
            report(done, total)
        documents.append(coco.document(placed, frames.class_names))
    for name, content in zip((TRAIN_NAME, TEST_NAME), documents, strict=True):
        write_atomically(out / name, content)
    return root


def _whole(units: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask (N,) that holds out whole units."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), not {fraction}")
    names = np.array(units, dtype=np.str_)
    known = np.unique(names)
    held = np.zeros(len(names), bool)
    goal = fraction * len(names)
    if len(known) < 2:
        return held
    for unit in np.random.default_rng(seed).permutation(known):
        if held.sum() >= goal:
            break
        more = held | (names == unit)
        # A long one would leave too little to learn from.
        if more.sum() <= _MOST_OVER * goal and not more.all():
            held = more
    if not held.any():
        held = names == min(known, key=lambda unit: int(np.sum(names == unit)))
    return held
