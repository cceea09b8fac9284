"""Editing class means without the crops they came from: enrol, extend, remove, merge, join.

What makes that possible are the running sums and counts in the file. Every function returns new
means; `header` stays as it is (see `trainer.means.storage` for who counts it up).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.identity.means import OUTLIERS, ClassMeans
from edge.vision.types import Floats
from trainer.means.prototypes import MeansOptions, robust_prototypes
from trainer.means.thresholds import UNCALIBRATED

# What an animal keeps when several become one; as many as building gives it.
_PROTOTYPES_MAX = 3


def usual_threshold(means: ClassMeans) -> float:
    """Return the herd's threshold, for an animal that calibration has not seen."""
    usual = means.header.calibration.get("threshold")
    if isinstance(usual, int | float):
        return float(usual)
    return float(np.median(means.threshold)) if len(means.threshold) else UNCALIBRATED


def check_absent(means: ClassMeans, animals: Sequence[str]) -> None:
    """Raise UsageError naming the first of the animals that is in the class means."""
    for animal in animals:
        if animal in means.animals:
            raise UsageError(
                f"animal {animal!r} is in the class means already; remove it first (means remove), "
                "or add crops to it (means add --more)"
            )


def check_present(means: ClassMeans, animals: Sequence[str]) -> None:
    """Raise UsageError naming the first of the animals that is not in the class means."""
    for animal in animals:
        _label(means, animal)


def enrol(
    means: ClassMeans, animal: str, embeddings: Floats, options: MeansOptions | None = None
) -> ClassMeans:
    """Return the means with a newcomer added from its unit embeddings (N, D), without retraining.

    Its threshold is the herd's. Raises UsageError for an animal that is there already or has no
    embeddings.
    """
    check_absent(means, [animal])
    if not len(embeddings):
        raise UsageError(f"animal {animal!r} needs at least one crop to be enrolled")
    prototypes, kept = robust_prototypes(embeddings, 1, options or MeansOptions())
    used = embeddings[kept].astype(np.float64)
    return replace(
        means,
        animals=(*means.animals, animal),
        prototypes=np.concatenate([means.prototypes, prototypes]),
        owner=np.append(means.owner, np.int32(len(means.animals))).astype(np.int32),
        sums=np.concatenate([means.sums, used.sum(axis=0, keepdims=True)]),
        counts=np.append(means.counts, np.int64(len(used))),
        threshold=np.append(means.threshold, np.float32(usual_threshold(means))),
    )


def extend(
    means: ClassMeans, animal: str, embeddings: Floats, options: MeansOptions | None = None
) -> ClassMeans:
    """Return the means with more unit embeddings (N, D) in the running sum of an animal.

    Strays among them are dropped as in building. Each of the others moves the prototype it is
    nearest to; a single prototype becomes the unit vector of the new sum. The threshold stays.
    """
    label = _label(means, animal)
    if not len(embeddings):
        raise UsageError(f"animal {animal!r}: no crops to add")
    kept = robust_prototypes(embeddings, 1, options or MeansOptions())[1]
    used = embeddings[kept].astype(np.float64)
    own = np.flatnonzero(means.owner == label)
    parts = cluster_sums(means, label)
    if len(own):
        nearest = np.argmax(used @ means.prototypes[own].T.astype(np.float64), axis=1)
        np.add.at(parts, nearest, used)
    else:
        parts = used.sum(axis=0, keepdims=True)
    sums, counts = means.sums.copy(), means.counts.copy()
    sums[label] += used.sum(axis=0)
    counts[label] += len(used)
    return _with_prototypes(replace(means, sums=sums, counts=counts), label, _unit(parts, animal))


def remove(means: ClassMeans, animals: Sequence[str]) -> ClassMeans:
    """Return the means without some animals; UsageError when one is not there or none is left."""
    gone = {_label(means, animal) for animal in animals}
    kept = np.array([label not in gone for label in range(len(means.animals))], bool)
    if not kept.any():
        raise UsageError("no animal would be left in the class means; a device needs at least one")
    number = np.append(np.cumsum(kept) - 1, OUTLIERS)  # the last one is where OUTLIERS points
    stays = np.append(kept, True)[means.owner]
    return replace(
        means,
        animals=tuple(name for name, keep in zip(means.animals, kept, strict=True) if keep),
        prototypes=means.prototypes[stays],
        owner=number[means.owner[stays]].astype(np.int32),
        sums=means.sums[kept],
        counts=means.counts[kept],
        threshold=means.threshold[kept],
    )


