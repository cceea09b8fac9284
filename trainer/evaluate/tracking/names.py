"""Figures of naming over time: the names that tracks carry, against the animals they cover."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluate.tracking.rows import ClipRows, Pairs

# The true animal of a box (None: it covers none) and its name (None: it has none, or is missed).
Named = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class NameCounts:
    """What one clip adds to the figures of naming.

    boxes: of all boxes and of all missed animals. tracks: the animal each track covers in most
    frames (None: a stranger, it covers none) and its last name. wrong: how often a track begins
    to carry the name of another animal than it covers. animals: those that are there. minutes: of
    video.
    """

    boxes: Counter[Named]
    tracks: tuple[Named, ...]
    wrong: int
    animals: frozenset[str]
    minutes: float


def name_counts(rows: ClipRows, covered_by: Sequence[Pairs], minutes: float) -> NameCounts:
    """Count one clip. covered_by: which boxes show which animals, of `covers`."""
    boxes: Counter[Named] = Counter()
    covered: dict[int, list[Named]] = defaultdict(list)
    for row, (first, second) in zip(rows.frames, covered_by, strict=True):
        real = {
            int(index): rows.animals[row.animals[column]]
            for index, column in zip(first, second, strict=True)
        }
        for index, (track, name) in enumerate(zip(row.tracks, row.names, strict=True)):
            pair = (real.get(index), name)
            boxes[pair] += 1
            covered[int(track)].append(pair)
        missed = set(range(len(row.animals))) - {int(column) for column in second}
        boxes.update((rows.animals[row.animals[column]], None) for column in missed)
    return NameCounts(
        boxes,
        tuple(_verdict(covered[track]) for track in sorted(covered)),
        sum(_wrong(pairs) for pairs in covered.values()),
        frozenset(rows.animals),
        minutes,
    )


def name_figures(clips: Sequence[NameCounts]) -> dict[str, float | None]:
    """Return the figures of all clips together; None where there is nothing to measure."""
    boxes, tracks = Counter[Named](), Counter[Named]()
    for clip in clips:
        boxes.update(clip.boxes)
        tracks.update(clip.tracks)
    animals = sorted(frozenset().union(*(clip.animals for clip in clips)))
    minutes = sum(clip.minutes for clip in clips)
    return {
        "track_f1": _macro_f1(tracks, animals),
        "frame_f1": _macro_f1(boxes, animals),
        "wrong_names_per_min": sum(clip.wrong for clip in clips) / minutes if minutes else None,
    }


def _macro_f1(pairs: Counter[Named], animals: Sequence[str]) -> float | None:
    """Return macro F1 over `animals` of (true animal, name) pairs."""
    asked, given = Counter[str | None](), Counter[str | None]()
    for (real, name), count in pairs.items():
        asked[real] += count
        given[name] += count
    scores = [
        2 * pairs[animal, animal] / (asked[animal] + given[animal])
        if asked[animal] + given[animal]
        else 0.0
        for animal in animals
    ]
    return float(np.mean(scores)) if scores else None


def _verdict(pairs: Sequence[Named]) -> Named:
    """Return the animal a track covers in most frames, and the last name it carries."""
    real = Counter(animal for animal, _ in pairs if animal is not None)
    most = max(real, key=lambda animal: (real[animal], animal)) if real else None
    return most, pairs[-1][1]


def _wrong(pairs: Sequence[Named]) -> int:
    """Return how often a track began to carry another animal's name."""
    count = 0
    before = None
    for real, name in pairs:
        if real is None:
            continue
        wrong = (real, name) if name is not None and name != real else None
        count += wrong is not None and wrong != before
        before = wrong
    return count
