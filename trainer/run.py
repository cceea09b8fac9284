"""One recipe from images to bundle, metrics and report."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

from edge import __version__
from edge.errors import UsageError
from edge.files import new_directory, sha256_file, write_atomically
from edge.release.bundle import DETECTOR_EDGETPU_NAME, DETECTOR_NAME, load_bundle
from edge.release.selftest import GoldenFrames, golden_frames
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from trainer.bundle import (
    REPORT_NAME,
    add_means,
    add_self_test,
    training_record,
    write_manifest,
)
from trainer.clip import TRUTH_NAME, evaluate_clip, write_recipe_clip
from trainer.course import LOGS_NAME
from trainer.data.crops import load_images
from trainer.data.frames import load_frames
from trainer.detection.options import DetectorOptions
from trainer.detection.train import check_detectable
from trainer.detection.weights import WEIGHTS_NAME
from trainer.detector_spec import DETECTOR_SPEC_NAME, save_spec
from trainer.evaluate.report import ReportInputs, write_report
from trainer.export.edgetpu_bundle import add_compiled_models
from trainer.export.edgetpu_compile import log_name
from trainer.recipe import Recipe
from trainer.run_detection import FLOAT_NAME as FLOAT_DETECTOR_NAME
from trainer.run_detection import Detection, run_detection
from trainer.run_identity import FLOAT_NAME, Identity, Learned, identify, learn
from trainer.sources import CropData, TrainingData, digest, load_data
from trainer.stages import Stages, spread
from trainer.strategy import StrategyName, is_chief, make_strategy, resolve_precision

METRICS_NAME = "metrics.json"
STATE_SUFFIX = ".state"
_SELF_TEST_CROPS = 6
_SELF_TEST_FRAMES = 2
# What a run leaves in its folder, beside the recipe's clip.
_OWN = (
    "bundle",
    "data",
    METRICS_NAME,
    REPORT_NAME,
    LOGS_NAME,
    TRUTH_NAME,
    FLOAT_NAME,
    FLOAT_DETECTOR_NAME,
    WEIGHTS_NAME,
    DETECTOR_NAME,
    DETECTOR_SPEC_NAME,
    DETECTOR_EDGETPU_NAME,
    log_name(DETECTOR_EDGETPU_NAME),
)


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None,
    weights: Path | None,
    stages: Stages,
    keep_data: bool = False,
    strategy: StrategyName = "single",
    detector_weights: Path | None = None,
) -> dict[str, Any] | None:
    """Make `out/` (bundle/, metrics.json, report.html, the recipe's clip) and return the metrics.

    A recipe with a detector alone makes no bundle: the detector lies in `out/` itself, with what
    says how to feed it beside it. data: folder the recipe's paths are relative to. weights,
    detector_weights: pretrained backbones, local files. keep_data: leave a simulated herd's images
    in `out/data`. strategy: how the embedder's training is spread; workers other than the first
    return None and write nothing but checkpoints.

    Nothing is left half written: `out` appears by rename when all is done, and replaces an older
    one only then. Until then checkpoints and TensorBoard logs lie in `<out>.state`; the same
    recipe, data and weights go on from there after a kill.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_run(out))):
        raise UsageError(f"{out}: exists and is not the result of a run; choose another --out")
    foreign = _foreign(out, recipe)
    if foreign:
        raise UsageError(
            f"{out}: holds {foreign[0]!r}, which a new run would delete; move it away, or choose "
            "another --out"
        )
    for given, name in ((weights, "--weights"), (detector_weights, "--detector-weights")):
        if given is not None and not given.is_file():
            raise UsageError(f"{given}: no such weights file ({name})")
    spread_over = make_strategy(strategy)
    started = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    state = out.resolve().with_name(out.resolve().name + STATE_SUFFIX)
    wanted = recipe.detector_options(weights, detector_weights)
    if not is_chief(spread_over):
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            images = _load(recipe, data, wanted, Path(folder), stages)
            if images.crops is not None:
                _learn(recipe, images.crops, weights, stages, state, spread_over)
        return None
    with new_directory(out) as folder:
        work = folder / "data"
        images = _load(recipe, data, wanted, work, stages)
        models = folder if images.crops is None else folder / "bundle"
        models.mkdir(exist_ok=True)
        learned, identity, detection = None, None, None
        if images.crops is not None:
            learned = _learn(recipe, images.crops, weights, stages, state, spread_over)
            identity = identify(recipe, images.crops, learned, folder, created, stages)
            add_means(models, identity.means)
        if images.frames is not None and wanted is not None:
            detection = run_detection(images.frames, wanted, folder, models, stages, state=state)
        if images.crops is not None and identity is not None:
            crops = _self_test_crops(images.crops, identity)
            frames = None if detection is None else _self_test_frames(detection, models)
            add_self_test(models, identity.embedder, crops, frames)
        with stages("Edge TPU") as report:
            edge_tpu = add_compiled_models(models)
            report(1, 1)
        metrics: dict[str, Any] = {
            "recipe": recipe.name,
            "train_s": 0.0,
            **_effort(learned, detection),
            "identification": identity.metrics if identity else None,
            "detection": detection.metrics if detection else None,
            "tracking": None,
            "edge_tpu": edge_tpu,
        }

        def finish() -> None:
            if identity is None:
                return
            write_manifest(
                models,
                seq=recipe.seq,
                created=created,
                detector=detection.spec if detection else None,
                embedder=identity.spec,
                means=identity.means,
                training=training_record(
                    msgspec.to_builtins(recipe),
                    images.digest,
                    recipe.seed,
                    {identity.metrics["split"]: _summary(metrics)},
                ),
            )

        still = None
        if recipe.clip is not None and detection is not None:
            with stages("clip") as report:
                write_recipe_clip(recipe, folder, report)
            finish()  # the clip is judged by the bundle as a device loads it
            with stages("evaluating the clip") as report:
                metrics["tracking"], still = evaluate_clip(load_bundle(models), folder, report)
        metrics["train_s"] = time.monotonic() - started
        write_report(
            models / REPORT_NAME,
            ReportInputs(recipe, created, metrics, identity, detection, still, images.digest),
        )
        finish()
        if identity is not None:
            load_bundle(models)
            (folder / REPORT_NAME).write_bytes((models / REPORT_NAME).read_bytes())
        elif detection is not None:
            twins = [folder / DETECTOR_NAME, folder / FLOAT_DETECTOR_NAME]
            save_spec(detection.spec, folder / DETECTOR_SPEC_NAME, twins)
        write_atomically(folder / METRICS_NAME, encode_metrics(metrics))
        if not keep_data and work.exists():
            shutil.rmtree(work)
        if (state / LOGS_NAME).is_dir():
            shutil.copytree(state / LOGS_NAME, folder / LOGS_NAME)
    _clear(state)
    return metrics


