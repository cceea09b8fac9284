"""How well animals are followed and named over time.

The tracking figures look at track ids only: CLEAR MOT (Bernardin & Stiefelhagen 2008), IDF1
(Ristani et al. 2016) and HOTA (Luiten et al. 2021), as the TrackEval project computes them. The
naming figures look at the names that tracks carry.
"""

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

_ALPHAS = np.arange(0.05, 0.99, 0.05)
# Worth of one more pair, and of one more animal that stays with its track, over any overlap.
_PAIR = 1e3
_STAYS = 1e6
_EPSILON = float(np.finfo(float).eps)


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
class _FrameRows:
    """One frame. tracks (P,) and animals (T,): row numbers over the whole clip. iou (P, T)."""

    frame: int
    tracks: NDArray[np.int64]
    names: tuple[str | None, ...]
    animals: NDArray[np.int64]
    iou: Floats


def evaluate_tracking(
    predictions: Sequence[PredictedBox],
    truth: Sequence[TrueBox],
    *,
    fps: float,
    frames: int | None = None,
    iou: float = 0.5,
) -> dict[str, Any]:
    """Return the figures of `evaluate tracking` (formats: Metrics files).

    predictions: the boxes that were seen, not predicted ones; a track at most once a frame, an
    animal in `truth` as well. fps: frames a second of the clip. frames: its length; None: as far
    as the rows go. iou: least overlap of a box with the animal it is taken to show.

    idf1, mota, id_switches, hota: by track ids; mota may be negative. frame_f1: macro F1 over the
    true animals of the name each box carries. track_f1: the same over tracks, by the last name of
    each against the animal it covers in most frames; a track that covers none is a stranger.
    wrong_names_per_min: how often a track begins to carry the name of another animal than it
    covers (of none: not counted), by the clip's time. Also precision, recall, tracks, boxes.
    Figures are None where there is nothing to measure. Raises DataError for a row that is there
    twice.
    """
    if not fps > 0:
        raise DataError(f"fps must be more than 0, not {fps}")
    rows, track_ids, animal_ids = _by_frame(predictions, truth, iou)
    length = frames
    if length is None:
        length = 1 + max((row.frame for row in (*predictions, *truth)), default=-1)
    clear = _clear(rows, iou)
    matches = [_match(row.iou, iou) for row in rows]
    named, covered = _named_and_covered(rows, matches, animal_ids)
    present = sorted({animal_ids[label] for row in rows for label in row.animals})
    minutes = length / fps / 60
    asked, given = clear["asked"], clear["given"]
    return {
        "idf1": _idf1(rows, len(track_ids), len(animal_ids), iou),
        "hota": _hota(rows, len(track_ids), len(animal_ids)),
        "mota": 1 - (clear["misses"] + clear["false"] + clear["switches"]) / asked
        if asked
        else None,
        "id_switches": clear["switches"],
        "track_f1": _track_f1(covered, present),
        "frame_f1": _macro_f1(named, present),
        "wrong_names_per_min": _wrong_names(covered) / minutes if length else None,
        "precision": (given - clear["false"]) / given if given else None,
        "recall": (asked - clear["misses"]) / asked if asked else None,
        "tracks": len(track_ids),
        "animals": len(present),
        "boxes": asked,
    }


def _by_frame(
    predictions: Sequence[PredictedBox], truth: Sequence[TrueBox], iou: float
) -> tuple[list[_FrameRows], list[int], list[str]]:
    """Return the frames in order, and the track and animal ids that their rows number."""
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
    track_ids = sorted({row.track for shown, _ in kept.values() for row in shown})
    animal_ids = sorted({row.animal for _, asked in kept.values() for row in asked})
    track_rows = {track: index for index, track in enumerate(track_ids)}
    animal_rows = {animal: index for index, animal in enumerate(animal_ids)}
    rows = []
    for frame in sorted(kept):
        shown, asked = kept[frame]
        rows.append(
            _FrameRows(
                frame,
                np.array([track_rows[row.track] for row in shown], np.int64),
                tuple(row.animal for row in shown),
                np.array([animal_rows[row.animal] for row in asked], np.int64),
                iou_matrix(_boxes(shown), _boxes(asked)),
            )
        )
    return rows, track_ids, animal_ids


def _check_once(frame: int, what: str, ids: list[Any]) -> None:
    for value, count in Counter(ids).items():
        if count > 1:
            raise DataError(f"{what} {value!r} has {count} boxes in frame {frame}; one is expected")


def _without_ignored(
    found: list[PredictedBox], real: list[TrueBox], iou: float
) -> tuple[list[PredictedBox], list[TrueBox]]:
    """Return the boxes without ignored animals, and without what was found of those."""
    asked = [row for row in real if not row.ignored]
    if len(asked) == len(real):
        return found, asked
    first, second = _match(iou_matrix(_boxes(found), _boxes(real)), iou)
    gone = {row for row, column in zip(first, second, strict=True) if real[column].ignored}
    return [row for index, row in enumerate(found) if index not in gone], asked


def _boxes(rows: Sequence[PredictedBox] | Sequence[TrueBox]) -> Floats:
    return np.array([row.box for row in rows], np.float32).reshape(-1, 4)


