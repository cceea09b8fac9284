"""Distances of crops to means that their own session had no part in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.means.embed import EmbeddedCrops
from trainer.means.prototypes import MeansOptions, robust_prototypes


def distances_to(embeddings: Floats, prototypes: list[Floats]) -> Floats:
    """Return cosine distances (N, A) to each animal's nearest prototype."""
    columns = [1 - (embeddings @ own.T).max(axis=1) for own in prototypes]
    return np.stack(columns, axis=1).astype(np.float32)


def without_own_session(
    gallery: EmbeddedCrops, queries: Floats, distances: Floats, options: MeansOptions
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return distances (N, A) where no crop's own session helped to make its animal's prototype.

    queries: the gallery's crops (N, D) as they are asked. Also returns which crops (N,) could be
    asked so: not the only one of an animal, which would be compared with itself.

    An animal with one session is cut into two halves in time. That is kinder than a new session.
    """
    distances = distances.copy()
    fair = np.zeros(len(distances), bool)
    for label in range(len(gallery.crops.animals)):
        rows = np.flatnonzero(gallery.crops.labels == label)
        names = np.array([gallery.crops.sessions[row] for row in rows], dtype=np.str_)
        folds = np.unique(names, return_inverse=True)[1].reshape(-1)
        if folds.max() == 0:
            folds = (np.arange(len(rows)) * 2 // len(rows)).astype(np.int64)
        if folds.max() == 0:
            continue
        for fold in range(int(folds.max()) + 1):
            others = gallery.embeddings[rows[folds != fold]]
            asked = rows[folds == fold]
            prototype = robust_prototypes(others, 1, options)[0]
            distances[asked, label] = 1 - (queries[asked] @ prototype.T).max(axis=1)
        fair[rows] = True
    return distances, fair


def without_held_out_session(
    gallery: EmbeddedCrops,
    references: EmbeddedCrops,
    queries: Floats,
    counts: Sequence[int],
    options: MeansOptions,
) -> tuple[Floats, list[Floats]]:
    """Return distances (Q, A) of held-out crops to means of all other sessions of the herd.

    references: the held-out crops as a gallery embeds them, of animals of the gallery. queries: the
    same crops (Q, D) as a device sees them. counts: prototypes of each animal. So calibration sees
    what the class means will be, but for the one session that is asked. Also returns those means:
    each animal's prototypes (P, D) of all its sessions.
    """
    animals = gallery.crops.animals
    names, sessions = references.crops.names(), references.crops.sessions
    prototypes = []
    own_rows = {
        animal: np.flatnonzero(np.array([name == animal for name in names])) for animal in animals
    }
    for label, animal in enumerate(animals):
        everything = np.concatenate([gallery.of(label), references.embeddings[own_rows[animal]]])
        prototypes.append(robust_prototypes(everything, counts[label], options)[0])
    distances = distances_to(queries, prototypes)
    for label, animal in enumerate(animals):
        rows = own_rows[animal]
        for session in sorted({sessions[row] for row in rows}):
            asked = np.array([row for row in rows if sessions[row] == session])
            others = np.array([row for row in rows if sessions[row] != session], np.int64)
            left = np.concatenate([gallery.of(label), references.embeddings[others]])
            own = robust_prototypes(left, counts[label], options)[0]
            distances[asked, label] = 1 - (queries[asked] @ own.T).max(axis=1)
    return distances, prototypes
