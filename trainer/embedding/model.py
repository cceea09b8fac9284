"""The embedder network: backbone, head, unit length."""

from __future__ import annotations

from typing import Any, Literal

import keras
import tensorflow as tf

from edge.errors import UsageError
from trainer.embedding.backbones import Backbone, Weights, build_features

Head = Literal["pooled", "flat", "classifier"]
HEADS: tuple[Head, ...] = ("pooled", "flat", "classifier")
NECK = "neck"
EMBEDDING = "embedding"


@keras.saving.register_keras_serializable(package="earmark")
class UnitLength(keras.layers.Layer):
    """Scales vectors (B, D) to length 1.

    `tf.math.l2_normalize` becomes ONE int8 `L2_NORMALIZATION` in TFLite; Keras' own
    UnitNormalization falls apart into float pieces. Always float32: squares of half precision
    overflow at a length of 256.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"dtype": "float32", **arguments})

    def call(self, inputs: Any) -> Any:
        """Return unit vectors (B, D)."""
        return tf.math.l2_normalize(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape


def build_embedder(
    backbone: Backbone,
    *,
    tap: str,
    input_size: int,
    dimension: int,
    alpha: float = 1.0,
    weights: Weights = None,
    head: Head = "pooled",
) -> keras.Model:
    """Return the network from (B, S, S, 3) float32 real pixel values to (B, D) unit vectors.

    dimension: D. head "pooled": average and maximum over the map side by side, one dense layer,
    BatchNorm (after Luo et al. 2019, but all losses see what comes after it). "flat": the 2021
    article's Flatten, dropout 0.5, dense 256 with ReLU, dense `dimension`. "classifier": the
    average over the map and a dense layer with tanh, for the softmax classifier that the article
    compared with.
    """
    features = build_features(backbone, tap, input_size, alpha, weights)
    layers = keras.layers
    if head == "pooled":
        average = layers.GlobalAveragePooling2D(name="average")(features.output)
        maximum = layers.GlobalMaxPooling2D(name="maximum")(features.output)
        outputs = layers.Concatenate(name="pooled")([average, maximum])
    elif head == "flat":
        outputs = layers.Flatten(name="flat")(features.output)
        outputs = layers.Dropout(0.5, name="dropout")(outputs)
        outputs = layers.Dense(256, activation="relu", name="hidden")(outputs)
    elif head == "classifier":
        outputs = layers.GlobalAveragePooling2D(name="average")(features.output)
    else:
        raise UsageError(f"no head {head!r}; choose one of {', '.join(HEADS)}")
    activation = "tanh" if head == "classifier" else None
    outputs = layers.Dense(dimension, activation=activation, name="projection")(outputs)
    if head == "pooled":
        # Spreads the embeddings from the first step on, where triplets alone draw all of them
        # together; export folds it into the dense layer.
        outputs = layers.BatchNormalization(name=NECK)(outputs)
    return keras.Model(features.input, UnitLength(name=EMBEDDING)(outputs), name="embedder")


def set_batchnorm(
    model: keras.Model, *, frozen: bool, momentum: float = 0.9, synchronised: bool = False
) -> None:
    """Freeze the backbone's BatchNorms, or let them learn with running statistics that keep up.

    The networks come with momentum 0.999, made for runs of a hundred thousand steps. The head's
    own BatchNorm always learns. synchronised: normalise over all replicas' batches, without which
    each replica would end with running statistics of its own.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = layer.name == NECK or not frozen
            layer.momentum = momentum
            layer.synchronized = synchronised
