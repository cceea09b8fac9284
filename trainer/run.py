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
from edge.release.bundle import load_bundle
from trainer.bundle import (
    REPORT_NAME,
    add_means,
    add_self_test,
    training_record,
    write_manifest,
)
from trainer.clip import TRUTH_NAME, evaluate_clip, write_recipe_clip
from trainer.data.crops import load_images
from trainer.detection.train import check_detectable
from trainer.embedding.train import LOGS_NAME
from trainer.evaluate.report import ReportInputs, write_report
from trainer.recipe import Recipe
from trainer.run_detection import run_detection
from trainer.run_identity import FLOAT_NAME, Identity, Learned, identify, learn
from trainer.sources import CropData, TrainingData, digest, load_data
from trainer.stages import Stages, spread
from trainer.strategy import StrategyName, is_chief, make_strategy, resolve_precision

METRICS_NAME = "metrics.json"
STATE_SUFFIX = ".state"
_SELF_TEST_CROPS = 6


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None,
    weights: Path | None,
    stages: Stages,
    keep_data: bool = False,
    strategy: StrategyName = "single",
) -> dict[str, Any] | None:
    """Make `out/` (bundle/, metrics.json, report.html, the recipe's clip) and return the metrics.

    data: folder the recipe's paths are relative to. weights: pretrained backbone, a local file.
    keep_data: leave a simulated herd's images in `out/data`. strategy: how the embedder's training
    is spread; workers other than the first return None and write nothing but checkpoints.

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
    if weights is not None and not weights.is_file():
        raise UsageError(f"{weights}: no such weights file (--weights)")
    spread_over = make_strategy(strategy)
    started = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    state = out.resolve().with_name(out.resolve().name + STATE_SUFFIX)
    if not is_chief(spread_over):
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            images = _load(recipe, data, weights, Path(folder), stages)
            _learn(recipe, images, weights, stages, state, spread_over)
        return None
    with new_directory(out) as folder:
        bundle = folder / "bundle"
        bundle.mkdir()
        work = folder / "data"
        images = _load(recipe, data, weights, work, stages)
        learned = _learn(recipe, images, weights, stages, state, spread_over)
        identity = identify(recipe, images.crops, learned, folder, created, stages)
        detection = None
        if images.frames is not None:
            detection = run_detection(recipe, images.frames, weights, bundle, stages)
        add_means(bundle, identity.means)
        add_self_test(bundle, identity.embedder, _self_test_crops(images.crops, identity))
        metrics: dict[str, Any] = {
            "recipe": recipe.name,
            "train_s": 0.0,
            "images_per_s": learned.first.images_per_s,
            "images_seen": learned.first.images_seen
            + (learned.final.images_seen if learned.final is not learned.first else 0),
            "resumed_at": learned.first.resumed_at,
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
        if (state / LOGS_NAME).is_dir():
            shutil.copytree(state / LOGS_NAME, folder / LOGS_NAME)
    _clear(state)
    return metrics


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
    recipe: Recipe, data: Path | None, weights: Path | None, work: Path, stages: Stages
) -> TrainingData:
    with stages("data") as report:
        images = load_data(recipe, data, work, report)
        # The detector comes last; what is wrong with its data is told before the embedder's.
        wanted = recipe.detector_options(weights)
        if wanted is not None and images.frames is not None:
            check_detectable(images.frames.fit, images.frames.held_out, wanted)
        report(1, 1)
    return images


def _learn(
    recipe: Recipe,
    images: TrainingData,
    weights: Path | None,
    stages: Stages,
    state: Path,
    strategy: tf.distribute.Strategy,
) -> Learned:
    key = _training_key(recipe, images, weights, strategy.num_replicas_in_sync)
    return learn(recipe, images.crops, weights, stages, state=state, key=key, strategy=strategy)


def _training_key(recipe: Recipe, images: TrainingData, weights: Path | None, replicas: int) -> str:
    """Return what a checkpoint is good for: this training of these images by these versions."""
    # Neither what devices do nor how many threads augment changes what is learned.
    options = replace(recipe.embedder_options(weights), workers=1, turns=1, gallery_turns=1)
    what = {
        "versions": (__version__, tf.__version__, keras.__version__),
        "options": repr(replace(options, weights=None)),
        "precision": resolve_precision(options.precision),
        "fit": digest(list(images.crops.fit.paths), []),
        "validation": digest(list(images.crops.held_out.paths), []),
        "weights": sha256_file(weights) if weights else str(options.weights),
        "replicas": replicas,
    }
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the figures short enough for a manifest: no tables."""
    return {
        part: {name: value for name, value in figures.items() if isinstance(value, float)}
        for part, figures in metrics.items()
        if isinstance(figures, dict)
    }


def _self_test_crops(crops: CropData, identity: Identity) -> Any:
    chosen = spread(len(crops.held_out), _SELF_TEST_CROPS, 0)
    options = identity.learned.final.options
    return load_images(crops.held_out.select(chosen), options.input_size, options.letterbox_colour)


def _foreign(out: Path, recipe: Recipe) -> list[str]:
    """Return the names in an older run's folder that runs do not make."""
    own = {"bundle", METRICS_NAME, REPORT_NAME, FLOAT_NAME, LOGS_NAME, "data", TRUTH_NAME}
    if recipe.clip is not None:
        own.add(f"{recipe.clip.name}.mp4")
    return (
        sorted(path.name for path in out.iterdir() if path.name not in own) if out.exists() else []
    )


def _is_run(out: Path) -> bool:
    return (out / METRICS_NAME).is_file() and (out / "bundle").is_dir()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a metric of type {type(value)}")
