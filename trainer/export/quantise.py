"""Full-integer post-training quantisation."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from edge.errors import EarmarkError
from edge.vision.types import Floats
from trainer.export.tflite_graph import read_graph


def convert_int8(
    model: keras.Model,
    representative: Iterable[Floats],
    *,
    input_type: tf.DType = tf.uint8,
    output_type: tf.DType = tf.int8,
    finish: Callable[[Any], Any] | None = None,
    quantise: bool = True,
) -> bytes:
    """Return `model` as a TFLite file with batch 1 that computes in int8 only.

    representative: real inputs float32 (1, H, W, 3), as training fed them; they set the ranges.
    finish: takes the model's outputs to the file's, and may use custom operators; what it does
    stays float. quantise: False gives the float32 twin, for comparison. Raises EarmarkError when
    there are no inputs or the converter has no int8 form of a layer.
    """
    samples = list(representative)
    if not samples:
        raise EarmarkError("quantisation needs at least one representative image")
    archive = keras.export.ExportArchive()
    archive.track(model)

    def serve(image: Any) -> Any:
        outputs = model(image, training=False)
        return finish(outputs) if finish else outputs

    archive.add_endpoint(
        "serve",
        serve,
        input_signature=[tf.TensorSpec(samples[0].shape, tf.float32, name="image")],
    )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        archive.write_out(Path(folder) / "model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder) / "model"))
        converter.allow_custom_ops = finish is not None
        if quantise:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sample] for sample in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = input_type
            converter.inference_output_type = output_type
        try:
            return bytes(converter.convert())
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()
            raise EarmarkError(
                f"the network cannot be converted to int8: {reason[0] if reason else error}"
            ) from error


class Operator(NamedTuple):
    """An operator of a TFLite graph. outputs: names of the tensors that it makes, in its order."""

    name: str
    outputs: tuple[str, ...]


def operators(tflite: bytes) -> list[Operator]:
    """Return the operators of a TFLite model's main graph, in their order."""
    return [
        Operator(operator.name, tuple(tensor.name for tensor in operator.outputs))
        for operator in read_graph(tflite, "the converted model").operators
    ]


def operator_names(tflite: bytes) -> list[str]:
    """Return the names of a TFLite model's operators, in their order."""
    return [operator.name for operator in operators(tflite)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's warnings about its own workings off the user's screen."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
