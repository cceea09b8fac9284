"""How well animals are named: closed set, open set, newcomers, and over tracks.

Closed set: the nearest animal, threshold or not. Open set: what a device would say, `unknown` and
`unsure` included. Figures are fractions 0..1, or None where they are undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from edge.errors import DataError
from edge.identity.matching import distances_to_animals, open_set_labels
from edge.identity.means import ClassMeans
from edge.vision.types import Floats
from trainer.means.edit import enrol

FRAMES_PER_TRACK = (1, 5, 10, 30)
_COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Newcomers:
    """Animals the embedder was never trained on: a gallery to enrol from, queries to name.

    gallery (G, D) and query (Q, D): unit embeddings. *_animals: ids, row for row.
    """

    gallery: Floats
    gallery_animals: Sequence[str]
    query: Floats
    query_animals: Sequence[str]


def evaluate_identification(
    embeddings: Floats,
    animals: Sequence[str],
    means: ClassMeans,
    *,
    unknown: Floats | None = None,
    unknown_animals: Sequence[str] | None = None,
    newcomers: Newcomers | None = None,
    tracks: Sequence[str] | None = None,
    float_macro_f1: float | None = None,
) -> dict[str, Any]:
    """Return the figures of `evaluate identification` (formats: Metrics files).

    embeddings: unit queries (N, D); animals: their ids, all of them in `means`. unknown: queries
    (M, D) of animals that are not; unknown_animals: their ids, for the balanced accuracy. tracks:
    (N,) which track each query belongs to, in the order of time, for `macro_f1_by_frames`.
    float_macro_f1: the same figure by the float model, for `int8_macro_f1_drop`.

    macro_f1 averages over the animals that were asked for. baks, baus: balanced accuracy on known
    and unknown samples, refusals included. coverage: share of known queries that got a name;
    known_refused: those that got none. auroc: known against unknown by distance. oscr: area under
    the open-set classification rate (Dhamija et al. 2018). newcomer_accuracy: newcomers enrolled
    beside the herd from their gallery, nearest animal of all. Raises DataError without queries or
    for an animal that is not in the means.
    """
    labels = _labels(animals, means)
    if not len(labels):
        raise DataError("identification cannot be measured without a single query")
    distances = distances_to_animals(embeddings, means)
    nearest = np.argmin(distances, axis=1)
    named = open_set_labels(embeddings, means)
    best = distances.min(axis=1)
    right = nearest == labels
    ranks = np.sum(distances < distances[np.arange(len(labels)), labels][:, None], axis=1)
    per_animal = _per_animal(labels, nearest, means.animals)
    macro_f1 = float(np.mean([row["f1"] for row in per_animal.values() if row["n"]]))
    metrics: dict[str, Any] = {
        "macro_f1": macro_f1,
        "accuracy": float(right.mean()),
        "rank1": float((ranks < 1).mean()),
        "rank5": float((ranks < 5).mean()),
        "auroc": None,
        "oscr": None,
        "baks": _balanced(named == labels, labels),
        "baus": None,
        "coverage": float((named >= 0).mean()),
        "named_accuracy": float(right[named >= 0].mean()) if (named >= 0).any() else None,
        "known_refused": float((named < 0).mean()),
        "unknown_refused": None,
        "newcomer_accuracy": _newcomer_accuracy(means, newcomers),
        "int8_macro_f1_drop": None if float_macro_f1 is None else float_macro_f1 - macro_f1,
        "accuracy_at_coverage": _accuracy_at_coverage(best, right),
        "per_animal": per_animal,
        "confusion": _confusion(labels, named, means.animals),
    }
    if unknown is not None and len(unknown):
        far = distances_to_animals(unknown, means).min(axis=1)
        refused = open_set_labels(unknown, means) < 0
        metrics["auroc"] = _auroc(best, far)
        metrics["oscr"] = _oscr(best, right, far)
        metrics["unknown_refused"] = float(refused.mean())
        groups = np.zeros(len(refused)) if unknown_animals is None else np.array(unknown_animals)
        metrics["baus"] = _balanced(refused, groups)
    if tracks is not None:
        metrics["macro_f1_by_frames"] = {
            str(frames): _track_f1(embeddings, labels, tracks, means, frames)
            for frames in FRAMES_PER_TRACK
        }
    return metrics


def macro_f1_score(labels: NDArray[Any], named: NDArray[Any]) -> float:
    """Return macro F1 (N,) against (N,), averaged over the animals in `labels`."""
    scores = []
    for animal in np.unique(labels):
        right = np.sum((labels == animal) & (named == animal))
        scores.append(2 * right / (np.sum(labels == animal) + np.sum(named == animal)))
    return float(np.mean(scores))


def _labels(animals: Sequence[str], means: ClassMeans) -> NDArray[np.int64]:
    index = {animal: label for label, animal in enumerate(means.animals)}
    strangers = sorted(set(animals) - set(index))
    if strangers:
        raise DataError(f"animal {strangers[0]!r} is not in the class means; count it as unknown")
    return np.array([index[animal] for animal in animals], np.int64)


def _per_animal(
    labels: NDArray[np.int64], named: NDArray[np.int64], animals: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Return precision, recall, f1 and n of every animal that was asked for or named."""
    table: dict[str, dict[str, float | int | None]] = {}
    for label, animal in enumerate(animals):
        asked, given = int(np.sum(labels == label)), int(np.sum(named == label))
        if asked or given:
            right = int(np.sum((labels == label) & (named == label)))
            table[animal] = {
                "precision": right / given if given else None,
                "recall": right / asked if asked else None,
                "f1": 2 * right / (asked + given),
                "n": asked,
            }
    return table


