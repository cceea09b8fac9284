"""Training the detector: learn, validate, keep the best step, go on after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.types import Floats
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.course import LOGS_NAME, Course, training_logs, write_logs
from trainer.data.frames import FrameSet, load_frames_and_boxes
from trainer.detection.anchors import AnchorShapes, fit_anchors, lay_anchors
from trainer.detection.feed import Feed
from trainer.detection.judge import Judge
from trainer.detection.model import feature_cells
from trainer.detection.options import DetectorOptions, check_options
from trainer.detection.step import FIGURES, TrainingStep
from trainer.embedding.backbones import Backbone, describe_weights
from trainer.progress import Report

_REPORT_EVERY = 5
_REFIT_RATE = 0.3


class HistoryRow(NamedTuple):
    """Means over the steps since the row before.

    loss: of both parts. class_loss, box_loss: per anchor that has a box. ap50, ap: of the
    validation frames, None without any.
    """

    step: int
    loss: float
    class_loss: float
    box_loss: float
    ap50: float | None
    ap: float | None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedDetector:
    """A trained network (running average of its weights at the best step) and how it came to be.

    model: (B, H, W, 3) float32 real pixel values to encodings (B, N, 4) and logits (B, N, C).
    anchors: float32 (N, 4) cy cx h w in pixels of the input. score_threshold: what a device should
    believe. images_per_s: None when nothing was left to learn. weights: where training started
    from, in words. resumed_at: the step that training went on from, 0 from its beginning.
    """

    model: keras.Model
    options: DetectorOptions
    shapes: AnchorShapes
    anchors: Floats
    class_names: tuple[str, ...]
    history: tuple[HistoryRow, ...]
    best_step: int
    score_threshold: float
    images_per_s: float | None
    weights: str
    resumed_at: int = 0

    @property
    def backbone(self) -> Backbone:
        """The registry entry, which knows how pixels are fed."""
        return self.options.found_backbone.features

    @property
    def ap50(self) -> float | None:
        """Validation AP50 of the step that was kept, None without validation frames."""
        return next((row.ap50 for row in self.history if row.step == self.best_step), None)


def train_detector(
    train: FrameSet,
    validation: FrameSet,
    options: DetectorOptions,
    report: Report,
    *,
    start: TrainedDetector | None = None,
    state: Path | None = None,
    key: str = "",
    name: str = "detector",
) -> TrainedDetector:
    """Train on `train` and keep the step with the best AP on `validation`.

    Without boxes in `validation` the last step is kept. start: a detector of the same options whose
    anchors and weights to go on from. state: folder for checkpoints and TensorBoard logs under
    `name`; where it holds a checkpoint of the same `key`, training goes on from there and ends as
    if it had never been interrupted. Raises DataError when the frames cannot be trained on,
    UsageError for options or weights that cannot be had.
    """
    check_detectable(train, validation, options)
    size = options.input_size
    images, boxes = _load(train, options)
    shapes = _fit(boxes, options) if start is None else start.shapes
    anchors = lay_anchors(shapes, feature_cells(shapes.strides, size), size)
    judge = Judge(validation, anchors, options)
    keras.utils.set_random_seed(options.seed)
    step = TrainingStep(shapes, anchors, len(train.class_names), options)
    if start is not None:
        step.start_from(start.model.get_weights())
    course = Course(
        step,
        HistoryRow,
        steps=options.steps,
        evaluate_every=options.evaluate_every,
        figures=FIGURES,
        patience=options.patience,
    )
    saved = None if state is None else state / f"{name}-0.checkpoint"
    found = load_checkpoint(saved, key) if saved else None
    if found:
        course.restore(found)
    elif state is not None:  # logs of a training that is given up
        shutil.rmtree(state / LOGS_NAME / name, ignore_errors=True)
    resumed_at = course.step
    feed = Feed(images, boxes, train.classes, anchors, options, first=course.step)
    strategy = tf.distribute.get_strategy()
    with training_logs(state, name, strategy) as logs, closing(iter(feed)) as batches:
        while not course.finished:
            course.learn(batches)
            if course.due:
                figures = judge(step.averaged)
                ap50, ap = (figures["ap50"], figures["ap"]) if figures else (None, None)
                score = None if ap is None else (ap,)
                write_logs(logs, name, course.judge((ap50, ap), score))
                if saved is not None:
                    save_checkpoint(saved, key, course.checkpoint())
            if course.step % _REPORT_EVERY == 0 or course.finished:
                report(course.step, options.steps, _note(course))
    course.keep_best()
    threshold = options.score_threshold
    return TrainedDetector(
        step.averaged,
        options,
        shapes,
        anchors,
        train.class_names,
        tuple(course.history),
        course.best_step,
        judge.threshold(step.averaged) if threshold is None else threshold,
        course.learned * options.batch_size / course.busy_s if course.busy_s else None,
        _describe(options),
        resumed_at,
    )


def refit(
    trained: TrainedDetector,
    frames: FrameSet,
    report: Report,
    *,
    state: Path | None = None,
    key: str = "",
) -> TrainedDetector:
    """Go on learning from all frames, those of validation too, for `refit_steps`.

    By then they have chosen the step and the threshold, which stays. frames: of the same classes.
    """
    options = trained.options
    again = replace(
        options,
        steps=options.refit_steps,
        learning_rate=_REFIT_RATE * options.peak_rate,
        score_threshold=trained.score_threshold,
        refit_steps=0,
    )
    final = train_detector(
        frames, frames.select([]), again, report, start=trained, state=state, key=key, name="refit"
    )
    return replace(
        final,
        options=options,
        history=trained.history,
        best_step=trained.best_step,
        images_per_s=trained.images_per_s or final.images_per_s,
    )


def check_detectable(train: FrameSet, validation: FrameSet, options: DetectorOptions) -> None:
    """Raise DataError for frames that cannot be trained on, UsageError for such options."""
    check_options(options)
    if not any(len(boxes) for boxes in train.boxes):
        raise DataError(f"none of the {len(train)} training frames has a box; annotate some")
    if validation.class_names != train.class_names:
        raise DataError(
            f"training frames have classes {list(train.class_names)}, validation frames "
            f"{list(validation.class_names)}; they must be the same"
        )


def _fit(boxes: Sequence[Floats], options: DetectorOptions) -> AnchorShapes:
    every = np.concatenate(boxes)
    sizes = np.stack([every[:, 3] - every[:, 1], every[:, 2] - every[:, 0]], axis=1)
    return fit_anchors(sizes, options.anchors_per_cell, options.seed, options.strides)


def _load(
    train: FrameSet, options: DetectorOptions
) -> tuple[NDArray[np.uint8], tuple[Floats, ...]]:
    """Return frames `detail` times the input's size, and boxes in pixels of the input."""
    height, width = options.input_size
    size = (height * options.detail, width * options.detail)
    images, boxes = load_frames_and_boxes(train, size, options.letterbox_colour)
    return images, tuple(one / np.float32(options.detail) for one in boxes)


def _describe(options: DetectorOptions) -> str:
    if options.start is not None:
        return f"detector {options.start.name}"
    return describe_weights(options.weights)


def _note(course: Course[HistoryRow]) -> str:
    if not course.history:
        return f"loss {course.loss:.2f}"
    row = course.history[-1]
    note = f"loss {row.loss:.2f}"
    return note if row.ap50 is None else f"{note}  AP50 {row.ap50:.3f}"