def _match(overlap: Floats, iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the most pairs of boxes that overlap by `iou`, and of those the best together."""
    possible = overlap >= iou
    first, second = linear_sum_assignment(
        np.where(possible, _PAIR + overlap.astype(np.float64), 0), maximize=True
    )
    made = possible[first, second]
    return first[made], second[made]


def _clear(rows: list[_FrameRows], iou: float) -> dict[str, int]:
    """Return the counts of CLEAR MOT: misses, false boxes, switches; asked and given boxes.

    An animal stays with the track of the frame before as long as they overlap. A switch is an
    animal found by another track than the one that found it last.
    """
    counts = {"misses": 0, "false": 0, "switches": 0, "asked": 0, "given": 0}
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for row in rows:
        stays = np.array(
            [[before.get(int(a), -1) == t for a in row.animals] for t in row.tracks], bool
        ).reshape(row.iou.shape)
        first, second = _match(np.where(row.iou >= iou, row.iou + _STAYS * stays, 0), iou)
        before = {
            int(row.animals[column]): int(row.tracks[index])
            for index, column in zip(first, second, strict=True)
        }
        counts["switches"] += sum(last.get(a, t) != t for a, t in before.items())
        last.update(before)
        counts["asked"] += len(row.animals)
        counts["given"] += len(row.tracks)
        counts["misses"] += len(row.animals) - len(before)
        counts["false"] += len(row.tracks) - len(before)
    return counts


def _idf1(rows: list[_FrameRows], tracks: int, animals: int, iou: float) -> float | None:
    """Return the F1 of boxes under the best one-to-one mapping of tracks to animals."""
    together = np.zeros((tracks, animals))
    for row in rows:
        together[np.ix_(row.tracks, row.animals)] += row.iou >= iou
    right = together[linear_sum_assignment(together, maximize=True)].sum()
    total = sum(len(row.tracks) + len(row.animals) for row in rows)
    return float(2 * right / total) if total else None


def _hota(rows: list[_FrameRows], tracks: int, animals: int) -> float | None:
    """Return HOTA, averaged over the overlaps 0.05 to 0.95."""
    shown, asked = np.zeros(tracks), np.zeros(animals)
    together = np.zeros((tracks, animals))
    for row in rows:
        shown[row.tracks] += 1
        asked[row.animals] += 1
        union = row.iou.sum(axis=1, keepdims=True) + row.iou.sum(axis=0, keepdims=True) - row.iou
        together[np.ix_(row.tracks, row.animals)] += row.iou / np.maximum(union, _EPSILON)
    if not asked.sum() and not shown.sum():
        return None
    alike = together / np.maximum(shown[:, None] + asked[None, :] - together, _EPSILON)
    matched = np.zeros((len(_ALPHAS), tracks, animals))
    for row in rows:
        first, second = linear_sum_assignment(
            alike[np.ix_(row.tracks, row.animals)] * row.iou, maximize=True
        )
        for index, alpha in enumerate(_ALPHAS):
            good = row.iou[first, second] >= alpha - _EPSILON
            np.add.at(matched[index], (row.tracks[first[good]], row.animals[second[good]]), 1)
    scores = []
    for pairs in matched:
        hits = pairs.sum()
        association = pairs / np.maximum(shown[:, None] + asked[None, :] - pairs, 1)
        detection = hits / (asked.sum() + shown.sum() - hits)
        scores.append(np.sqrt(detection * (pairs * association).sum() / max(1, hits)))
    return float(np.mean(scores))


def _named_and_covered(
    rows: list[_FrameRows],
    matches: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    animal_ids: list[str],
) -> tuple[list[tuple[str | None, str | None]], dict[int, list[tuple[str | None, str | None]]]]:
    """Return (true animal, name) of every box, and by track, in the order of time.

    The true animal of a box that covers none is None; a missed animal's name is None.
    """
    named: list[tuple[str | None, str | None]] = []
    covered: dict[int, list[tuple[str | None, str | None]]] = defaultdict(list)
    for row, (first, second) in zip(rows, matches, strict=True):
        real = {
            int(index): animal_ids[row.animals[column]]
            for index, column in zip(first, second, strict=True)
        }
        for index, (track, name) in enumerate(zip(row.tracks, row.names, strict=True)):
            pair = (real.get(index), name)
            named.append(pair)
            covered[int(track)].append(pair)
        missed = set(range(len(row.animals))) - {int(column) for column in second}
        named += [(animal_ids[row.animals[column]], None) for column in sorted(missed)]
    return named, covered


def _macro_f1(pairs: Sequence[tuple[str | None, str | None]], animals: list[str]) -> float | None:
    """Return macro F1 over `animals` of (true animal, name) pairs."""
    asked = Counter(real for real, _ in pairs)
    given = Counter(name for _, name in pairs)
    right = Counter(real for real, name in pairs if real == name)
    scores = [2 * right[a] / (asked[a] + given[a]) if asked[a] + given[a] else 0.0 for a in animals]
    return float(np.mean(scores)) if scores else None


def _track_f1(
    covered: dict[int, list[tuple[str | None, str | None]]], animals: list[str]
) -> float | None:
    pairs = []
    for track in sorted(covered):
        real = Counter(animal for animal, _ in covered[track] if animal is not None)
        most = max(real, key=lambda animal: (real[animal], animal)) if real else None
        pairs.append((most, covered[track][-1][1]))
    return _macro_f1(pairs, animals)


def _wrong_names(covered: dict[int, list[tuple[str | None, str | None]]]) -> int:
    """Return how often a track began to carry another animal's name."""
    count = 0
    for pairs in covered.values():
        before = None
        for real, name in pairs:
            if real is None:
                continue
            wrong = (real, name) if name is not None and name != real else None
            count += wrong is not None and wrong != before
            before = wrong
    return count