def _confusion(
    labels: NDArray[np.int64], named: NDArray[np.int64], animals: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return counts by true animal and open-set answer; `unknown` stands for every refusal."""
    table: dict[str, dict[str, int]] = {}
    for label in np.unique(labels):
        answers, counts = np.unique(named[labels == label], return_counts=True)
        table[animals[label]] = {
            "unknown" if answer < 0 else animals[answer]: int(count)
            for answer, count in zip(answers, counts, strict=True)
        }
    return table


def _balanced(hits: NDArray[np.bool_], groups: NDArray[Any]) -> float:
    return float(np.mean([hits[groups == group].mean() for group in np.unique(groups)]))


def _auroc(known: Floats, unknown: Floats) -> float:
    """Return the chance that a known query lies nearer than an unknown one (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([known, unknown]))
    wins = ranks[len(known) :].sum() - len(unknown) * (len(unknown) + 1) / 2
    return float(wins / (len(known) * len(unknown)))


def _oscr(known: Floats, right: NDArray[np.bool_], unknown: Floats) -> float:
    """Return the area under (share of known named right) over (share of unknown accepted)."""
    limits = np.unique(np.concatenate([known, unknown]))
    rate = np.searchsorted(np.sort(known[right]), limits, side="right") / len(known)
    false = np.searchsorted(np.sort(unknown), limits, side="right") / len(unknown)
    return float(np.trapezoid(np.append(0, rate), np.append(0, false)))


def _accuracy_at_coverage(best: Floats, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the accuracy among the nearest share of the queries, by share."""
    ordered = right[np.argsort(best, kind="stable")]
    return {
        f"{share:g}": float(ordered[: max(1, round(share * len(ordered)))].mean())
        for share in _COVERAGES
    }


def _newcomer_accuracy(means: ClassMeans, newcomers: Newcomers | None) -> float | None:
    if newcomers is None or not len(newcomers.query):
        return None
    gallery_animals = np.array(newcomers.gallery_animals)
    for animal in sorted(set(newcomers.gallery_animals)):
        means = enrol(means, animal, newcomers.gallery[gallery_animals == animal])
    nearest = np.argmin(distances_to_animals(newcomers.query, means), axis=1)
    return float(np.mean(nearest == _labels(newcomers.query_animals, means)))


def _track_f1(
    embeddings: Floats,
    labels: NDArray[np.int64],
    tracks: Sequence[str],
    means: ClassMeans,
    frames: int,
) -> float:
    """Return macro F1 when up to `frames` queries of a track are averaged into one."""
    merged, truth = [], []
    keys = np.array([f"{label}/{track}" for label, track in zip(labels, tracks, strict=True)])
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        for start in range(0, len(rows), frames):
            part = rows[start : start + frames]
            mean = embeddings[part].mean(axis=0)
            merged.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
            truth.append(labels[rows[0]])
    distances = distances_to_animals(np.stack(merged).astype(np.float32), means)
    return macro_f1_score(np.array(truth), np.argmin(distances, axis=1))
