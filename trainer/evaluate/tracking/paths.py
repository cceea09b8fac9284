"""The article's own measure: how far the path of a name lies from its animal's true path.

After the evaluation of the 2021 article ("Mean embeddings of Siamese networks ...", pigs seen from
above), which compares where a tracker says an animal is with where it is, frame by frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.tracking.rows import PredictedBox, TrueBox

_Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NamePath:
    """One animal's true path and that of its name, over the F frames of a clip.

    true, named: centres (F, 2) in pixels, NaN where there is none. length_px: of the animal's
    body, as it looks in this clip. start: the place of a name that was not seen yet.
    """

    true: _Places
    named: _Places
    length_px: float
    start: tuple[float, float]

    def gaps(self, *, held: bool) -> NDArray[np.float64]:
        """Return the distances in pixels (F,) between both, NaN where one of them has no place.

        held: the last known place goes on where there is none now; a name that was not seen yet
        is in the middle of the pen.
        """
        true, named = self.true, self.named
        if held:
            true, named = _held(true, (np.nan, np.nan)), _held(named, self.start)
        return np.asarray(np.hypot(*(named - true).T), np.float64)


def name_paths(
    predictions: Sequence[PredictedBox], truth: Sequence[TrueBox], frames: int
) -> dict[str, NamePath]:
    """Return a path for each animal of `truth` that is asked for at all, by its id.

    Where a name is given to several boxes of a frame, its path takes the one nearest to its last
    known place. An animal's body is as long as its boxes' longer side, by the median over frames:
    seen from above that differs by less than a tenth over all headings.
    """
    given: dict[str, dict[int, list[Sequence[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(predictions, key=lambda row: (row.frame, row.track)):
        if row.animal is not None and row.frame < frames:
            given[row.animal][row.frame].append(row.box)
    real: dict[str, dict[int, Sequence[float]]] = defaultdict(dict)
    for true in truth:
        if true.frame < frames:
            real[true.animal][true.frame] = true.box
    if not real:
        return {}
    boxes = np.array([box for own in real.values() for box in own.values()], np.float64)
    middle = (boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2
    start = (float(middle[0]), float(middle[1]))
    paths = {}
    for animal in sorted({row.animal for row in truth if not row.ignored}):
        true = np.full((frames, 2), np.nan)
        own = np.array(list(real[animal].values()), np.float64)
        true[list(real[animal])] = (own[:, :2] + own[:, 2:]) / 2
        length = float(np.median((own[:, 2:] - own[:, :2]).max(axis=1)))
        paths[animal] = NamePath(true, _path(given[animal], frames, start), length, start)
    return paths


def _path(
    given: dict[int, list[Sequence[float]]], frames: int, start: tuple[float, float]
) -> _Places:
    path = np.full((frames, 2), np.nan)
    last = np.array(start)
    for frame in sorted(given):
        boxes = np.array(given[frame], np.float64)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        last = path[frame] = centres[np.hypot(*(centres - last).T).argmin()]
    return path


def _held(path: _Places, start: tuple[float, float]) -> _Places:
    """Return a path (F, 2) without gaps: the last known place goes on, `start` before the first."""
    known = np.isfinite(path[:, 0])
    latest = np.maximum.accumulate(np.where(known, np.arange(len(path)), -1))
    return np.where(latest[:, None] >= 0, path[latest], np.array(start))


@dataclass(frozen=True, slots=True)
class PathCounts:
    """Sums over the frames of one animal in one clip: distances in pixels and in body lengths."""

    full_px: float
    full_lengths: float
    full_frames: int
    partial_px: float
    partial_lengths: float
    partial_frames: int


def path_counts(path: NamePath) -> PathCounts:
    """Count one animal's path."""
    full, partial = path.gaps(held=True), path.gaps(held=False)
    full, partial = full[np.isfinite(full)], partial[np.isfinite(partial)]
    return PathCounts(
        float(full.sum()),
        float(full.sum()) / path.length_px,
        len(full),
        float(partial.sum()),
        float(partial.sum()) / path.length_px,
        len(partial),
    )


def path_figures(counts: Sequence[PathCounts]) -> dict[str, float | None]:
    """Return mean distances over all frames of all paths; None where there is nothing to measure.

    path_full_*: over all frames, both last known places held. path_partial_*: over the frames in
    which both have a place, which are the share path_partial_share of all.
    """
    full, partial = sum(c.full_frames for c in counts), sum(c.partial_frames for c in counts)
    return {
        "path_full_px": sum(c.full_px for c in counts) / full if full else None,
        "path_full_lengths": sum(c.full_lengths for c in counts) / full if full else None,
        "path_partial_px": sum(c.partial_px for c in counts) / partial if partial else None,
        "path_partial_lengths": (
            sum(c.partial_lengths for c in counts) / partial if partial else None
        ),
        "path_partial_share": partial / full if full else None,
    }
