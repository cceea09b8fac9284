"""From a detector and annotated frames to the figures of `evaluate detection`.

What cannot be asked is refused in one line; what makes figures less than they seem is said:
`warnings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.errors import DataError, UsageError
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from edge.vision.types import Detections, Image
from trainer.data.frames import FrameSet
from trainer.evaluate.detection.figures import (
    Detect,
    Findings,
    detection_figures,
    find,
    findings,
)
from trainer.evaluate.detection.matching import LOW_SCORE
from trainer.evaluate.intervals import DRAWS
from trainer.export.post_process import find_post_process
from trainer.export.tflite_graph import read_graph
from trainer.progress import Report, silent

ONE_CLASS = "animal"
_FEW_SESSIONS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """metrics: for `metrics.json`. frames: as they were asked. twin: of the float model."""

    metrics: dict[str, Any]
    frames: FrameSet
    int8: Findings
    twin: Findings | None


def open_detector(path: Path, spec: DetectorSpec) -> Detector:
    """Load a TFLite detector that is fed as `spec` says, such as a float twin.

    Which output is which is read from the file itself: a twin's have names of their own. Raises
    BundleError or UsageError, one line that names the file, for one that does not fit.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    model = open_model(path)
    last = find_post_process(read_graph(path.read_bytes(), str(path)), str(path))
    if last.num_classes != len(spec.class_names):
        raise UsageError(
            f"{path}: knows {last.num_classes} classes, the manifest names "
            f"{len(spec.class_names)} ({', '.join(spec.class_names)})"
        )
    return Detector(model, msgspec.structs.replace(spec, outputs=last.outputs))


def fitting(
    frames: FrameSet, class_names: Sequence[str], source: Path, *, one_class: bool = False
) -> FrameSet:
    """Return frames with the detector's classes. source: names the annotations in errors.

    one_class: take all classes for one. Raises DataError for frames without a box, and for boxes
    of a class that the detector does not know.
    """
    if not any(len(boxes) for boxes in frames.boxes):
        raise DataError(
            f"{source}: not one of its {len(frames)} frames has a box; annotate the animals first"
        )
    if one_class:
        classes = tuple(np.zeros_like(rows) for rows in frames.classes)
        return replace(frames, classes=classes, class_names=(ONE_CLASS,))
    used = Counter(int(number) for rows in frames.classes for number in rows)
    strange = sorted(
        frames.class_names[number]
        for number in used
        if frames.class_names[number] not in class_names
    )
    if strange:
        raise DataError(
            f"{source}: has boxes of class {strange[0]!r}, the detector finds "
            f"{', '.join(repr(name) for name in class_names)}; rename the class, or take all for "
            "one with --one-class"
        )
    return frames.with_classes(class_names)


def of_one_class(detect: Detect) -> Detect:
    """Return a detector that says of everything that it is of class 0."""

    def detect_any(image: Image, score_threshold: float | None = None) -> Detections:
        found = detect(image, score_threshold)
        return Detections(found.boxes, found.scores, np.zeros_like(found.classes))

    return detect_any


def check_score(score: float | None) -> None:
    """Raise UsageError for a score threshold that no detector can have."""
    if score is not None and not LOW_SCORE <= score <= 1:
        raise UsageError(f"--score {score:g}: must be from {LOW_SCORE:g} to 1")


def evaluate(
    detect: Detect,
    frames: FrameSet,
    score_threshold: float,
    *,
    twin: Detect | None = None,
    top_k: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    report: Report = silent,
) -> Evaluation:
    """Ask and measure. frames: as `fitting` gives them. twin: the float model, to compare with.

    top_k: how many animals the detector gives at most. draws, seed: of the bootstrap.
    """
    every = len(frames) * (1 if twin is None else 2)

    def ask(detector: Detect, start: int) -> Findings:
        def forward(done: int, total: int, note: str = "") -> None:
            report(start + done, every, note)

        return findings(find(detector, frames, forward), frames, score_threshold)

    int8 = ask(detect, 0)
    reference = None if twin is None else ask(twin, len(frames))
    metrics = detection_figures(int8, frames, twin=reference, draws=draws, seed=seed)
    metrics["seed"] = seed
    metrics["warnings"] = doubts(frames, top_k)
    return Evaluation(metrics, frames, int8, reference)


def doubts(frames: FrameSet, top_k: int | None = None) -> list[str]:
    """Return what makes the figures less than they seem, one sentence each."""
    warnings = []
    sessions = set(frames.sessions)
    if len(sessions) == 1:
        warnings.append(
            "all frames are of one session: how figures differ from day to day and from camera to "
            "camera is unknown, so there are no intervals"
        )
    elif len(sessions) == len(frames):
        warnings.append(
            "every frame is a session of its own by its file name: intervals take each for "
            "independent; name files <session>_<frame>.jpg"
        )
    elif len(sessions) < _FEW_SESSIONS:
        warnings.append(
            f"the frames are of {len(sessions)} sessions: intervals over so few are rough, "
            "most likely too narrow"
        )
    most = max(len(boxes) for boxes in frames.boxes)
    if top_k is not None and most > top_k:
        warnings.append(
            f"a frame has {most} animals, the detector gives at most {top_k}: the others cannot be "
            "found"
        )
    return warnings
