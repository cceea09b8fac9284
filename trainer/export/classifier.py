"""The plain softmax classifier, int8: what prototypes are compared with, never put in a bundle."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import EarmarkError
from edge.vision.runtime import open_model, quantisation_table
from trainer.embedding.model import EMBEDDING
from trainer.embedding.train import TrainedEmbedder
from trainer.evaluate.measures import macro_f1_score
from trainer.export.quantise import convert_int8


def classifier_macro_f1(
    trained: TrainedEmbedder,
    calibration: NDArray[np.uint8],
    images: NDArray[np.uint8],
    truth: NDArray[np.int32],
    folder: Path,
) -> float:
    """Return macro F1 of the int8 classifier's largest logit, on the runtime that devices use.

    calibration, images: crops uint8 (N, S, S, 3). truth: (N,) labels as in training. folder: where
    the converted model lies while it is asked. Raises EarmarkError without a trained classifier.
    """
    path = folder / "classifier.tflite"
    path.write_bytes(_convert(trained, calibration))
    try:
        model = open_model(path)
        table = quantisation_table(
            model.input.scale,
            model.input.zero_point,
            model.input.dtype,
            trained.backbone.pixel_scale,
            trained.backbone.pixel_offset,
        )
        output = model.outputs[0].name
        named = [int(model.invoke(table[image][None])[output].argmax()) for image in images]
    finally:
        path.unlink()
    return macro_f1_score(truth, np.array(named))


def _convert(trained: TrainedEmbedder, calibration: NDArray[np.uint8]) -> bytes:
    if "softmax" not in trained.options.losses:
        raise EarmarkError("no classifier was trained; add softmax to the recipe's losses")
    kernel, bias = trained.classes.directions.T, trained.classes.bias
    features = trained.model.get_layer(EMBEDDING).input
    layer = keras.layers.Dense(kernel.shape[1], name="logits")
    model = keras.Model(trained.model.input, layer(features))
    layer.set_weights([kernel, bias])
    backbone = trained.backbone
    samples = (
        (image[None].astype(np.float32) * backbone.pixel_scale + backbone.pixel_offset).astype(
            np.float32
        )
        for image in calibration
    )
    return convert_int8(model, samples, input_type=tf.uint8, output_type=tf.int8)
