"""One animal, one place: who is whom, decided for all tracks of a camera together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edge.identity.matching import NOBODY
from edge.vision.types import Floats


def assign_animals(benefits: Floats) -> NDArray[np.int64]:
    """Return for each track the animal (T,) it is, NOBODY for none; no animal is given twice.

    benefits (T, A): what it is worth to say that a track is an animal; 0 or less is never said.
    Every track also has an *unknown* column of its own that is worth nothing. The answer is worth
    most together (Hungarian method); equal answers go to the earlier track.
    """
    tracks = len(benefits)
    named = np.full(tracks, NOBODY, np.int64)
    # Only what is claimed at all enters the table: a herd of thousands costs nothing here.
    rows = np.flatnonzero((benefits > 0).any(axis=1))
    columns = np.flatnonzero((benefits > 0).any(axis=0))
    if not len(rows):
        return named
    worth = np.maximum(benefits[np.ix_(rows, columns)], 0)
    table = np.concatenate([worth, np.zeros((len(rows), len(rows)), worth.dtype)], axis=1)
    first, second = linear_sum_assignment(table, maximize=True)
    real = second < len(columns)
    first, second = first[real], second[real]
    worthy = worth[first, second] > 0
    named[rows[first[worthy]]] = columns[second[worthy]]
    return named


def assign_claims(claims: list[dict[int, float]]) -> list[int]:
    """Return for each track the label it is named, NOBODY for none; no label is given twice.

    claims: what each of T tracks may be called (label) and how much speaks for it, more than 0.
    """
    labels = sorted({label for claim in claims for label in claim})
    column = {label: index for index, label in enumerate(labels)}
    benefits = np.zeros((len(claims), len(labels)), np.float32)
    for row, claim in enumerate(claims):
        for label, worth in claim.items():
            benefits[row, column[label]] = worth
    return [NOBODY if index == NOBODY else labels[index] for index in assign_animals(benefits)]
