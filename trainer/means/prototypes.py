"""Prototypes that hold up: trimmed unit means, several an animal, and those of outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.vision.geometry import Colour
from edge.vision.types import Floats

_TRIM_ROUNDS = 4
_KMEANS_ROUNDS = 20
_KMEANS_STARTS = 4
_SMALLEST_CLUSTER = 3
_CLAIMED = 5e-3


@dataclass(frozen=True, slots=True)
class MeansOptions:
    """How class means are made.

    trim_floor: images with a lower cosine to their prototype are dropped, but at least
    max(keep_at_least, keep_share) of an animal stay. prototypes_max: an animal. outliers_max:
    prototypes that stand for no animal, made from negatives. precision, accept: see
    trainer.means.thresholds.
    """

    trim_floor: float = 0.5
    keep_share: float = 0.7
    keep_at_least: int = 5
    prototypes_max: int = 3
    outliers_max: int = 3
    precision: float = 0.97
    accept: float = 0.96
    letterbox_colour: Colour = (114, 114, 114)
    seed: int = 0


def check_means_options(options: MeansOptions) -> None:
    """Raise UsageError for a value that no class means could be made with."""
    for name in ("trim_floor", "keep_share", "precision", "accept"):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(f"means: {name} must be from 0 to 1, not {getattr(options, name)}")
    if options.prototypes_max < 1 or options.keep_at_least < 1:
        raise UsageError("means: prototypes_max and keep_at_least must be at least 1")
    if options.outliers_max < 0:
        raise UsageError(f"means: outliers_max must not be negative: {options.outliers_max}")


def robust_prototypes(
    embeddings: Floats, count: int, options: MeansOptions
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return up to `count` unit prototypes (P, D) of unit embeddings (N, D), and a mask (N,).

    The mask tells which embeddings made them. Spherical k-means, then rounds that drop the images
    whose cosine to their prototype is below the floor, worst first, and move the prototypes.
    Clusters of one or two images are given up.
    """
    rng = np.random.default_rng(options.seed)
    kept = np.ones(len(embeddings), bool)
    least = min(
        len(embeddings),
        max(options.keep_at_least, int(np.ceil(options.keep_share * len(embeddings)))),
    )
    centres = spherical_kmeans(embeddings, count, rng)
    for _ in range(_TRIM_ROUNDS):
        cosines = (embeddings @ centres.T).max(axis=1)
        order = np.argsort(-cosines, kind="stable")
        now = cosines >= options.trim_floor
        now[order[:least]] = True
        settled = bool((now == kept).all())
        kept = now
        centres = _refine(embeddings[kept], centres)
        if settled:
            break
    return centres, kept


def spherical_kmeans(embeddings: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return up to `count` unit centres (P, D) of unit embeddings (N, D): best of a few starts."""
    mean = unit_rows(embeddings.mean(axis=0, keepdims=True))
    if count == 1 or len(embeddings) < 2 * _SMALLEST_CLUSTER:
        return mean
    best, best_fit = mean, -np.inf
    for _ in range(_KMEANS_STARTS):
        centres = embeddings[[rng.integers(len(embeddings))]]
        while len(centres) < count:
            far = np.maximum(1 - (embeddings @ centres.T).max(axis=1), 1e-9).astype(np.float64)
            row = rng.choice(len(embeddings), p=far / far.sum())
            centres = np.concatenate([centres, embeddings[[row]]])
        centres = _refine(embeddings, centres, _KMEANS_ROUNDS)
        fit = float((embeddings @ centres.T).max(axis=1).sum())
        if fit > best_fit + 1e-9:
            best, best_fit = centres, fit
    return best


def _refine(embeddings: Floats, centres: Floats, rounds: int = 1) -> Floats:
    """Move each centre to the unit mean of its images; centres of one or two images go."""
    for _ in range(rounds):
        owner = np.argmax(embeddings @ centres.T, axis=1)
        sizes = np.bincount(owner, minlength=len(centres))
        solid = np.flatnonzero(sizes >= _SMALLEST_CLUSTER)
        if len(centres) == 1 or not len(solid):
            return unit_rows(embeddings.mean(axis=0, keepdims=True))
        if len(solid) < len(centres):
            centres = centres[solid]
            continue
        centres = unit_rows(
            np.stack([embeddings[owner == k].mean(axis=0) for k in range(len(sizes))])
        )
    return centres


def unit_rows(vectors: Floats) -> Floats:
    """Return vectors (N, D) scaled to length 1; DataError for one of length 0."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (norms < 1e-6).any():
        raise DataError("the embeddings of an animal cancel out; is the embedder trained?")
    return (vectors / norms).astype(np.float32)


def outlier_prototypes(
    negatives: Floats, queries: Floats, distances: Floats, options: MeansOptions
) -> Floats:
    """Return unit prototypes (P, D) of the negatives that claim hardly any known query.

    None without known queries (Q, D): nobody could say whom they would claim.
    """
    if not len(negatives) or not len(queries) or not options.outliers_max:
        return np.zeros((0, queries.shape[1]), np.float32)
    rng = np.random.default_rng(options.seed)
    centres = spherical_kmeans(negatives, options.outliers_max, rng)
    claimed = (1 - queries @ centres.T) < distances.min(axis=1, keepdims=True)
    return centres[claimed.mean(axis=0) <= _CLAIMED]
