"""Measures of naming, on plain arrays. Queries may weigh more or less than one, for the bootstrap.

Every function takes `weights` (N,), 1 each when left out, and returns NaN where it is undefined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats

Numbers = NDArray[np.float64]


def weighted_share(hits: NDArray[np.bool_], weights: Numbers | None = None) -> float:
    """Return the share of hits (N,)."""
    weights = _ones(weights, len(hits))
    total = weights.sum()
    return float(weights @ hits / total) if total > 0 else float("nan")


def macro_average(values: Numbers, weights: Numbers) -> float:
    """Return the mean of values (A,) by weight (A,); what weighs nothing may be undefined."""
    counted = weights > 0
    return float(np.average(values[counted], weights=weights[counted]))


def f1_by_animal(
    labels: NDArray[np.int64],
    named: NDArray[np.int64],
    animals: int,
    weights: Numbers | None = None,
) -> Numbers:
    """Return F1 (A,) of true labels (N,) against names given (N,), both 0..animals-1."""
    weights = _ones(weights, len(labels))
    hit = labels == named
    right = np.bincount(labels[hit], weights[hit], animals)
    both = np.bincount(labels, weights, animals) + np.bincount(named, weights, animals)
    return np.divide(2 * right, both, out=np.full(animals, np.nan), where=both > 0)


def macro_f1_score(labels: NDArray[Any], named: NDArray[Any]) -> float:
    """Return macro F1 (N,) against (N,), averaged over the animals in `labels`."""
    scores = []
    for animal in np.unique(labels):
        right = np.sum((labels == animal) & (named == animal))
        scores.append(2 * right / (np.sum(labels == animal) + np.sum(named == animal)))
    return float(np.mean(scores))


def share_by_group(
    hits: NDArray[np.bool_], groups: NDArray[np.int64], count: int, weights: Numbers | None = None
) -> Numbers:
    """Return the share of hits (N,) in each of `count` groups (G,).

    Its mean over known animals is BAKS, over unknown ones BAUS (balanced accuracy on known or
    unknown samples, as in WildlifeDatasets).
    """
    weights = _ones(weights, len(hits))
    total = np.bincount(groups, weights, count)
    right = np.bincount(groups[hits], weights[hits], count)
    return np.divide(right, total, out=np.full(count, np.nan), where=total > 0)


def auroc(
    known: Floats,
    unknown: Floats,
    known_weights: Numbers | None = None,
    unknown_weights: Numbers | None = None,
) -> float:
    """Return the chance that a known query (N,) lies nearer than an unknown one (M,).

    Distances; a tie counts half (Mann-Whitney).
    """
    weights = _ones(known_weights, len(known))
    return _nearer(known, weights, unknown, unknown_weights) / float(weights.sum())


def oscr(
    known: Floats,
    right: NDArray[np.bool_],
    unknown: Floats,
    known_weights: Numbers | None = None,
    unknown_weights: Numbers | None = None,
) -> float:
    """Return the area under the open-set classification rate (Dhamija et al. 2018).

    That is the share of known queries (N,) that are accepted and named right, over the share of
    unknown ones (M,) that are accepted, as the distance that is accepted grows. It equals the
    chance that a known query is named right and lies nearer than an unknown one.
    """
    weights = _ones(known_weights, len(known))
    return _nearer(known, weights * right, unknown, unknown_weights) / float(weights.sum())


def _nearer(
    known: Floats, weights: Numbers, unknown: Floats, unknown_weights: Numbers | None
) -> float:
    """Return the weight of known queries that lie nearer than an unknown one, on average."""
    others = _ones(unknown_weights, len(unknown))
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    below = np.append(0, np.cumsum(weights[order]))
    nearer = below[np.searchsorted(ordered, unknown, side="left")]
    level = below[np.searchsorted(ordered, unknown, side="right")]
    return float(others @ (nearer + level) / 2 / others.sum())


def true_ranks(distances: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many animals come before the true one (N,), by distances (N, A).

    Equal distances come in the order of the animals, as the nearest does in matching: an embedder
    that gives everybody one vector names nearly nobody right.
    """
    own = distances[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(distances.shape[1])[None, :] < labels[:, None]
    before = (distances < own) | ((distances == own) & earlier)
    return np.asarray(before.sum(axis=1), np.int64)


def cumulative_matches(ranks: NDArray[np.int64], most: int = 10) -> dict[str, float]:
    """Return the cumulative match characteristic: share found among the first 1..`most` animals."""
    return {str(rank): float((ranks < rank).mean()) for rank in range(1, most + 1)}


def coverage_curve(
    best: Floats, right: NDArray[np.bool_], unknown: Floats | None = None, points: int = 100
) -> list[dict[str, float | None]]:
    """Return what answering only the nearest queries would bring, in `points` steps.

    best: distances (N,) of known queries to the nearest animal; right: whether it is the true one.
    unknown: distances (M,) of strangers. threshold: the distance accepted, ties included. coverage:
    share of known queries answered; accuracy: share of those that is right; unknown_accepted: share
    of strangers that get a name.
    """
    order = np.argsort(best, kind="stable")
    ordered, hits = best[order], np.cumsum(right[order])
    curve: list[dict[str, float | None]] = []
    for step in range(1, points + 1):
        threshold = ordered[max(1, round(step / points * len(best))) - 1]
        taken = int(np.searchsorted(ordered, threshold, side="right"))
        curve.append(
            {
                "coverage": taken / len(best),
                "accuracy": float(hits[taken - 1] / taken),
                "threshold": float(threshold),
                "unknown_accepted": (
                    float((unknown <= threshold).mean())
                    if unknown is not None and len(unknown)
                    else None
                ),
            }
        )
    return curve


def _ones(weights: Numbers | None, count: int) -> Numbers:
    return np.ones(count) if weights is None else weights
