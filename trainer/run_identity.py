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
from trainer.embedding.train import TrainedEmbedder, refit, train_embedder
from trainer.evaluate.baselines import colour_features, untrained_embedder
from trainer.evaluate.identification import Newcomers, evaluate_identification
from trainer.export.classifier import classifier_macro_f1
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.means.build import (
    GALLERY_TURNS,
    EmbeddedCrops,
    MeansReport,
    embed_crops,
    embed_gallery,
    means_from_embeddings,
    recalibrated,
)
from trainer.means.prototypes import MeansOptions
from trainer.recipe import Recipe
from trainer.sources import CropData
from trainer.stages import Stages, spread

FLOAT_NAME = "embedder_float.tflite"
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
    size, colour = options.input_size, options.letterbox_colour
    means_options = recipe.means_options()
    with stages("embedder to int8") as report:
        chosen = spread(len(crops.fit), _CALIBRATION_CROPS, recipe.seed)
        calibration = load_images(crops.fit.select(chosen), size, colour)
        final = _convert(learned.final, calibration, folder / "bundle" / EMBEDDER_NAME)
        export_embedder(learned.final, calibration, folder / FLOAT_NAME, quantise=False)
        first = final
        if learned.first is not learned.final:
            first = _convert(learned.first, calibration, folder / "first.tflite")
        report(1, 1)
    with stages("class means") as report:
        gallery = embed_gallery(first.embedder, crops.herd, colour, report)
        held_out = embed_crops(first.embedder, crops.held_out, colour, report)
        calibrated, means_report = means_from_embeddings(
            gallery,
            held_out,
            embedder_sha256=final.spec.sha256,
            seq=recipe.seq,
            created=created,
            options=means_options,
            negatives=embed_crops(first.embedder, crops.negatives, colour, report).embeddings
            if crops.negatives
            else None,
        )
        # The thresholds of the first network hold for the final one: it learned the same way, and
        # has seen more of the animals.
        references = joined([crops.herd, crops.held_out])
        gallery = embed_gallery(final.embedder, references, colour, report)
        means, dropped = recalibrated(calibrated, gallery, means_options)
        means_report = MeansReport(dropped, means_report.prototypes, means_report.calibration)
    # Who is asked: on held-out crops only what has neither learned from them nor refers to them.
    asked, judged = (final, means) if crops.test is not None else (first, calibrated)
    with stages("naming test crops") as report:

        def embed(part: CropSet | None, how: Any = embed_crops) -> EmbeddedCrops | None:
            return how(asked.embedder, part, colour, report) if part is not None else None

        query = embed(crops.test) if crops.test is not None else held_out
        assert query is not None
        unknown = embed(crops.unknown)
        enrolled, newcomers = embed(crops.newcomer_gallery, embed_gallery), None
        if enrolled is not None and (queries := embed(crops.newcomer_query)) is not None:
            newcomers = Newcomers(
                enrolled.embeddings,
                enrolled.crops.names(),
                queries.embeddings,
                queries.crops.names(),
                queries.crops.sessions,
            )
        images = {
            name: load_images(part, size, colour)
            for name, part in (
                ("herd", crops.herd),
                ("held_out", crops.held_out),
                ("query", query.crops),
                ("unknown", crops.unknown),
            )
            if part is not None
        }
        reference = _float_figures(crops, asked.trained, images, judged, means_options)
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
        metrics["animals"] = len(means.animals)
        metrics["parity"] = {
            **embedding_parity(asked.trained, asked.embedder, images["held_out"]),
            "int8": {name: metrics[name] for name in _COMPARED},
            "float": {name: reference[name] for name in _COMPARED},
        }
        metrics["baselines"] = _baselines(
            learned.first, crops.herd, images["herd"], query.crops, images["query"]
        )
        metrics["weights"] = learned.final.weights
        metrics["best_step"] = learned.first.best_step
        metrics["warnings"] = list(crops.warnings)
        metrics["calibration"] = calibrated.header.calibration
        metrics["classifier_macro_f1"] = None
        if "softmax" in options.losses:
            truth = _truth(crops.herd, query.crops)
            metrics["classifier_macro_f1"] = classifier_macro_f1(
                asked.trained, calibration, images["query"], truth, folder
            )
    if first is not final:
        (folder / "first.tflite").unlink()
    return Identity(
        learned, final.spec, final.embedder, means, judged, means_report, gallery, query, metrics
    )


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
    embeddings = np.concatenate([trained.embed(images[name], GALLERY_TURNS) for name, _ in parts])
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


def _truth(herd: CropSet, query: CropSet) -> NDArray[np.int32]:
    index = {animal: label for label, animal in enumerate(herd.animals)}
    return np.array([index[name] for name in query.names()], np.int32)
