"""Open-set matching: the nearest animal of the herd, or nobody.

The matcher is a nearest-mean classifier on unit vectors with three ways to refuse: too far from
everybody, nearer to an outliers prototype than to any animal, or too near to two animals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.identity.means import OUTLIERS, ClassMeans
from edge.identity.types import Match
from edge.vision.types import Floats

NOBODY = -1


class Answers(NamedTuple):
    """Answers to N embeddings, as parallel arrays (N,).

    labels: the nearest animal's index, NOBODY where it is refused. distances: cosine distance to
    the nearest animal, accepted or not. margins: how much farther the second nearest animal is;
    infinite in a herd of one. unknown: refused as too far, or claimed by an outliers prototype;
    what is refused otherwise is unsure.
    """

    labels: NDArray[np.int64]
    distances: Floats
    margins: Floats
    unknown: NDArray[np.bool_]


class Matcher:
    """Class means laid out for matching: one matrix product, then a maximum over an animal's own.

    The prototypes lie in layers: the first of every animal, then the second of those that have
    two, and so on, animals with many first. So the maximum takes one operation a layer.
    """

    def __init__(self, means: ClassMeans) -> None:
        self.means = means
        self.animals = means.animals
        herd = np.flatnonzero(means.owner != OUTLIERS)
        sizes = np.bincount(means.owner[herd], minlength=len(means.animals))
        places = np.argsort(-sizes, kind="stable")
        self._column = np.argsort(places, kind="stable")  # where each animal's distance comes out
        self._in_order = bool((places == np.arange(len(places))).all())
        by_owner = herd[np.argsort(means.owner[herd], kind="stable")]
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        layer = np.arange(len(by_owner)) - starts
        order = by_owner[np.lexsort((self._column[means.owner[by_owner]], layer))]
        self._layers = np.bincount(layer, minlength=1).tolist()
        self._herd = np.ascontiguousarray(means.prototypes[order].T)
        self._outliers = np.ascontiguousarray(means.prototypes[means.owner == OUTLIERS].T)

    def distances(self, embeddings: Floats) -> Floats:
        """Return cosine distances (N, A) of unit embeddings (N, D) to each animal's best prototype.

        An animal without a prototype is infinitely far. Outliers prototypes belong to nobody.
        """
        cosines = embeddings @ self._herd
        first = self._layers[0]
        best = np.full((len(embeddings), len(self.animals)), -np.inf, np.float32)
        best[:, :first] = cosines[:, :first]
        start = first
        for width in self._layers[1:]:
            part = best[:, :width]
            np.maximum(part, cosines[:, start : start + width], out=part)
            start += width
        return np.asarray(1 - (best if self._in_order else best[:, self._column]), np.float32)

    def label(self, embeddings: Floats) -> Answers:
        """Match unit embeddings (N, D), each on its own."""
        return self.label_at(self.distances(embeddings), embeddings)

    def label_at(self, distances: Floats, embeddings: Floats) -> Answers:
        """Match unit embeddings (N, D) whose distances (N, A) to the animals are at hand."""
        count, animals = distances.shape
        rows = np.arange(count)
        if not animals:
            far = np.full(count, np.inf, np.float32)
            return Answers(np.full(count, NOBODY, np.int64), far, far, np.ones(count, bool))
        named = np.argmin(distances, axis=1)
        nearest = distances[rows, named]
        others = distances.copy()
        others[rows, named] = np.inf
        second = others.min(axis=1)
        # Written as "not within", so that a distance that is no number is refused as well.
        unknown = ~(nearest <= self.means.threshold[named])
        if self._outliers.shape[1] and count:
            unknown |= 1 - (embeddings @ self._outliers).max(axis=1) < nearest
        margins = np.full(count, np.inf, np.float32)
        np.subtract(second, nearest, out=margins, where=np.isfinite(nearest))
        refused = unknown | (margins < self.means.margin)
        return Answers(np.where(refused, NOBODY, named), nearest, margins, unknown)

    def match(self, embeddings: Floats) -> list[Match]:
        """Match unit embeddings (N, D), each on its own."""
        rows = zip(*self.label(embeddings), strict=True)
        return [
            Match(
                None if label == NOBODY else self.animals[label],
                float(distance),
                float(margin),
                None if label != NOBODY else "unknown" if far else "unsure",
            )
            for label, distance, margin, far in rows
        ]


def distances_to_animals(embeddings: Floats, means: ClassMeans) -> Floats:
    """Return cosine distances (N, A) of unit embeddings (N, D) to each animal's best prototype."""
    return Matcher(means).distances(embeddings)


def open_set_labels(embeddings: Floats, means: ClassMeans) -> NDArray[np.int64]:
    """Return the label each embedding (N, D) is named (N,), -1 where it is unknown or unsure."""
    return Matcher(means).label(embeddings).labels
