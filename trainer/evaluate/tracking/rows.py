"""Boxes of tracks and of animals, frame by frame, and which box shows which animal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edge.errors import DataError
from edge.vision.geometry import iou_matrix
from edge.vision.types import Floats

# Worth of one more pair over any overlap.
_PAIR = 1e3
# Worth of an animal that stays with its track, over any number of pairs.
_STAYS = 1e6

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


class PredictedBox(NamedTuple):
    """One box of one track in one frame; animal: the name it carries there, or None.

    box: x1 y1 x2 y2 in pixels.
    """

    frame: int
    track: int
    animal: str | None
    box: Sequence[float]


class TrueBox(NamedTuple):
    """Where an animal really is in one frame.

    ignored: neither asked for nor counted against whoever finds it, as an animal that is hidden
    all but entirely.
    """

    frame: int
    animal: str
    box: Sequence[float]
    ignored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FrameRows:
    """One frame. tracks (P,) and animals (T,): row numbers over the whole clip. iou (P, T)."""

    frame: int
    tracks: NDArray[np.int64]
    names: tuple[str | None, ...]
    animals: NDArray[np.int64]
    iou: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ClipRows:
    """The frames of a clip in order, and the track and animal ids that their rows number."""

    frames: tuple[FrameRows, ...]
    tracks: tuple[int, ...]
    animals: tuple[str, ...]


def by_frame(predictions: Sequence[PredictedBox], truth: Sequence[TrueBox], iou: float) -> ClipRows:
    """Sort boxes into frames, without ignored animals and what was found of them.

    Raises DataError for a track or an animal that is twice in a frame.
    """
    found: dict[int, list[PredictedBox]] = defaultdict(list)
    real: dict[int, list[TrueBox]] = defaultdict(list)
    for predicted in predictions:
        found[predicted.frame].append(predicted)
    for true in truth:
        real[true.frame].append(true)
    for frame in found:
        _check_once(frame, "track", [row.track for row in found[frame]])
    for frame in real:
        _check_once(frame, "animal", [row.animal for row in real[frame]])
    kept = {frame: _without_ignored(found[frame], real[frame], iou) for frame in found | real}
    tracks = sorted({row.track for shown, _ in kept.values() for row in shown})
    animals = sorted({row.animal for _, asked in kept.values() for row in asked})
    track_rows = {track: index for index, track in enumerate(tracks)}
    animal_rows = {animal: index for index, animal in enumerate(animals)}
    rows = []
    for frame in sorted(kept):
        shown, asked = kept[frame]
        rows.append(
            FrameRows(
                frame,
                np.array([track_rows[row.track] for row in shown], np.int64),
                tuple(row.animal for row in shown),
                np.array([animal_rows[row.animal] for row in asked], np.int64),
                iou_matrix(_boxes(shown), _boxes(asked)),
            )
        )
    return ClipRows(tuple(rows), tuple(tracks), tuple(animals))


def covers(rows: ClipRows, iou: float) -> list[Pairs]:
    """Return, for each frame, which boxes show which animals, by their places in the frame.

    A track stays with the animal of the frame before as long as they overlap by `iou` (CLEAR MOT):
    in a huddle, where boxes of neighbours overlap as well, tracks then do not seem to swap.
    """
    pairs: list[Pairs] = []
    before: dict[int, int] = {}
    for row in rows.frames:
        stays = np.array(
            [[before.get(int(a), -1) == t for a in row.animals] for t in row.tracks], bool
        ).reshape(row.iou.shape)
        first, second = match(np.where(row.iou >= iou, row.iou + _STAYS * stays, 0), iou)
        before = {
            int(row.animals[column]): int(row.tracks[index])
            for index, column in zip(first, second, strict=True)
        }
        pairs.append((first, second))
    return pairs


def match(overlap: Floats, iou: float) -> Pairs:
    """Return the most pairs of boxes that overlap by `iou`, and of those the best together."""
    possible = overlap >= iou
    first, second = linear_sum_assignment(
        np.where(possible, _PAIR + overlap.astype(np.float64), 0), maximize=True
    )
    made = possible[first, second]
    return first[made], second[made]


def _check_once(frame: int, what: str, ids: list[Any]) -> None:
    for value, count in Counter(ids).items():
        if count > 1:
            raise DataError(f"{what} {value!r} has {count} boxes in frame {frame}; one is expected")


def _without_ignored(
    found: list[PredictedBox], real: list[TrueBox], iou: float
) -> tuple[list[PredictedBox], list[TrueBox]]:
    asked = [row for row in real if not row.ignored]
    if len(asked) == len(real):
        return found, asked
    first, second = match(iou_matrix(_boxes(found), _boxes(real)), iou)
    gone = {row for row, column in zip(first, second, strict=True) if real[column].ignored}
    return [row for index, row in enumerate(found) if index not in gone], asked


def _boxes(rows: Sequence[PredictedBox] | Sequence[TrueBox]) -> Floats:
    return np.array([row.box for row in rows], np.float32).reshape(-1, 4)
