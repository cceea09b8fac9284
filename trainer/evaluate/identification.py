"""How well animals are named: closed set, open set, newcomers, and over tracks.

Closed set: the nearest animal, threshold or not. Open set: what a device would say, `unknown` and
`unsure` included. Figures are fractions 0..1, or None where they are undefined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.identity.matching import distances_to_animals, open_set_labels
from edge.identity.means import ClassMeans
from edge.vision.types import Floats
from trainer.evaluate import measures
from trainer.evaluate.intervals import (
    DRAWS,
    Sessions,
    Weights,
    by_animal,
    by_session,
    percentile_intervals,
)
from trainer.means.edit import enrol

FRAMES_PER_TRACK = (1, 5, 10, 30)
REFUSED = "unknown"
_COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Newcomers:
    """Animals the embedder was never trained on: a gallery to enrol from, queries to name.

    gallery (G, D) and query (Q, D): unit embeddings. *_animals: ids, row for row. query_sessions:
    (Q,) for intervals.
    """

    gallery: Floats
    gallery_animals: Sequence[str]
    query: Floats
    query_animals: Sequence[str]
    query_sessions: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Queries of known animals as matching sees them, as parallel arrays (N,).

    labels: the truth. nearest: the nearest animal. named: the same, -1 where it is refused. best:
    distance to the nearest. ranks: how many animals come before the true one. herd: A.
    """

    labels: NDArray[np.int64]
    nearest: NDArray[np.int64]
    named: NDArray[np.int64]
    best: Floats
    ranks: NDArray[np.int64]
    herd: int


