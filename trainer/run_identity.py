"""The embedder's side of a run: training, int8, class means, figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.identity.means import ClassMeans
from edge.release.bundle import EMBEDDER_NAME
from edge.release.manifest import EmbedderSpec
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from trainer.data.crops import CropSet, joined, load_images
from trainer.embedding.judge import nearest_mean_macro_f1
from trainer.embedding.options import EmbedderOptions
from trainer.embedding.train import TrainedEmbedder, refit, train_embedder
from trainer.evaluate.baselines import colour_features, untrained_embedder
from trainer.evaluate.identification import Newcomers, evaluate_identification
from trainer.export.classifier import classifier_macro_f1
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.means.build import MeansReport, means_from_embeddings, recalibrated, with_outliers
from trainer.means.embed import EmbeddedCrops, embed_crops, embed_gallery
from trainer.means.prototypes import MeansOptions
from trainer.progress import Report
from trainer.recipe import Recipe
from trainer.sources import CropData
from trainer.stages import Stages, spread

FLOAT_NAME = "embedder_float.tflite"
_FIRST_NAME = "first.tflite"
_CALIBRATION_CROPS = 320
_COMPARED = ("macro_f1", "accuracy", "rank1", "auroc")


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """first: trained without the held-out crops, to calibrate on. final: what the bundle gets.

    They are the same without a refit.
    """

    first: TrainedEmbedder
    final: TrainedEmbedder


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """The embedder's side of a run: int8 model, class means, figures, and what the report shows.

    means: as the bundle gets them. judged: those that the figures are about; without test crops
    they lack the held-out sessions, on which they are asked.
    """

    learned: Learned
    spec: EmbedderSpec
    embedder: Embedder
    means: ClassMeans
    judged: ClassMeans
    means_report: MeansReport
    gallery: EmbeddedCrops
    query: EmbeddedCrops
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Converted:
    """A trained embedder and its int8 form."""

    trained: TrainedEmbedder
    spec: EmbedderSpec
    embedder: Embedder


def learn(
    recipe: Recipe,
    crops: CropData,
    weights: Path | None,
    stages: Stages,
    *,
    state: Path,
    key: str,
    strategy: tf.distribute.Strategy,
) -> Learned:
    """Train the recipe's embedder, or go on with a training that `state` holds under `key`."""
    options = recipe.embedder_options(weights)
    with stages("training embedder") as report:
        trained = train_embedder(
            crops.fit,
            crops.held_out,
            options,
            report,
            state=state,
            key=key,
            strategy=strategy,
        )
    if not options.refit_steps:
        return Learned(trained, trained)
    with stages("refit on all crops") as report:
        everything = joined([crops.fit, crops.held_out])
        refitted = refit(
            trained, everything, report, state=state, key=f"{key} refit", strategy=strategy
        )
    return Learned(trained, refitted)


def identify(
    recipe: Recipe, crops: CropData, learned: Learned, folder: Path, created: str, stages: Stages
) -> Identity:
    """Put the final embedder's int8 form into `folder/bundle`, make class means, measure both.

    The float twin goes to `folder` itself: devices have no use for it.
    """
    options = learned.final.options
    with stages("embedder to int8") as report:
        chosen = spread(len(crops.fit), _CALIBRATION_CROPS, recipe.seed)
        calibration = load_images(
            crops.fit.select(chosen), options.input_size, options.letterbox_colour
        )
        final = _convert(learned.final, calibration, folder / "bundle" / EMBEDDER_NAME)
        export_embedder(learned.final, calibration, folder / FLOAT_NAME, quantise=False)
        first = final
        if learned.first is not learned.final:
            first = _convert(learned.first, calibration, folder / _FIRST_NAME)
        report(1, 1)
    with stages("class means") as report:
        calibrated, calibration_record = _calibrate(recipe, crops, first, final, created, report)
        means, gallery, dropped = _refer(recipe, crops, calibrated, final, report)
    # Who is asked: on held-out crops only what has neither learned from them nor refers to them.
    asked, judged = (final, means) if crops.test is not None else (first, calibrated)
    with stages("naming test crops") as report:
        query, metrics = _measure(recipe, crops, asked, judged, report)
        metrics["weights"] = learned.final.weights
        metrics["best_step"] = learned.first.best_step
        metrics["warnings"] = [*crops.warnings, *_doubts(options)]
        metrics["calibration"] = calibration_record.calibration
        metrics["classifier_macro_f1"] = None
        if "softmax" in options.losses:
            images = load_images(query.crops, options.input_size, options.letterbox_colour)
            metrics["classifier_macro_f1"] = classifier_macro_f1(
                asked.trained, calibration, images, _truth(crops.herd, query.crops), folder
            )
    (folder / _FIRST_NAME).unlink(missing_ok=True)
    report_of_means = MeansReport(
        dropped, calibration_record.prototypes, calibration_record.calibration
    )
    return Identity(
        learned, final.spec, final.embedder, means, judged, report_of_means, gallery, query, metrics
    )


def _calibrate(
    recipe: Recipe,
    crops: CropData,
    first: _Converted,
    final: _Converted,
    created: str,
    report: Report,
) -> tuple[ClassMeans, MeansReport]:
    """Return class means by the network that has not learned from the held-out crops.

    Their thresholds hold for the final network: it learned the same way, and saw more of the herd.
    """
    colour = first.spec.letterbox_colour
    negatives = None
    if crops.negatives is not None:
        negatives = embed_crops(first.embedder, crops.negatives, colour, report)
    return means_from_embeddings(
        embed_gallery(first.embedder, crops.herd, colour, report),
        embed_crops(first.embedder, crops.held_out, colour, report),
        embedder_sha256=final.spec.sha256,
        seq=recipe.seq,
        created=created,
        options=recipe.means_options(),
        negatives=negatives,
        references=embed_gallery(first.embedder, crops.held_out, colour, report),
    )


