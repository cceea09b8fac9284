"""From held-out distances to thresholds and margin: who is refused, and how far that may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats

# An animal's own spread weighs as much as the herd's once it has been seen in so many sessions.
_HERD_SESSIONS = 4
_SPREAD_LIMITS = (0.7, 1.5)
_MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
_CANDIDATES = 400
# Of cows that were left out of training altogether, against those struck from the herd: 0.69 at the
# 5th percentile of the distance to the nearest animal, 0.73 at the median (folds of OpenCows2020).
_STRANGERS_NEARER = 0.7
UNCALIBRATED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """threshold: float32 (A,) cosine distances. margin: least lead over the second best animal.

    record: how they were chosen and what they reached, for the means' header.
    """

    threshold: Floats
    margin: float
    record: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Queries as matching sees them, (Q,) each.

    named: the nearest animal. nearest: its distance. lead: over the second. right: named rightly.
    """

    named: NDArray[np.int64]
    nearest: Floats
    lead: Floats
    right: NDArray[np.bool_]


def calibrate(
    distances: Floats,
    labels: NDArray[np.int32],
    sessions: Sequence[str],
    *,
    negatives: Floats | None = None,
    precision: float = 0.97,
    accept: float = 0.96,
) -> Thresholds:
    """Choose one threshold and one margin for the herd, then a threshold for each animal.

    distances: cosine distances float32 (Q, A) of held-out queries to each animal's best prototype,
    inf in a row that an outliers prototype claims. labels, sessions: (Q,). negatives: distances
    (M, A) of crops that show none of the animals.

    Every query is asked twice: as it is, and as a stranger with its own animal struck from the
    herd, at 0.7 of the distance, because a network keeps animals that it was trained on farther
    apart than strangers. The margin is there for animals of the herd that are mistaken for each
    other: the least one with which `precision` of the known queries' names are right, or else the
    one with the best balance of names right and right names kept; it may cost half of the right
    names that `accept` lets go. The threshold is there for strangers: of those that keep at least
    `accept` of the rightly named queries and name with at least `precision` (strangers and
    negatives included), the one with the best balance of known accepted and strangers refused. A
    larger margin is taken only where it reaches a precision that no threshold reaches without it.
    Where nothing reaches the precision, it gives way and the record says so. Each animal's
    threshold then follows its own spread, shrunk to the herd's where it has few sessions, and still
    takes `accept` of its own rightly named queries; unless that costs the precision, when none goes
    beyond the herd's. The record's figures are those of the thresholds as they are returned.
    """
    animals = distances.shape[1]
    known = _ask(distances, labels)
    if not known.right.any():
        record = {"source": "none", "threshold": UNCALIBRATED, "margin": 0.0}
        return Thresholds(np.full(animals, UNCALIBRATED, np.float32), 0.0, record)
    struck = distances * np.float32(_STRANGERS_NEARER)
    struck[np.arange(len(labels)), labels] = np.inf
    if animals == 1:
        struck = struck[:0]  # nobody is left that they could be taken for
    strangers = _ask(struck if negatives is None else np.concatenate([struck, negatives]), None)
    threshold, margin = _choose(known, strangers, precision, accept)
    per_animal = _per_animal(known, labels, sessions, animals, threshold, accept)
    reached = _reached(known, strangers, per_animal, margin)
    if reached["precision"] < precision:
        per_animal = np.minimum(per_animal, np.float32(threshold))
        reached = _reached(known, strangers, per_animal, margin)
    record = {
        "threshold": threshold,
        "margin": margin,
        "precision_wanted": precision,
        **reached,
        "queries": len(labels),
        "negatives": 0 if negatives is None else len(negatives),
    }
    return Thresholds(per_animal, margin, record)


def _ask(distances: Floats, labels: NDArray[np.int32] | None) -> _Asked:
    best = np.argmin(distances, axis=1)
    if distances.shape[1] > 1:
        two = np.partition(distances, 1, axis=1)[:, :2]
    else:
        two = np.column_stack([distances[:, 0], np.full(len(distances), np.inf)])
    nearest, second = two[:, 0], two[:, 1]
    possible = np.isfinite(nearest)
    lead = np.where(possible, second - np.where(possible, nearest, 0), -np.inf)
    right = np.zeros(len(distances), bool) if labels is None else (best == labels) & possible
    return _Asked(best, nearest.astype(np.float32), lead.astype(np.float32), right)


def _reached(
    known: _Asked, strangers: _Asked, per_animal: Floats, margin: float
) -> dict[str, float]:
    """Return what thresholds (A,) and margin do to the queries, for the record."""
    passed, taken = (
        (asked.nearest <= per_animal[asked.named]) & (asked.lead >= margin)
        for asked in (known, strangers)
    )
    right = int((passed & known.right).sum())
    reached = {
        "precision": right / max(1, int(passed.sum() + taken.sum())),
        "accepted": right / int(known.right.sum()),
    }
    if len(strangers.named):
        reached["strangers_refused"] = float(1 - taken.mean())
    return reached


