from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from edge.errors import EarmarkError
from trainer.embedding.model import UnitLength
from trainer.export.embedder import check_integer_embedder
from trainer.export.quantise import convert_int8, operator_names


def tiny(last: keras.layers.Layer | None) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    average = keras.layers.GlobalAveragePooling2D()(outputs)
    maximum = keras.layers.GlobalMaxPooling2D()(outputs)
    outputs = keras.layers.Dense(6)(keras.layers.Concatenate()([average, maximum]))
    outputs = keras.layers.BatchNormalization()(outputs)
    return keras.Model(inputs, outputs if last is None else last(outputs))


def samples() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32) for _ in range(8)]


def test_the_head_becomes_integers_with_one_normalisation_and_no_batchnorm() -> None:
    data = convert_int8(tiny(UnitLength()), samples())
    check_integer_embedder(data)
    names = operator_names(data)
    assert names.count("L2_NORMALIZATION") == 1
    assert not {"MUL", "ADD", "SUB", "DEQUANTIZE"} & set(names)


def test_a_network_that_does_not_end_in_unit_length_is_refused() -> None:
    with pytest.raises(EarmarkError, match="0 L2_NORMALIZATION"):
        check_integer_embedder(convert_int8(tiny(None), samples()))


def test_a_float_model_is_refused() -> None:
    converter = tf.lite.TFLiteConverter.from_keras_model(tiny(UnitLength()))
    with pytest.raises(EarmarkError, match="computes in float"):
        check_integer_embedder(converter.convert())
