"""The detector's side of a run: training, int8, figures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import msgspec
import tensorflow as tf

from edge import __version__
from edge.files import sha256_file
from edge.release.bundle import DETECTOR_NAME
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from trainer.data.frames import FrameSet, joined_frames, load_frames
from trainer.detection.options import DetectorOptions
from trainer.detection.train import TrainedDetector, refit, train_detector
from trainer.detection.weights import WEIGHTS_NAME, save_weights
from trainer.evaluate.detection import Findings, detection_figures, find, findings
from trainer.export.detector import export_detector
from trainer.progress import Report
from trainer.sources import FrameData, digest
from trainer.stages import Stages, spread

FLOAT_NAME = "detector_float.tflite"
_CALIBRATION_FRAMES = 120


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The detector's side of a run: int8 model and figures.

    test: the frames asked. found: what the int8 model and its float twin found in them.
    """

    trained: TrainedDetector
    spec: DetectorSpec
    test: FrameSet
    found: Findings
    twin: Findings
    metrics: dict[str, Any]


def run_detection(
    frames: FrameData,
    options: DetectorOptions,
    folder: Path,
    models: Path,
    stages: Stages,
    *,
    state: Path,
) -> Detection:
    """Train a detector, put its int8 form into `models` and measure it on test frames.

    folder: gets what devices have no use for: the float twin, and weights to start from. state:
    where an interrupted training by the same options of the same frames goes on from.
    """
    key = _training_key(options, frames)
    with stages("training detector") as report:
        trained = train_detector(
            frames.fit,
            frames.held_out,
            options,
            report,
            state=state,
            key=key,
        )
    if options.refit_steps:
        with stages("refit on all frames") as report:
            everything = joined_frames([frames.fit, frames.held_out])
            trained = refit(
                trained, everything, report, state=state, key=f"{key} refit {options.refit_steps}"
            )
    save_weights(trained.model, folder / WEIGHTS_NAME)
    with stages("detector to int8") as report:
        chosen = spread(len(frames.fit), _CALIBRATION_FRAMES, options.seed)
        calibration = load_frames(
            frames.fit.select(chosen), options.input_size, options.letterbox_colour
        )
        spec = export_detector(trained, calibration, models / DETECTOR_NAME)
        float_spec = export_detector(trained, calibration, folder / FLOAT_NAME, quantise=False)
        report(1, 1)
    test = frames.test or frames.held_out
    with stages("finding test animals") as report:
        found = _ask(models / DETECTOR_NAME, spec, test, report)
        twin = _ask(folder / FLOAT_NAME, float_spec, test, report)
        metrics = detection_figures(found, test, twin=twin)
    metrics["split"] = "test" if frames.test is not None else "held_out"
    metrics["images_per_s"] = trained.images_per_s
    metrics["weights"] = trained.weights
    metrics["best_step"] = trained.best_step
    metrics["resumed_at"] = trained.resumed_at
    metrics["warnings"] = [*frames.warnings, *_warnings(options)]
    return Detection(trained, spec, test, found, twin, metrics)


def _warnings(options: DetectorOptions) -> list[str]:
    if options.freeze_through is not None and not options.pretrained:
        return [
            "layers of the detector are frozen that were never trained: give weights, or no "
            "freeze_through"
        ]
    return []


def _ask(path: Path, spec: DetectorSpec, test: FrameSet, report: Report) -> Findings:
    detector = Detector(open_model(path), spec)
    return findings(find(detector.detect, test, report), test, detector.score_threshold)


def _training_key(options: DetectorOptions, frames: FrameData) -> str:
    """Return what a checkpoint is good for: this training of these frames by these versions."""
    # How many threads augment changes nothing; what comes after the training neither.
    learned = replace(
        options, workers=1, weights=None, start=None, score_threshold=None, refit_steps=0
    )
    what = {
        "versions": (__version__, tf.__version__, keras.__version__),
        "options": repr(learned),
        "fit": digest(list(frames.fit.paths), list(frames.fit.boxes)),
        "validation": digest(list(frames.held_out.paths), list(frames.held_out.boxes)),
        "weights": _content(options.weights),
        "start": _content(options.start),
    }
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _content(weights: Path | str | None) -> str:
    return sha256_file(weights) if isinstance(weights, Path) else str(weights)
