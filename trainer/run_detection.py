"""The detector's side of a run: training, int8, figures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

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
_FIRST_NAME, _FIRST_FLOAT_NAME = "detector_first.tflite", "detector_first_float.tflite"
_CALIBRATION_FRAMES = 120


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The detector's side of a run: int8 model and figures.

    trained, spec: of the detector that devices get. test: the frames asked. found, twin: what the
    int8 model and its float twin found in them; without test frames these are the models from
    before the refit, which has learned from the frames asked.
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
        first = trained = train_detector(
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
                first, everything, report, state=state, key=f"{key} refit {options.refit_steps}"
            )
    save_weights(trained.model, folder / WEIGHTS_NAME)
    with stages("detector to int8") as report:
        chosen = spread(len(frames.fit), _CALIBRATION_FRAMES, options.seed)
        calibration = load_frames(
            frames.fit.select(chosen), options.input_size, options.letterbox_colour
        )
        final = _export(trained, calibration, models / DETECTOR_NAME, folder / FLOAT_NAME)
        asked = final
        # Who is asked: on held-out frames only what has not learned from them.
        if frames.test is None and first is not trained:
            asked = _export(first, calibration, folder / _FIRST_NAME, folder / _FIRST_FLOAT_NAME)
        report(1, 1)
    test = frames.test or frames.held_out
    with stages("finding test animals") as report:
        found, twin = (_ask(path, spec, test, report) for path, spec in asked)
        metrics = detection_figures(found, test, twin=twin)
    for name in (_FIRST_NAME, _FIRST_FLOAT_NAME):
        (folder / name).unlink(missing_ok=True)
    metrics["split"] = "test" if frames.test is not None else "held_out"
    metrics["images_per_s"] = trained.images_per_s
    metrics["weights"] = trained.weights
    metrics["best_step"] = trained.best_step
    metrics["resumed_at"] = trained.resumed_at
    metrics["warnings"] = [*frames.warnings, *_warnings(options)]
    return Detection(trained, final[0][1], test, found, twin, metrics)


def _export(
    trained: TrainedDetector, calibration: NDArray[np.uint8], path: Path, float_path: Path
) -> tuple[tuple[Path, DetectorSpec], tuple[Path, DetectorSpec]]:
    """Write a detector's int8 form and its float twin; return the place and the spec of each."""
    spec = export_detector(trained, calibration, path)
    float_spec = export_detector(trained, calibration, float_path, quantise=False)
    return (path, spec), (float_path, float_spec)


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