def _effort(learned: Learned | None, detection: Detection | None) -> dict[str, Any]:
    """Return what training took: of the embedder, or of the detector where there is none."""
    if learned is None:
        figures = detection.metrics if detection else {}
        return {name: figures.get(name) for name in ("images_per_s", "resumed_at")}
    again = learned.final.images_seen if learned.final is not learned.first else 0
    return {
        "images_per_s": learned.first.images_per_s,
        "images_seen": learned.first.images_seen + again,
        "resumed_at": learned.first.resumed_at,
    }


def encode_metrics(metrics: dict[str, Any]) -> bytes:
    """Return metrics as indented JSON; what is undefined is null."""
    plain = msgspec.json.encode(metrics, enc_hook=_plain)
    return msgspec.json.format(plain, indent=1) + b"\n"


def _clear(state: Path) -> None:
    """Remove what trainings left in `state`, and nothing else."""
    shutil.rmtree(state / LOGS_NAME, ignore_errors=True)
    for path in state.glob("*.checkpoint"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or somebody else's files are
        state.rmdir()


def _load(
    recipe: Recipe, data: Path | None, wanted: DetectorOptions | None, work: Path, stages: Stages
) -> TrainingData:
    with stages("data") as report:
        images = load_data(recipe, data, work, report)
        # The detector comes last; what is wrong with its data is told before the embedder's.
        if wanted is not None and images.frames is not None:
            check_detectable(images.frames.fit, images.frames.held_out, wanted)
        report(1, 1)
    return images


def _learn(
    recipe: Recipe,
    crops: CropData,
    weights: Path | None,
    stages: Stages,
    state: Path,
    strategy: tf.distribute.Strategy,
) -> Learned:
    key = _training_key(recipe, crops, weights, strategy.num_replicas_in_sync)
    return learn(recipe, crops, weights, stages, state=state, key=key, strategy=strategy)


def _training_key(recipe: Recipe, crops: CropData, weights: Path | None, replicas: int) -> str:
    """Return what a checkpoint is good for: this training of these images by these versions."""
    # Neither what devices do nor how many threads augment changes what is learned.
    options = replace(recipe.embedder_options(weights), workers=1, turns=1, gallery_turns=1)
    what = {
        "versions": (__version__, tf.__version__, keras.__version__),
        "options": repr(replace(options, weights=None)),
        "precision": resolve_precision(options.precision),
        "fit": digest(list(crops.fit.paths), []),
        "validation": digest(list(crops.held_out.paths), []),
        "weights": sha256_file(weights) if weights else str(options.weights),
        "replicas": replicas,
    }
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the figures short enough for a manifest: no tables."""
    short = {
        part: {name: value for name, value in figures.items() if isinstance(value, float)}
        for part, figures in metrics.items()
        if isinstance(figures, dict)
    }
    return {part: figures for part, figures in short.items() if figures}


def _self_test_crops(crops: CropData, identity: Identity) -> Any:
    chosen = spread(len(crops.held_out), _SELF_TEST_CROPS, 0)
    options = identity.learned.final.options
    return load_images(crops.held_out.select(chosen), options.input_size, options.letterbox_colour)


def _self_test_frames(detection: Detection, models: Path) -> GoldenFrames | None:
    """Return the test frames with most animals, as small as the detector sees them."""
    spec = detection.spec
    busiest = np.argsort([-len(sure) for sure in detection.found.sure], kind="stable")
    chosen = detection.test.select(busiest[:_SELF_TEST_FRAMES])
    images = load_frames(chosen, spec.input_shape[1:3], spec.letterbox_colour)
    return golden_frames(Detector(open_model(models / DETECTOR_NAME), spec), images)


def _foreign(out: Path, recipe: Recipe) -> list[str]:
    """Return the names in an older run's folder that runs do not make."""
    own = set(_OWN)
    if recipe.clip is not None:
        own.add(f"{recipe.clip.name}.mp4")
    return (
        sorted(path.name for path in out.iterdir() if path.name not in own) if out.exists() else []
    )


def _is_run(out: Path) -> bool:
    return (out / METRICS_NAME).is_file() and (out / REPORT_NAME).is_file()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a metric of type {type(value)}")
