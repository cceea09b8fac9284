"""Editing class means by hand: a newcomer enrolled without retraining."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.errors import UsageError
from edge.identity.means import ClassMeans
from edge.vision.types import Floats
from trainer.means.prototypes import MeansOptions, robust_prototypes


def enrol(
    means: ClassMeans, animal: str, embeddings: Floats, options: MeansOptions | None = None
) -> ClassMeans:
    """Return the means with a newcomer added from its unit embeddings (N, D), without retraining.

    Its threshold is the herd's. Raises UsageError for an animal that is there already or has no
    embeddings.
    """
    if animal in means.animals:
        raise UsageError(f"animal {animal!r} is in the class means already")
    if not len(embeddings):
        raise UsageError(f"animal {animal!r} needs at least one crop to be enrolled")
    prototypes, kept = robust_prototypes(embeddings, 1, options or MeansOptions())
    usual = means.header.calibration.get("threshold")
    if usual is None:
        usual = float(np.median(means.threshold)) if len(means.threshold) else 0.5
    used = embeddings[kept].astype(np.float64)
    return replace(
        means,
        animals=(*means.animals, animal),
        prototypes=np.concatenate([means.prototypes, prototypes]),
        owner=np.append(means.owner, np.int32(len(means.animals))).astype(np.int32),
        sums=np.concatenate([means.sums, used.sum(axis=0, keepdims=True)]),
        counts=np.append(means.counts, np.int64(len(used))),
        threshold=np.append(means.threshold, np.float32(usual)),
    )
