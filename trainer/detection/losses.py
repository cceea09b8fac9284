"""What a detector gets wrong: focal loss for the classes, smooth L1 or GIoU for the boxes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.detection.assign import CODER_SCALES

_FOCAL_ALPHA = 0.25
_FOCAL_GAMMA = 2.0


def focal_loss(
    logits: Any, truth: Any, alpha: float = _FOCAL_ALPHA, gamma: float = _FOCAL_GAMMA
) -> Any:
    """Return the sum of sigmoid focal losses (Lin et al. 2017).

    logits: (..., C). truth: (..., C), 0 or 1. A right answer of probability p counts
    (1 - p)^gamma times its cross-entropy; alpha weighs truths, 1 - alpha the rest.
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
    probability = tf.sigmoid(logits)
    wrong = truth * (1 - probability) + (1 - truth) * probability
    weight = truth * alpha + (1 - truth) * (1 - alpha)
    return tf.reduce_sum(weight * tf.pow(wrong, gamma) * cross_entropy)


def hard_negative_loss(logits: Any, truth: Any, ratio: float = 3.0) -> Any:
    """Return the sum of cross-entropies of positives and of the worst negatives (Liu et al. 2016).

    logits: (B, N, C). truth: (B, N, C), 0 or 1. Of the anchors of a frame that have no box, the
    `ratio` times as many as have one count that are most sure of an animal; at least `ratio` of
    them, so that a frame without animals teaches too.
    """
    cross_entropy = tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits), axis=-1
    )
    positive = tf.reduce_max(truth, axis=-1) > 0
    counts = tf.maximum(tf.reduce_sum(tf.cast(positive, tf.float32), axis=-1), 1.0)
    negatives = tf.where(positive, -1.0, cross_entropy)
    # The rank of each anchor among the negatives of its frame, worst first.
    ranks = tf.argsort(tf.argsort(negatives, axis=-1, direction="DESCENDING"), axis=-1)
    hard = ~positive & (tf.cast(ranks, tf.float32) < ratio * counts[:, None])
    return tf.reduce_sum(tf.where(positive | hard, cross_entropy, 0.0))


def smooth_l1(predicted: Any, truth: Any, mask: Any) -> Any:
    """Return the sum of 0.5 d^2 for |d| < 1 and |d| - 0.5 beyond, of encodings (..., N, 4).

    mask: (..., N), 1 where an anchor has a box.
    """
    distance = tf.abs(predicted - truth)
    loss = tf.where(distance < 1, 0.5 * tf.square(distance), distance - 0.5)
    return tf.reduce_sum(tf.reduce_sum(loss, axis=-1) * mask)


def giou_loss(predicted: Any, truth: Any, anchors: Any, mask: Any) -> Any:
    """Return the sum of 1 - GIoU (Rezatofighi et al. 2019) of encodings (..., N, 4).

    anchors: (N, 4) cy cx h w. mask: (..., N), 1 where an anchor has a box.
    """
    one, other = _decoded(predicted, anchors), _decoded(truth, anchors)
    shared, union = _shared_and_union(one, other)
    hull = tf.reduce_prod(tf.maximum(one[1], other[1]) - tf.minimum(one[0], other[0]), axis=-1)
    giou = tf.math.divide_no_nan(shared, union) - tf.math.divide_no_nan(hull - union, hull)
    return tf.reduce_sum((1 - giou) * mask)


def box_iou(predicted: Any, truth: Any, anchors: Any) -> Any:
    """Return the IoU (..., N) of the boxes that encodings (..., N, 4) of `anchors` stand for."""
    shared, union = _shared_and_union(_decoded(predicted, anchors), _decoded(truth, anchors))
    return tf.math.divide_no_nan(shared, union)


def quality_focal_loss(logits: Any, truth: Any, quality: Any) -> Any:
    """Return the sum of quality focal losses (Li et al., "Generalized Focal Loss", 2020).

    logits: (..., N, C). truth: (..., N, C), 0 or 1. quality: (..., N), how well the anchor's box
    fits, 0 to 1, is what its score shall be: of two finds of an animal the one that fits better
    then comes first. Each counts |quality - p|^2 times its cross-entropy.
    """
    target = truth * quality[..., None]
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)
    return tf.reduce_sum(tf.square(target - tf.sigmoid(logits)) * cross_entropy)


def _shared_and_union(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    low, high = tf.maximum(one[0], other[0]), tf.minimum(one[1], other[1])
    shared = tf.reduce_prod(tf.nn.relu(high - low), axis=-1)
    areas = [tf.reduce_prod(box[1] - box[0], axis=-1) for box in (one, other)]
    return shared, areas[0] + areas[1] - shared


def _decoded(encodings: Any, anchors: Any) -> tuple[Any, Any]:
    """Return upper left and lower right corners (..., N, 2), y x."""
    raw = encodings / tf.constant(CODER_SCALES)
    centres = raw[..., :2] * anchors[:, 2:] + anchors[:, :2]
    # No box is e^4 anchors long; without the limit a bad first step would overflow.
    halves = tf.exp(tf.clip_by_value(raw[..., 2:], -4.0, 4.0)) * anchors[:, 2:] / 2
    return centres - halves, centres + halves
