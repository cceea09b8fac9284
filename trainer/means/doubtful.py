"""Which images of a crops folder may be filed under the wrong animal, or show none.

An image is judged by a mean that nothing of its own session helped to make: neighbouring frames
look alike and would vouch for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans
from edge.vision.types import Floats, Image
from trainer.data.crops import load_image
from trainer.means.edit import usual_threshold
from trainer.means.embed import EmbeddedCrops
from trainer.means.prototypes import MeansOptions, robust_prototypes
from trainer.means.twins import find_twins

Reason = Literal["duplicate", "nearer", "far"]
JudgedBy = Literal["other_sessions", "other_images", "means"]

# A mean of fewer images of other sessions is no judge.
_FEWEST_JUDGES = 3
_MOST_PAIRS = 10


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubtful image. row: its place among the crops. Distances are cosine distances.

    own: to its own animal. threshold: that animal's. other, other_distance: the nearest other
    animal, None in a herd of one. judged_by: what `own` was measured to. twin: for a duplicate,
    the other animal's image.
    """

    row: int
    animal: str
    reason: Reason
    own: float
    threshold: float
    other: str | None
    other_distance: float | None
    judged_by: JudgedBy
    twin: Path | None = None


@dataclass(frozen=True, slots=True)
class AnimalSummary:
    """An animal's crops as a whole. spread: median distance of its images to their judge.

    nearest, nearest_distance: the animal whose prototype is nearest, None in a herd of one.
    from_means: distance of these crops' mean to the animal's class mean; None for an animal that
    is not in the class means.
    """

    animal: str
    crops: int
    sessions: int
    spread: float
    threshold: float
    nearest: str | None
    nearest_distance: float | None
    from_means: float | None
    doubtful: int


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """doubts: worst first. animals: in the crops' order. typical: each one's most typical row.

    most_alike: pairs of animals, of the crops or not, and the distance between their prototypes;
    nearest first.
    """

    doubts: tuple[Doubt, ...]
    animals: tuple[AnimalSummary, ...]
    typical: dict[str, int]
    most_alike: tuple[tuple[str, str, float], ...]


def inspect_crops(
    embedded: EmbeddedCrops,
    references: Floats,
    means: ClassMeans,
    options: MeansOptions | None = None,
    load: Callable[[Path], Image] = load_image,
) -> Inspection:
    """Judge every crop. Animals may be new to the class means.

    An image is doubtful when it is the same picture as one of another animal that it fits better
    ("duplicate"), nearer to another animal than to its own ("nearer"), or beyond its own animal's
    threshold ("far").
    references: float32 (N, D), the same crops embedded as those that means are made of; where an
    image helps to judge another, this is what it says. load: reads an image (H, W, 3) RGB; asked
    only for what the embedder takes for duplicates.
    """
    options = options or MeansOptions()
    embedded = EmbeddedCrops(embedded.crops.without_empty(), embedded.embeddings)
    crops = embedded.crops
    herd = _Herd(embedded, EmbeddedCrops(crops, references), means, options)
    own, judges = herd.own_distances()
    others = herd.other_distances()
    twins = find_twins(embedded, load)
    doubts: list[tuple[float, Doubt]] = []
    for row, label in enumerate(crops.labels):
        animal = crops.animals[label]
        threshold = herd.thresholds[label]
        nearest = int(np.argmin(others[row]))
        distance = float(others[row, nearest])
        lead, excess = float(own[row] - distance), float(own[row] - threshold)
        # Of the two, the one that fits its animal better is left in peace.
        twin = twins.get(row)
        copied = twin is not None and own[row] >= own[twin]
        reason: Reason
        if copied:
            reason = "duplicate"
        elif lead > 0:
            reason = "nearer"
        elif excess > 0:
            reason = "far"
        else:
            continue
        alone = not np.isfinite(distance)
        doubt = Doubt(
            row,
            animal,
            reason,
            float(own[row]),
            threshold,
            None if alone else herd.names[nearest],
            None if alone else distance,
            judges[row],
            crops.paths[twin] if copied and twin is not None else None,
        )
        doubts.append((np.inf if copied else max(lead, excess), doubt))
    doubts.sort(key=lambda item: -item[0])
    found = tuple(doubt for _, doubt in doubts)
    return Inspection(found, herd.summaries(own, found), herd.typical(own), herd.most_alike())


