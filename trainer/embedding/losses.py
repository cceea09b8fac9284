"""Triplet losses over a batch, the cosine softmax, and a plain classifier's.

Distances are cosine distances 1 - cos, 0..2, the one metric that means and matching use too.
Semi-hard and batch-all triplets also take Euclidean ones, as older recipes do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import tensorflow as tf

Metric = Literal["cosine", "euclidean"]
_TINY = 1e-12


class TripletLoss(NamedTuple):
    """Scalars of one batch: loss; share of triplets that still have one; mean distances.

    active: 0..1. positive, negative: mean distance of the anchor to the positives and negatives
    the loss looked at. All are 0 in a batch without a single triplet.
    """

    loss: Any
    active: Any
    positive: Any
    negative: Any


def cosine_distances(embeddings: Any) -> Any:
    """Return cosine distances (B, B) between unit embeddings (B, D)."""
    return 1.0 - tf.matmul(embeddings, embeddings, transpose_b=True)


def euclidean_distances(embeddings: Any) -> Any:
    """Return Euclidean distances (B, B) between unit embeddings (B, D), 0..2."""
    # The root's slope at 0 is infinite; two copies of an image must not make gradients of it.
    return tf.sqrt(tf.maximum(2.0 * cosine_distances(embeddings), _TINY))


def batch_all(
    embeddings: Any, labels: Any, margin: float = 0.2, metric: Metric = "cosine"
) -> TripletLoss:
    """Return the mean over all triplets that violate the margin (Hermans et al. 2017, "BA != 0").

    embeddings: (B, D) unit. labels: (B,) int.
    """
    distances = _DISTANCES[metric](embeddings)
    positives, negatives = _pairs(labels)
    valid = positives[:, :, None] & negatives[:, None, :]
    losses = tf.nn.relu(distances[:, :, None] - distances[:, None, :] + margin)
    active = valid & (losses > 0)
    return TripletLoss(
        _mean(losses, active),
        _share(active, valid),
        _mean(distances, positives),
        _mean(distances, negatives),
    )


def semi_hard(
    embeddings: Any, labels: Any, margin: float = 0.2, metric: Metric = "cosine"
) -> TripletLoss:
    """Return the mean over (anchor, positive) pairs with one negative each (Schroff et al. 2015).

    The negative is the nearest one farther than the positive; the farthest one where none is.
    embeddings: (B, D) unit. labels: (B,) int.
    """
    distances = _DISTANCES[metric](embeddings)
    positives, negatives = _pairs(labels)
    farther = negatives[:, None, :] & (distances[:, None, :] > distances[:, :, None])
    size = tf.shape(distances)[0]
    spread = tf.broadcast_to(distances[:, None, :], (size, size, size))
    hardest = tf.reduce_min(tf.where(farther, spread, 4.0), axis=2)
    easiest = tf.reduce_max(tf.where(negatives, distances, -1.0), axis=1)[:, None]
    chosen = tf.where(tf.reduce_any(farther, axis=2), hardest, easiest)
    valid = positives & tf.reduce_any(negatives, axis=1)[:, None]
    losses = tf.nn.relu(distances - chosen + margin)
    return TripletLoss(
        _mean(losses, valid),
        _share(valid & (losses > 0), valid),
        _mean(distances, valid),
        _mean(chosen, valid),
    )


def batch_hard(embeddings: Any, labels: Any) -> TripletLoss:
    """Return the mean of log(1 + exp(d_ap - d_an)) over anchors (Hermans et al. 2017).

    Each anchor takes its farthest positive and its nearest negative; active counts the anchors
    whose negative is not farther than the positive. embeddings: (B, D) unit. labels: (B,) int.
    """
    distances = cosine_distances(embeddings)
    positives, negatives = _pairs(labels)
    farthest = tf.reduce_max(tf.where(positives, distances, -1.0), axis=1)
    nearest = tf.reduce_min(tf.where(negatives, distances, 4.0), axis=1)
    valid = tf.reduce_any(positives, axis=1) & tf.reduce_any(negatives, axis=1)
    return TripletLoss(
        _mean(tf.nn.softplus(farthest - nearest), valid),
        _share(valid & (farthest >= nearest), valid),
        _mean(farthest, valid),
        _mean(nearest, valid),
    )


_DISTANCES = {"cosine": cosine_distances, "euclidean": euclidean_distances}
TRIPLET_LOSSES: dict[str, Callable[[Any, Any, float, Metric], TripletLoss]] = {
    "batch_hard": lambda embeddings, labels, margin, metric: batch_hard(embeddings, labels),
    "semi_hard": semi_hard,
    "batch_all": batch_all,
}
# What a sum of losses may be made of.
LOSSES = (*TRIPLET_LOSSES, "cosine_softmax", "softmax")


def cosine_softmax(embeddings: Any, labels: Any, classes: Any, scale: float, margin: float) -> Any:
    """Return the mean cross-entropy of scaled cosines, the true one less `margin` (CosFace 2018).

    embeddings: (B, D) unit. labels: (B,) int. classes: (C, D), any length.
    """
    cosines = tf.matmul(embeddings, tf.math.l2_normalize(classes, axis=1), transpose_b=True)
    truth = tf.one_hot(labels, tf.shape(classes)[0], dtype=cosines.dtype)
    logits = scale * (cosines - margin * truth)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def softmax(features: Any, labels: Any, kernel: Any, bias: Any) -> Any:
    """Return the mean cross-entropy of a plain classifier's logits: features @ kernel + bias.

    features: (B, F), before they are made unit vectors. labels: (B,) int. kernel: (F, C).
    bias: (C,).
    """
    logits = tf.matmul(features, kernel) + bias
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _pairs(labels: Any) -> tuple[Any, Any]:
    same = labels[:, None] == labels[None, :]
    return same & ~tf.eye(tf.shape(labels)[0], dtype=tf.bool), ~same


def _mean(values: Any, mask: Any) -> Any:
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(mask, values, 0.0)), tf.reduce_sum(tf.cast(mask, values.dtype))
    )


def _share(mask: Any, of: Any) -> Any:
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.cast(mask, tf.float32)), tf.reduce_sum(tf.cast(of, tf.float32))
    )
