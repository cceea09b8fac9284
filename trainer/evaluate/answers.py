"""Crops with what a device answers to each: what maps, pages and contact sheets show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans
from edge.vision.types import Floats
from trainer.data.crops import CropSet, load_images
from trainer.means.embed import EmbeddedCrops

GALLERY, QUERY, UNKNOWN, NEWCOMER = "gallery", "query", "unknown", "newcomer"
RIGHT, WRONG, REFUSED = "right", "wrong", "refused"


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredCrops:
    """N crops as parallel arrays.

    animals: the truth. sessions: theirs. splits: what each was for. embeddings: float32 (N, D).
    answers: the animal named, `unknown` or `unsure`. nearest: the nearest animal, named or not.
    distances, margins: of the nearest, float32 (N,). verdicts: `right`, `wrong` (another animal was
    named) or `refused`; a stranger is answered right when it is refused.
    """

    paths: tuple[Path, ...]
    animals: tuple[str, ...]
    sessions: tuple[str, ...]
    splits: tuple[str, ...]
    embeddings: Floats
    answers: tuple[str, ...]
    nearest: tuple[str, ...]
    distances: Floats
    margins: Floats
    verdicts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: NDArray[np.int64] | Sequence[int]) -> AnsweredCrops:
        """Return some of the crops, by index and in that order."""

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows)

        chosen = np.asarray(rows, np.int64)
        return AnsweredCrops(
            pick(self.paths),
            pick(self.animals),
            pick(self.sessions),
            pick(self.splits),
            self.embeddings[chosen],
            pick(self.answers),
            pick(self.nearest),
            self.distances[chosen],
            self.margins[chosen],
            pick(self.verdicts),
        )

    def pictures(self, side: int) -> NDArray[np.uint8]:
        """Read the crops, letterboxed to uint8 (N, side, side, 3) RGB."""
        labels = np.zeros(len(self), np.int32)
        return load_images(CropSet(self.paths, ("any",), labels, self.sessions), side)


def answer(asked: EmbeddedCrops, means: ClassMeans, split: str) -> AnsweredCrops:
    """Ask the means for every crop, as a device would; animals not in the means are strangers."""
    matcher = Matcher(means)
    matches = matcher.match(asked.embeddings)
    closest = np.argmin(matcher.distances(asked.embeddings), axis=1)
    names = asked.crops.names()
    return AnsweredCrops(
        asked.crops.paths,
        names,
        asked.crops.sessions,
        (split,) * len(names),
        asked.embeddings,
        tuple(match.animal or str(match.reason) for match in matches),
        tuple(means.animals[label] for label in closest),
        np.array([match.distance for match in matches], np.float32),
        np.array([match.margin for match in matches], np.float32),
        tuple(
            _verdict(name, match.animal, name in means.animals)
            for name, match in zip(names, matches, strict=True)
        ),
    )


def joined(parts: Sequence[AnsweredCrops]) -> AnsweredCrops:
    """Return all crops of several sets, one after the other."""

    def all_of(name: str) -> tuple[Any, ...]:
        return tuple(value for part in parts for value in getattr(part, name))

    return AnsweredCrops(
        all_of("paths"),
        all_of("animals"),
        all_of("sessions"),
        all_of("splits"),
        np.concatenate([part.embeddings for part in parts]),
        all_of("answers"),
        all_of("nearest"),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.margins for part in parts]),
        all_of("verdicts"),
    )


def thinned(crops: AnsweredCrops, most: int, seed: int = 0) -> AnsweredCrops:
    """Return at most `most` crops, drawn at random: those not answered right first, gallery last.

    They keep their order.
    """
    importance = [
        2 if split == GALLERY else 1 if verdict == RIGHT else 0
        for split, verdict in zip(crops.splits, crops.verdicts, strict=True)
    ]
    chance = np.random.default_rng(seed).random(len(crops))
    return crops.select(np.sort(np.lexsort((chance, importance))[:most]))


def _verdict(truth: str, named: str | None, known: bool) -> str:
    if named is None:
        return REFUSED if known else RIGHT
    return RIGHT if named == truth else WRONG
