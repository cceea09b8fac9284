"""Training the detector: assigned anchors, focal and box loss, the best step kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.vision.geometry import Colour
from edge.vision.types import Detections, Floats
from trainer.data.frames import FrameSet, load_frames_and_boxes
from trainer.detection.anchors import AnchorShapes, fit_anchors, lay_anchors
from trainer.detection.assign import assign_targets
from trainer.detection.augment import FrameAugmentation, FrameAugmenter
from trainer.detection.decode import predict_float, select_detections
from trainer.detection.losses import focal_loss, giou_loss, smooth_l1
from trainer.detection.model import BACKBONE, build_detector, feature_cells, set_batchnorm
from trainer.embedding.backbones import Backbone, Weights, describe_weights, find_backbone
from trainer.evaluate.detection import LOW_SCORE, best_threshold, coco_figures
from trainer.progress import Report

BoxLoss = Literal["smooth_l1", "giou"]

_EMA_DECAY = 0.99
_REPORT_EVERY = 5
_CLIP_NORM = 10.0
_VALIDATION_FRAMES = 200
_FALLBACK_THRESHOLD = 0.4


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a detector is trained.

    input_size: height and width in pixels, multiples of 32. weights: None, "imagenet" or a local
    file. strides: feature levels, None for those that the training boxes call for. pyramid: 0 for
    plain SSDLite heads, else channels of a feature pyramid. match_iou: from which overlap on an
    anchor answers for a box. box_loss: smooth_l1 or giou, times box_weight. learning_rate: the
    peak; it warms up, then falls as a cosine. freeze_batchnorm: of the backbone; None for yes with
    pretrained weights, no from scratch. score_threshold: None for the one with the best F1 on the
    validation frames. nms_iou, top_k: of the post-process in the model.
    """

    input_size: tuple[int, int] = (320, 320)
    alpha: float = 1.0
    weights: Weights = None
    strides: tuple[int, ...] | None = None
    anchors_per_cell: int = 6
    pyramid: int = 0
    freeze_batchnorm: bool | None = None
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-3
    match_iou: float = 0.5
    box_loss: BoxLoss = "smooth_l1"
    box_weight: float = 1.0
    evaluate_every: int = 100
    letterbox_colour: Colour = (114, 114, 114)
    score_threshold: float | None = None
    nms_iou: float = 0.6
    top_k: int = 50
    augmentation: FrameAugmentation = field(default_factory=FrameAugmentation)
    seed: int = 0


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
    believe. weights: where training started from, in words.
    """

    model: keras.Model
    options: DetectorOptions
    shapes: AnchorShapes
    anchors: Floats
    class_names: tuple[str, ...]
    history: tuple[HistoryRow, ...]
    best_step: int
    score_threshold: float
    images_per_s: float
    weights: str

    @property
    def backbone(self) -> Backbone:
        """The registry entry, which knows how pixels are fed."""
        return find_backbone(BACKBONE)

    @property
    def ap50(self) -> float | None:
        """Validation AP50 of the step that was kept, None without validation frames."""
        return next((row.ap50 for row in self.history if row.step == self.best_step), None)


def train_detector(
    train: FrameSet, validation: FrameSet, options: DetectorOptions, report: Report
) -> TrainedDetector:
    """Train on `train` and keep the step with the best AP50 on `validation` (AP decides ties).

    Without boxes in `validation` the last step is kept. Raises DataError when the frames cannot
    be trained on, UsageError for options or weights that cannot be had.
    """
    check_detectable(train, validation, options)
    size, colour = options.input_size, options.letterbox_colour
    images, boxes = load_frames_and_boxes(train, size, colour)
    every = np.concatenate(boxes)
    sizes = np.stack([every[:, 3] - every[:, 1], every[:, 2] - every[:, 0]], axis=1)
    shapes = fit_anchors(sizes, options.anchors_per_cell, options.seed, options.strides)
    anchors = lay_anchors(shapes, feature_cells(shapes.strides, size), size)
    judge = _Judge(validation, anchors, options)
    keras.utils.set_random_seed(options.seed)
    run = _Run(shapes, anchors, len(train.class_names), options)

    history: list[HistoryRow] = []
    best_step, best_key, best_weights = options.steps, (-1.0, -1.0), None
    sums = np.zeros(3)
    since, busy_s = 0, 0.0
    note = ""
    feed = _prefetched(images, boxes, train.classes, anchors, options)
    for step in range(1, options.steps + 1):
        started = time.perf_counter()
        sums += run.step(*next(feed))
        since += 1
        busy_s += time.perf_counter() - started
        if step % options.evaluate_every == 0 or step == options.steps:
            figures = judge(run.averaged)
            ap50, ap = (figures["ap50"], figures["ap"]) if figures else (None, None)
            history.append(HistoryRow(step, *(sums / since).tolist(), ap50, ap))
            if ap50 is not None and ap is not None and (round(ap50, 3), ap) >= best_key:
                best_step, best_key = step, (round(ap50, 3), ap)
                best_weights = run.averaged.get_weights()
            sums, since = np.zeros(3), 0
            note = _note(history[-1])
        elif not history:
            note = f"loss {sums[0] / since:.2f}"
        if step % _REPORT_EVERY == 0 or step == options.steps:
            report(step, options.steps, note)
    feed.close()
    if best_weights is not None:
        run.averaged.set_weights(best_weights)
    threshold = options.score_threshold
    return TrainedDetector(
        run.averaged,
        options,
        shapes,
        anchors,
        train.class_names,
        tuple(history),
        best_step,
        judge.threshold(run.averaged) if threshold is None else threshold,
        options.steps * options.batch_size / busy_s,
        describe_weights(options.weights),
    )


class _Run:
    """The trained network, its running average, and one compiled step."""

    def __init__(
        self, shapes: AnchorShapes, anchors: Floats, classes: int, options: DetectorOptions
    ) -> None:
        self.model = build_detector(
            shapes,
            classes,
            input_size=options.input_size,
            alpha=options.alpha,
            weights=options.weights,
            pyramid=options.pyramid,
        )
        self.averaged = keras.models.clone_model(self.model)
        self.averaged.set_weights(self.model.get_weights())
        frozen = options.freeze_batchnorm
        set_batchnorm(self.model, frozen=options.weights is not None if frozen is None else frozen)
        warm_up = max(1, min(100, options.steps // 8))
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate / 50,
            max(1, options.steps - warm_up),
            alpha=0.01,
            warmup_target=options.learning_rate,
            warmup_steps=warm_up,
        )
        self._optimizer = keras.optimizers.Adam(schedule, global_clipnorm=_CLIP_NORM)
        self._variables = [weight.value for weight in self.model.trainable_variables]
        self._optimizer.build(self._variables)
        self._backbone, self._options = find_backbone(BACKBONE), options
        self._anchors, self._classes = tf.constant(anchors), classes
        self._count = tf.Variable(0.0, name="count")
        self._step = tf.function(
            self._traced,
            input_signature=[
                tf.TensorSpec((None, *options.input_size, 3), tf.uint8),
                tf.TensorSpec((None, len(anchors)), tf.int32),
                tf.TensorSpec((None, len(anchors), 4), tf.float32),
            ],
        )

    def step(
        self, images: NDArray[np.uint8], classes: NDArray[np.int32], encodings: Floats
    ) -> NDArray[np.float64]:
        """Learn from one batch and its targets; return loss, class loss and box loss."""
        return np.asarray(self._step(images, classes, encodings), np.float64)

    def _traced(self, images: Any, classes: Any, encodings: Any) -> Any:
        options = self._options
        scale, offset = self._backbone.pixel_scale, self._backbone.pixel_offset
        real = tf.cast(images, tf.float32) * scale + offset
        # One-hot of -1, the background, is all zero.
        truth = tf.one_hot(classes, self._classes)
        mask = tf.cast(classes >= 0, tf.float32)
        positives = tf.maximum(tf.reduce_sum(mask), 1.0)
        with tf.GradientTape() as tape:
            boxes, logits = self.model(real, training=True)
            class_loss = focal_loss(logits, truth) / positives
            if options.box_loss == "giou":
                box_loss = giou_loss(boxes, encodings, self._anchors, mask) / positives
            else:
                box_loss = smooth_l1(boxes, encodings, mask) / positives
            loss = class_loss + options.box_weight * box_loss
        gradients = tape.gradient(loss, self._variables)
        self._optimizer.apply(gradients, self._variables)
        self._count.assign_add(1.0)
        decay = tf.minimum(_EMA_DECAY, (1 + self._count) / (10 + self._count))
        for mean, now in zip(self.averaged.weights, self.model.weights, strict=True):
            mean.value.assign_sub((1 - decay) * (mean.value - now.value))
        return tf.stack([loss, class_loss, box_loss])


class _Judge:
    """Finds the animals of the validation frames, kept in memory as the network sees them."""

    def __init__(self, validation: FrameSet, anchors: Floats, options: DetectorOptions) -> None:
        count = min(len(validation), _VALIDATION_FRAMES)
        rows = np.linspace(0, max(0, len(validation) - 1), count).astype(int)
        frames = validation.select(rows)
        self._images, self._boxes = load_frames_and_boxes(
            frames, options.input_size, options.letterbox_colour
        )
        self._classes = frames.classes
        self._anchors, self._options = anchors, options

    def __call__(self, model: keras.Model) -> dict[str, float] | None:
        if not any(len(boxes) for boxes in self._boxes):
            return None
        return coco_figures(self._detect(model), self._boxes, self._classes)

    def threshold(self, model: keras.Model) -> float:
        """Return the score threshold with the best F1."""
        if not any(len(boxes) for boxes in self._boxes):
            return _FALLBACK_THRESHOLD
        best = best_threshold(self._detect(model), self._boxes, self._classes)
        return _FALLBACK_THRESHOLD if best is None else round(best, 3)

    def _detect(self, model: keras.Model) -> list[Detections]:
        encodings, scores = predict_float(model, find_backbone(BACKBONE), self._images)
        return [
            select_detections(
                *frame,
                self._anchors,
                score_threshold=LOW_SCORE,
                nms_iou=self._options.nms_iou,
                top_k=self._options.top_k,
            )
            for frame in zip(encodings, scores, strict=True)
        ]


def _prefetched(
    images: NDArray[np.uint8],
    boxes: tuple[Floats, ...],
    classes: tuple[NDArray[np.int32], ...],
    anchors: Floats,
    options: DetectorOptions,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32], Floats]]:
    """Yield augmented batches with their targets; the next is made while the network learns."""
    augment = FrameAugmenter(
        options.input_size, options.seed, options.letterbox_colour, options.augmentation
    )
    order = _shuffled(len(images), options.batch_size, options.seed)

    def make() -> tuple[NDArray[np.uint8], NDArray[np.int32], Floats]:
        frames = [augment(images[row], boxes[row], classes[row]) for row in next(order)]
        targets = [
            assign_targets(anchors, moved, labels, options.match_iou) for _, moved, labels in frames
        ]
        return (
            np.stack([image for image, _, _ in frames]),
            np.stack([target.classes for target in targets]),
            np.stack([target.encodings for target in targets]),
        )

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(make)
        while True:
            ready = waiting.result()
            waiting = pool.submit(make)
            yield ready


def _shuffled(count: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield `batch` indices below `count` at a time, each as often as any other, shuffled anew."""
    rng = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def check_detectable(train: FrameSet, validation: FrameSet, options: DetectorOptions) -> None:
    """Raise DataError for frames that cannot be trained on, UsageError for such options."""
    if not any(len(boxes) for boxes in train.boxes):
        raise DataError(f"none of the {len(train)} training frames has a box; annotate some")
    if validation.class_names != train.class_names:
        raise DataError(
            f"training frames have classes {list(train.class_names)}, validation frames "
            f"{list(validation.class_names)}; they must be the same"
        )
    for name in ("steps", "batch_size", "evaluate_every", "top_k"):
        if getattr(options, name) < 1:
            raise UsageError(f"{name} must be 1 or more, not {getattr(options, name)}")
    if options.box_loss not in ("smooth_l1", "giou"):
        raise UsageError(f"no box loss {options.box_loss!r}; choose smooth_l1 or giou")


def _note(row: HistoryRow) -> str:
    if not math.isfinite(row.loss):
        return "loss is not a number: lower the learning rate"
    note = f"loss {row.loss:.2f}"
    return note if row.ap50 is None else f"{note}  AP50 {row.ap50:.3f}"