@dataclass(frozen=True, slots=True, eq=False)
class _Strangers:
    """Queries of animals that are not in the means, as parallel arrays (M,).

    named: who they are taken for, -1 where refused. best: distance to the nearest animal. groups:
    index into `animals`, their own ids.
    """

    named: NDArray[np.int64]
    best: Floats
    groups: NDArray[np.int64]
    animals: tuple[str, ...]


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
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the figures of `evaluate identification` (formats: Metrics files).

    embeddings: unit queries (N, D); animals: their ids, all of them in `means`. unknown: queries
    (M, D) of animals that are not; unknown_animals: their ids, for the balanced accuracy. tracks:
    (N,) which session each query belongs to, in the order of time, for `macro_f1_by_frames` and
    `intervals` (95 %, by `draws` draws of a bootstrap over sessions, see
    trainer.evaluate.intervals). float_macro_f1: the same figure by the float model, for
    `int8_macro_f1_drop`.

    macro_f1 averages over the animals that were asked for. baks, baus: balanced accuracy on known
    and unknown samples, refusals included. coverage: share of known queries that got a name;
    known_refused: those that got none. auroc, oscr: known against unknown by distance.
    newcomer_*: newcomers enrolled beside the herd from their gallery; accuracy and F1 by the
    nearest animal of all, `newcomer_refused` by what a device would say. Raises DataError without
    queries or for an animal that is not in the means.
    """
    asked = _ask(embeddings, animals, means)
    strangers = _meet(unknown, unknown_animals, means) if unknown is not None else None
    sessions = by_session(asked.labels, tracks or animals, asked.herd)
    others = None
    if strangers is not None:
        others = by_animal(strangers.groups, len(strangers.animals))
    figures = _figures(asked, sessions.as_they_are(), strangers, others and others.as_they_are())
    right = asked.nearest == asked.labels
    metrics: dict[str, Any] = {
        **{name: _defined(value) for name, value in figures.items()},
        "cmc": measures.cumulative_matches(asked.ranks),
        "int8_macro_f1_drop": (
            None if float_macro_f1 is None else float_macro_f1 - figures["macro_f1"]
        ),
        "accuracy_at_coverage": _accuracy_at_coverage(asked.best, right),
        "accuracy_against_coverage": measures.coverage_curve(
            asked.best, right, strangers and strangers.best
        ),
        "per_animal": _per_animal(asked.labels, asked.nearest, means.animals),
        "confusion": _confusion(asked.labels, asked.named, means.animals, means.animals),
        "unknown_confusion": {},
        "intervals": {},
    }
    if strangers is not None:
        metrics["unknown_confusion"] = _confusion(
            strangers.groups, strangers.named, strangers.animals, means.animals
        )
    if tracks is not None:
        rng = np.random.default_rng(seed)
        drawn = _redraw(asked, sessions, strangers, others, rng, draws)
        metrics["intervals"] = percentile_intervals(drawn)
        metrics["macro_f1_by_frames"] = {
            str(frames): _track_f1(embeddings, asked.labels, tracks, means, frames)
            for frames in FRAMES_PER_TRACK
        }
    _add_newcomers(metrics, means, newcomers, draws, seed)
    return metrics


def _labels(animals: Sequence[str], means: ClassMeans) -> NDArray[np.int64]:
    index = {animal: label for label, animal in enumerate(means.animals)}
    strangers = sorted(set(animals) - set(index))
    if strangers:
        raise DataError(f"animal {strangers[0]!r} is not in the class means; count it as unknown")
    return np.array([index[animal] for animal in animals], np.int64)


def _ask(embeddings: Floats, animals: Sequence[str], means: ClassMeans) -> _Asked:
    labels = _labels(animals, means)
    if not len(labels):
        raise DataError("identification cannot be measured without a single query")
    distances = distances_to_animals(embeddings, means)
    return _Asked(
        labels,
        np.asarray(np.argmin(distances, axis=1), np.int64),
        open_set_labels(embeddings, means),
        distances.min(axis=1),
        measures.true_ranks(distances, labels),
        len(means.animals),
    )


def _meet(
    embeddings: Floats, animals: Sequence[str] | None, means: ClassMeans
) -> _Strangers | None:
    if not len(embeddings):
        return None
    names, groups = np.unique(
        np.array([REFUSED] * len(embeddings) if animals is None else animals, dtype=np.str_),
        return_inverse=True,
    )
    return _Strangers(
        open_set_labels(embeddings, means),
        distances_to_animals(embeddings, means).min(axis=1),
        np.asarray(groups.reshape(-1), np.int64),
        tuple(names.tolist()),
    )


def _figures(
    asked: _Asked, weights: Weights, strangers: _Strangers | None, others: Weights | None
) -> dict[str, float]:
    """Return the figures that are one number each, NaN where undefined, by weight."""
    rows = weights.rows
    right = asked.nearest == asked.labels
    f1 = measures.f1_by_animal(asked.labels, asked.nearest, asked.herd, weights.within)
    hits = measures.share_by_group(asked.named == asked.labels, asked.labels, asked.herd, rows)
    named = asked.named >= 0
    coverage = measures.weighted_share(named, rows)
    figures = {
        "macro_f1": measures.macro_average(f1, weights.groups),
        "accuracy": measures.weighted_share(right, rows),
        "rank1": measures.weighted_share(asked.ranks < 1, rows),
        "rank5": measures.weighted_share(asked.ranks < 5, rows),
        "auroc": np.nan,
        "oscr": np.nan,
        "baks": measures.macro_average(hits, weights.groups),
        "baus": np.nan,
        "coverage": coverage,
        "named_accuracy": measures.weighted_share(right[named], rows[named]),
        "known_refused": 1 - coverage,
        "unknown_refused": np.nan,
    }
    if strangers is not None and others is not None:
        refused = strangers.named < 0
        balanced = measures.share_by_group(
            refused, strangers.groups, len(strangers.animals), others.rows
        )
        figures["auroc"] = measures.auroc(asked.best, strangers.best, rows, others.rows)
        figures["oscr"] = measures.oscr(asked.best, right, strangers.best, rows, others.rows)
        figures["baus"] = measures.macro_average(balanced, others.groups)
        figures["unknown_refused"] = measures.weighted_share(refused, others.rows)
    return figures


def _redraw(
    asked: _Asked,
    sessions: Sessions,
    strangers: _Strangers | None,
    others: Sessions | None,
    rng: np.random.Generator,
    draws: int,
) -> Iterator[dict[str, float]]:
    """Yield the figures of every draw; those that no draw could change are left out."""
    for _ in range(draws):
        weights = sessions.draw(rng)
        figures = _figures(asked, weights, strangers, others.draw(rng) if others else None)
        if not sessions.random:
            figures = dict.fromkeys(figures, np.nan)
        elif others is not None and not others.random:
            # Of one stranger nothing can be said about others.
            for name in ("auroc", "oscr", "baus", "unknown_refused"):
                figures[name] = np.nan
        yield figures


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
    labels: NDArray[np.int64],
    named: NDArray[np.int64],
    animals: Sequence[str],
    names: Sequence[str],
) -> dict[str, dict[str, int]]:
    """Return counts by true animal and open-set answer; `unknown` stands for every refusal.

    labels index `animals`, named `names`.
    """
    table: dict[str, dict[str, int]] = {}
    for label in np.unique(labels):
        answers, counts = np.unique(named[labels == label], return_counts=True)
        table[animals[label]] = {
            REFUSED if answer < 0 else names[answer]: int(count)
            for answer, count in zip(answers, counts, strict=True)
        }
    return table


def _accuracy_at_coverage(best: Floats, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the accuracy among the nearest share of the queries, by share."""
    ordered = right[np.argsort(best, kind="stable")]
    return {
        f"{share:g}": float(ordered[: max(1, round(share * len(ordered)))].mean())
        for share in _COVERAGES
    }


