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
from trainer.data.crops import CropSet, load_images
from trainer.embedding.judge import nearest_mean_macro_f1
from trainer.embedding.train import TrainedEmbedder, train_embedder
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
    with_held_out,
)
from trainer.means.prototypes import unit_rows
from trainer.recipe import Recipe
from trainer.sources import CropData
from trainer.stages import Stages, spread

FLOAT_NAME = "embedder_float.tflite"
_CALIBRATION_CROPS = 320
_COMPARED = ("macro_f1", "accuracy", "rank1", "auroc")


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """The embedder's side of a run: int8 model, class means, figures, and what the report shows.

    means: as the bundle gets them. judged: those that the figures are about; without test crops
    they lack the held-out sessions, on which they are asked.
    """

    trained: TrainedEmbedder
    spec: EmbedderSpec
    embedder: Embedder
    means: ClassMeans
    judged: ClassMeans
    means_report: MeansReport
    gallery: EmbeddedCrops
    query: EmbeddedCrops
    metrics: dict[str, Any]


def learn(
    recipe: Recipe,
    crops: CropData,
    weights: Path | None,
    stages: Stages,
    *,
    state: Path,
    key: str,
    strategy: tf.distribute.Strategy,
) -> TrainedEmbedder:
    """Train the recipe's embedder, or go on with a training that `state` holds under `key`."""
    with stages("training embedder") as report:
        return train_embedder(
            crops.fit,
            crops.held_out,
            recipe.embedder_options(weights),
            report,
            state=state,
            key=key,
            strategy=strategy,
        )


def identify(
    recipe: Recipe,
    crops: CropData,
    trained: TrainedEmbedder,
    folder: Path,
    created: str,
    stages: Stages,
) -> Identity:
    """Put a trained embedder's int8 form into `folder/bundle`, make class means, measure both.

    The float twin goes to `folder` itself: devices have no use for it.
    """
    options = trained.options
    size, colour = options.input_size, options.letterbox_colour
    path = folder / "bundle" / EMBEDDER_NAME
    with stages("embedder to int8") as report:
        chosen = spread(len(crops.fit), _CALIBRATION_CROPS, recipe.seed)
        calibration = load_images(crops.fit.select(chosen), size, colour)
        spec = export_embedder(trained, calibration, path)
        export_embedder(trained, calibration, folder / FLOAT_NAME, quantise=False)
        embedder = Embedder(open_model(path), spec)
        report(1, 1)
    with stages("class means") as report:
        gallery = embed_gallery(embedder, crops.herd, colour, report)
        references = embed_gallery(embedder, crops.held_out, colour, report)
        held_out = embed_crops(embedder, crops.held_out, colour, report)
        calibrated, means_report = means_from_embeddings(
            gallery,
            held_out,
            embedder_sha256=spec.sha256,
            seq=recipe.seq,
            created=created,
            options=recipe.means_options(),
            negatives=embed_crops(embedder, crops.negatives, colour, report).embeddings
            if crops.negatives
            else None,
        )
        means, dropped = with_held_out(calibrated, gallery, references, recipe.means_options())
        means_report = MeansReport(dropped, means_report.prototypes, means_report.calibration)
        judged = means if crops.test is not None else calibrated
    with stages("naming test crops") as report:
        query = embed_crops(embedder, crops.test, colour, report) if crops.test else held_out
        unknown = embed_crops(embedder, crops.unknown, colour, report) if crops.unknown else None
        newcomers = None
        if crops.newcomer_gallery and crops.newcomer_query:
            enrolled = embed_gallery(embedder, crops.newcomer_gallery, colour, report)
            asked = embed_crops(embedder, crops.newcomer_query, colour, report)
            newcomers = Newcomers(
                enrolled.embeddings,
                enrolled.crops.names(),
                asked.embeddings,
                asked.crops.names(),
                asked.crops.sessions,
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
        reference = _float_figures(recipe, crops, trained, images, created)
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
            **embedding_parity(trained, embedder, images["held_out"]),
            "int8": {name: metrics[name] for name in _COMPARED},
            "float": {name: reference[name] for name in _COMPARED},
        }
        metrics["baselines"] = _baselines(
            trained, crops.herd, images["herd"], query.crops, images["query"]
        )
        metrics["weights"] = trained.weights
        metrics["best_step"] = trained.best_step
        metrics["warnings"] = list(crops.warnings)
        metrics["classifier_macro_f1"] = None
        if trained.classifier is not None:
            truth = _truth(crops.herd, query.crops)
            metrics["classifier_macro_f1"] = classifier_macro_f1(
                trained, calibration, images["query"], truth, folder
            )
    return Identity(trained, spec, embedder, means, judged, means_report, gallery, query, metrics)


def _float_figures(
    recipe: Recipe,
    crops: CropData,
    trained: TrainedEmbedder,
    images: dict[str, NDArray[np.uint8]],
    created: str,
) -> dict[str, Any]:
    """Return the figures of the same crops by the float model and means of its own."""

    def gallery(part: CropSet, pictures: NDArray[np.uint8]) -> EmbeddedCrops:
        turned = [
            trained.embed(np.rot90(pictures, quarter, (1, 2))) for quarter in range(GALLERY_TURNS)
        ]
        return EmbeddedCrops(part, unit_rows(np.mean(turned, axis=0)))

    herd = gallery(crops.herd, images["herd"])
    options = recipe.means_options()
    means, _ = means_from_embeddings(
        herd,
        EmbeddedCrops(crops.held_out, trained.embed(images["held_out"])),
        embedder_sha256="",
        seq=0,
        created=created,
        options=options,
    )
    asked = crops.test or crops.held_out
    if crops.test is not None:
        means, _ = with_held_out(means, herd, gallery(crops.held_out, images["held_out"]), options)
    return evaluate_identification(
        trained.embed(images["query"]),
        asked.names(),
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
