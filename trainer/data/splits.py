"""Splits by session or date: near-duplicate frames never lie on both sides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from trainer.data.crops import CropSet, names_session

SplitBy = Literal["session", "date", "frame"]
FRAME_SPLIT_WARNING = (
    "crops were split at random by frame: near-duplicates of the crops asked were trained on, so "
    "the figures say nothing about other days"
)
_MOST_OVER = 1.5
_DATE = re.compile(r"(?<!\d)(\d{4})([-_.]?)(\d{2})\2(\d{2})(?!\d)")


def split_crops(
    crops: CropSet, fraction: float, seed: int, by: SplitBy = "session", *, force: bool = False
) -> tuple[CropSet, CropSet]:
    """Return (train, held_out) with about `fraction` of the crops held out.

    by: "session" (see `split_by_session`); "date": whole days, found in the sessions' names;
    "frame": single crops at random. The last is refused without `force`: frames of one stretch of
    video are near-duplicates. So is "session" where crops' names give none (`without_session`).
    Raises DataError then, and for a session without a date.
    """
    if by == "session":
        unnamed = without_session(crops)
        if unnamed and not force:
            raise DataError(
                f"{no_session(unnamed)}; each would be a session of its own, and near-duplicate "
                "frames would lie on both sides: rename them, or set force_frame_split: true"
            )
        return split_by_session(crops, fraction, seed)
    if by == "date":
        days = tuple(day_of(session) for session in crops.sessions)
        by_day = CropSet(crops.paths, crops.animals, crops.labels, days)
        held = _choose_held_out(by_day, fraction, seed, whole_sessions=True)
        return crops.select(~held), crops.select(held)
    if by != "frame":
        raise DataError(f"no split {by!r}; choose one of {', '.join(get_args(SplitBy))}")
    if not force:
        raise DataError(
            "a random split by frame puts near-duplicates on both sides and flatters every figure; "
            "split by session or date, or set force_frame_split: true"
        )
    rng = np.random.default_rng(seed)
    held = np.zeros(len(crops), bool)
    for label in range(len(crops.animals)):
        own = rng.permutation(np.flatnonzero(crops.labels == label))
        # One crop at least stays to know the animal from.
        held[own[: min(round(fraction * len(own)), len(own) - 1)]] = True
    return crops.select(~held), crops.select(held)


def without_session(crops: CropSet) -> list[Path]:
    """Return the crops whose names give no session, of animals that have several of those.

    Each is a session of its own, so that a split by session is one by frame for them.
    """
    unnamed = np.array([not names_session(path) for path in crops.paths], bool)
    several = np.bincount(crops.labels[unnamed], minlength=len(crops.animals)) > 1
    return [crops.paths[row] for row in np.flatnonzero(unnamed & several[crops.labels])]


def no_session(unnamed: Sequence[Path]) -> str:
    """Say of what `without_session` found that the names give no session."""
    return (
        f"{unnamed[0]}: its name gives no session (<session>_<frame>.jpg), nor do those of "
        f"{len(unnamed) - 1} others"
    )


def split_by_session(crops: CropSet, fraction: float, seed: int) -> tuple[CropSet, CropSet]:
    """Return (train, held_out) with about `fraction` of the crops held out, by whole sessions.

    Every animal keeps at least one session in train, and at least half of its crops where that is
    possible. Sessions that show animals not held out yet come first; ties fall by `seed`.

    A session's name stands for one stretch of time of all animals that have it. Where that leaves
    nothing to hold out (folders that count each animal's own tracklets: `t0`, `t1`), a session is
    taken to be one animal's own. With one session for every animal, nothing is held out.
    """
    held = _choose_held_out(crops, fraction, seed, whole_sessions=False)
    return crops.select(~held), crops.select(held)


def shared_sessions(one: CropSet, other: CropSet) -> list[str]:
    """Return the sessions, as `<animal>/<session>`, that both have crops of."""
    names = [
        {f"{a}/{s}" for a, s in zip(crops.names(), crops.sessions, strict=True)}
        for crops in (one, other)
    ]
    return sorted(names[0] & names[1])


def _choose_held_out(
    crops: CropSet, fraction: float, seed: int, *, whole_sessions: bool
) -> NDArray[np.bool_]:
    """Return a mask (N,). whole_sessions: a session's name is one stretch of time, for all."""
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be in [0, 1), not {fraction}")
    held = np.zeros(len(crops), bool)
    shared = np.unique(np.array(crops.sessions, dtype=np.str_), return_inverse=True)[1]
    own = np.unique(
        [f"{label}/{session}" for label, session in zip(crops.labels, shared, strict=True)],
        return_inverse=True,
    )[1]
    rng = np.random.default_rng(seed)
    for units, kept_share in ((shared, 0.5), (own, 0.5), (shared, 0.0), (own, 0.0)):
        if whole_sessions and units is own:
            continue
        held = _greedy(crops.labels, units.reshape(-1), fraction, kept_share, rng)
        if held.any():
            break
    return held


def day_of(session: str) -> str:
    """Return the date in a session's name, as YYYY-MM-DD."""
    for year, _, month, day in _DATE.findall(session):
        try:
            return date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            continue
    raise DataError(
        f"session {session!r} names no date; a split by date needs names such as 2026-05-31-pen1"
    )


def select_sessions(crops: CropSet, globs: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask (N,) of the crops whose session matches one of `globs`.

    A glob is matched with `<session>` and with `<animal>/<session>`. Raises DataError for a glob
    that matches nothing.
    """
    mask = np.zeros(len(crops), bool)
    for glob in globs:
        matches = np.array(
            [
                fnmatchcase(session, glob) or fnmatchcase(f"{animal}/{session}", glob)
                for animal, session in zip(crops.names(), crops.sessions, strict=True)
            ],
            bool,
        )
        if not matches.any():
            known = ", ".join(sorted(set(crops.sessions))[:5])
            raise DataError(f"no session matches {glob!r}; the first sessions are {known}")
        mask |= matches
    return mask


def _greedy(
    labels: NDArray[np.int32],
    units: NDArray[np.int64],
    fraction: float,
    kept_share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Greedy: the unit that shows most animals not held out yet, as long as all keep enough."""
    goal = fraction * len(labels)
    animals = int(labels.max(initial=-1)) + 1
    table = np.zeros((int(units.max(initial=-1)) + 1, animals), np.int64)
    np.add.at(table, (units, labels), 1)
    totals = table.sum(axis=0)
    kept, covered, held = totals.copy(), np.zeros(animals, bool), np.zeros(len(table), bool)
    order = rng.permutation(len(table))
    while kept.sum() > totals.sum() - goal:
        best, best_gain = -1, -1
        for unit in order:
            left = kept - table[unit]
            shown = table[unit] > 0
            taken = (totals - left).sum()
            if (
                not held[unit]
                and (left >= np.maximum(1, kept_share * totals))[shown].all()
                and (taken <= _MOST_OVER * goal or not held.any())
                and (gain := int((shown & ~covered).sum())) > best_gain
            ):
                best, best_gain = int(unit), gain
        if best < 0:
            break
        held[best] = True
        covered |= table[best] > 0
        kept -= table[best]
    return held[units] if len(table) else np.zeros(len(labels), bool)