def _refer(
    recipe: Recipe, crops: CropData, calibrated: ClassMeans, final: _Converted, report: Report
) -> tuple[ClassMeans, EmbeddedCrops, tuple[Path, ...]]:
    """Return the bundle's class means, of all sessions by the final network, and their gallery."""
    colour, options = final.spec.letterbox_colour, recipe.means_options()
    gallery = embed_gallery(final.embedder, joined([crops.herd, crops.held_out]), colour, report)
    means, dropped = recalibrated(calibrated, gallery, options)
    if crops.negatives is not None:
        negatives = embed_crops(final.embedder, crops.negatives, colour, report)
        known = embed_crops(final.embedder, crops.held_out, colour, report).embeddings
        means = with_outliers(means, negatives, known, options)
    return means, gallery, dropped


def _measure(
    recipe: Recipe, crops: CropData, asked: _Converted, judged: ClassMeans, report: Report
) -> tuple[EmbeddedCrops, dict[str, Any]]:
    """Return the crops that were asked and the figures of `evaluate identification`."""
    colour = asked.spec.letterbox_colour

    def embed(part: CropSet) -> EmbeddedCrops:
        return embed_crops(asked.embedder, part, colour, report)

    query = embed(crops.test or crops.held_out)
    unknown, newcomers = None, None
    if crops.unknown is not None:
        unknown = embed(crops.unknown)
    if crops.newcomer_gallery is not None and crops.newcomer_query is not None:
        enrolled = embed_gallery(asked.embedder, crops.newcomer_gallery, colour, report)
        queries = embed(crops.newcomer_query)
        newcomers = Newcomers(
            enrolled.embeddings,
            enrolled.crops.names(),
            queries.embeddings,
            queries.crops.names(),
            queries.crops.sessions,
        )
    images = {
        name: load_images(part, asked.embedder.size, colour)
        for name, part in (
            ("herd", crops.herd),
            ("held_out", crops.held_out),
            ("query", query.crops),
            ("unknown", crops.unknown),
        )
        if part is not None
    }
    reference = _float_figures(crops, asked.trained, images, judged, recipe.means_options())
    metrics = evaluate_identification(
        query.embeddings,
        query.crops.names(),
        judged,
        unknown=unknown.embeddings if unknown else None,
        unknown_animals=unknown.crops.names() if unknown else None,
        newcomers=newcomers,
        tracks=query.crops.sessions,
        float_macro_f1=reference["macro_f1"],
    )
    metrics["split"] = "test" if crops.test else "held_out"
    metrics["crops"] = len(query.crops)
    metrics["animals"] = len(judged.animals)
    metrics["parity"] = {
        **embedding_parity(asked.trained, asked.embedder, images["held_out"]),
        "int8": {name: metrics[name] for name in _COMPARED},
        "float": {name: reference[name] for name in _COMPARED},
    }
    metrics["baselines"] = _baselines(
        asked.trained, crops.herd, images["herd"], query.crops, images["query"]
    )
    return query, metrics


def _convert(trained: TrainedEmbedder, calibration: NDArray[np.uint8], path: Path) -> _Converted:
    spec = export_embedder(trained, calibration, path)
    return _Converted(trained, spec, Embedder(open_model(path), spec))


def _float_figures(
    crops: CropData,
    trained: TrainedEmbedder,
    images: dict[str, NDArray[np.uint8]],
    judged: ClassMeans,
    options: MeansOptions,
) -> dict[str, Any]:
    """Return the figures of the same crops by the float model and means of its own.

    judged: the int8 model's means, whose calibration and numbers of prototypes hold for both.
    """
    parts = [("herd", crops.herd)]
    if crops.test is not None:
        parts.append(("held_out", crops.held_out))
    embeddings = np.concatenate(
        [trained.embed(images[name], trained.options.gallery_turns) for name, _ in parts]
    )
    gallery = EmbeddedCrops(joined([part for _, part in parts]), embeddings)
    means, _ = recalibrated(judged, gallery, options)
    return evaluate_identification(
        trained.embed(images["query"]),
        (crops.test or crops.held_out).names(),
        means,
        unknown=trained.embed(images["unknown"]) if crops.unknown else None,
    )


def _baselines(
    trained: TrainedEmbedder,
    herd: CropSet,
    herd_images: NDArray[np.uint8],
    query: CropSet,
    query_images: NDArray[np.uint8],
) -> dict[str, float]:
    """Return macro F1 of poor embedders on the same crops: how hard is this herd?"""
    truth = _truth(herd, query)
    untrained = untrained_embedder(trained.options)
    return {
        "untrained_macro_f1": nearest_mean_macro_f1(
            untrained(herd_images), herd.labels, untrained(query_images), truth
        ),
        "colour_macro_f1": nearest_mean_macro_f1(
            colour_features(herd_images), herd.labels, colour_features(query_images), truth
        ),
    }


def _doubts(options: EmbedderOptions) -> list[str]:
    if options.freeze_through is not None and options.weights is None:
        return ["layers are frozen that were never trained: give weights, or no freeze_through"]
    return []


def _truth(herd: CropSet, query: CropSet) -> NDArray[np.int32]:
    index = {animal: label for label, animal in enumerate(herd.animals)}
    return np.array([index[name] for name in query.names()], np.int32)