def _choose(
    known: _Asked, strangers: _Asked, precision: float, accept: float
) -> tuple[float, float]:
    """Return (threshold, margin)."""
    tried = []
    for margin in _possible_margins(known, precision, (1 + accept) / 2):
        threshold, exact = _choose_threshold(known, strangers, margin, precision, accept)
        if exact >= precision:
            return threshold, margin
        tried.append((threshold, margin))
    return tried[0]


def _possible_margins(known: _Asked, precision: float, accept: float) -> tuple[float, ...]:
    """Return the margin that tells the known animals apart, and larger ones that cost little."""
    right, wrong = (
        np.array([(rows & (known.lead >= margin)).sum() for margin in _MARGINS])
        for rows in (known.right, ~known.right)
    )
    share, exact = right / known.right.sum(), right / np.maximum(right + wrong, 1)
    affordable = share >= accept
    reached = affordable & (exact >= precision)
    least = np.argmax(reached if reached.any() else np.where(affordable, share + exact, 0))
    return tuple(np.array(_MARGINS)[least:][affordable[least:]].tolist())


def _choose_threshold(
    known: _Asked, strangers: _Asked, margin: float, precision: float, accept: float
) -> tuple[float, float]:
    """Return the threshold under a margin, and the precision that it reaches."""
    everything = np.concatenate([known.nearest, strangers.nearest])
    everything = np.unique(everything[np.isfinite(everything)])
    steps = np.linspace(0, len(everything) - 1, min(_CANDIDATES, len(everything)))
    edges = everything[np.round(steps).astype(int)].astype(np.float64)
    # The middle between neighbours, and a little beyond the last.
    edges = np.append(edges, edges[-1] + 2e-3)
    candidates = (edges[1:] + edges[:-1]) / 2
    right = _accepted(known, known.right, candidates, margin)
    wrong = _accepted(known, ~known.right, candidates, margin)
    strange = _accepted(strangers, np.ones(len(strangers.lead), bool), candidates, margin)
    share = right / known.right.sum()
    exact = right / np.maximum(right + wrong + strange, 1)
    kept = share >= min(accept, share.max())
    reached = kept & (exact >= precision)
    if reached.any():
        score = np.where(reached, share - strange / max(1, len(strangers.lead)), -np.inf)
    else:
        score = np.where(kept, exact, -np.inf)
    best = _middle_of_widest(score >= score.max() - 1e-9, candidates, edges)
    return float(candidates[best]), float(exact[best])


def _middle_of_widest(
    equal: NDArray[np.bool_], candidates: Floats, edges: NDArray[np.float64]
) -> int:
    """Return which candidate (T,) is in the middle of the widest stretch of equally good ones.

    It is the safest. edges: (T + 1,), between which each candidate lies. Stretches apart from each
    other have something worse between them.
    """
    steps = np.diff(np.concatenate([[0], equal.astype(np.int8), [0]]))
    firsts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    widest = int(np.argmax(edges[ends] - edges[firsts]))
    first, end = int(firsts[widest]), int(ends[widest])
    middle = (edges[first] + edges[end]) / 2
    return first + int(np.argmin(np.abs(candidates[first:end] - middle)))


def _accepted(
    asked: _Asked, rows: NDArray[np.bool_], candidates: Floats, margin: float
) -> NDArray[np.int64]:
    """Return how many of `rows` each candidate threshold (T,) accepts."""
    nearest = np.sort(asked.nearest[rows & (asked.lead >= margin)])
    return np.searchsorted(nearest, candidates, side="right")


def _per_animal(
    known: _Asked,
    labels: NDArray[np.int32],
    sessions: Sequence[str],
    animals: int,
    threshold: float,
    accept: float,
) -> Floats:
    per_animal = np.full(animals, threshold, np.float64)
    herd_spread = max(float(np.quantile(known.nearest[known.right], 0.8)), 1e-6)
    names = np.array(sessions, dtype=np.str_)
    for animal in range(animals):
        rows = known.right & (labels == animal)
        if not rows.any():
            continue
        own = known.nearest[rows]
        count = len(set(names[rows]))
        spread = np.clip(np.quantile(own, 0.8) / herd_spread, *_SPREAD_LIMITS)
        weight = count / (count + _HERD_SESSIONS)
        shrunk = threshold * ((1 - weight) + weight * spread)
        per_animal[animal] = max(shrunk, float(np.quantile(own, accept, method="higher")))
    return per_animal.astype(np.float32)