def _add_newcomers(
    metrics: dict[str, Any],
    means: ClassMeans,
    newcomers: Newcomers | None,
    draws: int,
    seed: int,
) -> None:
    """Add what is known of newcomers; precision and F1 are among the newcomers' queries alone."""
    metrics["newcomer_accuracy"] = metrics["newcomer_macro_f1"] = None
    metrics["newcomer_refused"] = None
    metrics["newcomers"] = {}
    if newcomers is None or not len(newcomers.query):
        return
    means = with_newcomers(means, newcomers.gallery, newcomers.gallery_animals)
    asked = _ask(newcomers.query, newcomers.query_animals, means)
    named = newcomers.query_sessions or newcomers.query_animals
    sessions = by_session(asked.labels, named, asked.herd)
    wanted = {"newcomer_accuracy": "accuracy", "newcomer_macro_f1": "macro_f1"}
    wanted["newcomer_refused"] = "known_refused"
    figures = _figures(asked, sessions.as_they_are(), None, None)
    metrics.update({name: _defined(figures[source]) for name, source in wanted.items()})
    table = _per_animal(asked.labels, asked.nearest, means.animals)
    enrolled = set(newcomers.gallery_animals)
    metrics["newcomers"] = {animal: row for animal, row in table.items() if animal in enrolled}
    if newcomers.query_sessions is not None:
        rng = np.random.default_rng(seed)
        drawn = percentile_intervals(_redraw(asked, sessions, None, None, rng, draws))
        for name, source in wanted.items():
            if source in drawn:
                metrics["intervals"][name] = drawn[source]


def with_newcomers(means: ClassMeans, gallery: Floats, animals: Sequence[str]) -> ClassMeans:
    """Return the means with each of the animals enrolled from its own rows of gallery (G, D)."""
    owners = np.array(animals, dtype=np.str_)
    for animal in sorted(set(animals)):
        means = enrol(means, animal, gallery[owners == animal])
    return means


def _track_f1(
    embeddings: Floats,
    labels: NDArray[np.int64],
    tracks: Sequence[str],
    means: ClassMeans,
    frames: int,
) -> float:
    """Return macro F1 when up to `frames` consecutive queries of a track are averaged into one.

    Windows do not overlap; the last of a track may be shorter.
    """
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
    return measures.macro_f1_score(np.array(truth), np.argmin(distances, axis=1))


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