def merge(means: ClassMeans, keep: str, others: Sequence[str]) -> ClassMeans:
    """Return the means with `others` taken into `keep`: several ids that were one animal.

    Sums and counts add up and the largest threshold holds. All prototypes stay up to three; beyond
    that the two nearest become one, each weighing as much as the crops behind it, until three are
    left (Ward's agglomeration on the sphere).
    """
    label = _label(means, keep)
    wanted = list(dict.fromkeys(others))
    if keep in wanted:
        raise UsageError(f"animal {keep!r} cannot be merged with itself")
    if not wanted:
        raise UsageError(f"name at least one animal to merge into {keep!r}")
    labels = [label, *(_label(means, other) for other in wanted)]
    parts = np.concatenate([cluster_sums(means, each) for each in labels])
    while len(parts) > _PROTOTYPES_MAX:
        parts = _join_nearest(parts)
    sums, counts, threshold = means.sums.copy(), means.counts.copy(), means.threshold.copy()
    sums[label] = means.sums[labels].sum(axis=0)
    counts[label] = means.counts[labels].sum()
    threshold[label] = means.threshold[labels].max()
    merged = replace(means, sums=sums, counts=counts, threshold=threshold)
    return remove(_with_prototypes(merged, label, _unit(parts, keep)), wanted)


def join(means: ClassMeans, more: ClassMeans) -> ClassMeans:
    """Return the means with all animals and outliers prototypes of other means added.

    Raises UsageError when an animal is in both or the dimensions differ. Header and margin are
    those of `means`.
    """
    check_absent(means, more.animals)
    if more.dimension != means.dimension:
        raise UsageError(
            f"means of dimension {more.dimension} do not fit those of dimension {means.dimension}"
        )
    moved = np.where(more.owner == OUTLIERS, OUTLIERS, more.owner + len(means.animals))
    return replace(
        means,
        animals=(*means.animals, *more.animals),
        prototypes=np.concatenate([means.prototypes, more.prototypes]),
        owner=np.concatenate([means.owner, moved]).astype(np.int32),
        sums=np.concatenate([means.sums, more.sums]),
        counts=np.concatenate([means.counts, more.counts]),
        threshold=np.concatenate([means.threshold, more.threshold]),
    )


def cluster_sums(means: ClassMeans, label: int) -> NDArray[np.float64]:
    """Return for each prototype (K, D) of an animal the sum of the embeddings behind it.

    Such a sum has the direction of its prototype, and together they make the animal's running sum:
    their lengths are the non-negative solution of that equation. Where the file holds no sum,
    each prototype weighs like one image.
    """
    own = means.prototypes[means.owner == label].astype(np.float64)
    if len(own) == 1:
        return means.sums[[label]] if means.sums[label].any() else own
    lengths = np.zeros(len(own))
    if len(own):
        # Only here: loading it takes longer than all the rest.
        from scipy.optimize import nnls

        lengths = nnls(own.T, means.sums[label])[0]
    if not lengths.any():
        lengths = np.ones(len(own))
    # A prototype that explains nothing of the sum still keeps its place.
    return np.asarray(own * np.maximum(lengths, 1e-3 * lengths.sum())[:, None])


def _join_nearest(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace the two cluster sums whose joining costs least by their sum, in the first's place."""
    sizes = np.linalg.norm(parts, axis=1)
    best, cost = (0, 1), np.inf
    for first in range(len(parts)):
        for second in range(first + 1, len(parts)):
            # How much less the images would agree with their prototype.
            loss = sizes[first] + sizes[second] - np.linalg.norm(parts[first] + parts[second])
            if loss < cost:
                best, cost = (first, second), float(loss)
    joined = parts.copy()
    joined[best[0]] += joined[best[1]]
    return np.delete(joined, best[1], axis=0)


def _label(means: ClassMeans, animal: str) -> int:
    if animal not in means.animals:
        known = ", ".join(means.animals[:6]) + (", …" if len(means.animals) > 6 else "")
        raise UsageError(f"animal {animal!r} is not in the class means ({known})")
    return means.animals.index(animal)


def _with_prototypes(means: ClassMeans, label: int, prototypes: Floats) -> ClassMeans:
    """Give an animal other prototypes (K, D), in the place of its old ones."""
    old = np.flatnonzero(means.owner == label)
    place = int(old[0]) if len(old) else len(means.owner)
    rest = means.owner != label
    before = int(rest[:place].sum())
    owners = np.full(len(prototypes), label, np.int32)
    return replace(
        means,
        prototypes=np.insert(means.prototypes[rest], [before] * len(owners), prototypes, axis=0),
        owner=np.insert(means.owner[rest], [before] * len(owners), owners).astype(np.int32),
    )


def _unit(vectors: NDArray[np.float64], animal: str) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (norms < 1e-9).any():
        raise DataError(f"animal {animal!r}: its embeddings cancel out; look at its crops")
    return np.asarray(vectors / norms, np.float32)
