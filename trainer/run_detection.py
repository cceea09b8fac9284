"""The detector's side of a run: training, int8, figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.release.bundle import DETECTOR_NAME
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from trainer.data.frames import FrameSet, load_frames
from trainer.detection.train import TrainedDetector, train_detector
from trainer.evaluate.detection import evaluate_detection
from trainer.export.detector import export_detector
from trainer.recipe import Recipe
from trainer.sources import FrameData
from trainer.stages import Stages, spread

_CALIBRATION_FRAMES = 120


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The detector's side of a run: int8 model and figures. test: the frames asked."""

    trained: TrainedDetector
    spec: DetectorSpec
    detector: Detector
    test: FrameSet
    metrics: dict[str, Any]


def run_detection(
    recipe: Recipe, frames: FrameData, weights: Path | None, bundle: Path, stages: Stages
) -> Detection | None:
    """Train the recipe's detector, put its int8 form into `bundle` and measure it on test frames.

    Returns None when the recipe wants no detector.
    """
    options = recipe.detector_options(weights)
    if options is None:
        return None
    with stages("training detector") as report:
        trained = train_detector(frames.fit, frames.held_out, options, report)
    with stages("detector to int8") as report:
        chosen = spread(len(frames.fit), _CALIBRATION_FRAMES, recipe.seed)
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
