"""One learning step: the network, its running average, the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.detection.anchors import AnchorShapes
from trainer.detection.feed import Batch
from trainer.detection.losses import (
    box_iou,
    focal_loss,
    giou_loss,
    hard_negative_loss,
    quality_focal_loss,
    smooth_l1,
)
from trainer.detection.model import build_detector, set_batchnorm
from trainer.detection.options import DetectorOptions
from trainer.detection.weights import start_from
from trainer.embedding.backbones import freeze_through

_CLIP_NORM = 10.0
_WARM_UP = 100
FIGURES = 3


class TrainingStep:
    """The network that learns, the running average that is kept, and the optimizer.

    averaged: network whose weights follow those of the trained one (Polyak averaging). anchors:
    (N, 4) cy cx h w. classes: how many there are.
    """

    def __init__(
        self, shapes: AnchorShapes, anchors: Floats, classes: int, options: DetectorOptions
    ) -> None:
        self._options, self._anchors, self._classes = options, tf.constant(anchors), classes
        self._backbone = options.found_backbone.features
        self.model = build_detector(
            shapes,
            classes,
            input_size=options.input_size,
            backbone=options.backbone,
            alpha=options.alpha,
            weights=options.weights,
            pyramid=options.pyramid,
            tower=options.tower,
        )
        if options.start is not None:
            start_from(self.model, options.start)
        self.averaged = keras.models.clone_model(self.model)
        self.averaged.set_weights(self.model.get_weights())
        set_batchnorm(self.model, frozen=options.batchnorm_frozen)
        if options.freeze_through is not None:
            freeze_through(self.model, options.freeze_through)
        self._parts = self._make_parts()
        self._compiled = tf.function(
            self._learn,
            input_signature=[
                tf.TensorSpec((None, *options.input_size, 3), tf.uint8),
                tf.TensorSpec((None, len(anchors)), tf.int32),
                tf.TensorSpec((None, len(anchors), 4), tf.float32),
                tf.TensorSpec((), tf.float32),
            ],
        )

    def __call__(self, number: int, batch: Batch) -> NDArray[np.float64]:
        """Learn from one batch; return loss, class loss and box loss, per anchor with a box."""
        decay = tf.constant(min(self._options.average, (2 + number) / (11 + number)), tf.float32)
        return np.asarray(self._compiled(*batch, decay), np.float64)

    def start_from(self, weights: Sequence[NDArray[Any]]) -> None:
        """Go on from the weights of such a network."""
        self.model.set_weights(weights)
        self.averaged.set_weights(weights)

    def kept(self) -> list[NDArray[Any]]:
        """Return the weights of the running average."""
        return list(self.averaged.get_weights())

    def keep(self, arrays: list[NDArray[Any]]) -> None:
        """Put weights into the running average."""
        self.averaged.set_weights(arrays)

    def state(self) -> list[NDArray[Any]]:
        """Return all that the next steps depend on, as arrays in a fixed order."""
        return [np.asarray(variable.numpy()) for variable in self._state_variables()]

    def restore(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Go back to a state; ValueError when it is another network's."""
        variables = self._state_variables()
        if len(variables) != len(arrays):
            raise ValueError(f"the state has {len(arrays)} arrays, expected {len(variables)}")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def _make_parts(self) -> list[tuple[list[Any], Any]]:
        """Return variables and the optimizer that moves them, of the heads and of the backbone."""
        heads, backbone = [], []
        for layer in self.model.layers:
            part = heads if layer.name.startswith("head_") else backbone
            part += [weight.value for weight in layer.trainable_variables]
        peak, factor = self._options.peak_rate, self._options.backbone_rate
        parts = [(heads, peak), (backbone, peak * factor)]
        if factor == 1:  # one optimizer, so that gradients are clipped by what all of them sum to
            parts = [(heads + backbone, peak)]
        made = []
        for variables, rate in parts:
            if variables:
                optimizer = self._make_optimizer(rate)
                optimizer.build(variables)
                made.append((variables, optimizer))
        return made

    def _make_optimizer(self, rate: float) -> Any:
        options = self._options
        warm_up = max(1, min(_WARM_UP, options.steps // 8))
        schedule = keras.optimizers.schedules.CosineDecay(
            rate / 50,
            max(1, options.steps - warm_up),
            alpha=0.01,
            warmup_target=rate,
            warmup_steps=warm_up,
        )
        if options.weight_decay:
            return keras.optimizers.AdamW(
                schedule, weight_decay=options.weight_decay, global_clipnorm=_CLIP_NORM
            )
        return keras.optimizers.Adam(schedule, global_clipnorm=_CLIP_NORM)

    def _learn(self, images: Any, classes: Any, encodings: Any, decay: Any) -> Any:
        options = self._options
        scale, offset = self._backbone.pixel_scale, self._backbone.pixel_offset
        real = tf.cast(images, tf.float32) * scale + offset
        # One-hot of -1, the background, is all zero.
        truth = tf.one_hot(classes, self._classes)
        mask = tf.cast(classes >= 0, tf.float32)
        positives = tf.maximum(tf.reduce_sum(mask), 1.0)
        with tf.GradientTape() as tape:
            boxes, logits = self.model(real, training=True)
            class_loss = self._class_loss(logits, truth, boxes, encodings) / positives
            if options.box_loss == "giou":
                box_loss = giou_loss(boxes, encodings, self._anchors, mask) / positives
            else:
                box_loss = smooth_l1(boxes, encodings, mask) / positives
            loss = class_loss + options.box_weight * box_loss
        gradients = tape.gradient(loss, [variables for variables, _ in self._parts])
        for part, (variables, optimizer) in zip(gradients, self._parts, strict=True):
            optimizer.apply(part, variables)
        for mean, now in zip(self.averaged.weights, self.model.weights, strict=True):
            mean.value.assign_sub((1 - decay) * (mean.value - now.value))
        return tf.stack([loss, class_loss, box_loss])

    def _class_loss(self, logits: Any, truth: Any, boxes: Any, encodings: Any) -> Any:
        kind = self._options.class_loss
        if kind == "quality":
            quality = tf.stop_gradient(box_iou(boxes, encodings, self._anchors))
            return quality_focal_loss(logits, truth, quality)
        return (focal_loss if kind == "focal" else hard_negative_loss)(logits, truth)

    def _state_variables(self) -> list[Any]:
        keras_variables = [
            *self.model.variables,
            *self.averaged.weights,
            *(one for _, optimizer in self._parts for one in optimizer.variables),
        ]
        return [variable.value for variable in keras_variables]