class _Herd:
    """The animals of the class means, and behind them those that only the crops know."""

    def __init__(
        self,
        embedded: EmbeddedCrops,
        references: EmbeddedCrops,
        means: ClassMeans,
        options: MeansOptions,
    ) -> None:
        self._embedded, self._references = embedded, references
        self._means, self._options = means, options
        crops = embedded.crops
        self._folder = [
            robust_prototypes(references.of(n), 1, options)[0] for n in range(len(crops.animals))
        ]
        new = [n for n, animal in enumerate(crops.animals) if animal not in means.animals]
        self.names = (*means.animals, *(crops.animals[n] for n in new))
        self._prototypes = [
            *(means.prototypes[means.owner == n] for n in range(len(means.animals))),
            *(self._folder[n] for n in new),
        ]
        # Where each animal of the crops stands among the names.
        self._column = np.array([self.names.index(animal) for animal in crops.animals])
        usual = usual_threshold(means)
        self.thresholds = [
            float(means.threshold[column]) if column < len(means.animals) else usual
            for column in self._column
        ]
        self._apart = self._distances_apart()

    def other_distances(self) -> Floats:
        """Return distances (N, names) of each crop to every animal, infinite to its own."""
        embeddings = self._embedded.embeddings
        distances = np.concatenate(
            [
                Matcher(self._means).distances(embeddings),
                *(
                    1 - embeddings @ prototypes.T
                    for prototypes in self._prototypes[len(self._means.animals) :]
                ),
            ],
            axis=1,
        )
        labels = self._embedded.crops.labels
        distances[np.arange(len(labels)), self._column[labels]] = np.inf
        return distances

    def own_distances(self) -> tuple[Floats, list[JudgedBy]]:
        """Return each crop's distance (N,) to its own animal, and by what it was measured."""
        crops = self._embedded.crops
        own = np.zeros(len(crops), np.float32)
        judged: list[JudgedBy] = ["means"] * len(crops)
        sessions = np.array(crops.sessions, dtype=np.str_)
        for label in range(len(crops.animals)):
            rows = np.flatnonzero(crops.labels == label)
            for session in np.unique(sessions[rows]):
                asked = rows[sessions[rows] == session]
                rest = rows[sessions[rows] != session]
                if len(rest) >= _FEWEST_JUDGES:
                    own[asked] = self._distances(asked, self._made_of(label, rest))
                    for row in asked:
                        judged[row] = "other_sessions"
                else:
                    by = self._judge_alone(label, rows, asked, own)
                    for row in asked:
                        judged[row] = by
        return own, judged

    def _judge_alone(
        self, label: int, rows: NDArray[np.int64], asked: NDArray[np.int64], own: Floats
    ) -> JudgedBy:
        """Judge crops without enough other sessions: by the class means, if these know more."""
        column, means = int(self._column[label]), self._means
        if self._has_mean(column) and means.counts[column] > len(rows):
            own[asked] = self._distances(asked, self._prototypes[column])
            return "means"
        for row in asked:
            rest = rows[rows != row]
            # A single image has nothing to be compared with, and so nothing against it.
            if len(rest):
                own[row] = self._distances(np.array([row]), self._made_of(label, rest))[0]
        return "other_images"

    def _has_mean(self, column: int) -> bool:
        return column < len(self._means.animals) and len(self._prototypes[column]) > 0

    def _distances_apart(self) -> Floats:
        """Return the distances (names, names) between nearest prototypes, infinite to oneself."""
        count = len(self.names)
        stacked = np.concatenate(self._prototypes)
        owner = np.repeat(np.arange(count), [len(own) for own in self._prototypes])
        cosines = np.full((count, count), -np.inf, np.float32)
        np.maximum.at(cosines, (owner[:, None], owner[None]), stacked @ stacked.T)
        np.fill_diagonal(cosines, -np.inf)
        return np.asarray(1 - cosines, np.float32)

    def _made_of(self, label: int, rows: NDArray[np.int64]) -> Floats:
        column = self._column[label]
        count = max(1, len(self._prototypes[column]))
        return robust_prototypes(self._references.embeddings[rows], count, self._options)[0]

    def _distances(self, rows: NDArray[np.int64], prototypes: Floats) -> Floats:
        return np.asarray(
            1 - (self._embedded.embeddings[rows] @ prototypes.T).max(axis=1), np.float32
        )

    def summaries(self, own: Floats, doubts: tuple[Doubt, ...]) -> tuple[AnimalSummary, ...]:
        """Return a line for each animal of the crops."""
        crops = self._embedded.crops
        result = []
        for label, animal in enumerate(crops.animals):
            rows = np.flatnonzero(crops.labels == label)
            column = int(self._column[label])
            nearest = int(np.argmin(self._apart[column]))
            distance = float(self._apart[column, nearest])
            alone = not np.isfinite(distance)
            from_means = None
            if self._has_mean(column):
                moved = 1 - (self._folder[label] @ self._prototypes[column].T).max()
                from_means = float(moved)
            result.append(
                AnimalSummary(
                    animal,
                    len(rows),
                    len({crops.sessions[row] for row in rows}),
                    float(np.median(own[rows])),
                    self.thresholds[label],
                    None if alone else self.names[nearest],
                    None if alone else distance,
                    from_means,
                    sum(doubt.animal == animal for doubt in doubts),
                )
            )
        return tuple(result)

    def most_alike(self) -> tuple[tuple[str, str, float], ...]:
        """Return the nearest pairs of animals, each pair once."""
        first, second = np.triu_indices(len(self.names), 1)
        distances = self._apart[first, second]
        order = np.argsort(distances, kind="stable")[:_MOST_PAIRS]
        return tuple(
            (self.names[first[n]], self.names[second[n]], float(distances[n]))
            for n in order
            if np.isfinite(distances[n])
        )

    def typical(self, own: Floats) -> dict[str, int]:
        """Return for each animal of the crops the row that lies nearest to it."""
        labels = self._embedded.crops.labels
        typical = {}
        for label, animal in enumerate(self._embedded.crops.animals):
            rows = np.flatnonzero(labels == label)
            typical[animal] = int(rows[np.argmin(own[rows])])
        return typical
