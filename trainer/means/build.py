"""Class means that hold up: trimmed unit prototypes, several an animal, calibrated thresholds.

Every embedding comes from the int8 model through the device's own code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from edge.vision.embedder import Embedder
from edge.vision.types import Floats
from trainer.data.crops import CropSet, joined
from trainer.evaluate.measures import macro_f1_score
from trainer.means.edit import usual_threshold
from trainer.means.embed import EmbeddedCrops, embed_crops, embed_gallery
from trainer.means.leave_out import (
    distances_to,
    without_held_out_session,
    without_own_session,
)
from trainer.means.prototypes import (
    MeansOptions,
    outlier_prototypes,
    robust_prototypes,
)
from trainer.means.thresholds import Thresholds, calibrate
from trainer.progress import Report, silent

_LEAST_GAIN = 2e-3
_FEWEST_NEGATIVES = 16  # to make outliers prototypes of half of them


@dataclass(frozen=True, slots=True)
class MeansReport:
    """dropped: trimmed image files. prototypes: how many each animal has. calibration: figures."""

    dropped: tuple[Path, ...]
    prototypes: dict[str, int]
    calibration: dict[str, Any]


def build_means(
    embedder: Embedder,
    train: CropSet,
    held_out: CropSet | None,
    *,
    embedder_sha256: str,
    seq: int,
    created: str,
    options: MeansOptions | None = None,
    negatives: CropSet | None = None,
    report: Report = silent,
) -> tuple[ClassMeans, MeansReport]:
    """Embed the crops and return the herd's class means and what was done to them.

    held_out: other sessions of (some of) the same animals; thresholds, margin and the number of
    prototypes are chosen on them. negatives: see `means_from_embeddings`. created: ISO 8601 time
    for the header.
    """
    options = options or MeansOptions()
    colour = options.letterbox_colour
    gallery = embed_gallery(embedder, train, colour, report)
    asked = embed_crops(embedder, held_out, colour, report) if held_out else None
    seen_once = None if held_out else embed_crops(embedder, train, colour, report)
    strangers = embed_crops(embedder, negatives, colour, report) if negatives else None
    return means_from_embeddings(
        gallery,
        asked,
        embedder_sha256=embedder_sha256,
        seq=seq,
        created=created,
        options=options,
        negatives=strangers,
        seen_once=seen_once,
    )


def means_from_embeddings(
    gallery: EmbeddedCrops,
    held_out: EmbeddedCrops | None,
    *,
    embedder_sha256: str,
    seq: int,
    created: str,
    options: MeansOptions | None = None,
    negatives: EmbeddedCrops | None = None,
    seen_once: EmbeddedCrops | None = None,
    references: EmbeddedCrops | None = None,
) -> tuple[ClassMeans, MeansReport]:
    """Do what `build_means` does, from embeddings.

    negatives: crops of none of the animals, half bodies, blur. Half of them, by whole animals
    (folders), or by whole sessions where they are of one, make outliers prototypes and the others
    calibrate. seen_once: the gallery's crops as a device sees them, to calibrate on without
    `held_out`; without either, the gallery itself is asked, which is too kind when its
    embeddings are those of several turns. references: the held-out crops as a gallery embeds them,
    where they will join the gallery (`with_held_out`): thresholds are then calibrated for means
    that know all sessions but the one that is asked.

    Raises DataError for an empty gallery or held-out crops of an animal that is not in it.
    """
    options = options or MeansOptions()
    gallery = EmbeddedCrops(gallery.crops.without_empty(), gallery.embeddings)
    crops = gallery.crops
    if not len(crops):
        raise DataError("class means need at least one crop")
    animals = range(len(crops.animals))
    most = options.prototypes_max if held_out is not None and len(held_out.crops) else 1
    candidates = [
        [robust_prototypes(gallery.of(label), k, options) for k in range(1, most + 1)]
        for label in animals
    ]
    if held_out is not None and len(held_out.crops):
        source = "held_out"
        queries, sessions = held_out.embeddings, held_out.crops.sessions
        labels = _labels_among(held_out.crops, crops.animals)
        chosen = _choose_counts(candidates, queries, labels)
    else:
        source = "left_out_sessions"
        # A device sees a crop once, not in four turns.
        queries = (seen_once or gallery).embeddings
        labels, sessions = crops.labels, crops.sessions
        chosen = [0] * len(candidates)
    prototypes = [candidates[label][chosen[label]][0] for label in animals]
    distances = distances_to(queries, prototypes)
    shipped = prototypes
    if references is not None and source == "held_out":
        counts = [len(own) for own in prototypes]
        distances, shipped = without_held_out_session(gallery, references, queries, counts, options)
    if source == "left_out_sessions":
        distances, fair = without_own_session(gallery, queries, distances, options)
        distances, queries, labels = distances[fair], queries[fair], labels[fair]
        sessions = tuple(np.array(sessions, dtype=np.str_)[fair].tolist())
    outliers = np.zeros((0, queries.shape[1]), np.float32)
    refused = None
    if negatives is not None and len(negatives.crops):
        # What outliers prototypes are made of lies too near to them to calibrate on.
        fitted, asked = _two_parts(negatives)
        outliers = outlier_prototypes(fitted, queries, distances, options)
        distances = _claim(queries, distances, outliers)
        refused = _claim(asked, distances_to(asked, shipped), outliers)
    thresholds = calibrate(
        distances,
        labels,
        sessions,
        negatives=refused,
        precision=options.precision,
        accept=options.accept,
    )
    kept = np.zeros(len(crops), bool)
    for label in animals:
        kept[crops.labels == label] = candidates[label][chosen[label]][1]
    return _assemble(
        gallery, kept, prototypes, outliers, thresholds, source, embedder_sha256, seq, created
    )


def with_held_out(
    means: ClassMeans,
    gallery: EmbeddedCrops,
    held_out: EmbeddedCrops,
    options: MeansOptions | None = None,
) -> tuple[ClassMeans, tuple[Path, ...]]:
    """Return the means with prototypes of gallery and held-out sessions together.

    What was held out to calibrate is worth most as a reference: other days, which the embedder was
    not trained on. The calibration stays. Also returns the files that
    were trimmed. The held-out crops say nothing any more about the means that come back.
    """
    crops = joined([gallery.crops, held_out.crops])
    embeddings = np.concatenate([gallery.embeddings, held_out.embeddings])
    return recalibrated(means, EmbeddedCrops(crops, embeddings), options)


def recalibrated(
    means: ClassMeans, gallery: EmbeddedCrops, options: MeansOptions | None = None
) -> tuple[ClassMeans, tuple[Path, ...]]:
    """Return class means of a gallery's animals under the calibration of other means.

    For a gallery that cannot calibrate itself, such as crops that the embedder was trained on,
    which lie too near to each other. An animal that `means` knows keeps its threshold and its
    number of prototypes; another gets the herd's usual threshold and one prototype; margin and
    outliers prototypes stay. Also returns the files that were trimmed.
    """
    options = options or MeansOptions()
    crops = gallery.crops
    sums = np.zeros((len(crops.animals), gallery.embeddings.shape[1]), np.float64)
    counts = np.zeros(len(crops.animals), np.int64)
    thresholds = np.full(len(crops.animals), usual_threshold(means), np.float32)
    prototypes, owner, dropped = [], [], []
    for label, animal in enumerate(crops.animals):
        count = 1
        if animal in means.animals:
            place = means.animals.index(animal)
            count = max(1, int(np.sum(means.owner == place)))
            thresholds[label] = means.threshold[place]
        rows = np.flatnonzero(crops.labels == label)
        own, kept = robust_prototypes(gallery.embeddings[rows], count, options)
        prototypes.append(own)
        owner += [label] * len(own)
        sums[label] = gallery.embeddings[rows[kept]].sum(axis=0, dtype=np.float64)
        counts[label] = int(kept.sum())
        dropped += [crops.paths[row] for row in rows[~kept]]
    outliers = means.prototypes[means.owner == OUTLIERS]
    owner += [OUTLIERS] * len(outliers)
    remade = replace(
        means,
        animals=crops.animals,
        prototypes=np.concatenate([*prototypes, outliers]).astype(np.float32),
        owner=np.array(owner, np.int32),
        sums=sums,
        counts=counts,
        threshold=thresholds,
    )
    return remade, tuple(dropped)


def with_outliers(
    means: ClassMeans,
    negatives: EmbeddedCrops,
    queries: Floats,
    options: MeansOptions | None = None,
) -> ClassMeans:
    """Return the means with outliers prototypes made anew, for an embedder that has changed.

    negatives: as in `means_from_embeddings`; the same half makes prototypes. queries: known crops
    (Q, D), hardly any of which a prototype may claim.
    """
    herd = means.owner != OUTLIERS
    prototypes = means.prototypes[herd]
    distances = 1 - (queries @ prototypes.T).max(axis=1, keepdims=True)
    fitted, _ = _two_parts(negatives)
    outliers = outlier_prototypes(fitted, queries, distances, options or MeansOptions())
    return replace(
        means,
        prototypes=np.concatenate([prototypes, outliers]).astype(np.float32),
        owner=np.append(means.owner[herd], np.full(len(outliers), OUTLIERS)).astype(np.int32),
    )


def _labels_among(crops: CropSet, animals: tuple[str, ...]) -> NDArray[np.int32]:
    index = {animal: label for label, animal in enumerate(animals)}
    strangers = sorted(set(crops.names()) - set(index))
    if strangers:
        raise DataError(f"held-out animal {strangers[0]!r} has no crops among those for the means")
    return np.array([index[name] for name in crops.names()], np.int32)


def _choose_counts(
    candidates: list[list[tuple[Floats, NDArray[np.bool_]]]],
    queries: Floats,
    labels: NDArray[np.int32],
) -> list[int]:
    """Return for each animal which candidate to take: more prototypes only for a better F1."""
    distances = distances_to(queries, [own[0][0] for own in candidates])
    chosen = [0] * len(candidates)
    best = macro_f1_score(labels, np.argmin(distances, axis=1))
    for label, own in enumerate(candidates):
        for index in range(1, len(own)):
            trial = distances.copy()
            trial[:, label] = 1 - (queries @ own[index][0].T).max(axis=1)
            score = macro_f1_score(labels, np.argmin(trial, axis=1))
            if score >= best + _LEAST_GAIN:
                best, distances, chosen[label] = score, trial, index
    return chosen


def _two_parts(negatives: EmbeddedCrops) -> tuple[Floats, Floats]:
    """Return embeddings (to fit, to ask), about as many of each; none to fit where they are few.

    By whole animals, or by whole sessions of a single one: the same stranger on both sides would
    flatter the calibration.
    """
    crops = negatives.crops.without_empty()
    groups: NDArray[Any] = crops.labels
    if len(crops.animals) == 1:
        groups = np.unique(np.array(crops.sessions, dtype=np.str_), return_inverse=True)[1]
    sizes = np.bincount(groups.reshape(-1))
    if len(crops) < _FEWEST_NEGATIVES or len(sizes) < 2:
        return negatives.embeddings[:0], negatives.embeddings
    to_fit = np.zeros(len(sizes), bool)
    balance = 0
    for group in np.argsort(-sizes, kind="stable"):
        to_fit[group] = balance > 0
        balance += -sizes[group] if to_fit[group] else sizes[group]
    fitted = to_fit[groups.reshape(-1)]
    return negatives.embeddings[fitted], negatives.embeddings[~fitted]


def _claim(embeddings: Floats, distances: Floats, outliers: Floats) -> Floats:
    """Return distances (N, A), inf in the rows that an outliers prototype is nearest to."""
    if not len(outliers):
        return distances
    claimed = (1 - (embeddings @ outliers.T).max(axis=1)) < distances.min(axis=1)
    return np.where(claimed[:, None], np.float32(np.inf), distances)


def _assemble(
    gallery: EmbeddedCrops,
    kept: NDArray[np.bool_],
    prototypes: list[Floats],
    outliers: Floats,
    thresholds: Thresholds,
    source: str,
    embedder_sha256: str,
    seq: int,
    created: str,
) -> tuple[ClassMeans, MeansReport]:
    crops = gallery.crops
    sums = np.zeros((len(crops.animals), gallery.embeddings.shape[1]), np.float64)
    np.add.at(sums, crops.labels[kept], gallery.embeddings[kept].astype(np.float64))
    counts = np.bincount(crops.labels[kept], minlength=len(crops.animals)).astype(np.int64)
    sizes = [len(own) for own in prototypes]
    owner = np.repeat(np.arange(len(sizes)), sizes).tolist() + [OUTLIERS] * len(outliers)
    calibration = {"source": source, **thresholds.record, "outliers": len(outliers)}
    header = MeansHeader(
        seq=seq, embedder_sha256=embedder_sha256, created=created, calibration=calibration
    )
    means = ClassMeans(
        crops.animals,
        np.concatenate([*prototypes, outliers]).astype(np.float32),
        np.array(owner, np.int32),
        sums,
        counts,
        thresholds.threshold,
        float(np.float32(thresholds.margin)),
        header,
    )
    dropped = tuple(path for path, keep in zip(crops.paths, kept, strict=True) if not keep)
    return means, MeansReport(dropped, dict(zip(crops.animals, sizes, strict=True)), calibration)
