"""Figures of following, by track ids alone: CLEAR MOT, IDF1 and HOTA, as counts that add up.

After Bernardin & Stiefelhagen 2008 (MOTA, switches), Ristani et al. 2016 (IDF1) and Luiten et al.
2021 (HOTA). The TrackEval project computes the same; it is no dependency because it brings
`opencv-python`, which overwrites the headless OpenCV that everything here runs on. The tests hold
these figures against TrackEval's own.

A track id means something within one clip only, so clips are pooled by adding their counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trainer.evaluate.tracking.rows import ClipRows, Pairs

_ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPSILON = float(np.finfo(float).eps)

_Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MotCounts:
    """What one clip adds to the figures of following.

    asked, given: true boxes, boxes of tracks. misses, false, switches: of CLEAR MOT. right: boxes
    that the best one-to-one mapping of tracks to animals gets right. hits (19,): pairs of HOTA at
    each overlap; associated (19,): the sum of their association scores.
    """

    asked: int
    given: int
    misses: int
    false: int
    switches: int
    right: int
    hits: _Counts
    associated: _Counts


def mot_counts(rows: ClipRows, pairs: Sequence[Pairs], iou: float) -> MotCounts:
    """Count one clip. pairs: of `covers`, by `iou`; HOTA makes its own, at 19 overlaps."""
    misses, false, switches = _clear(rows, pairs)
    hits, associated = _hota(rows)
    return MotCounts(
        asked=sum(len(row.animals) for row in rows.frames),
        given=sum(len(row.tracks) for row in rows.frames),
        misses=misses,
        false=false,
        switches=switches,
        right=_right(rows, iou),
        hits=hits,
        associated=associated,
    )


def mot_figures(clips: Sequence[MotCounts]) -> dict[str, float | int | None]:
    """Return the figures of all clips together; None where there is nothing to measure.

    deta, assa: the detection and association parts of HOTA; all three are means over the overlaps
    0.05 to 0.95. mota may be negative.
    """
    asked, given = sum(c.asked for c in clips), sum(c.given for c in clips)
    misses, false = sum(c.misses for c in clips), sum(c.false for c in clips)
    switches = sum(c.switches for c in clips)
    total = asked + given
    deta = assa = hota = None
    if total:
        hits = np.sum([c.hits for c in clips], axis=0)
        detection = hits / (total - hits)
        association = np.sum([c.associated for c in clips], axis=0) / np.maximum(hits, 1)
        deta, assa = float(detection.mean()), float(association.mean())
        hota = float(np.sqrt(detection * association).mean())
    return {
        "idf1": 2 * sum(c.right for c in clips) / total if total else None,
        "hota": hota,
        "deta": deta,
        "assa": assa,
        "mota": 1 - (misses + false + switches) / asked if asked else None,
        "id_switches": switches,
        "precision": (given - false) / given if given else None,
        "recall": (asked - misses) / asked if asked else None,
    }


def _clear(rows: ClipRows, pairs: Sequence[Pairs]) -> tuple[int, int, int]:
    """Return misses, false boxes and switches.

    A switch is an animal found by another track than the one that found it last.
    """
    misses = false = switches = 0
    last: dict[int, int] = {}
    for row, (first, second) in zip(rows.frames, pairs, strict=True):
        for index, column in zip(first, second, strict=True):
            animal, track = int(row.animals[column]), int(row.tracks[index])
            switches += last.get(animal, track) != track
            last[animal] = track
        misses += len(row.animals) - len(first)
        false += len(row.tracks) - len(first)
    return misses, false, switches


def _right(rows: ClipRows, iou: float) -> int:
    """Return the boxes that are right under the best one-to-one mapping of tracks to animals."""
    together = np.zeros((len(rows.tracks), len(rows.animals)))
    for row in rows.frames:
        together[np.ix_(row.tracks, row.animals)] += row.iou >= iou
    return int(together[linear_sum_assignment(together, maximize=True)].sum())


def _hota(rows: ClipRows) -> tuple[_Counts, _Counts]:
    """Return hits (19,) and the sum of their association scores (19,), at each overlap."""
    tracks, animals = len(rows.tracks), len(rows.animals)
    shown, asked = np.zeros(tracks), np.zeros(animals)
    together = np.zeros((tracks, animals))
    for row in rows.frames:
        shown[row.tracks] += 1
        asked[row.animals] += 1
        union = row.iou.sum(axis=1, keepdims=True) + row.iou.sum(axis=0, keepdims=True) - row.iou
        together[np.ix_(row.tracks, row.animals)] += row.iou / np.maximum(union, _EPSILON)
    alike = together / np.maximum(shown[:, None] + asked[None, :] - together, _EPSILON)
    matched = np.zeros((len(_ALPHAS), tracks, animals))
    for row in rows.frames:
        first, second = linear_sum_assignment(
            alike[np.ix_(row.tracks, row.animals)] * row.iou, maximize=True
        )
        for index, alpha in enumerate(_ALPHAS):
            good = row.iou[first, second] >= alpha - _EPSILON
            np.add.at(matched[index], (row.tracks[first[good]], row.animals[second[good]]), 1)
    union = np.maximum(shown[:, None] + asked[None, :] - matched, 1)
    return matched.sum(axis=(1, 2)), (matched * matched / union).sum(axis=(1, 2))
