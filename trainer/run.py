"""One recipe from images to bundle, metrics and report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.errors import UsageError
from edge.files import new_directory, write_atomically
from edge.identity.means import ClassMeans
from edge.release.bundle import DETECTOR_NAME, EMBEDDER_NAME, load_bundle
from edge.release.manifest import DetectorSpec, EmbedderSpec
from edge.vision.detector import Detector
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from trainer.bundle import (
    REPORT_NAME,
    add_means,
    add_self_test,
    training_record,
    write_manifest,
)
from trainer.clip import evaluate_clip, write_recipe_clip
from trainer.data.crops import CropSet, load_images
from trainer.data.frames import FrameSet, load_frames
from trainer.detection.train import TrainedDetector, check_detectable, train_detector
from trainer.embedding.judge import nearest_mean_macro_f1
from trainer.embedding.train import TrainedEmbedder, train_embedder
from trainer.evaluate.baselines import colour_features, untrained_embedder
from trainer.evaluate.detection import evaluate_detection
from trainer.evaluate.identification import Newcomers, evaluate_identification
from trainer.evaluate.report import ReportInputs, write_report
from trainer.export.detector import export_detector
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.means.build import EmbeddedCrops, MeansReport, embed_crops, means_from_embeddings
from trainer.progress import Report
from trainer.recipe import Recipe
from trainer.sources import CropData, FrameData, load_data

METRICS_NAME = "metrics.json"
_CALIBRATION_CROPS = 320
_CALIBRATION_FRAMES = 120
_SELF_TEST_CROPS = 6

# Given a stage's name, returns the bar that shows how far it is.
Stages = Callable[[str], AbstractContextManager[Report]]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """The embedder's side of a run: int8 model, class means, figures, and what the report shows."""

    trained: TrainedEmbedder
    spec: EmbedderSpec
    embedder: Embedder
    means: ClassMeans
    means_report: MeansReport
    gallery: EmbeddedCrops
    query: EmbeddedCrops
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The detector's side of a run: int8 model and figures. test: the frames asked."""

    trained: TrainedDetector
    spec: DetectorSpec
    detector: Detector
    test: FrameSet
    metrics: dict[str, Any]


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None,
    weights: Path | None,
    stages: Stages,
    keep_data: bool = False,
) -> dict[str, Any]:
    """Make `out/` (bundle/, metrics.json, report.html, the recipe's clip) and return the metrics.

    data: folder the recipe's paths are relative to. weights: pretrained backbone, a local file.
    keep_data: leave a simulated herd's images in `out/data`. Nothing is left half written: `out`
    appears by rename when all is done, and replaces an older one only then.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_run(out))):
        raise UsageError(f"{out}: exists and is not the result of a run; choose another --out")
    if weights is not None and not weights.is_file():
        raise UsageError(f"{weights}: no such weights file (--weights)")
    started = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with new_directory(out) as folder:
        bundle = folder / "bundle"
        bundle.mkdir()
        work = folder / "data"
        with stages("data") as report:
            images = load_data(recipe, data, work, report)
            # The detector comes last; what is wrong with its data is told before the embedder's.
            wanted = recipe.detector_options(weights)
            if wanted is not None and images.frames is not None:
                check_detectable(images.frames.fit, images.frames.held_out, wanted)
            report(1, 1)
        detection = None
        identity = _identity(recipe, images.crops, weights, bundle, created, stages)
        if images.frames is not None:
            detection = _detection(recipe, images.frames, weights, bundle, stages)
        add_means(bundle, identity.means)
        add_self_test(bundle, identity.embedder, _self_test_crops(images.crops, identity))
        seen = identity.trained.options.steps * _batch(identity.trained)
        metrics: dict[str, Any] = {
            "recipe": recipe.name,
            "train_s": 0.0,
            "images_per_s": identity.trained.images_per_s,
            "images_seen": seen,
            "identification": identity.metrics,
            "detection": detection.metrics if detection else None,
            "tracking": None,
        }

        def finish() -> None:
            write_manifest(
                bundle,
                seq=recipe.seq,
                created=created,
                detector=detection.spec if detection else None,
                embedder=identity.spec,
                means=identity.means,
                training=training_record(
                    msgspec.to_builtins(recipe),
                    images.digest,
                    recipe.seed,
                    {"test" if images.crops.test else "held_out": _summary(metrics)},
                ),
            )

        still = None
        if recipe.clip is not None and detection is not None:
            with stages("clip") as report:
                write_recipe_clip(recipe, folder, report)
            finish()  # the clip is judged by the bundle as a device loads it
            with stages("evaluating the clip") as report:
                metrics["tracking"], still = evaluate_clip(load_bundle(bundle), folder, report)
        metrics["train_s"] = time.monotonic() - started
        write_report(
            bundle / REPORT_NAME,
            ReportInputs(recipe, created, metrics, identity, detection, still, images.digest),
        )
        finish()
        load_bundle(bundle)
        write_atomically(folder / METRICS_NAME, encode_metrics(metrics))
        (folder / REPORT_NAME).write_bytes((bundle / REPORT_NAME).read_bytes())
        if not keep_data and work.exists():
            shutil.rmtree(work)
    return metrics


def encode_metrics(metrics: dict[str, Any]) -> bytes:
    """Return metrics as indented JSON; what is undefined is null."""
    plain = msgspec.json.encode(metrics, enc_hook=_plain)
    return msgspec.json.format(plain, indent=1) + b"\n"


def _identity(
    recipe: Recipe,
    crops: CropData,
    weights: Path | None,
    bundle: Path,
    created: str,
    stages: Stages,
) -> Identity:
    options = recipe.embedder_options(weights)
    with stages("training embedder") as report:
        trained = train_embedder(crops.fit, crops.held_out, options, report)
    size, colour = options.input_size, options.letterbox_colour
    with stages("embedder to int8") as report:
        chosen = _spread(len(crops.fit), _CALIBRATION_CROPS, recipe.seed)
        calibration = load_images(crops.fit.select(chosen), size, colour)
        spec = export_embedder(trained, calibration, bundle / EMBEDDER_NAME)
        embedder = Embedder(open_model(bundle / EMBEDDER_NAME), spec)
        report(1, 1)
    with stages("class means") as report:
        gallery = embed_crops(embedder, crops.herd, colour, report)
        held_out = embed_crops(embedder, crops.held_out, colour, report)
        means, means_report = means_from_embeddings(
            gallery,
            held_out,
            embedder_sha256=spec.sha256,
            seq=recipe.seq,
            created=created,
            options=recipe.means_options(),
        )
    with stages("naming test crops") as report:
        query = embed_crops(embedder, crops.test, colour, report) if crops.test else held_out
        unknown = embed_crops(embedder, crops.unknown, colour, report) if crops.unknown else None
        newcomers = None
        if crops.newcomer_gallery and crops.newcomer_query:
            enrolled = embed_crops(embedder, crops.newcomer_gallery, colour, report)
            asked = embed_crops(embedder, crops.newcomer_query, colour, report)
            newcomers = Newcomers(
                enrolled.embeddings, enrolled.crops.names(), asked.embeddings, asked.crops.names()
            )
        images = {
            name: load_images(part, size, colour)
            for name, part in (("herd", crops.herd), ("query", query.crops))
        }
        float_means, _ = means_from_embeddings(
            EmbeddedCrops(crops.herd, trained.embed(images["herd"])),
            EmbeddedCrops(crops.held_out, trained.embed(load_images(crops.held_out, size, colour))),
            embedder_sha256="",
            seq=0,
            created=created,
            options=recipe.means_options(),
        )
        names = query.crops.names()
        float_f1 = evaluate_identification(trained.embed(images["query"]), names, float_means)
        metrics = evaluate_identification(
            query.embeddings,
            names,
            means,
            unknown=unknown.embeddings if unknown else None,
            unknown_animals=unknown.crops.names() if unknown else None,
            newcomers=newcomers,
            tracks=query.crops.sessions,
            float_macro_f1=float_f1["macro_f1"],
        )
        metrics["split"] = "test" if crops.test else "held_out"
        metrics["crops"] = len(query.crops)
        metrics["animals"] = len(means.animals)
        metrics["parity"] = embedding_parity(
            trained, embedder, load_images(crops.held_out, size, colour)
        )
        metrics["baselines"] = _baselines(
            trained, crops.herd, images["herd"], query.crops, images["query"]
        )
        metrics["weights"] = trained.weights
        metrics["best_step"] = trained.best_step
    return Identity(trained, spec, embedder, means, means_report, gallery, query, metrics)


def _baselines(
    trained: TrainedEmbedder,
    herd: CropSet,
    herd_images: np.ndarray[Any, np.dtype[np.uint8]],
    query: CropSet,
    query_images: np.ndarray[Any, np.dtype[np.uint8]],
) -> dict[str, float]:
    """Return macro F1 of poor embedders on the same crops: how hard is this herd?"""
    index = {animal: label for label, animal in enumerate(herd.animals)}
    truth = np.array([index[name] for name in query.names()], np.int32)
    untrained = untrained_embedder(trained.options)
    return {
        "untrained_macro_f1": nearest_mean_macro_f1(
            untrained(herd_images), herd.labels, untrained(query_images), truth
        ),
        "colour_macro_f1": nearest_mean_macro_f1(
            colour_features(herd_images), herd.labels, colour_features(query_images), truth
        ),
    }


def _detection(
    recipe: Recipe, frames: FrameData, weights: Path | None, bundle: Path, stages: Stages
) -> Detection | None:
    options = recipe.detector_options(weights)
    if options is None:
        return None
    with stages("training detector") as report:
        trained = train_detector(frames.fit, frames.held_out, options, report)
    with stages("detector to int8") as report:
        chosen = _spread(len(frames.fit), _CALIBRATION_FRAMES, recipe.seed)
        calibration = load_frames(
            frames.fit.select(chosen), options.input_size, options.letterbox_colour
        )
        path = bundle / DETECTOR_NAME
        spec = export_detector(trained, calibration, path)
        twin = bundle.parent / "float.tflite"
        float_spec = export_detector(trained, calibration, twin, quantise=False)
        detector = Detector(open_model(path), spec)
        report(1, 1)
    test = frames.test or frames.held_out
    with stages("finding test animals") as report:
        metrics = evaluate_detection(detector.detect, test, report)
        reference = evaluate_detection(Detector(open_model(twin), float_spec).detect, test, report)
        twin.unlink()
    metrics["int8_ap_drop"] = reference["ap"] - metrics["ap"]
    metrics["float"] = {name: reference[name] for name in ("ap", "ap50", "ap75", "ar")}
    metrics["split"] = "test" if frames.test is not None else "held_out"
    metrics["frames"] = len(test)
    metrics["images_per_s"] = trained.images_per_s
    metrics["weights"] = trained.weights
    return Detection(trained, spec, detector, test, metrics)


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the figures short enough for a manifest: no tables."""
    return {
        part: {name: value for name, value in figures.items() if isinstance(value, float)}
        for part, figures in metrics.items()
        if isinstance(figures, dict)
    }


def _self_test_crops(crops: CropData, identity: Identity) -> Any:
    chosen = _spread(len(crops.held_out), _SELF_TEST_CROPS, 0)
    options = identity.trained.options
    return load_images(crops.held_out.select(chosen), options.input_size, options.letterbox_colour)


def _spread(count: int, most: int, seed: int) -> Any:
    """Return at most `most` of `count` indices, drawn evenly."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _batch(trained: TrainedEmbedder) -> int:
    return trained.options.classes_per_batch * trained.options.images_per_class


def _is_run(out: Path) -> bool:
    return (out / METRICS_NAME).is_file() and (out / "bundle").is_dir()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a metric of type {type(value)}")
